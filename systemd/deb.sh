#!/bin/sh
# Makes a Debian package of a program that has been built: deb.sh PROGRAM [options of cargo deb].
set -eu
program=$(realpath "$1")
shift
cd "$(dirname "$0")/.."
command -v cargo-deb >/dev/null || cargo install --quiet --locked cargo-deb@3.8.0
stage=target/package
rm -rf "$stage" target/debian
systemd/install.sh "$program" "$stage"
strip "$stage/usr/bin/outboxd"
cargo deb --quiet --no-build "$@"
