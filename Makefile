# Two commands do everything on a fresh machine that has python3, pip and make:
#   make demo    the main job, offline
#   make test    the tests

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Half of the tests wait for other processes.
WORKERS := $(shell echo $$(( $$(nproc 2>/dev/null || echo 2) * 3 / 2 )))

# Tests start hundreds of processes of ours, which would all be compiled anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test test-all check bench lock clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    record, query and replay a made-up agent, offline"
	@echo "make test    run the tests"
	@echo "make test-all  run the slow ones, too"
	@echo "make check   lint, types and layout"
	@echo "make bench   measure, beside named peers and limits"
	@echo "make lock    renew the lock files"
	@echo "make clean   remove what these have made"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "sse-recorder needs Python 3.11 or newer; set PYTHON=…"; exit 1; }
	$(PYTHON) -m venv $(VENV) || \
	  { echo "No venv module: on Debian, apt-get install python3-venv"; exit 1; }

$(VENV)/.runtime: requirements.lock pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.runtime
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --require-hashes -r requirements-dev.lock
	@touch $@

demo: $(VENV)/.runtime
	@$(BIN)/sse-recorder demo
	@echo
	@echo "(\`. $(BIN)/activate\` puts sse-recorder on your path.)"

test: $(VENV)/.dev
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal -m "not slow"

test-all: $(VENV)/.dev .venv-peers/.phoenix .venv-peers/.mockotlpserver
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/.dev .venv-peers/.mitmproxy
	$(BIN)/python benchmarks/relay.py
	$(BIN)/python benchmarks/lateness.py
	$(BIN)/python benchmarks/size.py
	$(BIN)/python benchmarks/parsing.py
	$(BIN)/python benchmarks/reports.py

# Its dependencies contradict ours.
.venv-peers/.mitmproxy:
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet mitmproxy==11.0.2
	@touch $@

# A backend that nobody here wrote; its dependencies are many.
.venv-peers/.phoenix:
	@$(PYTHON) -m venv .venv-peers/phoenix && \
	  .venv-peers/phoenix/bin/python -m pip install --quiet arize-phoenix==20.26.1 && \
	  touch $@ || echo "There is no Phoenix; the test with it is skipped."

# And a receiver that nobody here wrote.
.venv-peers/.mockotlpserver:
	@npm install --silent --ignore-scripts --prefix .venv-peers/mockotlpserver \
	  @elastic/mockotlpserver@0.10.0 && \
	  touch $@ || echo "There is no mockotlpserver; the test with it is skipped."

lock: $(VENV)/.dev
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --upgrade \
	  --no-emit-index-url --no-header --no-annotate \
	  --group build pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --upgrade \
	  --no-emit-index-url --no-header --no-annotate --extra dev \
	  -c requirements.lock --group build pyproject.toml -o requirements-dev.lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build
