# Two commands are all there is to know: `make demo` and `make test`. Each does its own
# set-up; stamps in .stamps make the second run start in seconds.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON := .venv/bin/python
PIP := $(PYTHON) -m pip install --quiet --disable-pip-version-check
CARGO := tools/cargo
# In the environment that it speaks of: who deletes that deletes this.
INSTALLED := .venv/.installed

.PHONY: help
help: ## Show this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-14s %s\n", $$1, $$2}'

.PHONY: demo
demo: setup ## The main job: two stock Envoys, mutual TLS, keys in SoftHSM2 (KEEP=1 leaves it up)
	@.venv/bin/meshkey demo $(if $(KEEP),--keep)

.PHONY: test
test: setup lint build/istiod ## Every test there is
	@$(CARGO) test --release --locked
	@$(PYTHON) -m pytest

# Istio's own code, for the tests; and where its charts are. Go's list of what it downloads is shown
# only with an error.
build/istiod: $(wildcard tests/tools/istiod/*.go) tests/tools/istiod/go.mod tests/tools/istiod/go.sum | $(INSTALLED)
	@echo "building Istio's own code for the tests (once, some minutes)"
	@mkdir -p $(@D)
	@cd tests/tools/istiod && export GOTOOLCHAIN=local CGO_ENABLED=0 GOFLAGS="-mod=readonly -buildvcs=false" \
	    && { $(CURDIR)/.venv/bin/go build -trimpath -ldflags="-s -w" -o $(CURDIR)/$@ . \
	        2> $(CURDIR)/.stamps/istiod || { cat $(CURDIR)/.stamps/istiod >&2; false; }; } \
	    && $(CURDIR)/.venv/bin/go list -m -f '{{.Dir}}' istio.io/istio > $(CURDIR)/$(@D)/istio

.PHONY: soak
soak: setup ## 500 rotations under load, about ten minutes (ROTATIONS=n: so many)
	@MESHKEY_SOAK_ROTATIONS=$(or $(ROTATIONS),500) $(PYTHON) -m pytest -s tests/e2e/test_soak.py

.PHONY: lint
lint: setup ## Formatting, types, import directions
	@.venv/bin/ruff format --check --quiet .
	@.venv/bin/ruff check --quiet .
	@.venv/bin/mypy --no-error-summary
	@.venv/bin/lint-imports --no-logo > .stamps/imports || { cat .stamps/imports; false; }
	@for tool in "fmt --check" "clippy --release --locked --all-targets -- -D warnings"; do \
	    if $(CARGO) $${tool%% *} --version > /dev/null 2>&1; then $(CARGO) $$tool; \
	    else echo "note: cargo $${tool%% *} is not installed here, not run"; fi; done

.PHONY: fuzz
fuzz: preflight $(INSTALLED) ## Mutated messages against what is signed: CASES of them for each parser, from SEED on
	@MESHKEY_FUZZ_CASES=$(or $(CASES),1000000) MESHKEY_FUZZ_SEED=$(or $(SEED),$$(date +%s)) \
	    $(PYTHON) -m pytest tests/fuzz

.PHONY: bench
bench: setup benchmarks/raw_token benchmarks/libslow_hsm.so benchmarks/libnative_pool.so ## Rates, as ratios within one run, into benchmarks/results.json
	@$(CARGO) build --release --locked --quiet --examples
	@$(PYTHON) -m benchmarks $(BENCH)

benchmarks/raw_token: benchmarks/raw_token.c
	@cc -O2 -Wall -Wextra -Werror -o $@ $< -ldl -lpthread

benchmarks/lib%.so: benchmarks/%.c
	@cc -O2 -Wall -Wextra -Werror -shared -fPIC -o $@ $< -ldl -lpthread

.PHONY: setup
setup: preflight $(INSTALLED) module

.PHONY: preflight
preflight:
	@tools/preflight .stamps/cargo $(if $(filter test soak bench,$(MAKECMDGOALS)),tests)

$(INSTALLED): requirements/dev.lock pyproject.toml | preflight
	@echo "setting up .venv (once, about a minute)"
	@test -x $(PYTHON) || python3 -m venv .venv
	@$(PIP) --require-hashes -r requirements/dev.lock
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: module
module: preflight ## Build the Envoy module; cargo knows what is up to date
	@test -d envoy-module/target || echo "building the Envoy module (once, some minutes)"
	@$(CARGO) build --release --locked --quiet

.PHONY: runtime
runtime: setup ## Install what production needs, and nothing else, into PREFIX (EXTRA=kubernetes, istio: and that)
	@$(PYTHON) -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir build/wheel .
	@python3 -m venv $(PREFIX)
	@$(PREFIX)/bin/python -m pip install --quiet --disable-pip-version-check \
	    --require-hashes -r requirements/$(or $(EXTRA),runtime).lock
	@$(PREFIX)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
	    build/wheel/meshkey-*.whl

.PHONY: proto
proto: setup ## Regenerate the code for proto/, in Python and in Rust
	@$(PYTHON) -m grpc_tools.protoc -I sidecar/_proto=proto --python_out=. --grpc_python_out=. \
	    --pyi_out=. $$(find proto -name '*.proto')
	@$(PYTHON) -m grpc_tools.protoc -I proto --include_imports \
	    --descriptor_set_out=envoy-module/target/signer.binpb meshkey/signer/v1/signer.proto
	@$(CARGO) run --quiet --locked -p meshkey-codegen -- target/signer.binpb src/proto

.PHONY: lock
lock: setup ## Resolve the Python dependencies anew, with hashes and without index addresses
	@for extra in runtime: istio:--extra=istio kubernetes:--extra=kubernetes dev:--extra=dev; do \
	    uv pip compile pyproject.toml --python-version 3.11 --generate-hashes --no-header \
	    --no-annotate --no-emit-index-url --upgrade --quiet $${extra#*:} \
	    -o requirements/$${extra%%:*}.lock; done

.PHONY: clean
clean: ## Remove everything that make made
	@rm -rf .venv .stamps envoy-module/target benchmarks/raw_token benchmarks/*.so build *.egg-info
