#!/bin/bash
# Tries the package where systemd is in charge: run by run.sh inside a booted system. Ends at the first claim that does not
# hold, with what systemd says of the daemon.
set -euo pipefail
unset OUTBOXD_CONFIG OUTBOXD_LOG

claim=
trap 'code=$?; [ $code = 0 ] || { echo "FAILED $claim"; systemctl status --no-pager --full outboxd "outboxd@*"; journalctl --no-pager -n 60; }' EXIT
holds() {
    claim=$1
    shift
    "$@" >/dev/null
    echo "ok $claim"
}
# Waits for what takes a moment.
becomes() {
    claim=$1
    shift
    for _ in $(seq 300); do
        if "$@"; then
            echo "ok $claim"
            return
        fi
        sleep 0.2
    done
    return 1
}
fails() {
    ! "$@" 2>/dev/null
}
of() {
    systemctl show --property "$2" --value "$1"
}
is() {
    [ "$(of "$1" "$2")" = "$3" ]
}
said() {
    journalctl --unit "$1" --output cat --no-pager | grep -F -e "$2" >/dev/null
}
# The answer to a page of another origin: 403, or 503 from a daemon that lets it in but has no Kafka.
asks() {
    exec 3<>/dev/tcp/127.0.0.1/8080
    printf 'GET /v1/sagas/a/b HTTP/1.1\r\nHost: x\r\nOrigin: https://shop.example\r\nConnection: close\r\n\r\n' >&3
    head -1 <&3 | cut -d ' ' -f 2
    exec 3<&-
}
answers() {
    [ "$(asks)" = "$1" ]
}
metric() {
    exec 3<>/dev/tcp/127.0.0.1/9464
    printf 'GET /metrics HTTP/1.0\r\n\r\n' >&3
    grep -x "outboxd_config_last_reload_successful $1" <&3 >/dev/null
    exec 3<&-
}

dpkg --install /root/outboxd.deb >/dev/null
holds "the package makes a user, and does not run without a configuration of one's own" \
    bash -c 'getent passwd outboxd >/dev/null && ! systemctl is-enabled --quiet outboxd && ! systemctl is-active --quiet outboxd'
holds "it brings manual pages and completions" \
    bash -c 'cd /usr/share && zgrep -q "ctl reload" man/man1/outboxd-ctl-reload.1.gz && bash -n bash-completion/completions/outboxd &&
             [ -s zsh/vendor-completions/_outboxd ] && [ -s fish/vendor_completions.d/outboxd.fish ]'
holds "it brings examples: alerts, a dashboard, and a definition of a saga that holds" \
    bash -c 'cd /usr/share/doc/outboxd/examples && [ -s rules.yml ] && [ -s outboxd.json ] &&
             printf "[sagas]\ndefinitions = \"$PWD/create-order.toml\"\n" >/tmp/graph.toml &&
             outboxd saga graph --config /tmp/graph.toml | grep -q APPROVAL_PENDING'
holds "only root looks into the directory of credentials" \
    [ "$(stat --format %a:%U /etc/outboxd/credentials)" = 700:root ]
holds "systemd finds no fault with the units" \
    bash -c '[ -z "$(systemd-analyze verify outboxd.service outboxd@eu.service 2>&1)" ]'
for unit in outboxd outboxd@; do
    holds "$unit is exposed no further than 1.2" \
        bash -c "systemd-analyze security --offline=true --threshold=12 /usr/lib/systemd/system/$unit.service >/dev/null"
done
systemctl start outboxd
holds "the configuration that is shipped starts" is outboxd ActiveState active
systemctl stop outboxd

head -c 32 /dev/urandom | base64 >/etc/outboxd/credentials/push
chmod 600 /etc/outboxd/credentials/push
mkdir /etc/systemd/system/outboxd.service.d
printf '[Service]\nLoadCredential=push:/etc/outboxd/credentials/push\n' >/etc/systemd/system/outboxd.service.d/push.conf
systemctl daemon-reload
config() {
    cat <<TOML
[push]
listen = "127.0.0.1:8080"
state_directory = "/var/lib/outboxd"
$1
[push.auth]
issuer = "https://id.example"
algorithms = ["HS256"]
keys = { secret = { credential = "push" } }
TOML
}
config "" >/etc/outboxd/outboxd.toml
systemctl start outboxd
main=$(of outboxd MainPID)
holds "a start waits for readiness, and the status says how it goes" \
    bash -c "[ \"$(of outboxd SubState)\" = running ] && [[ \"$(of outboxd StatusText)\" == 'leads 0, '* ]]"
holds "it runs as its own user, without any capability" \
    bash -c "[ \$(stat --format %U /proc/$main) = outboxd ] && grep -q '^CapEff:.0*$' /proc/$main/status"
holds "root asks the daemon for its status" outboxd status
holds "so does a member of its group" setpriv --reuid nobody --regid nogroup --groups outboxd outboxd status
claim="nobody else does"
code=0
setpriv --reuid nobody --regid nogroup --clear-groups outboxd status 2>/dev/null || code=$?
holds "nobody else does" [ $code = 77 ]

becomes "a page of another origin is not let in" answers 403
config 'allowed_origins = ["https://shop.example"]' >/etc/outboxd/outboxd.toml
holds "a reload of a good file succeeds" systemctl reload outboxd
holds "and is applied when it returns" answers 503
holds "by the same process, which is running again" \
    bash -c "[ \"$(of outboxd MainPID) $(of outboxd SubState)\" = '$main running' ]"

config 'allowed_origin = ["https://shop.example"]' >/etc/outboxd/outboxd.toml
holds "a reload of a broken file fails" fails systemctl reload outboxd
holds "and says where it is broken" said outboxd '/etc/outboxd/outboxd.toml:4:1'
holds "to the metrics as well" metric 0
holds "the daemon goes on as before" \
    bash -c "[ \"$(of outboxd MainPID) $(of outboxd ActiveState)\" = '$main active' ] && [ $(asks) = 503 ]"
holds "a broken file keeps a daemon from starting anew, and is not tried again" \
    bash -c '! systemctl restart outboxd 2>/dev/null && sleep 3 && [ "$(systemctl show -P NRestarts outboxd)" = 0 ] &&
             [ "$(systemctl show -P ActiveState outboxd)" = failed ]'
config 'allowed_origins = []' >/etc/outboxd/outboxd.toml
systemctl start outboxd
main=$(of outboxd MainPID)
config 'allowed_origins = ["https://shop.example"]' >/etc/outboxd/outboxd.toml
systemctl kill --signal HUP --kill-whom main outboxd
becomes "SIGHUP reloads as well" answers 503
becomes "and systemd sees it running again" is outboxd SubState running

kill -KILL "$main"
becomes "a daemon that is killed is started again" \
    bash -c '[ "$(systemctl show -P NRestarts outboxd)" = 1 ] && systemctl is-active --quiet outboxd'
printf '[Service]\nWatchdogSec=2s\n' >/etc/systemd/system/outboxd.service.d/watchdog.conf
systemctl daemon-reload
systemctl restart outboxd
main=$(of outboxd MainPID)
sleep 5
holds "a daemon that turns is let alone by the watchdog" is outboxd MainPID "$main"
kill -STOP "$main"
becomes "one that hangs is killed and started again" \
    bash -c "said() { journalctl -u outboxd -o cat --no-pager | grep -q 'Watchdog timeout'; }; said && systemctl is-active --quiet outboxd &&
             [ \"\$(systemctl show -P MainPID outboxd)\" != $main ]"

sed -e 's/8080/8081/' -e 's/{ credential = "push" }/{ file = "eu.secret" }/' -e 's/^state_directory.*//' \
    /etc/outboxd/outboxd.toml >/etc/outboxd/eu.toml
printf '[admin]\nlisten = "127.0.0.1:9465"\nsocket = "/run/outboxd-eu/ctl.sock"\n' >>/etc/outboxd/eu.toml
install --owner outboxd --mode 400 /etc/outboxd/credentials/push /etc/outboxd/eu.secret
systemctl start outboxd@eu
holds "another daemon runs beside it" bash -c 'outboxd status --config /etc/outboxd/eu.toml | grep -q :9465 && outboxd status | grep -q :9464'
holds "and is reloaded by itself" systemctl reload outboxd@eu
echo 'colour = 1' >>/etc/outboxd/eu.toml
holds "or refuses to, by itself" fails systemctl reload outboxd@eu
holds "while the first one is content" systemctl reload outboxd
sed -i '$d' /etc/outboxd/eu.toml

before="$(of outboxd MainPID) $(of outboxd@eu MainPID)"
dpkg --install /root/outboxd.deb >/dev/null
holds "an upgrade restarts what runs" \
    bash -c "read one two <<<'$before'; [ \$(systemctl show -P MainPID outboxd) != \$one ] && [ \$(systemctl show -P MainPID outboxd@eu) != \$two ]"
holds "and keeps the configuration" grep -q 'allowed_origins = \["https' /etc/outboxd/outboxd.toml
systemctl stop outboxd
holds "a stop drains and ends well" is outboxd Result success
holds "and leaves no socket" [ ! -e /run/outboxd/ctl.sock ]
systemctl start outboxd
dpkg --remove outboxd >/dev/null
holds "a removal ends both" \
    bash -c '! systemctl is-active --quiet outboxd && ! systemctl is-active --quiet outboxd@eu && [ ! -e /usr/bin/outboxd ]'
dpkg --purge outboxd >/dev/null
holds "a purge takes the shipped configuration along" [ ! -e /etc/outboxd/outboxd.toml ]
