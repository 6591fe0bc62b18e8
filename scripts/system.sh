#!/usr/bin/env bash
# Install what the tests need beside Python packages, where it is missing: redis-server.
# On Debian and Ubuntu by apt-get, as root or with sudo; elsewhere it says what to install. Does nothing when all is there.
set -euo pipefail

main() {
    command -v redis-server >/dev/null && return
    if ! command -v apt-get >/dev/null; then
        fail "redis-server is missing, and this is no Debian or Ubuntu: please install it (on macOS: brew install redis)."
    fi
    say "installing redis-server …"
    # Its service is not needed: every test starts a server of its own.
    as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get update -q >/dev/null || true
    as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -q -y --no-install-recommends redis-server \
        >/dev/null || fail "apt-get cannot install redis-server."
    command -v redis-server >/dev/null || fail "redis-server is still missing."
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "redis-server is missing: please install it, as this account may not (apt-get install redis-server)."
    fi
}

say() {
    printf 'lmi-gateway: %s\n' "$*" >&2
}

fail() {
    say "$*"
    exit 1
}

main
