#!/bin/sh
# Makes the class archive of the Kafka in folder $1, with which the JVM starts it in about half the time, by running that
# broker once. Without the archive everything works as well, only slower; nothing of the run is left behind.
set -eu

kafka=$1
java=${JAVA_HOME:+$JAVA_HOME/bin/}java
# The archive fits only the same collector and the same class path, so these are the ones that tests/support/kafka.rs uses.
options='-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData -Xmx512m -Dlog4j2.level=INFO'
work=$(mktemp -d)
broker=
trap '[ -z "$broker" ] || kill -9 "$broker" 2>/dev/null || :; rm -rf "$work"' EXIT
trap 'exit 130' HUP INT TERM

port=$((10000 + $$ % 10000))
cat >"$work/server.properties" <<END
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 10000))
controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.1:$((port + 10000))
log.dirs=$work/data
END
$java $options -cp "$kafka/*" kafka.tools.StorageTool format \
    --cluster-id aaaaaaaaaaaaaaaaaaaaaa --config "$work/server.properties" >/dev/null

mkfifo "$work/log"
$java $options -XX:ArchiveClassesAtExit="$work/classes.jsa" -Xlog:disable \
    -cp "$kafka/*" kafka.Kafka "$work/server.properties" >"$work/log" &
broker=$!
# Returns when the broker is up, or with the end of the log when it is gone.
sed '/Kafka Server started/q' "$work/log" >/dev/null
kill "$broker"
wait "$broker" || :
broker=
mv "$work/classes.jsa" "$kafka/classes.jsa"
