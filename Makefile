# Two commands do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
TOOLS := .venv-audit
PIP_OPTIONS := --quiet --disable-pip-version-check
# Whatever is not in the lock is not installed.
AS_LOCKED := $(PIP_OPTIONS) --no-deps --require-hashes --requirement
# Of a Python that is newer than the lock, it may have no wheels: that takes the newest of what
# pyproject.toml allows, as pip does for users. So does `make LOCKED=no …`.
LOCKED ?= $(shell $(PYTHON) -c 'import sys; print("yes" if sys.version_info < (3, 15) else "no")')
# One process more than there are cores, for many a test waits; who has nothing left to do takes over
# what others have not begun.
PARALLEL = --dist=worksteal --numprocesses=$(shell $(PYTHON) -c 'import os; print(1 + (os.cpu_count() or 1))')
PORTS = $(if $(PORT),--port $(PORT)) $(if $(SANDBOX_PORT),--sandbox-port $(SANDBOX_PORT)) \
	$(if $(ADMIN_PORT),--admin-port $(ADMIN_PORT))

.PHONY: help demo test check lint bench picture format lock build sbom audit clean

help:
	@echo "make demo    install, start the sandbox v2 and the bridge, print calls to try;"
	@echo "             with other ports: make demo PORT=9080 SANDBOX_PORT=9081 ADMIN_PORT=9090"
	@echo "make test    install, run every test"
	@echo "make check   install, run the tests that are quick"
	@echo "make lint    install, run ruff, mypy and import-linter"
	@echo "make bench   install, measure speed and memory"
	@echo "make picture install, take the picture of the dashboard anew (needs chromium)"
	@echo "make format  let ruff rewrite the code"
	@echo "make lock    make what is tested fit pyproject.toml (requirements/); UPGRADE=yes: the newest"
	@echo "make build   make wheel and sdist in dist/"
	@echo "make sbom    that, and list what an installation holds in dist/harvest-bridge.cdx.json"
	@echo "make audit   that, check wheel and sdist, look up known vulnerabilities (needs the internet)"
	@echo "make clean   remove everything that was made here"

# What is tested is locked, by hashes: the tests pass on a fresh machine next year as they do today,
# whatever the dependencies have released since.
$(INSTALLED): pyproject.toml requirements/dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "harvest-bridge needs Python 3.11 or newer: make PYTHON=python3.12 …" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
ifeq ($(LOCKED),no)
	$(BIN)/python -m pip install $(PIP_OPTIONS) --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install $(PIP_OPTIONS) --editable . --group dev
else
	$(BIN)/python -m pip install $(AS_LOCKED) requirements/dev.txt
	$(BIN)/python -m pip install $(PIP_OPTIONS) --no-deps --no-build-isolation --editable .
endif
	@touch $@

demo: $(INSTALLED)
	$(strip $(BIN)/harvest-bridge demo $(PORTS))

$(TOOLS)/.installed: requirements/audit.txt
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install $(AS_LOCKED) $<
	@touch $@

# Keeps what still fits; `make lock UPGRADE=yes` takes the newest of all. No index is written down:
# names and hashes are the same wherever packages come from.
LOCK = $(TOOLS)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--custom-compile-command 'make lock' $(if $(UPGRADE),--upgrade)
lock: $(TOOLS)/.installed
	$(LOCK) --output-file requirements/run-time.txt pyproject.toml --all-extras
	$(LOCK) --output-file requirements/dev.txt pyproject.toml --all-extras --group dev \
		--constraint requirements/run-time.txt
	$(LOCK) --output-file requirements/build.txt --group build --constraint requirements/dev.txt
	$(LOCK) --output-file requirements/audit.txt --group audit

build: $(INSTALLED)
	rm -rf dist
	$(BIN)/python -m hatchling build

# Of what an installation holds: the lock's run-time set and the wheel, in an environment of their
# own. The same on one platform and Python, whenever it is made. hatchling reads the version from the
# package, which cyclonedx-py does not.
DEPLOYED := build/deployed
sbom: build $(TOOLS)/.installed
	$(PYTHON) -m venv --clear --without-pip $(DEPLOYED)
	$(BIN)/python -m pip --python $(DEPLOYED) install $(AS_LOCKED) requirements/run-time.txt
	$(BIN)/python -m pip --python $(DEPLOYED) install $(PIP_OPTIONS) --no-deps --no-index dist/*.whl
	sed "s/^dynamic = .*/version = \"$$($(BIN)/python -m hatchling version)\"/" pyproject.toml \
		> build/pyproject.toml
	env -u SOURCE_DATE_EPOCH $(TOOLS)/bin/cyclonedx-py environment --pyproject build/pyproject.toml \
		--mc-type application --output-reproducible --validate --sv 1.6 --of JSON \
		--output-file dist/harvest-bridge.cdx.json $(DEPLOYED)/bin/python

# With --strict, for what the service does not know, or cannot be asked about, is no pass.
audit: sbom
	$(TOOLS)/bin/twine check --strict dist/*.whl dist/*.tar.gz
	$(TOOLS)/bin/pip-audit --strict --disable-pip --require-hashes \
		--requirement requirements/run-time.txt --requirement requirements/build.txt \
		|| { echo "NOT PASSED: vulnerable, or not audited at all, as it says above" >&2; exit 1; }

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
	rm -rf .venv .venv-* build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
