# All routine work on this repository. `make` alone lists the targets.
#
# The environment is .venv, and is updated when setup.cfg changes. Another interpreter has an environment of its own:
# `make PYTHON=python3.12 test` uses .venv-3.12.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

SUPPORTED := 3.11 3.12 3.13 3.14
IS_SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info)

ifeq ($(origin PYTHON), undefined)
# `python3` if it is new enough, else the newest interpreter on PATH. Not every name on PATH can be run.
PYTHON := $(shell for name in python3 $(foreach version,3.14 3.13 3.12 3.11,python$(version)) python; do \
	if "$$name" -c '$(IS_SUPPORTED)' 2>/dev/null; then echo "$$name"; break; fi; done)
VENV := .venv
else
VENV := .venv-$(shell "$(PYTHON)" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
endif

RUN := $(VENV)/bin/python
# These mark that Grid is installed, and that the tools for development are.
INSTALLED := $(VENV)/.installed
PREPARED := $(VENV)/.prepared

# How many tests run at once. They wait more than they compute: three of them keep two cores busy.
WORKERS := 3

# Additional arguments for pytest: `make test PYTEST="-k sweeps"`.
PYTEST :=

.PHONY: help demo test soak lint format test-all record bench clean

help: ## List the targets.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' Makefile | expand -t 18

demo: $(INSTALLED) ## Play the walk-through on a project of its own; leaves nothing behind.
	@$(RUN) examples/walk_through.py

test: $(PREPARED) ## Run all tests.
	@$(RUN) -m pytest -n $(WORKERS) --dist worksteal $(PYTEST)

soak: $(PREPARED) ## Run the long versions of the fault tests, which take hours, and print what they measured.
	@figures=$$(mktemp) && trap 'rm -f "$$figures"' EXIT && \
	GRID_SOAK=1 GRID_FIGURES="$$figures" $(RUN) -m pytest -n 2 -o timeout=7200 $(PYTEST) tests/faults; \
	result=$$?; echo "--- figures"; cat "$$figures"; exit $$result

lint: $(PREPARED) ## Check style (ruff), types (mypy), and that schema, queries, models and cassettes match.
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy
	@$(RUN) -m grid.schema_tools check --cassettes tests/cassettes

format: $(PREPARED) ## Fix and format the code, as far as ruff can.
	@$(RUN) -m ruff check --fix .
	@$(RUN) -m ruff format .

test-all: ## Run all tests on every interpreter from 3.11 to 3.14 that this machine has.
	@found=; failed=; \
	for version in $(SUPPORTED); do \
		for python in python$$version $$(ls -d "$$HOME"/.pyenv/versions/$$version.*/bin/python 2>/dev/null); do \
			"$$python" -c 'import ensurepip' 2>/dev/null || continue; \
			found="$$found $$version"; \
			echo "--- Python $$version"; \
			$(MAKE) PYTHON="$$python" test || failed="$$failed $$version"; \
			break; \
		done; \
	done; \
	test -n "$$found" || { echo "found none of Python $(SUPPORTED)" >&2; exit 1; }; \
	echo "--- tested on:$$found; failed on:$${failed:- none}"; \
	test -z "$$failed"

record: $(PREPARED) ## Record the cassettes again, with a service of its own.
	@$(RUN) -m tests.record

bench: $(PREPARED) ## Run the benchmarks, each beside its baseline.
	@$(RUN) -m benchmarks

clean: ## Remove the environments and all other generated files.
	rm -rf .venv .venv-* build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): setup.cfg pyproject.toml
	@test -n "$(PYTHON)" || { echo "Grid needs Python 3.11 or newer, which was not found on PATH" >&2; exit 1; }
	@"$(PYTHON)" -c '$(IS_SUPPORTED)' || { echo "PYTHON=$(PYTHON) is not Python 3.11 or newer" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot create virtual environments: its modules ensurepip and venv are missing." >&2; \
		echo "On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@$(RUN) -c '' 2>/dev/null || { echo "creating $(VENV)"; "$(PYTHON)" -m venv --clear $(VENV); }
	@echo "installing Grid into $(VENV)"
	@$(RUN) -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(PREPARED): $(INSTALLED)
	@echo "installing the tools for tests and checks into $(VENV)"
	@$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[test,lint]'
	@touch $@
