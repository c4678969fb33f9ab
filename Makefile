# make quickstart: set up .venv, compare two bundled sources on embedded data, explain predictions.
# make study: docs/study.md's runs (hours; RTL_JAX_DATA_DIR has the data), or what is left of them.
# make study-smoke: the same on the digits in a minute.
# make test: set up .venv with the tests' packages, lint, check types, run the tests.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Of the tests: each compiles for itself and takes up to 3 GB.
PROCESSES ?= 2
STUDY := transfer100 transfer400 transfer1600

.PHONY: quickstart study study-smoke test lint install clean

quickstart: $(VENV)/.installed
	$(BIN)/python run.py --config configs/sweep_digits.py --workdir runs/quickstart/sweep
	$(BIN)/python run.py --config configs/digits_influence.py --workdir runs/quickstart/influence
	@echo 'Next, your own images, a folder for each class: see README, "Your own images".'

study: $(VENV)/.installed
	set -e; for part in $(STUDY); do \
	  $(BIN)/python run.py --config configs/study/$$part.py --workdir runs/study; done
	$(BIN)/python run.py --config configs/report.py --workdir runs/study

study-smoke: $(VENV)/.installed
	set -e; for part in $(STUDY); do \
	  $(BIN)/python run.py --config configs/study/$$part.py --workdir runs/study_smoke \
	    --config.sweep.targets=digits --config.target.num_test_images=600 \
	    --config.sweep.sources=bundled:natural,bundled:l2 \
	    --config.sweep.num_images=100 --config.sweep.blocks=0,1 --config.sweep.seeds=2; done
	$(BIN)/python run.py --config configs/report.py --workdir runs/study_smoke

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
