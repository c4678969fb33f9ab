"""The head's Hessian by autodiff, as in the paper; `curvature` has the closed form."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rtl_jax.data.batching import padded_rows
from rtl_jax.influence_functions.head import Examples, Head
from rtl_jax.influence_functions.memory import require_memory
from rtl_jax.runtime import devices


def autodiff_bytes(num_parameters: int) -> int:
    """Return the peak memory of `autodiff_hessian`, in bytes.

    Each device holds the sum, one batch's Hessian and its tangents, and the sum over devices; the
    host holds a copy.
    """
    return 8 * num_parameters**2 * (4 * jax.local_device_count() + 1)


def autodiff_hessian(
    head: Head,
    examples: Examples,
    *,
    l2: float = 0.0,
    batch_size: int = 5,
    memory_gib: int | None = None,
) -> np.ndarray:
    """Compute the Hessian [CD, CD] of mean cross-entropy + l2/2 |W|^2 by `jax.hessian`, float64.

    Batches of `batch_size` are distributed to the local devices (`jax.pmap`), and their Hessians
    are summed on each device and then over devices. The paper sums the Hessians of batch means
    (A.9), which is N / batch_size times this result for full batches, so that every score is
    divided by that number.

    Raises UserError if memory is too small.
    """
    require_memory(examples.num_parameters, autodiff_bytes(examples.num_parameters), memory_gib)
    with jax.enable_x64(True):
        shards = _shards(examples, batch_size, jax.local_device_count())
        total = devices.sum_over_devices(sum_of_hessians, jnp.asarray(head.weights), shards)
        hessian = np.array(total, order="F") / examples.num_examples
    hessian[np.diag_indices_from(hessian)] += l2
    return hessian


def sum_of_hessians(weights: jax.Array, batches: tuple[jax.Array, ...]) -> jax.Array:
    """Sum the batches' Hessians, [CD, CD]; each array of `batches` is [M, batch, ...]."""
    total = jnp.zeros((weights.size,) * 2, weights.dtype)
    return lax.scan(lambda *each: (add_hessian(weights, *each), None), total, batches)[0]


def add_hessian(weights: jax.Array, total: jax.Array, batch: tuple[jax.Array, ...]) -> jax.Array:
    """Add a batch's Hessian of the summed cross-entropy to `total`, [CD, CD].

    The batch is inputs [B, D], labels [B], and whether a row counts, [B].
    """
    inputs, labels, inside = batch

    def loss(flat: jax.Array) -> jax.Array:
        log_probabilities = jax.nn.log_softmax(inputs @ flat.reshape(weights.shape).T)
        picked = jnp.take_along_axis(log_probabilities, labels[:, None], axis=1)[:, 0]
        return -(inside * picked).sum()

    return total + jax.hessian(loss)(weights.reshape(-1))


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
