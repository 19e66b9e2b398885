# Two commands matter: `make demo` and `make test`. Both set up .venv first, once.
PYTHON  ?= python3
WORKERS ?= 2
VENV    := .venv
BIN     := $(VENV)/bin
PIP     := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help demo test lint types pytest format bench docs clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.installed  ## train on printed letters, test on unseen scripts and real handwriting (about 5 minutes)
	@$(BIN)/python experiments/demo.py

test: lint types pytest  ## lint, types and all tests (12 to 23 minutes on two cores)

lint: $(VENV)/.installed-dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	@$(BIN)/mypy mtl_jax

pytest: $(VENV)/.installed-dev
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

format: $(VENV)/.installed-dev  ## put the code into the project's form
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(VENV)/.installed  ## time one second-order MAML step
	@$(BIN)/mtl-jax bench maml

docs: $(VENV)/.installed-dev  ## build the site into site/; a warning is an error (pytest does so too)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo site/index.html

clean:  ## remove .venv and what tools left behind; runs stay
	rm -rf $(VENV) site .pytest_cache .mypy_cache .ruff_cache *.egg-info

# A .venv left half-made has no stamp, and is mended.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "mtl_jax: error: $(PYTHON) must be Python 3.11 or newer with venv and pip: set PYTHON=/path/to/python3.11" >&2; exit 2; }
	@echo "making $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# Touched when the packages are in; newer requirements install again.
$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/.made
	@echo "installing mtl_jax and what it needs (a minute or two, once) ..."
	@$(PIP) -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/.made
	@echo "installing mtl_jax and its development tools (a minute or two, once) ..."
	@$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/.installed
