# make quickstart: set up .venv, compare two bundled sources on digits, explain predictions.
# make study: docs/study.md's runs (hours; RTL_JAX_DATA_DIR has the data), or what is left of them.
# make study-smoke: most of it, small, on the digits, in two minutes.
# make test: set up .venv with the tests' packages, lint, check types, run the tests.
# make docs: build the documentation site in docs/_build; warnings are errors.
# make check: the same without the slow tests, in under three minutes on two cores.
# make accelerator: measure an accelerator that is there for minutes (docs/accelerators.md).
# make wheel: build the wheel into dist/.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Of an accelerator's run: what runs it, which need not be .venv's, and its options.
ACCELERATOR_PYTHON ?= python3
ACCELERATOR ?=
# Of the tests: each compiles for itself and takes up to 3 GB.
PROCESSES ?= 2
# Of the study: where its runs are, what it consists of, and what makes it small (study-smoke).
RUNS ?= runs
PARTS ?= transfer digits deep scratch low_resolution low_pass
RATES ?= 0.03 0.1 0.3 1
HEADS ?= heads heads_digits
MODES ?= source adapt batch
PERTURBATIONS ?= none pgd
ATTACKS ?= pgd autoattack
SOURCE_EPOCHS ?= 1 2 6 12
SOURCE_EPS ?= 0.05 0.1 0.25
TARGETS ?= tfds:mnist tfds:fashion_mnist tfds:kmnist_partial tfds:cifar10_jpeg
SEEDS ?= 20000000 20100000 20200000
SMOKE ?= runs/study_smoke
SMALL_SWEEP ?=
SMALL_ADVERSARIAL ?=
SMALL_ATTACK ?=
SMALL_INFLUENCE ?=

.PHONY: quickstart study study-smoke accelerator test check lint install wheel docs clean

quickstart: $(VENV)/.installed
	$(BIN)/python run.py --config configs/sweep_digits.py --workdir runs/quickstart/sweep
	$(BIN)/python run.py --config configs/digits_influence.py --workdir runs/quickstart/influence
	@echo 'Next, your own images, a folder for each class: see README, "Your own images".'

study: $(VENV)/.installed
	set -e; for part in $(PARTS); do \
	  $(BIN)/python run.py --config configs/study/$$part.py --workdir $(RUNS)/study $(SMALL_SWEEP); \
	done
	$(BIN)/python run.py --config configs/study/epochs.py --workdir $(RUNS)/study_epochs \
	  $(SMALL_SWEEP)
	set -e; for rate in $(RATES); do \
	  $(BIN)/python run.py --config configs/study/rates.py --workdir $(RUNS)/study_rates \
	    --config.transfer.learning_rate=$$rate $(SMALL_SWEEP); done
	set -e; for part in $(HEADS); do \
	  $(BIN)/python run.py --config configs/study/$$part.py --workdir $(RUNS)/study_heads \
	    $(SMALL_SWEEP); done
	set -e; for mode in $(MODES); do \
	  $(BIN)/python run.py --config configs/study/modes.py --workdir $(RUNS)/study_modes \
	    --config.transfer.frozen_batch_norm=$$mode $(SMALL_SWEEP); done
	$(BIN)/python run.py --config configs/study/augmentation.py --workdir $(RUNS)/study_modes \
	  $(SMALL_SWEEP)
	set -e; for perturbation in $(PERTURBATIONS); do \
	  $(BIN)/python run.py --config configs/study/adversarial.py \
	    --workdir $(RUNS)/study_adversarial --config.transfer.perturbation=$$perturbation \
	    $(SMALL_SWEEP) $(SMALL_ADVERSARIAL); done
	set -e; for attack in $(ATTACKS); do \
	  $(BIN)/python run.py --config configs/study/adversarial_autoattack.py \
	    --workdir $(RUNS)/study_autoattack --config.attack.method=$$attack \
	    --config.attack.runs=$(RUNS)/study_adversarial; done
	set -e; for epochs in $(SOURCE_EPOCHS); do \
	  for source in natural l2; do \
	    $(BIN)/python run.py --config configs/sources/tiny_$$source.py \
	      --workdir $(RUNS)/sources/$${source}_$$epochs --config.pretraining.epochs=$$epochs; \
	  done; \
	  $(BIN)/python run.py --config configs/study/source_epochs.py \
	    --workdir $(RUNS)/study_source_epochs \
	    --config.sweep.sources=$(RUNS)/sources/natural_$$epochs,$(RUNS)/sources/l2_$$epochs; done
	set -e; for eps in $(SOURCE_EPS); do \
	  $(BIN)/python run.py --config configs/sources/tiny_l2.py \
	    --workdir $(RUNS)/sources/l2_eps$$eps --config.pretraining.eps=$$eps \
	    --config.pretraining.epochs=6; \
	  $(BIN)/python run.py --config configs/study/source_eps.py \
	    --workdir $(RUNS)/study_source_eps \
	    --config.sweep.sources=$(RUNS)/sources/l2_eps$$eps; done
	$(BIN)/python run.py --config configs/study/networks.py --workdir $(RUNS)/study_networks \
	  $(SMALL_SWEEP)
	$(BIN)/python run.py --config configs/study/robustness.py --workdir $(RUNS)/study \
	  --config.attack.runs=$(RUNS)/study_networks $(SMALL_ATTACK)
# Exit code 2: the target is not there, as the message says; the others are asked all the same.
	set -e; for target in $(TARGETS); do for seed in $(SEEDS); do \
	  $(BIN)/python run.py --config configs/study/influence.py --workdir $(RUNS)/study \
	    --config.target.dataset=$$target --config.seed=$$seed $(SMALL_INFLUENCE) \
	    || test $$? = 2; done; done
	$(BIN)/python run.py --config configs/report.py --workdir $(RUNS)/study

study-smoke:
	$(MAKE) study RUNS=$(SMOKE) TARGETS=digits PARTS=transfer HEADS=heads MODES=adapt RATES=0.3 \
	  SEEDS=0 \
	  SOURCE_EPOCHS= SOURCE_EPS= PERTURBATIONS=pgd ATTACKS= \
	  SMALL_ADVERSARIAL=--config.transfer.num_attacked=20 \
	  SMALL_SWEEP="--config.sweep.targets=digits --config.target.num_test_images=100 \
	    --config.sweep.sources=bundled:natural,bundled:l2 --config.sweep.blocks=1 \
	    --config.sweep.num_images=100 --config.sweep.epochs=2 --config.sweep.seeds=2" \
	  SMALL_ATTACK="--config.target.num_test_images=32 --config.attack.steps=2" \
	  SMALL_INFLUENCE="--config.target.num_images=100 --config.target.num_test_images=100 \
	    --config.transfer.blocks=0 --config.transfer.epochs=2"

# Without .venv: a rented machine has its own Python, and may reach no package index.
accelerator:
	$(ACCELERATOR_PYTHON) -m benchmarks.accelerator $(ACCELERATOR)

test: lint
	$(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder

check: lint
	$(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder -m 'not gpu and not slow'

lint: $(VENV)/.installed-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# The tutorials run once after every change of theirs, or not at all: RTL_JAX_DOCS_EXECUTION=off.
docs: $(VENV)/.installed-docs
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else f"Python 3.11 to 3.13 is needed, this is {v[0]}.{v[1]}; run: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test]'
	@touch $@

wheel: $(VENV)/.installed
	rm -rf build  # setuptools would take what an older build left there
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[docs]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
