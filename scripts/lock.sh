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
compile pyproject.toml --group dev --constraints requirements.lock --output-file requirements-dev.lock "$@"

# openai 1.x goes into a folder that a test puts in front of the environment: only what the environment does not hold is listed.
shared=$(mktemp)
trap 'rm -f "$shared"' EXIT
sed -nE 's/^([a-z0-9._-]+==[^ ]+)( ;[^\\]*[^\\ ])? *\\?$/\1\2/p' requirements-dev.lock | grep -v '^openai==' >"$shared"
leave_out=()
while IFS='=' read -r name _; do
    leave_out+=(--no-emit-package "$name")
done <"$shared"
compile --no-annotate --group openai1 --constraints "$shared" "${leave_out[@]}" --output-file requirements-openai1.lock "$@"
