#!/bin/sh
# Checks that this machine has what build, tests and demo need; installs what is missing with apt when it may do so without
# asking, else prints the one line to run and exits 1. Silent when nothing is missing; never installs Rust itself.
# With the argument `tests` that is also what only the tests need: PgBouncer, and for the browser client Node.js, npm and Chromium.
set -eu

wanted=${1:-}

rust=1.89
java=17
node=18

has() {
    command -v "$1" >/dev/null 2>&1
}

# Whether version $1 (such as 1.95.0) is at least $2 (such as 1.89).
at_least() {
    [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

has_rust() {
    has cargo && has rustc && at_least "$(rustc --version 2>/dev/null | cut -d ' ' -f 2)" "$rust"
}

has_java() {
    program=${JAVA_HOME:+$JAVA_HOME/bin/}java
    has "$program" && at_least "$("$program" -version 2>&1 | sed -n 's/.* version "\([0-9.]*\).*/\1/p')" "$java"
}

# The Java of the system's own choice may be too old (Debian 11, Ubuntu 22.04), the exact one may be gone (Debian 13).
java_package() {
    if apt-cache show "openjdk-$java-jre-headless" >/dev/null 2>&1; then
        echo "openjdk-$java-jre-headless"
    else
        echo default-jre-headless
    fi
}

# The Debian packages that are missing.
missing_packages() {
    has cc || echo gcc libc6-dev
    has c++ || echo g++
    has make || echo make
    has pkg-config || echo pkg-config
    { has pkg-config && pkg-config --exists openssl; } || echo libssl-dev
    { has pkg-config && pkg-config --exists zlib; } || echo zlib1g-dev
    has_java || java_package
    has mvn || echo maven
    has xz || echo xz-utils
    { has flock && has ipcrm; } || echo util-linux
    [ "$wanted" = tests ] || return 0
    [ -x /usr/sbin/pgbouncer ] || has pgbouncer || echo pgbouncer
    { has node && at_least "$(node --version | tr -d v)" "$node"; } || echo nodejs
    has npm || echo npm
    has chromium || echo chromium
}

packages=$(missing_packages | tr '\n' ' ')
if [ -n "$packages" ] && has apt-get; then
    if [ "$(id -u)" = 0 ]; then
        as_root=env
    elif has sudo && sudo -n true 2>/dev/null; then
        as_root='sudo -n env'
    else
        as_root=
    fi
    if [ -n "$as_root" ]; then
        # In this runlevel Debian starts no service that it installs.
        apt_get="$as_root DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get --quiet --quiet --yes"
        # A fresh container knows no package at all until its lists are fetched; old lists may name what is gone.
        apt-cache show maven >/dev/null 2>&1 || $apt_get update >&2
        packages=$(missing_packages | tr '\n' ' ')
        echo "installing $packages" >&2
        $apt_get install --no-install-recommends $packages >&2 ||
            { $apt_get update >&2 && $apt_get install --no-install-recommends $packages >&2; } || :
        packages=$(missing_packages | tr '\n' ' ')
    fi
fi

line=
if [ -n "$packages" ]; then
    [ "$(id -u)" = 0 ] && sudo= || sudo='sudo '
    line="${sudo}apt-get update && ${sudo}apt-get install --yes ${packages% }"
    has apt-get || echo "outboxd needs these, here by their Debian names; install this system's own:" >&2
fi
if ! has_rust; then
    if has rustup; then
        rustup_line='rustup update stable && rustup default stable'
    else
        rustup_line="curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y && . \"\$HOME/.cargo/env\""
    fi
    line="${line:+$line && }$rustup_line"
fi
[ -n "$line" ] || exit 0
echo "something that outboxd needs is missing (Rust $rust or later, a C and C++ compiler, Java $java or later, ...); run:" >&2
echo "$line"
exit 1
