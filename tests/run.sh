#!/usr/bin/env bash
# Runs all tests and closes with their counts. Never hides a failure: its exit code is cargo's.
set -uo pipefail
cd "$(dirname "$0")/.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT
daemon=${CARGO_TARGET_DIR:-target}/debug/outboxd
# What ships can neither be made to end itself nor to break a rule. The tests' own build can, or this would prove nothing.
cargo build --locked --bin outboxd || exit
for word in OUTBOXD_FAILPOINTS OUTBOXD_SABOTAGE before_commit no_read_back; do
    if grep -q "$word" "$daemon"; then echo "the build without failpoints knows $word" >&2; exit 1; fi
done
# The demo and the daemon are run by tests, and are built once for all of them.
cargo build --locked --features failpoints --bin outboxd --example demo --example create_order || exit
grep -q OUTBOXD_FAILPOINTS "$daemon" || { echo "the build with failpoints has none" >&2; exit 1; }
cargo test --locked --features failpoints --no-fail-fast -- "$@" 2>&1 | tee "$log"
code=$?
awk '/^test result:/ { passed += $4; failed += $6; skipped += $8 }
  END { printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped }' "$log"
exit "$code"
