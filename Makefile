# Two commands do everything on a fresh machine: `make demo` and `make test`.
# Both make .venv and install what they need on first use.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed

.PHONY: help dev demo test lint pages tutorials docs format clean
help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 10

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "mimic-reg needs Python 3.11 or newer"'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo 'Installing mimic-reg and what it needs into $(VENV). Once; a few minutes; packages over 10 MB are listed:'
	@$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt \
		--editable '.[dev,docs,images,pipelines,postgresql]' \
		| sed -uE '/ \([0-9]{2,}[.0-9]* [MG]B\)$$/!{/^ *([-━]|Attempting|Building|Checking|Collecting|Created|Downloading|Found existing|Getting|Installing build|Obtaining|Preparing|Processing|Requirement|Stored|Successfully un|Uninstalling|Using)/d}; s/^(Successfully|Installing) .*/\1 …/'
	touch $(READY)

dev: $(READY)  ## install everything into .venv

demo: $(READY)  ## simulate patients, extract, train, compare: a report in minutes
	$(BIN)/mimic-reg synthesize --out demo/raw --patients 3000 --overwrite
	$(BIN)/mimic-reg run --source demo/raw --out demo/work --config demo

test: $(READY) lint  ## lint, types and all tests
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

lint: $(READY)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

pages: $(READY)  ## write docs/methods and docs/models: a page each
	$(BIN)/mimic-reg list methods --pages docs/methods
	$(BIN)/python -m mimic_reg.experiments.model_pages docs/models

tutorials: $(READY)  ## execute the tutorials again and store their outputs
	$(BIN)/python docs/execute.py

docs: $(READY)  ## build the documentation into build/site, offline and strictly
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

format: $(READY)  ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the environment, the demo and what was built
	rm -rf $(VENV) build demo
