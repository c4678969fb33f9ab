"""Batch normalisation as in torch."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from rtl_jax.errors import UserError

BN_MOMENTUM = 0.1  # torch's, the weight of the new batch


class BatchNorm(nnx.Module):
    """Batch normalisation like torch's BatchNorm2d, with all statistics in float32.

    With `train`, it normalises by the batch mean and biased variance and updates the running
    statistics, the variance by the unbiased one. (nnx.BatchNorm uses the biased one, which affects
    evaluation but not training losses.) Otherwise it uses the running statistics.
    """

    def __init__(
        self, features: int, *, eps: float, dtype: jnp.dtype, momentum: float = BN_MOMENTUM
    ):
        self.scale = nnx.Param(jnp.ones(features))
        self.bias = nnx.Param(jnp.zeros(features))
        self.mean = nnx.BatchStat(jnp.zeros(features))
        self.var = nnx.BatchStat(jnp.ones(features))
        self.eps = eps
        self.momentum = momentum
        self.dtype = dtype

    def __call__(self, inputs: jax.Array, train: bool) -> jax.Array:
        scale, bias = self.scale[...], self.bias[...]
        narrow = inputs.dtype == jnp.bfloat16
        inputs = inputs.astype(jnp.promote_types(inputs.dtype, scale.dtype))
        if train:
            count = number_of_values(inputs)
            if narrow:
                mean, var = _moments_in_one_pass(inputs, self.mean[...])
            else:
                mean = inputs.mean((0, 1, 2))
                var = jnp.square(inputs - mean).mean((0, 1, 2))
            self.update(mean, var, count)
        else:
            mean, var = self.mean[...], self.var[...]
        factor = scale * lax.rsqrt(var + self.eps)
        return ((inputs - mean) * factor + bias).astype(self.dtype)

    def update(self, mean: jax.Array, var: jax.Array, count: int) -> None:
        """Update the running statistics by the mean and biased variance of `count` values."""
        running_mean, running_var = self.mean[...], self.var[...]
        unbiased = var * (count / (count - 1))
        self.mean[...] = running_mean + self.momentum * (mean - running_mean)
        self.var[...] = running_var + self.momentum * (unbiased - running_var)


def number_of_values(inputs: jax.Array) -> int:
    """Return the number of values per channel of a batch. Raises UserError if it is one."""
    count = inputs.size // inputs.shape[-1]
    if count < 2:
        raise UserError(
            "batch normalisation needs more than one value per channel, and a batch "
            "of one image has only one here: use larger images, another batch size "
            "or another number of images"
        )
    return count


def _moments_in_one_pass(inputs: jax.Array, near: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the mean and the biased variance over all axes but the last.

    An accelerator waits for memory here, and reads the inputs once for both sums. Differences from
    `near`, a mean that is known beforehand, keep the difference of the two sums accurate: its error
    is below that of rounding the inputs to bfloat16, for which this is meant.
    """
    shifted = inputs - near
    mean, square = shifted.mean((0, 1, 2)), jnp.square(shifted).mean((0, 1, 2))
    return near + mean, jnp.maximum(square - jnp.square(mean), 0)
