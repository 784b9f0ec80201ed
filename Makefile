# Two commands do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help demo test lint bench format clean

help:
	@echo "make demo    install, start the sandbox v2 and the bridge, print calls to try"
	@echo "make test    install, run every test"
	@echo "make lint    install, run ruff, mypy and import-linter"
	@echo "make bench   install, measure speed and memory"
	@echo "make format  let ruff rewrite the code"
	@echo "make clean   remove everything that was made here"

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "harvest-bridge needs Python 3.11 or newer: make PYTHON=python3.12 …" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --group dev
	@touch $@

demo: $(INSTALLED)
	$(BIN)/harvest-bridge demo

test: $(INSTALLED)
	$(BIN)/python -m pytest

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(INSTALLED)
	$(BIN)/python -m tests.bench.bench_lists
	$(BIN)/python -m tests.bench.bench_attacks
	$(BIN)/python -m tests.bench.bench_front_door
	$(BIN)/python -m tests.bench.bench_bad_v2

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
