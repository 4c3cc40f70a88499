#!/usr/bin/env bash
# Builds the Debian package (a debug build, so that it is quick), boots Debian systems in directories of their own, and has
# tests/package/inside.sh try the package in each: run.sh [SUITE…]. Needs root, and skips without it.
set -euo pipefail
cd "$(dirname "$0")/../.."

# The oldest systemd that outboxd is for (252), and a later one (257).
suites=("${@:-bookworm}")
[ $# -gt 0 ] || suites=(bookworm trixie)
if [ "$(id -u)" != 0 ]; then
    echo "skipped: booting a system needs root"
    exit 0
fi
missing=()
command -v mmdebstrap >/dev/null || missing+=(mmdebstrap)
command -v systemd-nspawn >/dev/null || missing+=(systemd-container)
command -v dpkg-shlibdeps >/dev/null || missing+=(dpkg-dev)
if [ ${#missing[@]} -gt 0 ]; then
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "${missing[@]}" >/dev/null
fi

work=$(mktemp -d)
keep=$(realpath -m "${OUTBOXD_SERVICES_DIR:-.services}")/systems
mkdir -p "$keep"
cleanup() {
    [ ! -e "$work/booted" ] || kill -KILL $(cat "$work/booted") 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT

# What a system consists of is fetched once.
fetch() {
    [ -e "$keep/$1.tar" ] && return
    mmdebstrap --quiet --format=tar --variant=apt --include=systemd,systemd-sysv,dbus,openssl,zlib1g,ca-certificates \
        "$1" "$keep/$1.tar.part" 2>"$work/$1.log" || { cat "$work/$1.log" >&2; return 1; }
    mv "$keep/$1.tar.part" "$keep/$1.tar"
}

fetches=()
for suite in "${suites[@]}"; do
    fetch "$suite" &
    fetches+=($!)
done
cargo build --quiet --locked --bin outboxd
systemd/deb.sh "${CARGO_TARGET_DIR:-target}/debug/outboxd" --fast
for fetch in "${fetches[@]}"; do wait "$fetch"; done

# Boots one system, tries the package in it, and ends it.
try() {
    local suite=$1 root=$work/$1 nspawn leader='' state outcome=0
    mkdir "$root"
    tar -xf "$keep/$suite.tar" -C "$root"
    cp target/debian/outboxd_*.deb "$root/root/outboxd.deb"
    cp tests/package/inside.sh "$root/root/"
    UNIFIED_CGROUP_HIERARCHY=yes SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 systemd-nspawn --quiet --boot --directory="$root" \
        --register=no --keep-unit --private-network --console=pipe </dev/null >"$work/$suite.boot" 2>&1 &
    nspawn=$!
    echo "$nspawn" >>"$work/booted"
    for _ in $(seq 300); do
        leader=$(pgrep -P "$nspawn" | head -1 || true)
        state=$([ -z "$leader" ] || nsenter -t "$leader" -m -u -i -n -p -C systemctl is-system-running 2>/dev/null || true)
        [[ "$state" == running || "$state" == degraded ]] && break
        kill -0 "$nspawn" || { cat "$work/$suite.boot" >&2; return 1; }
        sleep 0.2
    done
    nsenter -t "$leader" -m -u -i -n -p -C systemctl --version | head -1
    nsenter -t "$leader" -m -u -i -n -p -C bash /root/inside.sh || outcome=$?
    kill -KILL "$leader"
    wait "$nspawn" || true
    return "$outcome"
}

# One after the other: they would have the same control groups, and each would remove those of the other's services.
failed=0
for suite in "${suites[@]}"; do
    try "$suite" >"$work/$suite.out" 2>&1 &
    wait $! || failed=$((failed + 1))
    sed "s/^/$suite: /" "$work/$suite.out"
done
echo "$(cat "$work"/*.out | grep -c '^ok ') passed, $failed failed"
[ $failed = 0 ]
