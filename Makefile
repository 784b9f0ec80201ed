# Two commands do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# A process a core; who has nothing left to do takes over what others have not begun.
PARALLEL := --numprocesses=auto --dist=worksteal
PORTS = $(if $(PORT),--port $(PORT)) $(if $(SANDBOX_PORT),--sandbox-port $(SANDBOX_PORT)) \
	$(if $(ADMIN_PORT),--admin-port $(ADMIN_PORT))

.PHONY: help demo test check lint bench picture format clean

help:
	@echo "make demo    install, start the sandbox v2 and the bridge, print calls to try;"
	@echo "             with other ports: make demo PORT=9080 SANDBOX_PORT=9081 ADMIN_PORT=9090"
	@echo "make test    install, run every test"
	@echo "make check   install, run the tests that are quick"
	@echo "make lint    install, run ruff, mypy and import-linter"
	@echo "make bench   install, measure speed and memory"
	@echo "make picture install, take the picture of the dashboard anew (needs chromium)"
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
	$(strip $(BIN)/harvest-bridge demo $(PORTS))

test: $(INSTALLED)
	$(BIN)/python -m pytest $(PARALLEL)

check: $(INSTALLED)
	$(BIN)/python -m pytest $(PARALLEL) --quiet --hypothesis-profile=brief \
		-m 'not (kill or matrix or package or slow or storm)'

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(INSTALLED)
	$(BIN)/python -m tests.bench

picture: $(INSTALLED)
	$(BIN)/python -m tests.picture docs/dashboard.png

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
