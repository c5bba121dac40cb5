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

.PHONY: help quickstart scale histories dashboards build release image test packages fmt-check paths fmt lint deny advisories doc-test unit-test doc clean \
        chart-tools chart-lint chart-test chart-golden docs docs-api \
        fuzz fuzz-engine fuzz-corpus mutations bench bench-accept

help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | column -t -s '|'

quickstart: ## Two tenants on loopback, no root; options in ARGS, e.g. ARGS="--for 20s"
	@$(CARGO) run -p culvert --bin culvert -- quickstart $(ARGS)

build: ## Both binaries as the quickstart has them: target/debug/culvertd and culvert
	$(CARGO) build -p culvert --bins

release: ## Both binaries for production: target/release/culvertd and culvert; builds OpenSSL once more
	$(CARGO) build --release -p culvert --bins

scale: ## Write what the simulation of large clusters gives into docs/src/scale.md
	@$(CARGO) run --quiet --locked -p cluster --features scale --example scale docs/src/scale.md

histories: ## A hundred hours of clusters whose nodes are killed, stopped, cut off and drained; options in ARGS, e.g. ARGS="--hours 400"
	$(CARGO) run --release --locked -p sim -- cluster $(ARGS)

dashboards: ## Write dashboards, alerts and the documents about them into charts/ and docs/
	@$(CARGO) run --quiet --locked -p culvert --example dashboards

# What `make image` calls it.
IMAGE := culvert:$(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)

image: ## Container image of static binaries, with what is in them listed: target/image (needs buildah; builds for release)
	@IMAGE=$(IMAGE) image/build.sh

# In this order, so that the cheap faults show first and the summary of the tests is last.
test: packages fmt-check paths deny chart-lint docs lint doc-test unit-test ## Everything CI checks

packages: ## Install the Debian packages tests need (as root), or say what is skipped
	@.ci/packages

fmt-check:
	$(CARGO) fmt --all --check

# The documents are a map of the tree, so every path of ours that they name has to be there.
paths:
	@lost=0; for path in $$(grep -ohE '[`(](\.ci|image|charts|docs|proto|ike|esp|router|tenants|cluster|actors|culvert|loadtest|sim|interop|fuzz|bench|mac|snapshot|negotiated|latest|tls|certificates)/[^`) ]*' \
	    README.md ARCHITECTURE.md CONTRIBUTING.md | tr -d '`(' | grep -v '^tenants/acme' | sort -u); do \
	  [[ -e $$path ]] || { echo "the documents name $$path, which does not exist"; lost=1; }; done; exit $$lost

# What comes from PyPI is fetched once, and apart from the user's own. In CI what is missing is an error.
chart-tools:
	@charts/tests/tools.sh

chart-lint: chart-tools ## The chart: lint, golden renders, schemas of Kubernetes, refused values, its README
	@[[ ! -x $(TOOLS)/python/bin/mdbook ]] || $(TOOLS)/python/bin/python charts/tests/lint.py $(TOOLS)/helm/helm $(CHART_ARGS)

chart-test: chart-lint image ## The chart really started, in the image, with a tunnel through it (root; podman, runc)
	@$(CARGO) build --quiet --locked -p loadtest
	@$(TOOLS)/python/bin/python charts/tests/run.py $(TOOLS)/helm/helm $(IMAGE) $(TOOLS)/../debug/loadtest

chart-golden: ## Take over what the chart renders, and its README
	@$(MAKE) --no-print-directory chart-lint CHART_ARGS=--write

fmt: ## Format the code
	$(CARGO) fmt --all

# Then as it is delivered: tests and `fuzz` turn features on that what is built alone does not have.
lint: ## Clippy, warnings are errors
	$(CARGO) clippy $(FEATURES) --all-targets --locked -- -D warnings
	$(CARGO) clippy --workspace --exclude fuzz --locked -- -D warnings

# Licences, duplicates and sources need no network but for building the tool. In CI a missing tool is an error.
deny: ## Licences, bans and sources of the dependencies (deny.toml)
	@if [[ ! -x "$(DENY)" ]]; then \
	  echo "building cargo-deny $(DENY_VERSION) into $(TOOLS), once"; \
	  $(CARGO) install cargo-deny --version $(DENY_VERSION) --locked --quiet --debug --root "$(TOOLS)" \
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

# Coverage-guided fuzzing on stable Rust: these flags are what cargo-fuzz sets, without the sanitizers of nightly.
FUZZ_DIR := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)/fuzz
FUZZ_HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
# With culvert_fuzz, IKE computes with stand-ins: real Diffie-Hellman would take most of every run.
FUZZ_FLAGS := --cfg culvert_fuzz -C passes=sancov-module -C llvm-args=-sanitizer-coverage-level=4 \
              -C llvm-args=-sanitizer-coverage-inline-8bit-counters -C llvm-args=-sanitizer-coverage-pc-table
FUZZ_ENGINE := $(FUZZ_DIR)/$(FUZZ_HOST)/release/fuzz-engine
FUZZ_TARGETS := $(basename $(notdir $(filter-out %/mod.rs,$(wildcard fuzz/src/targets/*.rs))))
TARGET ?= $(FUZZ_TARGETS)
# make has SECONDS from the shell that started it, so only one from the command line counts.
FUZZ_LIMIT := $(if $(RUNS),-runs=$(RUNS),-max_total_time=$(if $(filter command line,$(origin SECONDS)),$(SECONDS),60))
# Captures of others are seeds only on demand, and what grows from them stays apart: it must not get into the tree.
FUZZ_FOUND := $(FUZZ_DIR)/$(if $(VECTORS),corpus-of-vectors,corpus)
FUZZ_SEEDS := $(FUZZ_DIR)/$(if $(VECTORS),seeds-of-vectors,seeds)

fuzz: fuzz-engine ## Fuzz; TARGET=connection, RUNS=1000000 or SECONDS=60, REPLAY=file, VECTORS=folder of captures
	@$(CARGO) run --quiet --locked -p fuzz -- "$(FUZZ_SEEDS)" $(VECTORS) >/dev/null
	@mkdir -p "$(FUZZ_DIR)/found"; failed=; for target in $(TARGET); do \
	  mkdir -p "$(FUZZ_FOUND)/$$target" "fuzz/corpus/$$target"; \
	  printf '%-14s ' "$$target"; log="$(FUZZ_DIR)/$$target.log"; \
	  if CULVERT_FUZZ_TARGET=$$target "$(FUZZ_ENGINE)" -artifact_prefix="$(FUZZ_DIR)/found/$$target-" -timeout=20 \
	      -max_len=2048 -print_final_stats=1 $(if $(REPLAY),"$(REPLAY)",$(FUZZ_LIMIT) "$(FUZZ_FOUND)/$$target" \
	      "fuzz/corpus/$$target" "$(FUZZ_SEEDS)/$$target") >"$$log" 2>&1; then \
	    echo "passed, $$(sed -n 's/^stat::number_of_executed_units: *//p' "$$log") runs"; \
	  else \
	    echo "FAILED"; grep -aE 'panicked|^ERROR|SUMMARY|Test unit' -A1 "$$log" | head -12; failed=1; \
	  fi; done; [[ -z $$failed ]]

fuzz-engine:
	$(if $(filter-out $(FUZZ_TARGETS),$(TARGET)),$(error no target $(TARGET); there are $(FUZZ_TARGETS)))
	@cd fuzz/engine && CARGO_TARGET_DIR="$(FUZZ_DIR)" RUSTFLAGS="$(FUZZ_FLAGS)" \
	  $(CARGO) build --quiet --release --locked --target $(FUZZ_HOST)

fuzz-corpus: fuzz-engine ## Keep the smallest inputs that reach what the found ones reach, in fuzz/corpus
	@for target in $(TARGET); do rm -rf "$(FUZZ_DIR)/merged"; mkdir -p "$(FUZZ_DIR)/merged" "fuzz/corpus/$$target"; \
	  CULVERT_FUZZ_TARGET=$$target "$(FUZZ_ENGINE)" -set_cover_merge=1 -max_len=2048 "$(FUZZ_DIR)/merged" \
	    "fuzz/corpus/$$target" "$(FUZZ_DIR)/corpus/$$target" >/dev/null 2>&1; \
	  rm -rf "fuzz/corpus/$$target"; mv "$(FUZZ_DIR)/merged" "fuzz/corpus/$$target"; \
	  echo "$$target: $$(ls "fuzz/corpus/$$target" | wc -l) inputs"; done

mutations: ## Break the code on purpose; the tests must notice each time
	@fuzz/mutations.sh

# Instructions and not time, so that it is the same on a busy machine. Apart from `make test`, for it builds for release.
bench: ## Count instructions of the packet path and of IKE; over 5 % more than kept fails (needs valgrind); ARGS="esp seal"
	@command -v valgrind >/dev/null || { echo "make bench needs valgrind (Debian: apt install valgrind)"; exit 2; }
	@$(CARGO) run --release --quiet --locked -p bench -- counts $(ARGS)

bench-accept: ## Take over the counts as they are now, into bench/expected.json; read the difference
	@$(MAKE) --no-print-directory bench ARGS="--accept"

# Links between pages that lead nowhere are errors of mdbook and of the script.
docs: chart-tools ## The book in target/book, its links checked
	@[[ ! -x $(TOOLS)/python/bin/mdbook ]] || docs/build.sh $(TOOLS)/python/bin

docs-api: ## The page of the book that is made from the protos
	$(CARGO) run --quiet --locked -p culvert-proto --example reference > docs/src/api.md

doc: ## The crates' documentation in target/doc
	$(CARGO) doc --workspace --no-deps

clean: ## Remove everything built
	$(CARGO) clean
