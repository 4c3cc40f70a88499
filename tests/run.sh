#!/usr/bin/env bash
# Runs all tests and closes with their counts. Never hides a failure: its exit code is cargo's.
set -uo pipefail
cd "$(dirname "$0")/.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# The demo and the daemon are run by tests, and are built once for all of them.
cargo build --locked --bin outboxd --example demo && cargo test --locked --no-fail-fast -- "$@" 2>&1 | tee "$log"
code=$?
awk '/^test result:/ { passed += $4; failed += $6; skipped += $8 }
  END { printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped }' "$log"
exit "$code"
