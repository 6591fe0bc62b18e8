#!/usr/bin/env bash
# Make .venv hold exactly what the lock files say, and this project installed for editing; with `sdks` also the SDKs that
# the tests call the gateway with. Does nothing when it already does, so every make target may start with it.
# PYTHON=… chooses the interpreter; otherwise a supported python3 comes first, then python3.13, python3.12, python3.11.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# Settings of the caller's own that would send the packages elsewhere.
unset PYTHONHOME PYTHONPATH PIP_USER PIP_TARGET PIP_PREFIX

SDKS="sdks sdks-openai2 sdks-instructor sdks-text-generation"
CLIENTS=tests/e2e/clients

main() {
    local locks project sdks
    # The path is part of the key, as scripts inside an environment hold it: a folder that was moved is installed anew.
    locks=$(pwd; cat requirements-dev.lock requirements-openai1.lock scripts/venv.sh | cksum)
    project=$(cat pyproject.toml gateway/__init__.py | cksum)
    if [ "$locks" != "$(cat .venv/locks.stamp 2>/dev/null)" ] || ! .venv/bin/python -c '' 2>/dev/null || other_python; then
        install_locked
        printf '%s\n' "$locks" >.venv/locks.stamp
    fi
    if [ "$project" != "$(cat .venv/project.stamp 2>/dev/null)" ]; then
        install_project
        printf '%s\n' "$project" >.venv/project.stamp
    fi
    [ "${1:-}" = sdks ] || return 0
    sdks=$(cat requirements-sdks*.lock "$CLIENTS/package.json" "$CLIENTS/package-lock.json" scripts/venv.sh | cksum; node_version)
    if [ "$sdks" != "$(cat .venv/sdks.stamp 2>/dev/null)" ]; then
        install_sdks
        printf '%s\n' "$sdks" >.venv/sdks.stamp
    fi
}

install_locked() {
    local python
    python=$(choose_python)
    say "installing the locked packages into .venv with $("$python" --version) …"
    "$python" -m venv --clear .venv || fail "$python could not make a virtual environment in .venv."
    # Wheels only: building a source archive would run a build backend that no lock file pins.
    pip install --only-binary :all: --require-hashes -r requirements-dev.lock
    # An older major of the official client, for the tests that put this folder first on PYTHONPATH.
    pip install --only-binary :all: --require-hashes --no-deps --target .venv/openai-1 -r requirements-openai1.lock
}

# Each group goes into a folder that the tests put first on PYTHONPATH, as their dependencies contradict one another.
install_sdks() {
    local group job jobs=() failed=""
    say "installing the SDKs that the tests call the gateway with …"
    rm -f .venv/sdks.stamp
    for group in $SDKS; do
        rm -rf ".venv/$group"
        # Byte code is made of what is imported; that is little of what is installed.
        pip install --no-compile --only-binary :all: --require-hashes --no-deps \
            --target ".venv/$group" -r "requirements-$group.lock" &
        jobs+=($!)
    done
    rm -rf .venv/node
    if [ -n "$(node_version)" ]; then
        install_node_sdks &
        jobs+=($!)
    else
        say "there is no node and npm: the tests with SDKs for Node will be skipped"
    fi
    for job in "${jobs[@]}"; do
        wait "$job" || failed=yes
    done
    [ -z "$failed" ] || fail "the SDKs could not be installed."
}

install_node_sdks() {
    mkdir -p .venv/node
    cp "$CLIENTS/package.json" "$CLIENTS/package-lock.json" .venv/node/
    # Warnings only tell of settings of the caller's own, and of engines: the tests decide what runs on this Node.
    (cd .venv/node && npm ci --ignore-scripts --no-audit --no-fund --engine-strict=false --loglevel=error >/dev/null)
}

node_version() {
    if command -v node >/dev/null && command -v npm >/dev/null; then node --version; fi
}

install_project() {
    # hatchling, the build backend, is one of the locked packages.
    pip install --no-deps --no-build-isolation -e .
}

pip() {
    # Errors only: a machine with further package sources configured would warn once for every source and package.
    .venv/bin/python -m pip --quiet --quiet --no-input --disable-pip-version-check "$@"
}

other_python() {
    [ -n "${PYTHON:-}" ] && [ "$(base_of "$PYTHON")" != "$(base_of .venv/bin/python)" ]
}

base_of() {
    "$1" -c 'import sys; print(sys.base_prefix, sys.version_info)' 2>/dev/null || true
}

choose_python() {
    local name verdict reason=""
    if [ -n "${PYTHON:-}" ]; then set -- "$PYTHON"; else set -- python3 python3.13 python3.12 python3.11; fi
    for name; do
        verdict=$(judge "$name")
        case $verdict in
            supported*) echo "$name"; return ;;
            # A release newer than those the project is tested on: only if asked for, or if nothing else is there.
            newer*) [ -n "${PYTHON:-}" ] && { echo "$name"; return; } ;;
        esac
        reason=${reason:-"$name is $verdict"}
    done
    [ -z "${PYTHON:-}" ] && case $(judge python3) in newer*) echo python3; return ;; esac
    fail "Python 3.11 or newer is needed, but $reason. PYTHON=/path/to/python names another."
}

# Print what `$1` is: supported, newer, without ensurepip, or too old. The program it runs is valid in every Python.
judge() {
    "$1" -c '
import sys
version = "%d.%d.%d" % sys.version_info[:3]
try:
    import ensurepip, venv
except ImportError:
    ensurepip = None
if sys.version_info < (3, 11):
    print("too old (" + version + ")")
elif ensurepip is None:
    print(version + " without ensurepip (on Debian and Ubuntu: apt-get install python%d.%d-venv)" % sys.version_info[:2])
elif sys.version_info < (3, 14):
    print("supported (" + version + ")")
else:
    print("newer (" + version + ")")
' 2>/dev/null || echo "not installed"
}

say() {
    printf 'lmi-gateway: %s\n' "$*" >&2
}

fail() {
    say "$*"
    exit 1
}

main "$@"
