# The targets of developers and CI. They need Python 3.11 and make, and install everything else into .venv.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet
PROTOS = $(shell cd protos && find postroom -name '*.proto' | sort)
GOOGLEAPIS = $(shell $(BIN)/python -c 'import pathlib, google.rpc.status_pb2 as m; print(pathlib.Path(m.__file__).parents[2])')
PACKAGES := v1alpha1 admin gateway
PROTOC = $(BIN)/python -m grpc_tools.protoc -I protos
CLIENT := clients/python/src
GEN_VENV := .cache/gen-venv
GEN_PROTOC = $(GEN_VENV)/bin/python -m grpc_tools.protoc -I protos
DESCRIPTORS := dist/postroom.binpb

.DEFAULT_GOAL := help
.PHONY: help run test test-chaos test-attack test-clients alerts test-mail test-web test-deploy test-operate check lint types imports proto-lint promise descriptors openapi openapi-check gen gen-check wheels diagram compiled soak fuzz fuzz-openapi chaos attack bench sbom audit lock clean
.DELETE_ON_ERROR:

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.run  ## Run the service, the gateway and a worker on an SQLite file in ./data
	@exec $(BIN)/postroom up

# The next run need not compile the tests again.
test: export PYTHONDONTWRITEBYTECODE =
test: $(VENV)/.dev compiled  ## Run every test but those of the other test- targets
	$(BIN)/python -m pytest

test-chaos: $(VENV)/.dev compiled  ## Run a sample of `make chaos` as tests: each fault once or twice, with real processes
	$(BIN)/python -m pytest -n 2 --dist load tests/chaos

test-attack: $(VENV)/.dev compiled  ## Run samples of `make attack` and `make fuzz` as tests, one after the other
	$(BIN)/python -m pytest -n 0 tests/attack tests/fuzz

test-clients: $(VENV)/.dev  ## Run the examples, the official Go SDK, grpcurl and the wheels; needs Go, Java, Maven, Node, Rust, and their registries
	$(BIN)/python -m pytest -n 0 tests/clients

test-mail: $(VENV)/.dev  ## Test with Debian's Dovecot and Postfix, on both engines; needs root, and installs them with apt
	$(BIN)/python -m pytest -n 0 tests/mail

test-web: $(VENV)/.web  ## Test the reference page in Chromium, which apt-get install chromium provides; SCREENSHOT=1 renews docs/reference.png
	POSTROOM_SCREENSHOT=$(SCREENSHOT) $(BIN)/python -m pytest -n 0 tests/web

test-deploy: $(VENV)/.dev  ## Test the files in deploy/ with HAProxy, nginx, systemd and buildah, which apt-get install provides; needs root
	$(BIN)/python -m pytest -n 0 tests/deploy

test-operate: $(VENV)/.dev  ## Run an operator's day on both engines, from the installation to the upgrade; needs HAProxy and PyPI
	$(BIN)/python -m pytest -n 0 tests/operate

soak: $(VENV)/.dev  ## Run many random lifecycles: EXAMPLES=5000 takes about an hour
	POSTROOM_SOAK_EXAMPLES=$(or $(EXAMPLES),5000) $(BIN)/python -m pytest tests/worker/random_lifecycles

fuzz: $(VENV)/.dev  ## Send mutated requests and calls to a running product: CASES=1000000 takes hours, SEED=1
	$(BIN)/python -m tests.fuzz --cases $(or $(CASES),1000000) --seed $(or $(SEED),1)

fuzz-openapi: $(VENV)/.dev  ## Compare responses with the OpenAPI document: EXAMPLES=1000 of each operation, SEED=1
	POSTROOM_OPENAPI_EXAMPLES=$(or $(EXAMPLES),1000) POSTROOM_FUZZ_SEED=$(or $(SEED),1) \
		$(BIN)/python -m pytest -n 0 tests/fuzz/test_openapi.py

alerts:  ## Check and unit-test the alert rules with promtool; installs Debian's package prometheus as root
	tools/check_alerts.sh

check: lint types imports proto-lint gen-check openapi-check audit  ## Run linters, types, import rules and checks of generated files; report known vulnerabilities

lint: $(VENV)/.dev  ## Run ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev  ## Run mypy in strict mode
	$(BIN)/mypy

imports: $(VENV)/.dev  ## Check the import layers
	$(BIN)/lint-imports

proto-lint: $(VENV)/.dev  ## Lint the contract, and check it against protos/promised.binpb for breaking changes
	$(BIN)/buf lint
	$(BIN)/buf breaking --against protos/promised.binpb

promise: $(VENV)/.dev  ## Make the present contract the baseline for breaking changes
	$(BIN)/buf build --exclude-source-info --output protos/promised.binpb

descriptors: $(DESCRIPTORS)  ## Write the contract with its comments and the google.rpc error details as one descriptor set

$(DESCRIPTORS): $(VENV)/.dev $(addprefix protos/,$(PROTOS))
	@mkdir -p $(@D)
	$(PROTOC) -I $(GOOGLEAPIS) --include_imports --include_source_info --descriptor_set_out=$@ $(PROTOS) \
		google/rpc/error_details.proto google/rpc/status.proto

openapi: $(DESCRIPTORS)  ## Regenerate the OpenAPI document of the REST API
	$(BIN)/python -m tools.openapi $(DESCRIPTORS) src/postroomd/gateway/openapi.json

openapi-check: $(DESCRIPTORS)  ## Check that the OpenAPI document is current
	@mkdir -p .cache
	$(BIN)/python -m tools.openapi $(DESCRIPTORS) .cache/openapi.json
	diff .cache/openapi.json src/postroomd/gateway/openapi.json

gen: $(GEN_VENV)/.gen  ## Regenerate the Python stubs in clients/python
	$(call generate,$(CLIENT))

gen-check: $(GEN_VENV)/.gen  ## Check that the committed stubs are current
	@rm -rf .cache/gen && mkdir -p .cache/gen/postroom/client
	$(call generate,.cache/gen)
	for part in $(PACKAGES) client/service_config.json; do \
		diff -r --exclude=__pycache__ .cache/gen/postroom/$$part $(CLIENT)/postroom/$$part || exit 1; done

define generate
	rm -rf $(addprefix $(1)/postroom/,$(PACKAGES))
	PATH="$(GEN_VENV)/bin:$$PATH" $(GEN_PROTOC) --python_out=$(1) --mypy_out=quiet:$(1) $(PROTOS)
	PATH="$(GEN_VENV)/bin:$$PATH" $(GEN_PROTOC) --grpc_python_out=$(1) --mypy_grpc_out=quiet:$(1) \
		$(filter %_service.proto,$(PROTOS))
	for package in $$(find $(addprefix $(1)/postroom/,$(PACKAGES)) -type d); do touch $$package/__init__.py; done
	cp protos/service_config.json $(1)/postroom/client/
endef

# Of the commit, so that everyone who builds it gets the same octets. Anything else that is not in git gets a fixed time.
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 1580601600)
export SOURCE_DATE_EPOCH

wheels: $(VENV)/.dev  ## Build the wheels of the server and of the client into dist/, reproducibly
	rm -rf dist/*.whl
	umask 022; for project in clients/python .; do $(BIN)/uv build --quiet --python $(BIN)/python --wheel --no-build-isolation --out-dir dist $$project || exit 1; done

diagram: $(VENV)/.run  ## Regenerate the transition tables in docs/lifecycle.md
	$(BIN)/python -m tools.lifecycle_diagram docs/lifecycle.md

chaos: $(VENV)/.dev compiled  ## Inject faults into real processes; hours in full, see ARGUMENTS=--help
	$(BIN)/python -m bench.chaos $(ARGUMENTS)

attack: $(VENV)/.dev compiled  ## Attack real processes, and measure what another tenant experiences; see ARGUMENTS=--help
	$(BIN)/python -m bench.attack $(ARGUMENTS)

bench: $(VENV)/.bench compiled  ## Measure every row against its baseline; see ARGUMENTS=--help
	$(BIN)/python -m bench $(ARGUMENTS)

# Processes start with compiled bytecode, as an installed package has it, even where Python may not write it.
compiled: $(VENV)/.run
	$(BIN)/python -m compileall -q src $(CLIENT)

sbom: $(VENV)/.dev  ## Write the CycloneDX bill of materials of an installation to dist/postroom.cdx.json
	$(BIN)/python -m tools.sbom requirements.lock dist/postroom.cdx.json

audit: $(VENV)/.dev  ## Report known vulnerabilities of the locked versions, if osv.dev can be reached; never fails
	@$(BIN)/python -m tools.audit requirements.lock

lock: $(VENV)/.dev  ## Pin the newest versions that pyproject.toml allows, with hashes
	UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-emit-package postroom-client --group build --output-file requirements.lock pyproject.toml
	UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-emit-package postroom-client --constraint requirements.lock --extra otel --group build --group test --group check \
		--output-file requirements-dev.lock pyproject.toml
	UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-emit-package postroom-client --constraint requirements-dev.lock --group bench \
		--output-file requirements-bench.lock pyproject.toml
	UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-emit-package postroom-client --constraint requirements-dev.lock --group web \
		--output-file requirements-web.lock
	UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --group clients/python/pyproject.toml:gen --output-file requirements-gen.lock

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements.lock pyproject.toml clients/python/pyproject.toml | $(VENV)/bin/python
	$(PIP_INSTALL) --require-hashes -r requirements.lock
	$(PIP_INSTALL) --no-deps --no-build-isolation --editable clients/python --editable .
	$(BIN)/python -m compileall -q src $(CLIENT)
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.run | $(VENV)/bin/python
	$(PIP_INSTALL) --require-hashes -r requirements-dev.lock
	@touch $@

$(VENV)/.bench: requirements-bench.lock $(VENV)/.dev | $(VENV)/bin/python
	$(PIP_INSTALL) --require-hashes -r requirements-bench.lock
	@touch $@

$(VENV)/.web: requirements-web.lock $(VENV)/.dev | $(VENV)/bin/python
	$(PIP_INSTALL) --require-hashes -r requirements-web.lock
	@touch $@

$(GEN_VENV)/.gen: requirements-gen.lock
	$(PYTHON) -m venv --clear $(GEN_VENV)
	$(GEN_VENV)/bin/python -m pip install --disable-pip-version-check --quiet --require-hashes -r requirements-gen.lock
	@touch $@

clean:  ## Remove the virtual environment, caches and build results
	rm -rf $(VENV) .cache dist
