"""Predict sets of classes, and recognise outliers."""

from typing import Any

from rtl_jax.api.inputs import class_numbers, warn_of_training_images
from rtl_jax.conformal import Conformal, Guarantees, Neighbours, Score, energy
from rtl_jax.conformal.draws import uniforms_of
from rtl_jax.data.arrays import as_uint8, encode_labels
from rtl_jax.errors import require
from rtl_jax.models.network import Network
from rtl_jax.runtime.switches import pinned


@pinned()
def conformalize(
    network: Network, images: Any, labels: Any, *, score: str | Score = "lac"
) -> Network:
    """Keep what held-out images say, for predictions with guarantees (split conformal prediction).

    Args:
      network: one that has not seen the images.
      images: as for `finetune`; about 100 or more.
      labels: their classes: names, or numbers where the network has no names.
      score: 'lac', 'aps' or 'raps', or an `rtl_jax.conformal.Score`.

    Returns:
      The same network with `predict_sets` and `outlier_p_values`, which it keeps when it is saved.
      On new images exchangeable with these, sets hold the true class with the probability asked
      for, and p-values are uniform.

    Warns:
      UserWarning: some images are among those that the network was trained on.

    Raises:
      UserError: the arguments do not fit.

    Example:
        >>> import numpy as np, rtl_jax as rtl
        >>> draw = np.random.default_rng(0)
        >>> images = draw.integers(0, 256, (32, 32, 32, 3), np.uint8)
        >>> labels = draw.choice(["cat", "dog"], 32)
        >>> network = rtl.finetune(rtl.load("bundled:l2"), images[:12], labels[:12], blocks=0)
        >>> network = rtl.conformalize(network, images[12:], labels[12:])
        >>> network.predict_sets(images[:3], coverage=0.9).shape
        (3, 2)
    """
    pixels = as_uint8(images)
    classes = encode_labels(labels, network.class_names or class_numbers(network))
    lost = "sets will hold the true class less often than asked for"
    warn_of_training_images(network, pixels, lost)
    features = network.features(images)
    chosen = Score(score) if isinstance(score, str) else score  # type: ignore[arg-type]
    expected = "'lac', 'aps', 'raps' or an rtl_jax.conformal.Score"
    require(isinstance(chosen, Score), "conformalize: score", expected, score)
    kept = Guarantees(
        Conformal.fit(network.probabilities(features), classes, chosen, uniforms_of(pixels)),
        energy(network.logits(features)),
        Neighbours.of(features),
        network.architecture.num_blocks,
        folds=1,
    )
    return network.replace(provenance={**network.provenance, "guarantees": kept.to_dict()})
