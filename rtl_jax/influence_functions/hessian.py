"""The head's Hessian by autodiff, as in the paper; `curvature` has the closed form."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rtl_jax.data.batching import padded_rows
from rtl_jax.influence_functions.curvature import add_damping
from rtl_jax.influence_functions.head import Examples, Head
from rtl_jax.influence_functions.memory import require_memory
from rtl_jax.runtime import devices

# `jax.hessian` differentiates along all parameters at once, and so holds several matrices of the
# Hessian's size. Slices of this many rows fit in a processor's cache, which is also several times
# faster (docs/benchmarks.md).
SLICE = 128


def autodiff_bytes(num_parameters: int) -> int:
    """Return the peak memory of `autodiff_hessian`, in bytes.

    Each device holds its own sum and the sum over devices; the host holds a copy.
    """
    rows = padded_size(num_parameters)
    return 8 * rows * num_parameters * (2 * jax.local_device_count() + 1)


def padded_size(num_parameters: int) -> int:
    """Return the number of rows in full slices."""
    return -(-num_parameters // SLICE) * SLICE


def autodiff_hessian(
    head: Head,
    examples: Examples,
    *,
    l2: float | np.ndarray = 0.0,
    batch_size: int = 5,
    memory_gib: int | None = None,
) -> np.ndarray:
    """Compute the Hessian [CD, CD] of mean cross-entropy + l2/2 |W|^2 by autodiff, float64.

    l2 is as for `curvature.add_damping`.

    This is `jax.hessian`, forward over reverse, a slice of rows at a time. Batches of `batch_size`
    are distributed to the local devices (`jax.pmap`), and their Hessians are summed on each device
    and then over devices. The paper sums the Hessians of batch means
    (A.9), which is N / batch_size times this result for full batches, so that every score is
    divided by that number.

    Raises UserError if memory is too small.
    """
    require_memory(examples.num_parameters, autodiff_bytes(examples.num_parameters), memory_gib)
    with jax.enable_x64(True):
        shards = _shards(examples, batch_size, jax.local_device_count())
        total = devices.sum_over_devices(sum_of_hessians, jnp.asarray(head.weights), shards)
        # Symmetric: the transpose of rows in C order has the Fortran order that LAPACK wants.
        hessian = np.array(np.asarray(total)[: examples.num_parameters]).T
    hessian /= examples.num_examples
    add_damping(hessian, l2, np.eye(examples.num_classes))
    return hessian


def sum_of_hessians(weights: jax.Array, batches: tuple[jax.Array, ...]) -> jax.Array:
    """Sum the batches' Hessians; each array of `batches` is [M, batch, ...].

    Returns:
      Rows [`padded_size(CD)`, CD]; those after the first CD are zero.
    """

    def rows_from(first: jax.Array) -> jax.Array:
        total = jnp.zeros((SLICE, weights.size), weights.dtype)
        return lax.scan(lambda *each: (add_rows(weights, first, *each), None), total, batches)[0]

    rows = lax.map(rows_from, jnp.arange(0, weights.size, SLICE))
    return rows.reshape(-1, weights.size)


def add_rows(
    weights: jax.Array, first: jax.Array, total: jax.Array, batch: tuple[jax.Array, ...]
) -> jax.Array:
    """Add the rows from `first` on of a batch's Hessian to `total`, [SLICE, CD].

    It is that of the summed cross-entropy. The batch is inputs [B, D], labels [B], and whether a
    row counts, [B].
    """
    inputs, labels, inside = batch

    def loss(flat: jax.Array) -> jax.Array:
        log_probabilities = jax.nn.log_softmax(inputs @ flat.reshape(weights.shape).T)
        picked = jnp.take_along_axis(log_probabilities, labels[:, None], axis=1)[:, 0]
        return -(inside * picked).sum()

    def row(direction: jax.Array) -> jax.Array:
        return jax.jvp(jax.grad(loss), (weights.reshape(-1),), (direction,))[1]

    directions = jax.nn.one_hot(first + jnp.arange(SLICE), weights.size, dtype=weights.dtype)
    return total + jax.vmap(row)(directions)


def _shards(examples: Examples, batch_size: int, num_devices: int) -> tuple[np.ndarray, ...]:
    """Return inputs, labels and whether a row counts, each [devices, M, batch, ...].

    The last batches are padded with rows that do not count.
    """
    number = examples.num_examples
    batches = -(-number // (batch_size * num_devices))
    rows, _, counted = padded_rows(number, num_devices * batches * batch_size)
    inside = counted.astype(np.float64)
    shape = (num_devices, batches, batch_size)
    inputs = examples.inputs[rows].reshape(*shape, -1)
    return inputs, examples.labels[rows].reshape(shape), inside.reshape(shape)
