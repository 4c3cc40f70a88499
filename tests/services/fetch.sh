#!/bin/sh
# Fetches the real PostgreSQL and Kafka that tests, demo and benchmark run, with Maven, into .services (or
# OUTBOXD_SERVICES_DIR). What is there in its right version stays; nothing is ever seen half unpacked; never needs root.
set -eu

kafka=4.3.0
log4j=2.25.4
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
    holds "kafka-$kafka" "$kafka with log4j $log4j"
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
