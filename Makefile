# Each target does its own set-up; only Python 3.11+ and make are needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
.DEFAULT_GOAL := help

.PHONY: help setup demo test check lint types arch docs wheels bench chaos clean

help: ## show this list
	@grep -hE '^[a-z]+:.*?## ' $(MAKEFILE_LIST) | awk 'BEGIN {FS = ":.*?## "} {printf "  make %-8s %s\n", $$1, $$2}'

$(VENV)/.done: pyproject.toml device_sdk/pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "FleetPulse needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; name another with: make setup PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check --upgrade "pip>=25.1"
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt hatchling editables
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt --no-build-isolation -e ./device_sdk -e ".[all]" --group dev
	@touch $@

setup: $(VENV)/.done ## make .venv with everything the demo and the tests need

demo: setup ## run a simulated fleet from inference to alert (ARGS="--exit --devices 100 --days 16")
	$(BIN)/fleetpulse demo $(ARGS)

test: setup ## run the whole test suite
	$(BIN)/python -m pytest -q -n auto --dist loadgroup $(ARGS)

check: lint types arch docs ## run ruff, mypy, import-linter and the docs' agreement with the code

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

arch: setup
	$(BIN)/lint-imports

docs: setup
	$(BIN)/python -m pytest -q tests/docs

wheels: setup ## build both wheels into dist/
	rm -rf dist
	$(BIN)/python -m build -q --no-isolation --wheel --outdir dist device_sdk
	$(BIN)/python -m build -q --no-isolation --wheel --outdir dist .

bench: setup ## run the benchmarks; each prints ratios to a baseline of the same run
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

chaos: setup ## run the long fault tests
	$(BIN)/python -m pytest -q tests/chaos tests/device_sdk/test_losses.py --long $(ARGS)

clean: ## remove what the other targets made
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
