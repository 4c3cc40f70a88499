# Shortcuts for people; each recipe is a line or two, and what needs more is a script of its own.
.DEFAULT_GOAL := help

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
demo: prerequisites services ## see outboxd at work until Ctrl-C; with ORDERS=20 until so many orders are placed
	@cargo build --quiet --bin outboxd --example demo
	@cargo run --quiet --example demo -- $(if $(ORDERS),--orders $(ORDERS))
