# Two commands do everything on a fresh machine: `make demo` and `make test`.
# Both make .venv and install what they need on first use.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed

.PHONY: help dev demo test tests stack lint pages tutorials docs format requirements wheelhouse clean
help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

# Of what pip says: packages over 10 MB, results, errors.
INSTALL := install() { $(BIN)/python -m pip install --disable-pip-version-check --no-deps "$$@" \
	| sed -uE '/ \([0-9]{2,}[.0-9]* [MG]B\)$$/!{/^ *([-━]|Attempting|Building|Checking|Collecting|Created|Downloading|Found existing|Getting|Ignoring|Installing build|Obtaining|Preparing|Processing|Requirement|Stored|Successfully un|Uninstalling|Using)/d}; s/^(Successfully|Installing) .*/\1 …/'; }
REQUIREMENTS := $(wildcard docker/requirements*.txt)

# Torch for CPUs alone where pip's indexes have it, else PyPI's, with the libraries of NVIDIA.
$(READY): pyproject.toml $(REQUIREMENTS)
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "mimic-reg needs Python 3.11 or newer"'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo 'Installing mimic-reg and what it needs into $(VENV). Once; a few minutes; packages over 10 MB are listed:'
	@$(INSTALL); \
		install --require-hashes -r docker/requirements-cpu.txt 2> /dev/null \
		|| install --require-hashes -r docker/requirements-cuda.txt; \
		install --require-hashes -r docker/requirements.txt -r docker/requirements-dev.txt; \
		install --no-build-isolation --editable .
	touch $(READY)

dev: $(READY)  ## install everything into .venv

demo: $(READY)  ## simulate patients, extract, train, compare: a report in minutes
	$(BIN)/mimic-reg synthesize --out demo/raw --patients 3000 --overwrite
	$(BIN)/mimic-reg run --source demo/raw --out demo/work --config demo

test: $(READY)  ## lint, types and all tests
	$(MAKE) --jobs 2 lint tests

# tests/conftest.py says which files are begun first. The processes of the tests share bytecode.
tests: $(READY)
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

stack: $(READY)  ## docker/ in real containers: root, Podman and debootstrap; 20 GB, 29 minutes once its base images and wheels are there
	MIMIC_REG_STACK=$${MIMIC_REG_STACK:-once} $(BIN)/python -m pytest -x tests/stack

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

requirements: $(READY)  ## write docker/requirements*.txt: hashes of what constraints.txt pins
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python docker/requirements.py

VARIANT ?= cuda
wheelhouse:  ## every wheel in one folder, to carry in; VARIANT=cuda or cpu
	PYTHON=$(PYTHON) docker/wheelhouse.sh $(VARIANT)

clean:  ## remove the environment, the demo and what was built
	rm -rf $(VENV) build demo
