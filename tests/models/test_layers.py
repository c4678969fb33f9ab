"""The forms of the convolution compared with torch, by shape, and how each is differentiable."""

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax import lax
from jax.extend import core

from rtl_jax.models.convolution import ConvMethod, conv2d
from rtl_jax.models.pooling import max_pool
from tests.torch_networks import nchw

pytestmark = pytest.mark.slow

# With a stride one or three inputs go another way to the images than five.
OUTPUTS = 12
# (kernel, stride, height, width, inputs): many pixels and few, odd and even, every kernel here.
SHAPES = [
    (3, 1, 9, 8, 5),
    (3, 1, 2, 2, 40),
    (3, 1, 2, 2, 3),
    (3, 1, 3, 3, 5),
    (3, 1, 1, 1, 3),
    (3, 2, 9, 8, 5),
    (3, 2, 4, 4, 40),
    (7, 2, 15, 14, 3),
    (7, 2, 16, 13, 3),
    (7, 2, 14, 15, 5),
    (3, 2, 9, 8, 3),
    (3, 2, 8, 7, 1),
    (3, 2, 1, 2, 3),
    (5, 3, 11, 13, 1),
    (2, 2, 6, 7, 3),
    (1, 1, 5, 4, 3),
    (1, 2, 5, 4, 3),
]


@pytest.mark.parametrize(("size", "stride", "height", "width", "inputs"), SHAPES)
def test_eigens_convolution_equals_torchs(size, stride, height, width, inputs):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, height, width, inputs)).astype(np.float32)
    kernel = rng.normal(size=(size, size, inputs, OUTPUTS)).astype(np.float32)
    weight = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy()).requires_grad_()
    pixels = nchw(x).requires_grad_()
    out = torch.nn.functional.conv2d(pixels, weight, stride=stride, padding=size // 2)
    weights = rng.normal(size=tuple(out.permute(0, 2, 3, 1).shape)).astype(np.float32)
    (out * nchw(weights)).sum().backward()

    @jax.jit
    def ours(x, kernel, weights):
        out, pullback = jax.vjp(lambda x, k: conv2d(x, k, stride, size // 2, "eigen"), x, kernel)
        return out, *pullback(weights)

    truth = (
        out.detach().permute(0, 2, 3, 1),
        pixels.grad.permute(0, 2, 3, 1),
        weight.grad.permute(2, 3, 1, 0),
    )
    for found, expected in zip(ours(x, kernel, weights), truth, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def convolutions(jaxpr: core.Jaxpr) -> Iterator[core.JaxprEqn]:
    """List every convolution of a program, including those in loops and calls."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "conv_general_dilated":
            yield equation
    for inner in core.subjaxprs(jaxpr):
        yield from convolutions(inner)


@pytest.mark.parametrize(("stride", "outputs", "number"), [(1, 4, 3), (2, 4, 2), (2, 16, 3)])
def test_every_convolution_is_eigens_in_gradients_and_loops(stride, outputs, number):
    """XLA's CPU runs other layouts, as of method 'xla', as plain loops inside `scan`.

    There is one convolution for the output, one for the kernel's gradient, and one for the images'
    gradient, except with a stride and equal numbers of inputs and outputs.
    """

    def program(method: ConvMethod) -> list[core.JaxprEqn]:
        def loss(x: jax.Array, kernel: jax.Array) -> jax.Array:
            return jnp.square(conv2d(x, kernel, stride, 1, method)).sum()

        def body(carry: tuple, _: None) -> tuple[tuple, None]:
            return jax.grad(loss, (0, 1))(*carry), None

        carry = (jnp.ones((2, 8, 8, 4)), jnp.ones((3, 3, 4, outputs)))
        traced = jax.make_jaxpr(lambda carry: lax.scan(body, carry, length=3))(carry)
        return list(convolutions(traced.jaxpr))

    def for_eigen(equation: core.JaxprEqn) -> bool:
        dimensions = equation.params["dimension_numbers"]
        in_order = dimensions.lhs_spec == dimensions.out_spec == (0, 3, 1, 2)
        return in_order and dimensions.rhs_spec == (3, 2, 0, 1)

    found = program("eigen")
    assert len(found) == number
    assert all(map(for_eigen, found))
    assert not all(map(for_eigen, program("xla")))


def test_eigens_convolution_under_vmap_and_twice_in_reverse():
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.normal(size=(2, 3, 6, 6, 2)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 2, 2)), jnp.float32)

    def slope(method: ConvMethod, x: jax.Array, kernel: jax.Array) -> jax.Array:
        """Return the squared length of the gradient of a non-quadratic loss."""
        gradient = jax.grad(lambda k: jnp.sin(conv2d(x, k, 1, 1, method)).sum())(kernel)
        return jnp.square(gradient).sum()

    def twice(method: ConvMethod) -> jax.Array:
        return jax.jit(jax.vmap(jax.grad(partial(slope, method), 1), (0, None)))(x, kernel)

    expected = twice("dot")
    np.testing.assert_allclose(twice("eigen"), expected, atol=1e-4 * np.abs(expected).max())


def test_forward_mode_needs_the_dot_form():
    kernel = jnp.ones((3, 3, 1, 1))

    def derivative(method: ConvMethod) -> jax.Array:
        x = jnp.ones((1, 4, 4, 1))
        return jax.jvp(lambda k: conv2d(x, k, 1, 1, method).sum(), (kernel,), (kernel,))[1]

    assert derivative("dot") == 100  # 4 corners see 4 pixels, 8 edges 6, the 4 inner ones 9
    with pytest.raises(TypeError, match="forward-mode"):
        derivative("eigen")


@pytest.mark.parametrize("method", ["xla", "eigen"])
def test_max_pooling_equals_torchs_where_values_are_equal_and_nan(method: ConvMethod):
    rng = np.random.default_rng(2)
    x = rng.integers(-2, 3, (2, 9, 8, 3)).astype(np.float32)  # most windows hold a tie
    weights = rng.normal(size=(2, 5, 4, 3)).astype(np.float32)
    pixels = nchw(x).requires_grad_()
    out = torch.nn.functional.max_pool2d(pixels, 3, stride=2, padding=1)
    (out * nchw(weights)).sum().backward()
    ours, pullback = jax.vjp(partial(max_pool, method=method), x)
    np.testing.assert_array_equal(ours, out.detach().permute(0, 2, 3, 1))
    # Up to four windows share a pixel.
    np.testing.assert_allclose(
        pullback(weights)[0], pixels.grad.permute(0, 2, 3, 1), rtol=1e-6, atol=1e-6
    )
    x[0, 4, 4, 1] = np.nan
    out = torch.nn.functional.max_pool2d(nchw(x), 3, stride=2, padding=1)
    np.testing.assert_array_equal(max_pool(x, method), out.permute(0, 2, 3, 1))


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "channels", "groups", "outputs"),
    [
        (9, 3, 1, 6, 6, 6),
        (8, 3, 2, 6, 6, 6),
        (10, 7, 1, 4, 4, 4),
        (7, 5, 2, 4, 4, 4),
        (9, 3, 2, 12, 3, 6),
        (5, 3, 1, 256, 32, 128),
    ],
)
@pytest.mark.parametrize("method", ["dot", "eigen"])
def test_groups_are_convolved_as_xla_does(size, kernel, stride, channels, groups, outputs, method):
    draw = np.random.default_rng(0)
    images = jnp.asarray(draw.normal(size=(2, size, size, channels)), jnp.float32)
    shape = (kernel, kernel, channels // groups, outputs)
    weights = jnp.asarray(draw.normal(size=shape), jnp.float32)

    def values(form, images, weights):
        result = conv2d(images, weights, stride, kernel // 2, form, groups)
        return jnp.sin(result / kernel).sum(), result

    both = (
        jax.jit(jax.value_and_grad(partial(values, form), (0, 1), has_aux=True))(images, weights)
        for form in (method, "xla")
    )
    for ours, theirs in zip(*map(jax.tree.leaves, both), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())
