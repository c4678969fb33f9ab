"""Every setting of an experiment, its default and its check. The defaults are the paper's.

One file for each group. A config file's `get_config()` edits what `defaults()` returns; `freeze`
turns the result, with the command line's overrides, into frozen dataclasses. `None` is written
`none` on the command line. Importing this package imports neither JAX nor ml_collections.
"""

from rtl_jax.data.augmentation import PRESETS, Augmentation, augmentation
from rtl_jax.lab.config.attack import Attack, AttackName
from rtl_jax.lab.config.experiment import (
    FIRST_SEED,
    GROUPS,
    LATER,
    WITHOUT_EFFECT,
    Executor,
    Experiment,
    choices,
    defaults,
    expected,
    freeze,
    preset,
    takes_names,
)
from rtl_jax.lab.config.images import MyImages, Predict
from rtl_jax.lab.config.influence import Influence
from rtl_jax.lab.config.pretraining import Pretraining
from rtl_jax.lab.config.slurm import Slurm
from rtl_jax.lab.config.source import Source
from rtl_jax.lab.config.sweep import NAMES, NUMBERS, Sweep
from rtl_jax.lab.config.target import Target
from rtl_jax.lab.config.visualize import Visualize
from rtl_jax.runtime.precision import Precision
from rtl_jax.train.recipe import FeatureStore, FrozenBatchNorm, Recipe

__all__ = [
    "FIRST_SEED",
    "GROUPS",
    "LATER",
    "NAMES",
    "NUMBERS",
    "PRESETS",
    "WITHOUT_EFFECT",
    "Attack",
    "AttackName",
    "Augmentation",
    "Executor",
    "Experiment",
    "FeatureStore",
    "FrozenBatchNorm",
    "Influence",
    "MyImages",
    "Precision",
    "Predict",
    "Pretraining",
    "Recipe",
    "Slurm",
    "Source",
    "Sweep",
    "Target",
    "Visualize",
    "augmentation",
    "choices",
    "defaults",
    "expected",
    "freeze",
    "preset",
    "takes_names",
]
