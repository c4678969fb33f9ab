"""The example that drives the library from outside, reduced in size."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import rtl_jax as rtl

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_optuna_searches_settings() -> None:
    """The best trial's reported result equals cross-validation with these settings."""
    pytest.importorskip("optuna", reason="optuna is not installed: pip install optuna")
    searching = example("optuna_search")
    rng = np.random.default_rng(0)
    labels = np.arange(24) % 2
    images = (rng.random((24, 8, 8, 3)) / 2 + labels[:, None, None, None] / 2).astype(np.float32)
    shape = {"stem": "small", "stage_sizes": (1, 1), "stage_widths": (4, 6)}
    source = rtl.load("random", arch="resnet18", **shape)
    study = searching.search(source, images, labels, trials=3, epochs=2)
    assert len(study.trials) == 3
    values = [trial.value for trial in study.trials]
    assert study.best_value == max(values) and all(0 <= value <= 1 for value in values)
    again = searching.cross_validated(source, images, labels, epochs=2, **study.best_params)
    assert again == pytest.approx(study.best_value)
