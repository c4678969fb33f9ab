"""Explain predictions by training images."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from rtl_jax.api.inputs import (
    Labelled,
    class_numbers,
    pair,
    resized,
    warn_of_other_images,
)
from rtl_jax.attacks import PGD
from rtl_jax.data.arrays import as_uint8, encode_labels
from rtl_jax.errors import require
from rtl_jax.influence_functions import (
    Examples,
    Perturbed,
    PixelInfluence,
    Solver,
    influence_scores,
    solver_for,
)
from rtl_jax.influence_functions.of_network import bias_is_damped, damping_of, head_of
from rtl_jax.influence_functions.pixels import SEARCH
from rtl_jax.models.network import Network
from rtl_jax.runtime.limits import require_seed
from rtl_jax.runtime.switches import pinned


@pinned()
def influence(
    network: Network,
    train: Labelled,
    test: Labelled,
    *,
    damping: float | None = None,
    **settings: Any,
) -> np.ndarray:
    """Score the influence of every training image on every test image (paper, section 6).

    Scores are with respect to the parameters of the head.

    Args:
      network: usually fine-tuned on the training images.
      train: the training images and their labels.
      test: images and labels to explain.
      damping: added to the Hessian of the mean loss; None: the penalty of a fitted head
        (`head_fit='logistic'`, `blocks=0`), otherwise 0.001. Like that penalty, it leaves out the
        bias of a fitted head.
      settings: of `rtl_jax.influence_functions.solver_for`: `solver`, `curvature`, `cutoff`, ...

    Returns:
      float64 [test, train]: g_test^T H^-1 g_train. If positive, the training image lowers the loss
      of the test image; without it, that loss is predicted to rise by the score divided by the
      number of training images.

    Warns:
      UserWarning: if the training images are not those of the network.

    Raises:
      UserError: for labels unknown to the network, a singular Hessian, too little memory, or a
        ridge-regression head.

    Example:
        >>> import numpy as np, rtl_jax as rtl
        >>> images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
        >>> labels = np.array([0, 1] * 4)
        >>> network = rtl.finetune(rtl.load("bundled:l2"), images, labels, blocks=0, epochs=2)
        >>> rtl.influence(network, (images, labels), (images[:3], labels[:3])).shape
        (3, 8)
    """
    return influence_scores(*_explained(network, train, test, damping, settings))


@pinned()
def perturb_training(
    network: Network,
    train: Labelled,
    test: Labelled,
    pairs: Any,
    eps: float,
    search: PGD = SEARCH,
    *,
    damping: float | None = None,
    seed: int = 0,
    **settings: Any,
) -> Perturbed:
    """Change training images so that retraining the head raises the loss of test images most.

    Along I_pert,loss, the influence of pixels (Koh and Liang, 2017, section 2.2; the paper's A.12):
    see `rtl_jax.influence_functions.PixelInfluence`, which has the gradients, too.

    Args:
      network: usually fine-tuned on the training images.
      train: their images and labels.
      test: images and labels whose losses are to rise.
      pairs: int [N, 2], a row of `train` and one of `test` each.
      eps: the radius, for pixels in [0, 1], at the network's image size.
      search: the ball and the steps in it, such as `rtl.PGD("linf", steps=20)`; by default ten in
        L2.
      damping: as for `influence`.
      seed: of random starts.
      settings: as for `influence`.

    Returns:
      `images`, float32 [N, S, S, 3] in [0, 1], and `changes`, float64 [N]: by how much retraining
      the head with that one image changed is predicted to raise the loss of its test image (nats);
      docs/influence.md has how well that holds for which eps.

    Raises:
      UserError: as `influence`; pairs of rows that are not there; or another kind of attack.

    Example:
        >>> import numpy as np, rtl_jax as rtl
        >>> images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
        >>> data = images, np.array([0, 1] * 4)
        >>> network = rtl.finetune(rtl.load("bundled:l2"), *data, blocks=0, head_fit="logistic")
        >>> found = rtl.perturb_training(network, data, data, [[0, 1]], 0.5)
        >>> found.images.shape, bool(found.changes[0] > 0)
        ((1, 32, 32, 3), True)
    """
    rows = np.asarray(pairs)
    sizes = [len(pair(each, name)[1]) for each, name in ((train, "train"), (test, "test"))]
    good = rows.ndim == 2 and rows.shape[1] == 2 and len(rows) > 0
    good = good and np.issubdtype(rows.dtype, np.integer)
    good = good and bool(((rows >= 0) & (rows < sizes)).all())
    expected = f"rows [[train, test], ...] of {sizes[0]} training and {sizes[1]} test images"
    require(good, "perturb_training: pairs", expected, pairs)
    solver, seen_test, seen_train = _explained(network, train, test, damping, settings)
    chosen = np.asarray(train[0])[rows[:, 0]]
    pixels = PixelInfluence(network.features_fn(), head_of(network), solver, sizes[0])
    return pixels.perturb(
        resized(network, chosen),
        seen_train.labels[rows[:, 0]],
        seen_test.take(rows[:, 1]),
        eps,
        search,
        seed=require_seed(seed, "seed"),
    )


def _explained(
    network: Network,
    train: Labelled,
    test: Labelled,
    damping: float | None,
    settings: Mapping[str, Any],
) -> tuple[Solver, Examples, Examples]:
    """A solver at the training images, and test and training images as the head sees them."""
    good = damping is None or damping >= 0
    require(good, "damping", "a number of 0 or more, or none", damping)
    head = head_of(network)
    warn_of_other_images(network, as_uint8(pair(train, "train")[0]))
    names = network.class_names or class_numbers(network)
    seen_train, seen_test = (
        head.examples(network.features(as_uint8(images)), encode_labels(labels, names))
        for images, labels in (pair(train, "train"), pair(test, "test"))
    )
    chosen = damping_of(network) if damping is None else damping
    known = {"damp_bias": bias_is_damped(network), **settings}
    return solver_for(head, seen_train, damping=chosen, **known), seen_test, seen_train
