# Everything a newcomer needs: `make demo`, `make test`. Works as root or not, and needs no more than CPython >= 3.11 with pip.

# The interpreter that builds .venv; `make PYTHON=/path/to/python test` chooses another one.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)

BIN := .venv/bin
INSTALLED := .venv/.installed
DATA_DIR ?= .ringi
PYTEST_ARGS ?=
# Tests wait for workers and servers more than they compute: four processes, each with a platform of its own, keep two cores busy.
TEST_PROCESSES ?= 4
# A log wants lines, a person wants to see how much is left.
PIP_PROGRESS := $(if $(filter true,$(CI)),--progress-bar off,)
# Hundreds of processes start in a run: where the caller forbids kept bytecode, each would compile every source again.
unexport PYTHONDONTWRITEBYTECODE
SOURCES := $(wildcard platform workers tests migrations benchmarks)

.DEFAULT_GOAL := help
.PHONY: help venv check test demo up down proof bench clean

help:  ## This list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 16

venv: $(INSTALLED)  ## Create .venv and install the pinned dependencies (some minutes the first time)

$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Ringi needs CPython 3.11 or newer; none was found. Name one: make PYTHON=/path/to/python3 $(MAKECMDGOALS)"; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than CPython 3.11."; exit 1; }
	@echo "Installing the pinned dependencies into .venv with $$("$(PYTHON)" --version); torch is the large one."
	@# Some systems ship venv without ensurepip; pip of the outer interpreter then installs pip into .venv.
	@test -x $(BIN)/python || "$(PYTHON)" -m venv .venv 2>/dev/null \
		|| { "$(PYTHON)" -m venv --clear --without-pip .venv && "$(PYTHON)" -m pip --python .venv/bin/python install pip; }
	@# Compiled when first imported: most of what the packages hold never is, and to compile it all takes as long as to unpack it.
	@PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --no-compile $(PIP_PROGRESS) --constraint constraints.txt --editable ".[embedded,s3,worker,dev]"
	@touch $@

check: $(INSTALLED)  ## Every check that is not a test: ruff, mypy --strict, import contracts, house rules
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy --strict $(SOURCES)
	$(BIN)/lint-imports
	$(BIN)/python tests/architecture/lint.py $(SOURCES)

test: check  ## Set-up if needed, every check and every test (PYTEST_ARGS='-k name' narrows it)
	$(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadscope --no-loadscope-reorder $(PYTEST_ARGS)

demo: $(INSTALLED)  ## One adapter, end to end, on a real model; leaves the data folder for `make up`
	$(BIN)/python -m ringi_workers.demo

up: $(INSTALLED)  ## Start the platform in DATA_DIR (.ringi)
	$(BIN)/ringi up --data-dir "$(DATA_DIR)"

down: $(INSTALLED)  ## Stop it
	$(BIN)/ringi down --data-dir "$(DATA_DIR)"

proof: $(INSTALLED)  ## The long counts, run by hand; figures go to docs/ with commit and seed
	$(BIN)/python -m pytest -m proof $(PYTEST_ARGS)

bench: $(INSTALLED)  ## List the benchmarks; each is run by its own command and ends with one line of figures
	@$(BIN)/python -m benchmarks

clean:  ## Remove caches and builds; keeps .venv and every data folder
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
	find platform workers tests migrations -name __pycache__ -type d -prune -exec rm -rf {} +
