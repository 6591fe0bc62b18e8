#!/usr/bin/env bash
# Install what the tests need beside Python packages, where it is missing: redis-server, prometheus, chromium, strip.
# On Debian and Ubuntu by apt-get, as root or with sudo; elsewhere it says what to install. Does nothing when all is there.
set -euo pipefail

# Program, the package of Debian's that it is in, the package of Homebrew's.
NEEDED="
redis-server redis-server redis
prometheus prometheus prometheus
promtool prometheus prometheus
chromium chromium chromium
strip binutils binutils
"

main() {
    local missing
    missing=$(packages 2)
    [ -n "$missing" ] || return 0
    if ! command -v apt-get >/dev/null; then
        fail "$missing: please install what is missing, as this is no Debian or Ubuntu (on macOS: brew install $(packages 3))."
    fi
    say "installing $missing …"
    # Their services are not needed: every test starts what it needs by itself.
    as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get update -q >/dev/null || true
    # shellcheck disable=SC2086 # one word for each package
    as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -q -y --no-install-recommends $missing \
        >/dev/null || fail "apt-get cannot install $missing."
    missing=$(packages 2)
    [ -z "$missing" ] || fail "still missing: $missing."
}

# Print the packages of the programs that are missing, each once: column 2 is Debian's names, 3 Homebrew's.
packages() {
    local program debian homebrew
    while read -r program debian homebrew; do
        [ -z "$program" ] || command -v "$program" >/dev/null || echo "$([ "$1" = 2 ] && echo "$debian" || echo "$homebrew")"
    done <<<"$NEEDED" | sort -u | paste -sd' ' -
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "$(packages 2): please install what is missing, as this account may not (apt-get install $(packages 2))."
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
