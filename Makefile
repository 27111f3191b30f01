# Each target is a line or two over real tools; `make help` lists them.
PYTHON    ?= python3
VENV      ?= .venv
PROJECTS  := libs/shortcore services/writer services/redirector libs/shortctl
INSTALL    = $(VENV)/bin/uv pip install --quiet --python $(VENV)/bin/python
COMPILE    = $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
             --no-emit-index-url --no-header --no-annotate $(foreach p,shortcore shortctl shortlinks-writer shortlinks-redirector,--no-emit-package $(p))
WORKERS   ?= 2
TESTS     ?=
PORT_BASE ?=

# Where the caller asks for no bytecode (images often do), each start would compile every module anew,
# which is most of its time. It lies in the environment, so that sources stay clean.
unexport PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX ?= $(abspath $(VENV))/pycache

.DEFAULT_GOAL := help
.PHONY: help run test test-faults test-images soak fault-table bench bench-worker bench-stats compare scale soak-memory lint format docs picture lock images compose-secrets cluster-test clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 17

# One environment, made once and reused; a changed lock file renews what it names.
$(VENV)/.built: requirements/build.txt
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

$(VENV)/.run: $(VENV)/.built requirements/run.txt $(PROJECTS:%=%/pyproject.toml)
	@$(INSTALL) --require-hashes -r requirements/run.txt
	@$(INSTALL) --no-deps --no-build-isolation $(PROJECTS:%=-e %)
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements/dev.txt
	@$(INSTALL) --require-hashes -r requirements/dev.txt
	@touch $@

run: $(VENV)/.run ## Start a whole stack here: PostgreSQL, Valkey, writer, relay, worker, redirector
	@exec $(VENV)/bin/shortctl dev --with-parent $(if $(PORT_BASE),--port-base $(PORT_BASE))

PYTEST     = $(VENV)/bin/python -m pytest -n $(WORKERS) --dist loadgroup

test: $(VENV)/.dev ## Unit, property, contract, cross-service and chart tests, on real servers
	@$(PYTEST) -m "not fault and not images and not cluster" $(TESTS)

test-faults: $(VENV)/.dev ## Stop, pause, cut and kill every part; consistency under all of it
	@$(PYTEST) -m fault $(TESTS)

test-images: $(VENV)/.dev ## Build the images and run them as a cluster would
	@$(PYTEST) -m images $(TESTS)

soak: $(VENV)/.dev ## The consistency and fault tests for about an hour
	@SOAK_EXAMPLES=$${SOAK_EXAMPLES:-400} $(PYTEST) tests/consistency tests/faults

fault-table: $(VENV)/.dev ## Measure every fault anew into docs/operations/disaster-drills.md
	@WRITE_FAULT_TABLE=1 $(VENV)/bin/python -m pytest -q tests/faults/test_dependencies.py

# Results of one run can be compared with each other, results of two runs only if the machine was quiet.
# LINKS, ROUNDS, SECONDS (MINUTES of soak-memory) and CASES make a run shorter or longer: see bench/.
BENCH      = PYTHONPATH=.:tests $(VENV)/bin/python -m

bench: $(VENV)/.run ## Measure redirects and creates
	@$(BENCH) bench

compare: $(VENV)/.run ## Measure redirects before and after a change (BEFORE=another checkout)
	@$(BENCH) bench.compare

scale: $(VENV)/.run ## Measure how costs grow with the number of links (LINKS=1000,1000000)
	@$(BENCH) bench.scale

bench-worker: $(VENV)/.run ## Measure how fast a worker counts clicks (LINKS=1000000 CLICKS=900000)
	@$(BENCH) bench.worker

bench-stats: $(VENV)/.run ## Measure how long the API takes to answer with statistics (LINKS=1000000)
	@$(BENCH) bench.stats

soak-memory: $(VENV)/.run ## Measure whether a redirector's memory grows (MINUTES=10)
	@$(BENCH) bench.soak

lint: $(VENV)/.dev ## Style, types, import rules, generated docs, Dockerfiles, workflows, chart
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy libs/*/src services/*/src
	@$(VENV)/bin/lint-imports --no-logo
	@$(VENV)/bin/shortctl docs --check
	@$(VENV)/bin/python charts/readme.py --check
	@.ci/lint $(VENV)/bin

format: $(VENV)/.dev ## Format and fix what can be fixed
	@$(VENV)/bin/ruff check --fix-only --quiet . ; $(VENV)/bin/ruff format .

docs: $(VENV)/.dev ## Write the generated pages of docs/ anew
	@$(VENV)/bin/shortctl docs
	@$(VENV)/bin/python charts/readme.py

picture: $(VENV)/.run ## Draw the picture of the README from a running stack
	@PYTHONPATH=tests $(VENV)/bin/python -m harness.picture

lock: $(VENV)/.built ## Resolve the dependencies anew into requirements/*.txt
	$(COMPILE) requirements/build.in -o requirements/build.txt
	$(COMPILE) $(PROJECTS:%=%/pyproject.toml) requirements/build.in requirements/dev.in -c requirements/build.txt -o requirements/dev.txt
	$(COMPILE) $(PROJECTS:%=%/pyproject.toml) -c requirements/dev.txt -o requirements/run.txt
	$(COMPILE) services/writer/pyproject.toml libs/shortcore/pyproject.toml -c requirements/dev.txt -o requirements/writer.txt
	$(COMPILE) services/redirector/pyproject.toml libs/shortcore/pyproject.toml -c requirements/dev.txt -o requirements/redirector.txt

# The commit's time and content decide an image, not the moment of the build.
EPOCH     ?= $(shell git log -1 --format=%ct)
BASE      ?= python:3.11-slim
REGISTRY  ?=
TAG       ?= local
IMAGE_ARGS = --build-arg BASE=$(BASE) --build-arg SOURCE_DATE_EPOCH=$(EPOCH) --build-arg REVISION=$(shell git rev-parse HEAD) \
             --build-arg CREATED=$(shell TZ=UTC git log -1 --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd)

images: ## Build the images of writer and redirector (REGISTRY=…/ TAG=… BASE=…)
	$(foreach s,writer redirector,docker build --quiet --file docker/$(s).Dockerfile --tag $(REGISTRY)shortlinks-$(s):$(TAG) $(IMAGE_ARGS) . &&) true

# Which images and which cluster: see tests/cluster/conftest.py.
cluster-test: $(VENV)/.dev ## The chart on the cluster that KUBECONFIG names
	@: $${KUBECONFIG:?names no cluster} $${CLUSTER_IMAGES:?names no images: see tests/cluster/conftest.py}
	@$(VENV)/bin/python -m pytest -n 2 --dist loadgroup -m cluster tests/chart/test_server.py tests/cluster

compose-secrets: ## Write the passwords of docker/compose.yaml, once
	@docker/create-secrets

clean: ## Remove the environment and the state of `make run`
	rm -rf $(VENV) .state
