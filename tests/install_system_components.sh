#!/bin/sh
# Installs, where apt can, the real servers and clients that tests use. Without apt, root or a network it says so and
# goes on: a test whose component is missing is then skipped with its reason (and fails where CI=true).
# Nothing that is installed is removed, and no server is started: tests start their own, on loopback.
set -u
peers="$(dirname "$0")/../.venv/peers" # what is not installed but unpacked; `make clean` removes it
nodemailer=8.0.9
packages=""
need() { # need COMMAND PACKAGE
    PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1 || packages="$packages $2"
}
need postfix postfix
need smtp-sink postfix
need swaks swaks
need curl curl
need jq jq
need openssl openssl
need systemd-analyze systemd
need msmtp msmtp
need mutt mutt
need s-nail s-nail
need git git
need mbsync isync
need fetchmail fetchmail
need mpop mpop
need dovecot dovecot-imapd
need unbound unbound
need node nodejs
need php php-cli
need cron cron
need bsd-mailx bsd-mailx
need zsh zsh
need fish fish
need man man-db
need groff groff-base
need mandoc mandoc

# No command of its own tells whether these are there: what swaks needs for TLS, Postfix for logging in as a client,
# git send-email for both; parts of Dovecot; and what Exim is linked with.
others="libnet-ssleay-perl libsasl2-modules ca-certificates
    git-email libmailtools-perl libauthen-sasl-perl libio-socket-ssl-perl libnet-smtp-ssl-perl
    dovecot-imapd dovecot-pop3d dovecot-lmtpd
    libdb5.3 libgnutls-dane0 libidn12 libnsl2 libpcre2-8-0"
if command -v dpkg-query >/dev/null 2>&1; then
    # shellcheck disable=SC2086  # a list of words
    present="$(dpkg-query -W -f '${Status} ${Package}\n' $others 2>/dev/null)"
    for package in $others; do
        echo "$present" | grep -q "ok installed $package\$" || packages="$packages $package"
    done
fi

# Debian's Postfix and Exim cannot both be installed. One program is all of Exim that tests use.
exim=yes
PATH="$PATH:/usr/sbin:/sbin" command -v exim4 >/dev/null 2>&1 || [ -x "$peers/exim4" ] || exim=
# Exim finds its account by name when it starts.
[ -n "$exim" ] && id Debian-exim >/dev/null 2>&1 || exim=
# npm is hundreds of packages, and one library is all that is wanted of it: where it is missing, Debian's has to do.
mailer=yes
if command -v npm >/dev/null 2>&1; then
    grep -q "\"version\": \"$nodemailer\"" "$peers/node_modules/nodemailer/package.json" 2>/dev/null || mailer=
elif [ ! -d /usr/share/nodejs/nodemailer ]; then
    packages="$packages node-nodemailer"
fi

[ -z "$packages" ] && [ -n "$exim" ] && [ -n "$mailer" ] && exit 0

as_root() {
    command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]
}

install_packages() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq || echo "no new package lists" >&2
    # While this file forbids it, packages do not start their servers. One that is there is somebody else's.
    forbid=/usr/sbin/policy-rc.d
    if [ ! -e "$forbid" ]; then
        trap 'rm -f "$forbid"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$forbid"
        chmod 755 "$forbid"
    fi
    log="$(mktemp)"
    set -- -y -qq --no-install-recommends --no-remove -o DPkg::Lock::Timeout=300
    # shellcheck disable=SC2086  # a list of words
    if ! apt-get install "$@" $packages </dev/null >"$log" 2>&1; then
        # One of them cannot be had; the others can.
        for package in $packages; do
            apt-get install "$@" "$package" </dev/null >"$log" 2>&1 || {
                echo "not installed: $package" && tail -n 3 "$log"
            } >&2
        done
    fi
    rm -f "$log"
}

download() {
    apt-get download -qq "$1" >/dev/null 2>&1 || { apt-get update -qq && apt-get download -qq "$1"; } >/dev/null 2>&1
}

unpack_exim() {
    id Debian-exim >/dev/null 2>&1 ||
        useradd --system --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin Debian-exim
    [ -x "$peers/exim4" ] && return
    folder="$(mktemp -d)" && chmod 755 "$folder" || return
    (cd "$folder" && download exim4-daemon-light && dpkg-deb -x ./*.deb .) &&
        mkdir -p "$peers" && cp "$folder/usr/sbin/exim4" "$peers/exim4" || echo "not unpacked: exim4-daemon-light" >&2
    rm -rf "$folder"
}

install_nodemailer() {
    mkdir -p "$peers" &&
        npm install --prefix "$peers" --no-save --no-package-lock --ignore-scripts --no-audit --no-fund --silent \
            "nodemailer@$nodemailer" </dev/null >/dev/null || echo "not installed: nodemailer $nodemailer" >&2
}

if as_root; then
    [ -n "$packages" ] && install_packages
    [ -z "$exim" ] && unpack_exim
elif [ -n "$packages" ] || [ -z "$exim" ]; then
    [ -z "$exim" ] && packages="$packages exim4-daemon-light"
    echo "not installed (needs apt and root):$packages" >&2
fi
[ -z "$mailer" ] && install_nodemailer
exit 0
