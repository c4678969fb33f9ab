"""What the pixels of a training image do to the loss of a test image, through retraining the head.

Koh and Liang (2017), section 2.2, and the paper's appendix A.12. With the score of a training
image x with label y on a test image,

    s(x) = g_test^T H^-1 g(x),    g(x) = e (x) x~,    e = softmax(W x~) - onehot(y),

where x~ are the head's inputs, retraining after x has become x' moves the loss of the test image by
about (s(x) - s(x')) / n. For a small change that is I_pert,loss . (x' - x) / n, exactly so in the
limit. For a large one it is an estimate with H as it was: an image whose features have left those
of all others changes H too, and the estimate is then far too large.

    I_pert,loss^T = -g_test^T H^-1 grad_x grad_theta L(z) = -grad_x s.

s is one number per image, so its gradient is one backward pass through the network, whose weights
stay as they are; grad_x grad_theta L, parameters by pixels, is never formed.
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

# Pixels in [0, 1] along I_pert,loss; its iterate of the highest test loss.
SEARCH = PGD("l2", steps=10, keep="loss")


class Perturbed(NamedTuple):
    """Training images that were changed to raise the losses of test images.

    Attributes:
      images: [N, H, W, C] in [0, 1].
      changes: float64 [N], by how much retraining the head on each in place of its original is
        predicted to raise the loss of its test image, (s(x) - s(x')) / n (nats).
    """

    images: np.ndarray
    changes: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class PixelInfluence:
    """Influence of the pixels of training images, for N pairs of a training and a test image.

    Images are float [N, H, W, C] in [0, 1], as `features_fn` takes them; `test` has N examples, the
    test image of each pair. The precision is that of the images: with float64 and `jax.enable_x64`
    it is that of the head's, too.

    Attributes:
      features_fn: from images to the inputs of the head, [N, d], each image independently: such as
        `Network.features_fn()`.
      head: at an optimum of the mean cross-entropy, its penalty included.
      solver: of that Hessian, as `solver_for` returns it.
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

        Its inner product with a small change of the training image, over n, is the change of the
        test image's loss after retraining.

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
        """Change training images within a ball so that the losses of their test images rise most.

        delta <- P(delta + step(I_pert,loss(x + delta))), as in A.12. `PGD("l2", steps=1)` is the
        normalised gradient of length eps, and `PGD("linf", ...)` takes its sign.

        Args:
          images: as for `gradients`.
          labels: as for `gradients`.
          test: as for `gradients`.
          eps: the radius, for pixels in [0, 1].
          search: the ball and the steps in it, a `PGD` or what derives from it.
          seed: of random starts.

        Returns:
          The images found and the predicted changes of the losses.

        Raises:
          UserError: images, labels and test do not match, or another kind of attack.
        """
        good = isinstance(search, PGD) and search.threat.has_radius
        require(good, "influence: search", "a PGD with a norm", search)
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
        """s of each image, [N], in float64 from the features on."""
        features = np.asarray(_features(pairs, images))
        seen = self.head.examples(features, np.asarray(pairs.labels))
        solved = np.asarray(pairs.solved, np.float64)
        return np.einsum("nc,ncd,nd->n", seen.errors, solved, seen.inputs)

    def _batches(
        self, images: np.ndarray, labels: np.ndarray, test: Examples
    ) -> Iterator[tuple[np.ndarray, int, "_Pairs"]]:
        """Rows, how many of them count, and what the program takes beside the images at them."""
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
        """s of each training image, [N]."""
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
    """The images found. A single logit for each, which the loss 'logit' takes the negative of."""
    nothing = jnp.zeros_like(pairs.labels)
    problem = Problem(
        lambda x: pairs.scores(x)[:, None], images, nothing, jnp.full(len(images), eps), keys
    )
    with devices.matmul_precision("float32"):
        return search.search(problem).images
