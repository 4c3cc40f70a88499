# Holds one server and its directory, and outlives whoever started it just long enough to clear up: when its input ends, for
# whatever reason, it stops the server, waits for its end and removes the directory. It never decides anything else.
#
# Input: shell commands, one a line, the next only after the end of the last. Output: "directory PATH", then for each command
# "started PID" and "ended STATUS". $1 is the name in the directory's name, $2 the signal that ends the server for good.
set -u
# Whoever ends everything, parent and all, must still leave us the time; as handlers these do not pass on to the server.
trap : HUP INT PIPE TERM
last_signal=$2
directory=$(mktemp -d "${TMPDIR:-/tmp}/outboxd-$1-XXXXXX" 2>/dev/null || mktemp -d "/tmp/outboxd-$1-XXXXXX") || exit 1
exec 3<&0 4>&1 </dev/null >"$directory/guardian" 2>&1
echo "directory $directory" >&4

children() {
    grep -l "^PPid:[[:space:]]*$1\$" /proc/[0-9]*/status | cut -d / -f 3
}

# Reads on while the server runs, only to notice the end of the input.
watch() {
    trap : HUP INT PIPE TERM
    while read -r line <&3; do :; done
    kill -s "$last_signal" "$server"
    # What was paused hears no other signal before it goes on.
    kill -s CONT "$server" $(children "$server")
}

while read -r command <&3; do
    eval "exec $command" </dev/null >>"$directory/stdout" 2>>"$directory/stderr" 3<&- 4>&- &
    server=$!
    echo "started $server" >&4
    watch 4>&- &
    watcher=$!
    # A signal to ourselves ends the wait, too.
    while wait "$server"; status=$?; [ "$status" -gt 128 ] && kill -0 "$server" 2>/dev/null; do :; done
    # Gone before the parent hears of the end, so that it does not take the parent's next command.
    kill -s KILL "$watcher"
    wait "$watcher"
    echo "ended $status" >&4
done

# A PostgreSQL that was killed left a segment of shared memory, whose id is the last word of line 7.
lock=$directory/data/postmaster.pid
[ ! -f "$lock" ] || ipcrm --shmem-id "$(sed -n '7s/.* //p' "$lock")"
# The last child of a killed server may still be writing.
attempts=0
until rm -rf "$directory" || [ "$attempts" -ge 50 ]; do
    attempts=$((attempts + 1))
    sleep 0.1
done
