# make run: try it · make test: every test · make check: style and types · make bench: measure · make reference: docs
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test check bench format reference system clean

$(VENV)/.runtime: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e .
	touch $@

$(VENV)/.test: $(VENV)/.runtime
	$(BIN)/pip install --quiet -c constraints.txt -e '.[test]'
	touch $@

run: $(VENV)/.runtime
	$(BIN)/staffetta demo

system:
	sh tests/install_system_components.sh

test: $(VENV)/.test system
	$(BIN)/python -m pytest tests

check: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_house.py

format: $(VENV)/.test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

reference: $(VENV)/.runtime
	$(BIN)/python -m staffetta.cli.reference docs/reference

bench: $(VENV)/.runtime
	$(BIN)/python -m bench

clean:
	rm -rf $(VENV)
