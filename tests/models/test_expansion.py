"""Normalised 1x1 convolutions in bfloat16, compared with torch's in float64."""

import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from rtl_jax.errors import UserError
from rtl_jax.models.batch_norm import BatchNorm
from rtl_jax.models.convolution import Conv
from rtl_jax.models.expansion import normalised
from rtl_jax.runtime import devices

BFLOAT16 = jnp.dtype(jnp.bfloat16)
FEATURES = (8, 6, 6, 16)


def layers(outputs: int = 64, dtype: jnp.dtype = BFLOAT16, stride: int = 1) -> nnx.List:
    rng = np.random.default_rng(1)
    conv = Conv(16, outputs, 1, stride, dtype=dtype, method="xla")
    norm = BatchNorm(outputs, eps=1e-5, dtype=dtype)
    conv.kernel[...] = rng.normal(size=(1, 1, 16, outputs)).astype("float32") / 4
    norm.scale[...] = rng.uniform(0.5, 1.5, outputs).astype("float32")
    norm.bias[...] = rng.normal(size=outputs).astype("float32")
    return nnx.List([conv, norm])


def run(
    both: nnx.List, inputs: jax.Array, weights: np.ndarray, usual: bool = False
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return outputs and running statistics, and the gradients to inputs and parameters."""
    graph, params, rest = nnx.split(both, nnx.Param, ...)

    def loss(inputs: jax.Array, params: nnx.State, rest: nnx.State) -> tuple:
        conv, norm = nnx.merge(graph, params, rest)
        out = norm(conv(inputs), True) if usual else normalised(conv, norm, inputs, True)
        return (out.astype("float32") * weights).sum(), (out, norm.mean[...], norm.var[...])

    # With respect to the statistics too, since nnx lets a function change only what it traces.
    gradients, found = jax.jit(jax.grad(loss, (0, 1, 2), has_aux=True))(inputs, params, rest)
    return (
        [np.asarray(one, "float64") for one in found],
        [np.asarray(one, "float64") for one in jax.tree.leaves(gradients[:2])],
    )


def torchs(both: nnx.List, inputs: jax.Array, weights: np.ndarray) -> tuple[list, list]:
    conv, norm = both
    kernel = np.asarray(conv.kernel[...], "float64")
    theirs = torch.nn.BatchNorm2d(kernel.shape[-1]).double()
    theirs.weight.data = torch.tensor(np.asarray(norm.scale[...], "float64"))
    theirs.bias.data = torch.tensor(np.asarray(norm.bias[...], "float64"))
    pixels = torch.tensor(np.asarray(inputs, "float64").transpose(0, 3, 1, 2), requires_grad=True)
    matrix = torch.tensor(kernel[0, 0].T[:, :, None, None], requires_grad=True)
    out = theirs(torch.nn.functional.conv2d(pixels, matrix, stride=conv.stride))
    (out * torch.tensor(weights.transpose(0, 3, 1, 2))).sum().backward()
    return (
        [out.detach().permute(0, 2, 3, 1).numpy(), theirs.running_mean, theirs.running_var],
        [
            pixels.grad.permute(0, 2, 3, 1).numpy(),
            matrix.grad[:, :, 0, 0].T[None, None].numpy(),
            theirs.bias.grad.numpy(),
            theirs.weight.grad.numpy(),
        ],
    )


def error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - np.asarray(expected)) / np.linalg.norm(expected))


@pytest.mark.parametrize("form", ["cpu", "tpu"])  # both compute on any platform
@pytest.mark.parametrize(("center", "stride"), [(0, 1), (1, 2), (5, 1)])
def test_it_is_torchs_with_more_exact_statistics(
    center: float, stride: int, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a rectifier, with inputs up to five deviations from zero."""
    monkeypatch.setattr(devices, "platform", lambda: form)
    both = layers(stride=stride)
    rng = np.random.default_rng(0)
    inputs = jnp.asarray(np.maximum(rng.normal(size=FEATURES) + center, 0), BFLOAT16)
    weights = rng.normal(size=(8, 6 // stride, 6 // stride, 64))
    expected, slopes = torchs(both, inputs, weights)
    found, gradients = run(both, inputs, weights)
    # bfloat16 has eight bits. The usual way's variance is off by 4e-5 to 4e-4.
    assert error(found[0], expected[0]) < (2**-8 if form == "tpu" else 2**-7)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[2], expected[2], rtol=5e-6)
    usually = run(both, inputs, weights, usual=True)[1]
    for ours, usual, theirs in zip(gradients, usually, slopes, strict=True):
        assert error(ours, theirs) < min(1.6 * error(usual, theirs), 0.01)


def test_several_seeds_have_their_own_kernels_and_statistics() -> None:
    rng = np.random.default_rng(0)
    inputs = jnp.asarray(np.maximum(rng.normal(size=(3, *FEATURES)), 0), BFLOAT16)
    graph, state = nnx.split(layers())
    scales = jnp.array([1.0, 2.0, 0.5])
    several = jax.tree.map(lambda leaf: jnp.stack([leaf * scale for scale in scales]), state)

    def one(state: nnx.State, inputs: jax.Array) -> tuple:
        conv, norm = nnx.merge(graph, state)
        return normalised(conv, norm, inputs, True), norm.mean[...], norm.var[...]

    together = jax.jit(jax.vmap(one))(several, inputs)
    for index in range(3):
        alone = jax.jit(one)(jax.tree.map(operator.itemgetter(index), several), inputs[index])
        for ours, theirs in zip(together, alone, strict=True):
            close = {"rtol": 2**-6, "atol": 2**-6} if ours.ndim > 2 else {"rtol": 1e-5}
            np.testing.assert_allclose(
                np.asarray(ours[index], "float32"), np.asarray(theirs, "float32"), **close
            )


@pytest.mark.parametrize(
    "others", [{"dtype": jnp.dtype("float32")}, {"outputs": 24}, {"stride": 5}], ids=str
)
def test_other_layers_take_the_usual_way(others: dict) -> None:
    dtype = others.get("dtype", BFLOAT16)
    inputs = jnp.asarray(np.random.default_rng(0).normal(size=FEATURES), dtype)
    weights = np.ones(1)
    found, usual = (run(layers(**others), inputs, weights, usual=one) for one in (False, True))
    for ours, theirs in zip([*found[0], *found[1]], [*usual[0], *usual[1]], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_single_value_per_channel_is_refused() -> None:
    conv, norm = layers()
    with pytest.raises(UserError, match="more than one value per channel"):
        normalised(conv, norm, jnp.zeros((1, 1, 1, 16), BFLOAT16), True)


def test_statistics_are_exact_where_products_are_rounded_by_default() -> None:
    """As on accelerators, which round float32 factors unless told not to."""
    graph, state = nnx.split(layers())

    def one(state: nnx.State, inputs: jax.Array) -> tuple:
        conv, norm = nnx.merge(graph, state)
        return normalised(conv, norm, inputs, True), norm.mean[...]

    text = jax.jit(one).lower(state, jnp.ones(FEATURES, BFLOAT16)).as_text()
    products = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
    wide = [line for line in products if "xbf16>" not in line]
    assert len(products) == 5 and len(wide) == 3
    assert all("precision = [HIGHEST, HIGHEST]" in line for line in wide)
