#!/bin/sh
# Fetches the real PostgreSQL and Kafka that tests, demo and benchmark run, with Maven, and the distribution's Prometheus that
# tests ask, into .services (or OUTBOXD_SERVICES_DIR). What is there in its right version stays; nothing is ever seen half
# unpacked; never needs root, and installs or starts nothing on the system.
set -eu

kafka=4.3.0
log4j=2.25.4
# Whatever the system has, or its distribution.
prometheus='of the distribution'
# Each the newest of its kind; not every processor has all.
case $(uname -sm) in
'Linux x86_64') processor=amd64 postgresqls='14.24.0 15.19.0 16.15.0 17.11.0 18.6.0' ;;
'Linux aarch64') processor=arm64v8 postgresqls='14.23.0 15.19.0 16.15.0 17.11.0 18.6.0' ;;
*) echo "there are no PostgreSQL packages for $(uname -sm)" >&2 && exit 1 ;;
esac

here=$(cd "$(dirname "$0")" && pwd)
services=${OUTBOXD_SERVICES_DIR:-$here/../../.services}

# A folder is whole when it says which version it is: that file is written last, before the folder gets its name.
holds() {
    read -r found 2>/dev/null <"$services/$1/VERSION" && [ "$found" = "$2" ]
}

complete() {
    for version in $postgresqls; do
        holds "postgresql-${version%%.*}" "$version" || return 1
    done
    holds "kafka-$kafka" "$kafka with log4j $log4j" && holds prometheus "$prometheus"
}

# Runs one of the executions of pom.xml for the architecture of this machine.
maven() {
    execution=$1
    shift
    mvn --batch-mode --file "$here/pom.xml" -Dinto="$work" -Dprocessor="$processor" -Dkafka="$kafka" -Dlog4j="$log4j" \
        "$@" "dependency:$execution" >"$work/maven.log" 2>&1 || {
        cat "$work/maven.log" >&2
        echo 'Maven could not fetch it; its last lines say why' >&2
        exit 1
    }
}

# Gives the folder $work/$1 its place, as version $2. A server that still runs from an older one keeps its open files.
install() {
    echo "$2" >"$work/$1/VERSION"
    chmod -R u+w,a+rX "$work/$1"
    [ ! -e "$services/$1" ] || mv "$services/$1" "$work/old-$1"
    mv "$work/$1" "$services/$1"
}

fetch_postgresql() {
    folder=postgresql-${1%%.*}
    echo "fetching PostgreSQL $1" >&2
    maven unpack@postgresql -Dpostgresql="$1"
    mkdir "$work/$folder"
    tar --extract --xz --no-same-owner --file "$work"/unpacked/*.txz --directory "$work/$folder"
    rm -r "$work/unpacked"
    install "$folder" "$1"
}

fetch_kafka() {
    echo "fetching Apache Kafka $kafka" >&2
    maven copy-dependencies@kafka
    install "kafka-$kafka" "$kafka with log4j $log4j"
    "$here/archive-classes.sh" "$services/kafka-$kafka" || echo 'Kafka will start a second slower: no class archive' >&2
}

# The package is unpacked and not installed: installed, it would start a server. Its lists are fetched anew and apart, since a
# fresh container has none and only root may renew those of the system. Only some tests need it, so that nothing else fails
# where there is no such package.
fetch_prometheus() {
    mkdir -p "$work/prometheus" "$work/apt/lists/partial" "$work/apt/archives/partial"
    if command -v prometheus >/dev/null && command -v promtool >/dev/null; then
        ln -s "$(command -v prometheus)" "$(command -v promtool)" "$work/prometheus"
    else
        echo 'fetching Prometheus' >&2
        apt_get="apt-get -q -o Dir::State::Lists=$work/apt/lists -o Dir::Cache=$work/apt -o APT::Sandbox::User=$(id -un)"
        (cd "$work/apt" && $apt_get update && $apt_get download prometheus) >"$work/apt.log" 2>&1 || {
            cat "$work/apt.log" >&2
            echo 'apt-get could not fetch Prometheus; tests of alerts need prometheus and promtool in the path' >&2
            return
        }
        dpkg-deb --extract "$work"/apt/prometheus_*.deb "$work/apt/unpacked"
        mv "$work/apt/unpacked/usr/bin/prometheus" "$work/apt/unpacked/usr/bin/promtool" "$work/prometheus"
    fi
    install prometheus "$prometheus"
}

! complete || exit 0
"$here/prerequisites.sh"

mkdir -p "$services"
# The class archive remembers the path of the jars as the broker is given it: without links and dots.
services=$(cd -P "$services" && pwd)
exec 9>"$services/.lock"
flock 9
work=$services/.fetching
# A fetch that was killed may have left this behind; only the holder of the lock uses it.
rm -rf "$work"
mkdir "$work"
trap 'rm -rf "$work"' EXIT
trap 'exit 130' HUP INT TERM

for version in $postgresqls; do
    holds "postgresql-${version%%.*}" "$version" || fetch_postgresql "$version"
done
holds "kafka-$kafka" "$kafka with log4j $log4j" || fetch_kafka
holds prometheus "$prometheus" || fetch_prometheus
