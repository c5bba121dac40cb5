# The one task runner. `make test` is exactly what CI runs.
#
#   make quickstart             two tenants on loopback, no root; options in ARGS="--for 20s"
#   make test                   everything CI checks
#   make lint | fmt | deny      parts of it
#   make help                   all targets

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# One set of features for lints and tests, so that they share what is built. It contains the faults that tests inject.
FEATURES := --workspace --all-features
CARGO := cargo
# Tools that are not there are built once, and apart from the user's own.
TOOLS := $(or $(CARGO_TARGET_DIR),target)/tools
DENY_VERSION := 0.20.2
DENY := $(or $(shell command -v cargo-deny 2>/dev/null),$(TOOLS)/bin/cargo-deny)
NEXTEST := $(shell command -v cargo-nextest 2>/dev/null)

.PHONY: help quickstart build release test packages fmt-check paths fmt lint deny advisories doc-test unit-test doc clean

help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | column -t -s '|'

quickstart: ## Two tenants on loopback, no root; options in ARGS, e.g. ARGS="--for 20s"
	@$(CARGO) run -p culvert --bin culvert -- quickstart $(ARGS)

build: ## Both binaries as the quickstart has them: target/debug/culvertd and culvert
	$(CARGO) build -p culvert --bins

release: ## Both binaries for production: target/release/culvertd and culvert; builds OpenSSL once more
	$(CARGO) build --release -p culvert --bins

# In this order, so that the cheap faults show first and the summary of the tests is last.
test: packages fmt-check paths deny lint doc-test unit-test ## Everything CI checks

packages: ## Install the Debian packages tests need (as root), or say what is skipped
	@.ci/packages

fmt-check:
	$(CARGO) fmt --all --check

# The documents are a map of the tree, so every path of ours that they name has to be there.
paths:
	@lost=0; for path in $$(grep -ohE '[`(](\.ci|proto|ike|esp|router|tenants|actors|culvert|loadtest|sim|interop)/[^`) ]*' \
	    README.md ARCHITECTURE.md CONTRIBUTING.md | tr -d '`(' | grep -v '^tenants/acme' | sort -u); do \
	  [[ -e $$path ]] || { echo "the documents name $$path, which does not exist"; lost=1; }; done; exit $$lost

fmt: ## Format the code
	$(CARGO) fmt --all

lint: ## Clippy, warnings are errors
	$(CARGO) clippy $(FEATURES) --all-targets --locked -- -D warnings

# Licences, duplicates and sources need no network but for building the tool. In CI a missing tool is an error.
deny: ## Licences, bans and sources of the dependencies (deny.toml)
	@if [[ ! -x "$(DENY)" ]]; then \
	  echo "building cargo-deny $(DENY_VERSION) into $(TOOLS), once"; \
	  $(CARGO) install cargo-deny --version $(DENY_VERSION) --locked --quiet --root "$(TOOLS)" \
	    --target-dir "$(TOOLS)/build" && rm -rf "$(TOOLS)/build" || \
	  { [[ "$${CI:-}" != true ]] || exit 1; echo "skipped: cargo-deny is not installed and could not be built"; exit 0; }; \
	fi; \
	if [[ -x "$(DENY)" ]]; then $(CARGO) fetch --locked --quiet; "$(DENY)" --offline check bans licenses sources; fi

advisories: ## Known vulnerabilities of the dependencies; fetches the database from GitHub
	"$(DENY)" check advisories

doc-test:
	$(CARGO) test $(FEATURES) --doc --locked --quiet

unit-test:
ifneq ($(NEXTEST),)
	$(CARGO) nextest run $(FEATURES) --locked
else
	$(CARGO) test $(FEATURES) --all-targets --locked
endif

doc: ## The crates' documentation in target/doc
	$(CARGO) doc --workspace --no-deps

clean: ## Remove everything built
	$(CARGO) clean
