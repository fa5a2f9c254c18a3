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
need openssl openssl
[ -z "$packages" ] && exit 0
if ! command -v apt-get >/dev/null 2>&1 || [ "$(id -u)" != 0 ]; then
    echo "not installed (needs apt and root):$packages" >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq && apt-get install -y -qq --no-install-recommends $packages </dev/null >/dev/null
