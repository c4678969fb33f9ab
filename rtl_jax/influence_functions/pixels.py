"""Influence of a training image's pixels on the loss of a test image, through retraining the head.

Koh and Liang (2017), section 2.2, and the paper's appendix A.12. With the score of a training
image x with label y on a test image,

    s(x) = g_test^T H^-1 g(x),    g(x) = e (x) x~,    e = softmax(W x~) - onehot(y),

where x~ are the head's inputs, replacing x by x' and retraining changes the loss of the test image
by about (s(x) - s(x')) / n. In the limit of small changes this is I_pert,loss . (x' - x) / n. For
large changes it is an estimate with the original H: an image whose features move far from all
others changes H too, and the estimate is then far too large.

    I_pert,loss^T = -g_test^T H^-1 grad_x grad_theta L(z) = -grad_x s.

s is one number per image, so its gradient is one backward pass through the network, with constant
weights; grad_x grad_theta L, parameters by pixels, is never formed.
"""

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rtl_jax.attacks.base import Problem
from rtl_jax.attacks.pgd import PGD
from rtl_jax.data.batching import padded_batches
from rtl_jax.errors import UserError, require
from rtl_jax.influence_functions.head import Examples, Head, require_finite
from rtl_jax.influence_functions.solve import Solver
from rtl_jax.runtime import devices
from rtl_jax.runtime.limits import require_pixel_units

# Ascends I_pert,loss for pixels in [0, 1] and keeps the iterate of the highest test loss.
SEARCH = PGD("l2", steps=10, keep="loss")


class Perturbed(NamedTuple):
    """Training images that were changed to raise the losses of test images.

    Attributes:
      images: [N, H, W, C] in [0, 1].
      changes: float64 [N], the predicted increase of the test image's loss if the head is retrained
        with each image in place of its original, (s(x) - s(x')) / n (nats).
    """

    images: np.ndarray
    changes: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class PixelInfluence:
    """Influence of the pixels of training images, for N pairs of a training and a test image.

    Images are float [N, H, W, C] in [0, 1], as `features_fn` takes them; `test` has N examples, the
    test image of each pair. Computations have the precision of the images: float64 with
    `jax.enable_x64` matches that of the head.

    Attributes:
      features_fn: maps images to the inputs of the head, [N, d], each image independently; for
        example `Network.features_fn()`.
      head: at an optimum of the mean cross-entropy, including its penalty.
      solver: for that Hessian, from `solver_for`.
      num_train: n, the number of training images.
      batch_size: pairs per program.

    Example:
        >>> import numpy as np
        >>> from rtl_jax.influence_functions import Head, PixelInfluence, solver_for
        >>> draw = np.random.default_rng(0)
        >>> images, labels = draw.uniform(size=(20, 2, 2, 1)), np.arange(20) % 2
        >>> head = Head(draw.normal(size=(4, 2)))
        >>> examples = head.examples(images.reshape(20, 4), labels)
        >>> solver = solver_for(head, examples)
        >>> found = PixelInfluence(lambda x: x.reshape(len(x), -1), head, solver, 20)
        >>> found.gradients(images[:3], labels[:3], examples.take(slice(10, 13))).shape
        (3, 2, 2, 1)
    """

    features_fn: Callable[[jax.Array], jax.Array]
    head: Head
    solver: Solver
    num_train: int
    batch_size: int = 64

    def gradients(self, images: np.ndarray, labels: np.ndarray, test: Examples) -> np.ndarray:
        """Compute I_pert,loss, [N, H, W, C]; see this module.

        Its inner product with a small change of the training image, divided by n, is the change of
        the test image's loss after retraining.

        Raises:
          UserError: images, labels and test do not match, or gradients are not finite.
        """
        parts = []
        for rows, number, pairs in self._batches(images, labels, test):
            parts.append(np.asarray(_gradients(pairs, jnp.asarray(images[rows])))[:number])
        found = np.concatenate(parts)
        require_finite("influence of pixels", found)
        return found

    def perturb(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        test: Examples,
        eps: float,
        search: PGD = SEARCH,
        *,
        seed: int = 0,
    ) -> Perturbed:
        """Change training images within a ball to raise the losses of their test images most.

        delta <- P(delta + step(I_pert,loss(x + delta))), as in A.12. `PGD("l2", steps=1)` takes the
        normalised gradient of length eps, and `PGD("linf", ...)` its sign.

        Args:
          images: as for `gradients`.
          labels: as for `gradients`.
          test: as for `gradients`.
          eps: the radius, for pixels in [0, 1].
          search: the ball and the steps in it, a `PGD` or a subclass.
          seed: the seed of random starts.

        Returns:
          The images found and the predicted changes of the losses.

        Raises:
          UserError: images, labels and test do not match, an invalid radius, or another kind of
            attack.
        """
        good = isinstance(search, PGD) and search.threat.has_radius
        require(good, "influence: search", "a PGD with a norm", search)
        require(0 <= eps < np.inf, "influence: eps", "a radius of 0 or more", eps)
        require_pixel_units(search.threat, eps, "influence: eps")
        search = search.replace(loss="logit", targeted=False)
        keys = jax.random.split(jax.random.key(seed), len(images))
        parts, changes = [], []
        for rows, number, pairs in self._batches(images, labels, test):
            pixels = jnp.asarray(images[rows])
            found = _search(search, pairs, pixels, jnp.asarray(eps, pixels.dtype), keys[rows])
            parts.append(np.asarray(found)[:number])
            before, after = (self._scores(pairs, one) for one in (pixels, found))
            changes.append((before - after)[:number] / self.num_train)
        return Perturbed(np.concatenate(parts), np.concatenate(changes))

    def _scores(self, pairs: "_Pairs", images: jax.Array) -> np.ndarray:
        """Compute s of each image, [N], in float64 from the features on."""
        features = np.asarray(_features(pairs, images))
        seen = self.head.examples(features, np.asarray(pairs.labels))
        solved = np.asarray(pairs.solved, np.float64)
        return np.einsum("nc,ncd,nd->n", seen.errors, solved, seen.inputs)

    def _batches(
        self, images: np.ndarray, labels: np.ndarray, test: Examples
    ) -> Iterator[tuple[np.ndarray, int, "_Pairs"]]:
        """Yield rows, the number of them that are not padding, and the program's arguments."""
        shape, dtype, numbers = np.shape(images), images.dtype, (len(labels), test.num_examples)
        if len(shape) != 4 or not np.issubdtype(dtype, np.floating) or {*numbers} != {shape[0]}:
            raise UserError(
                "influence of pixels: expected float images [N, H, W, C] and as many labels and "
                f"test examples, received {dtype} {list(shape)}, {numbers[0]} and {numbers[1]}"
            )
        features_fn = self.features_fn
        if not isinstance(features_fn, jax.tree_util.Partial):
            features_fn = jax.tree_util.Partial(features_fn)
        for rows, number, _ in padded_batches(len(images), self.batch_size):
            solved = np.einsum("ck,nkd->ncd", self.solver.basis, self.solver.solve(test.take(rows)))
            weights, solved = (jnp.asarray(one, dtype) for one in (self.head.weights, solved))
            yield rows, number, _Pairs(features_fn, weights, solved, jnp.asarray(labels[rows]))


class _Pairs(NamedTuple):
    """weights [C, D]; solved [N, C, D], H^-1 g_test of each test image; labels [N] of training."""

    features_fn: jax.tree_util.Partial
    weights: jax.Array
    solved: jax.Array
    labels: jax.Array

    def scores(self, images: jax.Array) -> jax.Array:
        """Compute s of each training image, [N]."""
        features = self.features_fn(images)
        bias = self.weights.shape[1] - features.shape[1]
        inputs = jnp.concatenate([features, jnp.ones((len(features), bias), features.dtype)], 1)
        probabilities = jax.nn.softmax(inputs @ self.weights.T)
        errors = probabilities - jax.nn.one_hot(self.labels, len(self.weights), dtype=inputs.dtype)
        return jnp.einsum("nc,ncd,nd->n", errors, self.solved, inputs)


@jax.jit
def _gradients(pairs: _Pairs, images: jax.Array) -> jax.Array:
    with devices.matmul_precision("float32"):
        return -jax.grad(lambda x: pairs.scores(x).sum())(images)


@jax.jit
def _features(pairs: _Pairs, images: jax.Array) -> jax.Array:
    with devices.matmul_precision("float32"):
        return pairs.features_fn(images)


@partial(jax.jit, static_argnums=0)
def _search(
    search: PGD, pairs: _Pairs, images: jax.Array, eps: jax.Array, keys: jax.Array
) -> jax.Array:
    """Return the images found. `scores` is a single logit, whose negative is the loss 'logit'."""
    nothing = jnp.zeros_like(pairs.labels)
    problem = Problem(
        lambda x: pairs.scores(x)[:, None], images, nothing, jnp.full(len(images), eps), keys
    )
    with devices.matmul_precision("float32"):
        return search.search(problem).images
