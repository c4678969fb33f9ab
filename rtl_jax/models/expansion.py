"""A 1x1 convolution to many channels and its batch normalisation, with fewer passes over memory."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from rtl_jax.models.batch_norm import BatchNorm, number_of_values
from rtl_jax.models.convolution import Conv
from rtl_jax.runtime import devices

# Outputs per input from which it pays: four in a bottleneck's last convolution, two in a shortcut,
# six in a MobileNet.
_WIDER = 2


def normalised(conv: Conv, norm: BatchNorm, inputs: jax.Array, train: bool) -> jax.Array:
    """Compute `norm(conv(inputs), train)`, in bfloat16 from the moments of the inputs.

    An accelerator waits for memory here. A 1x1 convolution is linear, y = w z, so the mean and
    variance of its many outputs follow from the moments of its few inputs:

        mean(y) = w mean(z),  var(y) = w cov(z) w

    and outputs are written once, already normalised, instead of written, read for their statistics
    and read again. Nor does their gradient read them. Products of bfloat16 numbers are exact in
    float32, and what is lost in the variance is far below the outputs' own rounding; float32
    networks, which are to be torch's to the last digits, take the usual way.

    Args:
      conv, norm: the layers; the running statistics of `norm` are updated with `train`.
      inputs: [N, H, W, I].

    Returns:
      [N, H', W', O] in the dtype of `norm`.

    Raises:
      UserError: with `train`, if a channel has a single value.
    """
    height, width, channels, outputs = conv.kernel.shape
    pointwise = (height, width, conv.groups, conv.padding) == (1, 1, 1, 0)
    narrow = inputs.dtype == norm.dtype == jnp.bfloat16
    wider = outputs >= _WIDER * channels
    possible = train and pointwise and narrow and wider and not conv.has_bias
    # With fewer pixels than inputs, a square matrix of the inputs would be larger than the outputs.
    # This is asked only in training: an exported network takes any number of images.
    if not possible or inputs.size // channels // conv.stride**2 < channels:
        return norm(conv(inputs), train)
    inputs = inputs[:, :: conv.stride, :: conv.stride]
    count = number_of_values(inputs)
    weights = conv.kernel[0, 0]
    center = inputs.astype(jnp.float32).mean((0, 1, 2))
    covariance = _moments(inputs) / count - center[:, None] * center
    var = jnp.maximum((weights * _exactly(covariance, weights)).sum(0), 0)
    norm.update(_exactly(center, weights), var, count)
    scaled = weights * (norm.scale[...] * lax.rsqrt(var + norm.eps))
    scaled = scaled.astype(inputs.dtype).astype(jnp.float32)
    return _affine(inputs, scaled, norm.bias[...] - _exactly(center, scaled))


# By default, accelerators round the factors of small products too.
_exactly = partial(jnp.matmul, precision=lax.Precision.HIGHEST)


@jax.custom_vjp
def _affine(inputs: jax.Array, weights: jax.Array, shift: jax.Array) -> jax.Array:
    """Map bfloat16 [N, H, W, I] by weights [I, O] and shift [O], both float32, to bfloat16.

    JAX has no gradient of a convolution with float32 results of bfloat16 arrays, as a TPU computes
    it: it adds the shift before it writes and rounds them. A GPU's library writes products first,
    which would be twice the bytes in float32.
    """
    products = jnp.float32 if devices.platform() == "tpu" else inputs.dtype
    return (_pointwise(inputs, weights, products) + shift).astype(inputs.dtype)


def _affine_forward(
    inputs: jax.Array, weights: jax.Array, shift: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _affine(inputs, weights, shift), (inputs, weights)


def _affine_backward(
    saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    inputs, weights = saved
    to_shift = gradient.astype(jnp.float32).sum((0, 1, 2))
    return _pointwise(gradient, weights.T), _products(inputs, gradient), to_shift


_affine.defvjp(_affine_forward, _affine_backward)


@jax.custom_vjp
def _moments(inputs: jax.Array) -> jax.Array:
    """Sum the products of every two channels over all pixels: [N, H, W, C] to float32 [C, C]."""
    return _products(inputs, inputs)


def _moments_forward(inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
    return _moments(inputs), inputs


def _moments_backward(inputs: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    # Autodiff would convert the inputs to float32, with twice the bytes.
    return (_pointwise(inputs, gradient + gradient.T),)


_moments.defvjp(_moments_forward, _moments_backward)


# Convolutions on a TPU, whose compiler moves up to 1.4 times the bytes for matrix products.


def _pointwise(inputs: jax.Array, weights: jax.Array, dtype: Any = None) -> jax.Array:
    """Multiply [N, H, W, I] by weights [I, O], rounded to the inputs' dtype."""
    weights = weights.astype(inputs.dtype)
    if devices.platform() == "tpu":
        return _convolution(inputs, weights[None, None], ("NHWC", "HWIO", "NHWC"), dtype)
    return lax.dot_general(inputs, weights, (((3,), (0,)), ((), ())), preferred_element_type=dtype)


def _products(left: jax.Array, right: jax.Array) -> jax.Array:
    """Sum the products of channels over all pixels: [N, H, W, I] and [.., O] to float32 [I, O]."""
    if devices.platform() == "tpu":
        return _convolution(left, right, ("CHWN", "IHWO", "HWNC"), jnp.float32)[0, 0]
    axes = ((0, 1, 2), (0, 1, 2))
    return lax.dot_general(left, right, (axes, ((), ())), preferred_element_type=jnp.float32)


def _convolution(
    left: jax.Array, right: jax.Array, dimensions: tuple[str, str, str], dtype: Any
) -> jax.Array:
    return lax.conv_general_dilated(
        left,
        right,
        window_strides=(1, 1),
        padding=((0, 0), (0, 0)),
        dimension_numbers=dimensions,
        preferred_element_type=dtype,
    )
