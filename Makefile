# make quickstart: set up .venv, compare two bundled sources on embedded data, explain predictions.
# make test: set up .venv with the tests' packages, lint, check types, run the tests.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Of the tests: each compiles for itself and takes up to 3 GB.
PROCESSES ?= 2

.PHONY: quickstart test lint install clean

quickstart: $(VENV)/.installed
	$(BIN)/python run.py --config configs/sweep_digits.py --workdir runs/quickstart/sweep
	$(BIN)/python run.py --config configs/digits_influence.py --workdir runs/quickstart/influence
	@echo 'Next, your own images, a folder for each class: see README, "Your own images".'

test: lint
	$(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadfile

lint: $(VENV)/.installed-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else f"Python 3.11 to 3.13 is needed, this is {v[0]}.{v[1]}; run: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test]'
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info
