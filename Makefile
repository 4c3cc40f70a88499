# Shortcuts for people; each recipe is a line or two, and what needs more is a script of its own.
.DEFAULT_GOAL := help

REVISION = $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)

.PHONY: help
help: ## say what there is
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

.PHONY: prerequisites
prerequisites: ## check what this machine lacks, install it if allowed
	@tests/services/prerequisites.sh

.PHONY: services
services: ## fetch the PostgreSQL and Kafka that tests and demo run
	@tests/services/fetch.sh

.PHONY: demo
demo: prerequisites services ## see outboxd at work, with a page to break things on, until Ctrl-C; with ORDERS=20 check so many orders
	@cargo build --quiet $(CARGO_FLAGS) --bin outboxd --example demo --example create_order
	@cargo run --quiet $(CARGO_FLAGS) --example demo -- $(if $(ORDERS),--orders $(ORDERS)) $(if $(ONLY),--only $(ONLY))

.PHONY: check
check: prerequisites ## format, lints, documentation, licences
	cargo fmt --check
	cargo clippy --all-targets --features failpoints --locked -- -D warnings
	cargo clippy --bin outboxd --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked
	@command -v cargo-deny >/dev/null || cargo install --locked cargo-deny@0.20.2
	cargo deny check bans licenses sources

.PHONY: docs
docs: ## write the documents that are made from the code: docs/configuration.md and docs/metrics.md
	@OUTBOXD_WRITE_DOCS=1 cargo test --quiet --locked --features failpoints --lib documented

.PHONY: audit
audit: ## ask for known vulnerabilities; needs the advisory database from the network
	cargo deny check advisories

.PHONY: test
test: ## all tests, with the PostgreSQL and Kafka that they fetch
	@tests/services/prerequisites.sh tests
	@tests/services/fetch.sh
	@tests/run.sh

.PHONY: install
install: ## build a release and install it below DESTDIR, for systemd to run; as root, or for a package
	@OUTBOXD_REVISION=$(REVISION) cargo build --release --locked --bin outboxd
	@systemd/install.sh target/release/outboxd "$(DESTDIR)"

.PHONY: deb
deb: prerequisites ## build the Debian package, in target/debian
	@OUTBOXD_REVISION=$(REVISION) cargo build --release --locked --bin outboxd
	@systemd/deb.sh target/release/outboxd

.PHONY: package-test
package-test: prerequisites ## install the Debian package in booted systems, start it, break it; needs root
	@tests/package/run.sh

.PHONY: chaos
chaos: prerequisites services ## 1,000 kills and 30 of each other fault while services write (an hour); KILLS=100 OTHERS=3 MINUTES=5 SEED=7 JSON=FILE
	@cargo test --quiet --locked --test chaos -- run $(if $(SEED),--seed $(SEED)) $(if $(KILLS),--kills $(KILLS)) \
	  $(if $(OTHERS),--others $(OTHERS)) $(if $(MINUTES),--minutes $(MINUTES)) $(if $(JSON),--json $(JSON))

.PHONY: fuzz
fuzz: ## throw invented bytes at what comes from outside, a minute each; needs a nightly toolchain; SECONDS=600
	@command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz
	@for target in frames session records image; do mkdir -p target/fuzz/$$target && cargo +nightly fuzz run $$target \
	  target/fuzz/$$target fuzz/corpus/$$target -- -max_total_time=$(or $(SECONDS),60) || exit; done

.PHONY: bench
bench: ## measure speed and cost beside bare PostgreSQL, Kafka and send(2) (8 minutes); BENCH="--only push --json FILE" for options
	@cargo bench --bench measure -- $(BENCH)
