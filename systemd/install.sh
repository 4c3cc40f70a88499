#!/bin/sh
# Lays below a root (empty: this system) what an installation consists of: install.sh PROGRAM ROOT. Overwrites everything but
# the configuration.
set -eu
program=$(realpath "$1") root=$2
cd "$(dirname "$0")/.."

put() {
    install -D --mode="$1" "$2" "$root/$3"
}

put 755 "$program" usr/bin/outboxd
[ -e "$root/etc/outboxd/outboxd.toml" ] || put 644 config/outboxd.toml etc/outboxd/outboxd.toml
install -d --mode=700 "$root/etc/outboxd/credentials"
for unit in outboxd.service outboxd@.service; do
    put 644 "systemd/$unit" "usr/lib/systemd/system/$unit"
done
put 644 systemd/outboxd.sysusers usr/lib/sysusers.d/outboxd.conf
put 644 systemd/outboxd.tmpfile usr/lib/tmpfiles.d/outboxd.conf
install -d "$root/usr/share/man/man1"
"$program" man --out "$root/usr/share/man/man1"
shares="$root/usr/share"
completions() {
    install -d "$shares/$(dirname "$2")"
    "$program" completions "$1" >"$shares/$2"
}
completions bash bash-completion/completions/outboxd
completions zsh zsh/vendor-completions/_outboxd
completions fish fish/vendor_completions.d/outboxd.fish
for page in README.md docs/*.md; do
    put 644 "$page" "usr/share/doc/outboxd/$(basename "$page")"
done
for example in config/sagas/*.toml config/prometheus/rules.yml config/grafana/outboxd.json; do
    put 644 "$example" "usr/share/doc/outboxd/examples/$(basename "$example")"
done
