"""Fit heads on the features of fine-tunings before their first step."""

from collections.abc import Sequence

import numpy as np

from rtl_jax.models.registry import Variables
from rtl_jax.train.feature_cache import FeatureCache
from rtl_jax.train.features import prefix_features
from rtl_jax.train.finetuning import FineTuning
from rtl_jax.train.heads.fit import FittedHead, fit_heads
from rtl_jax.train.program import Program


def fit_start(
    tunings: Sequence[FineTuning],
    program: Program,
    variables: Sequence[tuple[Variables, Variables]],
    cache: FeatureCache,
) -> list[FittedHead]:
    """Fit the head of each fine-tuning on its training images; `variables` has one entry for each.

    Images are not augmented, and the running statistics are used.
    """
    settings = program.settings
    labels = [tuning.train.labels[tuning.train_indices] for tuning in tunings]
    read = cache.features and program.network.blocks == 0 and program.augmentation.is_identity
    if read:
        rows = [cache.rows(seed, tuning.train_indices) for seed, tuning in enumerate(tunings)]
        features = [np.asarray(cache.take(one)) for one in rows]
    elif program.network.own_statistics:
        features = [
            _features(program, one, tuning, tuning.train_indices)
            for one, tuning in zip(variables, tunings, strict=True)
        ]
    else:
        every = np.unique(np.concatenate([tuning.train_indices for tuning in tunings]))
        found = _features(program, variables[0], tunings[0], every)
        features = [found[np.searchsorted(every, tuning.train_indices)] for tuning in tunings]
    return fit_heads(settings.head_fit, features, labels, len(tunings[0].class_names))


def _features(
    program: Program, variables: tuple[Variables, Variables], tuning: FineTuning, rows: np.ndarray
) -> np.ndarray:
    """Return the inputs of the head for the training images at `rows`, float [N, d]."""
    network = program.network.replace(blocks=0, many=False, own_params=False)
    batches = prefix_features(
        network, *variables, tuning.train.images, rows, program.settings.eval_batch_size
    )
    return np.concatenate([np.asarray(batch, np.float32) for batch in batches])
