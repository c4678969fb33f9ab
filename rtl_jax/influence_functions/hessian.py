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
        total = devices.sum_over_devices(_sum_of_hessians, jnp.asarray(head.weights), shards)
        hessian = np.array(total, order="F") / examples.num_examples
    hessian[np.diag_indices_from(hessian)] += l2
    return hessian


def _sum_of_hessians(weights: jax.Array, batches: tuple[jax.Array, ...]) -> jax.Array:
    """Sum the batches' Hessians, [CD, CD]; each array of `batches` is [M, batch, ...]."""
    shape, flat = weights.shape, weights.reshape(-1)

    def loss(flat: jax.Array, inputs: jax.Array, labels: jax.Array, inside: jax.Array) -> jax.Array:
        log_probabilities = jax.nn.log_softmax(inputs @ flat.reshape(shape).T)
        picked = jnp.take_along_axis(log_probabilities, labels[:, None], axis=1)[:, 0]
        return -(inside * picked).sum()

    def add(total: jax.Array, batch: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        return total + jax.hessian(loss)(flat, *batch), None

    return lax.scan(add, jnp.zeros((flat.size,) * 2, flat.dtype), batches)[0]


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
