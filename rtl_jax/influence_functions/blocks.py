"""Influence through all trained parameters: Hessian-vector products through the blocks.

The loss is a function of the trainable parameters only, on features at the split point; everything
before it is bound beforehand. Statistics are the running ones, as in every evaluation. All
computations are in float64.
"""

import dataclasses
from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from rtl_jax.data.batching import padded_rows
from rtl_jax.errors import UserError
from rtl_jax.influence_functions.arnoldi import LowRank, arnoldi
from rtl_jax.models.model import bind, definition
from rtl_jax.models.network import Network
from rtl_jax.models.registry import Architecture
from rtl_jax.runtime import resources
from rtl_jax.runtime.progress import Progress
from rtl_jax.train.freeze import combine, mask, partition, split_point


@dataclasses.dataclass(frozen=True)
class Suffix:
    """The static part of the network after the split point; hashable, so that it compiles once."""

    architecture: Architecture
    split: int

    def losses(
        self, trained: dict, fixed: Mapping, batch: tuple[jax.Array, jax.Array]
    ) -> jax.Array:
        """Compute the cross-entropy [N] (nats) of features at the split point and labels."""
        params = combine(trained, fixed["params"])
        network = bind(
            # A method that supports forward-over-reverse differentiation, unlike some convolutions.
            definition(self.architecture, dtype=jnp.dtype(jnp.float64), method="dot"),
            params,
            fixed["batch_stats"],
        )
        logits = network.suffix(batch[0], self.split)
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch[1])


@partial(jax.jit, static_argnums=0)
def _product(
    suffix: Suffix, trained: dict, fixed: Mapping, batches: tuple, direction: dict
) -> dict:
    """Multiply the mean loss's Hessian by `direction`, forward over reverse, batch by batch."""

    def mean(trained: dict, batch: tuple) -> jax.Array:
        return suffix.losses(trained, fixed, batch[:2]) @ batch[2]

    def add(total: dict, batch: tuple) -> tuple[dict, None]:
        def gradient(trained: dict) -> dict:
            return jax.grad(mean)(trained, batch)

        return jax.tree.map(jnp.add, total, jax.jvp(gradient, (trained,), (direction,))[1]), None

    zero = jax.tree.map(jnp.zeros_like, trained)
    total = jax.lax.scan(add, zero, batches)[0]
    return jax.tree.map(lambda leaf: leaf / batches[2].sum(), total)


@partial(jax.jit, static_argnums=0)
def _slopes(
    suffix: Suffix, trained: dict, fixed: Mapping, batches: tuple, direction: dict
) -> jax.Array:
    """Compute the derivative of each example's loss along `direction`, [batches, N].

    A forward-mode pass yields the products of all gradients with it without forming any gradient.
    """

    def along(batch: tuple) -> jax.Array:
        def losses(trained: dict) -> jax.Array:
            return suffix.losses(trained, fixed, batch[:2])

        return jax.jvp(losses, (trained,), (direction,))[1]

    return jax.lax.map(along, batches)


class TrainablePart:
    """The parameters after a split point, as the point at which losses are differentiated."""

    def __init__(self, network: Network, blocks: int | None, batch_size: int = 64):
        arch = network.architecture
        self.suffix, self.batch_size = Suffix(arch, split_point(arch, blocks)), batch_size
        with jax.enable_x64(True):
            params, batch_stats = jax.device_put(
                jax.tree.map(
                    lambda leaf: np.asarray(leaf, np.float64),
                    (dict(network.params), dict(network.batch_stats)),
                )
            )
            self._trained, frozen = partition(params, mask(arch, params, blocks))
            # The suffix reads only part of these; the rest costs nothing in a jitted program.
            self._fixed = {"params": frozen, "batch_stats": batch_stats}
            flat, self._unflatten = ravel_pytree(self._trained)
        self.num_parameters = flat.size

    def batches(self, features: np.ndarray, labels: np.ndarray) -> tuple[jax.Array, ...]:
        """Divide features at the split point and labels into batches, with weights.

        Each result has shape [batches, batch, ...]; padding has weight 0.
        """
        number, size = len(labels), min(self.batch_size, len(labels))
        rows, _, counted = padded_rows(number, number + -number % size)
        inside = counted.astype(np.float64)
        with jax.enable_x64(True):
            whole = (np.asarray(features, np.float64)[rows], np.asarray(labels)[rows], inside)
            return jax.device_put(tuple(part.reshape(-1, size, *part.shape[1:]) for part in whole))

    def product(self, batches: tuple[jax.Array, ...], direction: jax.Array) -> jax.Array:
        """Multiply the mean loss's Hessian by a vector [P]."""
        with jax.enable_x64(True):
            given = self._unflatten(direction)
            found = _product(self.suffix, self._trained, self._fixed, batches, given)
            return ravel_pytree(found)[0]

    def low_rank(
        self,
        batches: tuple[jax.Array, ...],
        rank: int,
        steps: int,
        seed: int = 0,
        progress: Progress = lambda done: None,
    ) -> LowRank:
        """Compute the Hessian's largest eigenpairs by Arnoldi, from a random vector.

        `seed` determines the vector. Raises UserError if memory is too small for the vectors.
        """
        needed, free = 2 * 8 * steps * self.num_parameters, resources.host_free()
        if needed > free:
            raise UserError(
                f"influence.rank: {steps} vectors of {self.num_parameters:,} parameters need "
                f"{needed / 2**30:.1f} GiB and {free / 2**30:.1f} are free: choose a smaller rank"
            )
        with jax.enable_x64(True):
            start = jax.random.normal(jax.random.key(seed), (self.num_parameters,), jnp.float64)
            return arnoldi(partial(self.product, batches), start, steps, rank, progress)

    def project(
        self,
        batches: tuple[jax.Array, ...],
        vectors: np.ndarray,
        progress: Progress = lambda done: None,
    ) -> np.ndarray:
        """Compute the products [N, R] of every example's gradient with each vector of [R, P]."""
        number, columns = int(np.asarray(batches[2]).sum()), []
        with jax.enable_x64(True):
            for vector in vectors:
                given = self._unflatten(jnp.asarray(vector))
                slopes = _slopes(self.suffix, self._trained, self._fixed, batches, given)
                columns.append(np.asarray(slopes).reshape(-1)[:number])
                progress(1)
        return np.stack(columns, axis=1)
