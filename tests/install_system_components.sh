#!/bin/sh
# Installs, where apt can, the real servers and clients that tests use. Without apt or root it says so and goes on:
# a test whose component is missing is then skipped with its reason (and fails where CI=true).
set -u
packages=""
need() { # need COMMAND PACKAGE
    PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1 || packages="$packages $2"
}
need postfix postfix
need smtp-sink postfix
need swaks swaks
need curl curl
need openssl openssl
# swaks needs it for TLS, Postfix for logging in as a client: no command tells whether they are there.
if command -v dpkg-query >/dev/null 2>&1; then
    for library in libnet-ssleay-perl libsasl2-modules; do
        dpkg-query -W -f '${Status}' "$library" 2>/dev/null | grep -q "ok installed" || packages="$packages $library"
    done
fi
[ -z "$packages" ] && exit 0
if ! command -v apt-get >/dev/null 2>&1 || [ "$(id -u)" != 0 ]; then
    echo "not installed (needs apt and root):$packages" >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq && apt-get install -y -qq --no-install-recommends $packages </dev/null >/dev/null
