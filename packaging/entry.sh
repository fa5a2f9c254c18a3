#!/bin/sh
# The first process of a container. Writes a configuration at the first start when none is there, then becomes the
# relay, so that signals reach it. Arguments are those of `staffetta`; none means `run`.
#
# First start: STAFFETTA_INIT_DOMAIN (mail of a domain of one's own) or STAFFETTA_ROUTE_DEFAULT_VIA (a smarthost) says
# what the file is for. Secrets are read by the relay itself, from STAFFETTA_ROUTE_DEFAULT_PASSWORD or from the file that
# STAFFETTA_ROUTE_DEFAULT_PASSWORD_FILE names, and are not copied.
set -eu
umask 077

config="${STAFFETTA_CONFIG:-/data/staffetta.toml}"
data="${STAFFETTA_DATA_DIR:-/data}"
export STAFFETTA_CONFIG="$config" STAFFETTA_DATA_DIR="$data"

stop() { # stop STATUS SENTENCE...
    status="$1"
    shift
    printf 'staffetta: %s\n' "$@" >&2
    exit "$status"
}

first_file() {
    via="${STAFFETTA_ROUTE_DEFAULT_VIA:-}"
    if [ -n "${STAFFETTA_INIT_DOMAIN:-}" ]; then
        set -- domain "$STAFFETTA_INIT_DOMAIN"
    elif [ -n "$via" ] && [ "$via" != mx ]; then
        set -- smarthost "${via%%[, ]*}"
    else
        stop 8 "there is no $config, and nothing says what to write into it." \
            "Mount one there, or set STAFFETTA_ROUTE_DEFAULT_VIA to a smarthost, or STAFFETTA_INIT_DOMAIN to your domain."
    fi
    # The file is written anew should the start have been cut off: the certificate for trying was there alone then.
    staffetta init "$@" --unprivileged --no-input --force --output "$config"
}

[ "${1:-}" != staffetta ] || shift
[ "$#" -gt 0 ] || set -- run

if [ "$1" = run ]; then
    if ! [ -d "$data" ] || ! [ -w "$data" ]; then
        stop 5 "uid $(id -u) cannot write to $data: mount a volume there that it owns (chown $(id -u) on the host)."
    fi
    [ -e "$config" ] || first_file
fi
exec staffetta "$@"
