# Both `make demo` and `make test` make the environment in .venv first, if it is not there yet.
.DEFAULT_GOAL := help
SHELL := /bin/bash
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: help demo docs test test-commands test-unit test-rest coverage lint

help:  ## show the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The first Python that answers and is new enough. The exact versions in constraints.txt were
# tested with 3.11 and should suit 3.12 and 3.13 too.
$(STAMP): pyproject.toml constraints.txt
	@set -euo pipefail; \
	if [ ! -x $(BIN)/python ]; then \
	  for name in python3.11 python3.12 python3.13 python3; do \
	    if $$name -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' >/dev/null 2>&1; \
	    then found=$$name; break; fi; \
	  done; \
	  if [ -z "$${found:-}" ]; then \
	    echo "make: error: no Python 3.11, 3.12 or 3.13 found (tried python3.11, python3.12," \
	         "python3.13, python3); install one, or make .venv yourself with one" >&2; exit 1; \
	  fi; \
	  echo "making .venv with $$($$name --version)"; $$name -m venv .venv; \
	fi; \
	$(BIN)/python -m pip install -c constraints.txt torch; \
	$(BIN)/python -m pip install -c constraints.txt -e ".[dev]"; \
	touch $(STAMP)

demo: $(STAMP)  ## fetch a real small model and make it forget (11 minutes on two cores without bfloat16)
	$(BIN)/lit-unlearn fetch smollm2-135m-instruct
	$(BIN)/lit-unlearn fit --config configs/quickstart.yaml

lint: $(STAMP)  ## style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(STAMP)  ## the documentation site, in docs/_build/html; warnings are errors
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

# Three targets at a time: on two cores one of them often waits. What a target prints is shown when it
# ends, by a make that can (GNU make 4).
SYNC := $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)
PYTEST := $(BIN)/pytest -p no:cacheprovider
COMMANDS := tests/unit/cli tests/unit/distributed

test: $(STAMP)  ## lint, the site, then every test that needs neither network nor GPU (three things at a time)
	OMP_NUM_THREADS=1 $(MAKE) --no-print-directory -k -j3 $(SYNC) test-commands test-unit lint docs test-rest

test-commands:
	$(PYTEST) tests/integration $(COMMANDS)
test-unit:
	$(PYTEST) tests/unit $(COMMANDS:%=--ignore=%)
test-rest:
	$(PYTEST) tests/faults tests/docs

coverage: $(STAMP)  ## the same tests, and the share of the package's lines that they run (at least 90 %)
	$(BIN)/pytest -p no:cacheprovider --cov
