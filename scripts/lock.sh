#!/usr/bin/env bash
# Write the lock files from pyproject.toml: every version pinned, every file's hash, for all platforms at once.
# Pins that still fit stay as they are; `scripts/lock.sh --upgrade` takes the newest releases, `--upgrade-package NAME` one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

compile() {
    # No configuration of this machine's takes part, so that the hashes are those of the public index.
    UV_CUSTOM_COMPILE_COMMAND="make lock" .venv/bin/uv --no-config --quiet pip compile \
        --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links "$@"
}

compile pyproject.toml --output-file requirements.lock "$@"
compile pyproject.toml --extra otel --extra deploy --group dev --constraints requirements.lock --output-file requirements-dev.lock "$@"

# A client goes into a folder that a test puts in front of the environment: only what the environment does not hold is
# listed. `beside GROUP PACKAGE…`: these packages it needs in versions of its own.
shared=$(mktemp -d)
trap 'rm -rf "$shared"' EXIT
beside() {
    local group=$1 package leave_out=()
    shift
    sed -nE 's/^([a-z0-9._-]+==[^ ]+)( ;[^\\]*[^\\ ])? *\\?$/\1\2/p' requirements-dev.lock >"$shared/all"
    for package; do
        sed -i.bak "/^$package==/d" "$shared/all"
    done
    while IFS='=' read -r package _; do
        leave_out+=(--no-emit-package "$package")
    done <"$shared/all"
    compile --no-annotate --group "$group" --constraints "$shared/all" "${leave_out[@]}" \
        --output-file "requirements-$group.lock" ${options[@]+"${options[@]}"}
}

# The extra for traces, as an addition to what serves: the container image installs it where it is asked for.
sed -nE 's/^([a-z0-9._-]+==[^ ]+)( ;[^\\]*[^\\ ])? *\\?$/\1\2/p' requirements-dev.lock >"$shared/all"
serving=()
while IFS='=' read -r package _; do
    serving+=(--no-emit-package "$package")
done < <(sed -nE '/^[a-z0-9._-]+==/p' requirements.lock)
compile pyproject.toml --no-annotate --extra otel --constraints "$shared/all" "${serving[@]}" \
    --output-file requirements-otel.lock "$@"

options=("$@")
beside openai1 openai
beside sdks
beside sdks-openai2 openai
beside sdks-instructor jiter openai rich
beside sdks-text-generation

# The clients for Node: hashes of every package, and like above no address to fetch it from.
clients=tests/e2e/clients
if command -v npm >/dev/null; then
    cp "$clients/package.json" "$shared/"
    case " $* " in *" --upgrade "*) ;; *) cp "$clients/package-lock.json" "$shared/" 2>/dev/null || true ;; esac
    (
        cd "$shared"
        npm install --package-lock-only --ignore-scripts --no-audit --no-fund --silent --omit-lockfile-registry-resolved
    )
    .venv/bin/python - "$shared/package-lock.json" "$clients/package-lock.json" <<'PROGRAM'
import json, sys
source, target = sys.argv[1:]
with open(source) as file:
    lock = json.load(file)
for package in lock["packages"].values():
    package.pop("funding", None)
with open(target, "w") as file:
    file.write(json.dumps(lock, indent=2) + "\n")
PROGRAM
else
    echo "lmi-gateway: $clients/package-lock.json stays as it is: there is no npm" >&2
fi
