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

.PHONY: bench
bench: ## measure speed and cost beside bare PostgreSQL and bare Kafka (5 minutes); BENCH="--json FILE" for options
	@cargo bench --bench relay -- $(BENCH)
