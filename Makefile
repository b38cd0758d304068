# Two commands do everything on a fresh machine: `make demo` and `make test`.
# Both make .venv and install what they need on first use.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed

.PHONY: help demo test lint pages format clean
help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 10

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "mimic-reg needs Python 3.11 or newer"'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,images,pipelines,postgresql]'
	touch $(READY)

demo: $(READY)  ## simulate patients, extract, train, compare: a report in minutes
	$(BIN)/mimic-reg synthesize --out demo/raw --patients 3000 --overwrite
	$(BIN)/mimic-reg run --source demo/raw --out demo/work --config demo

test: $(READY) lint  ## lint, types and all tests
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

lint: $(READY)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

pages: $(READY)  ## write docs/methods: a page a method
	$(BIN)/mimic-reg list methods --pages docs/methods

format: $(READY)  ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the environment and the demo
	rm -rf $(VENV) demo
