"""Logits, split points and initial values compared with torch, for every architecture."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from rtl_jax.errors import UserError
from rtl_jax.models.architecture import ARCHITECTURES, BEFORE_STEM, ResNetArchitecture, architecture
from rtl_jax.models.batch_norm import BatchNorm
from rtl_jax.models.convolution import choose_convolution, conv2d
from rtl_jax.models.model import batch_stats_of, bind, definition, initialize, variable_shapes
from tests.torch_networks import nchw, random_torch, variables_of

pytestmark = pytest.mark.slow

SMALL = ResNetArchitecture(
    "small",
    "bottleneck",
    (1, 2, 1),
    (8, 16, 24),
    stem_width=8,
    stem_kernel=3,
    stem_stride=1,
    stem_pool=False,
    num_classes=7,
)

ONE_BLOCK = SMALL.replace(stage_sizes=(1,), stage_widths=(4,))


def images(count: int, size: int, seed: int = 0) -> np.ndarray:
    # Some pixels lie outside [0, 1], so that a forgotten clamp shows.
    return np.random.default_rng(seed).uniform(-0.1, 1.1, (count, size, size, 3)).astype(np.float32)


def relative(ours: np.ndarray, torchs: np.ndarray) -> float:
    return float(np.abs(ours - torchs).max() / np.abs(torchs).max())


def logits(
    architecture: ResNetArchitecture, variables: tuple, pixels: np.ndarray, **options
) -> np.ndarray:
    graphdef = definition(architecture, **options)
    return np.asarray(jax.jit(lambda p, s, x: bind(graphdef, p, s)(x))(*variables, pixels))


@pytest.mark.parametrize(
    ("name", "stem", "size"),
    # 65 px: odd sizes at every stride, where SAME padding would differ.
    [(name, "imagenet", 65) for name in ARCHITECTURES]
    + [(name, "small", 16) for name in ("resnet18", "resnet50")],
)
def test_logits_equal_torch(name: str, stem: str, size: int):
    # All but two without the blocks that repeat others; `python -m benchmarks.architectures` has
    # them at full depth.
    shallow = {} if name in ("resnet18", "resnet50") else {"stage_sizes": (1, 1, 2, 1)}
    arch = architecture(name, stem=stem, num_classes=11, **shallow)
    network = random_torch(arch, seed=len(name))
    pixels = images(2, size)
    with torch.no_grad():
        expected = network(nchw(pixels)).numpy()
    assert relative(logits(arch, variables_of(network), pixels), expected) < 1e-4


def test_both_convolutions_equal_torch():
    network = random_torch(SMALL)
    pixels = images(3, 33)
    with torch.no_grad():
        expected = network(nchw(pixels)).numpy()
    for method in ("xla", "dot"):
        assert (
            relative(logits(SMALL, variables_of(network), pixels, method=method), expected) < 1e-5
        )


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel_size", [1, 3, 7])
def test_the_convolutions_have_equal_values_and_gradients(kernel_size: int, stride: int):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 15, 14, 5)).astype(np.float32)
    kernel = rng.normal(size=(kernel_size, kernel_size, 5, 6)).astype(np.float32)
    weight = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy()).requires_grad_()
    inputs = nchw(x).requires_grad_()
    out = torch.nn.functional.conv2d(inputs, weight, stride=stride, padding=kernel_size // 2)
    out.square().sum().backward()
    for method in ("xla", "dot"):

        def loss(x: jax.Array, kernel: jax.Array, method: str = method) -> jax.Array:
            return jnp.square(conv2d(x, kernel, stride, kernel_size // 2, method)).sum()

        ours = conv2d(x, kernel, stride, kernel_size // 2, method)
        np.testing.assert_allclose(ours, out.detach().permute(0, 2, 3, 1), rtol=1e-4, atol=1e-4)
        to_x, to_kernel = jax.grad(loss, (0, 1))(x, kernel)
        assert relative(to_x, inputs.grad.permute(0, 2, 3, 1).numpy()) < 1e-5
        assert relative(to_kernel, weight.grad.permute(2, 3, 1, 0).numpy()) < 1e-5


def test_the_convolution_is_chosen_by_backend_and_batched_weights():
    assert choose_convolution(backend="cpu") == "eigen"
    assert choose_convolution(backend="cpu", batched_weights=True) == "dot"
    assert choose_convolution(backend="gpu") == "xla"
    assert choose_convolution(backend="gpu", batched_weights=True) == "dot"
    assert choose_convolution(backend="tpu", batched_weights=True) == "xla"


def test_the_convolution_is_that_of_the_default_device(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert choose_convolution() == "xla"
    with jax.default_device(jax.devices("cpu")[0]):
        assert choose_convolution() == "eigen"


def test_every_cut_equals_the_whole_and_torchs_stages():
    network = random_torch(SMALL)
    variables = variables_of(network)
    pixels = images(2, 20)
    with torch.no_grad():
        stages = dict(network.stages_of(nchw(pixels)))
    whole = logits(SMALL, variables, pixels)
    split_points = range(SMALL.num_blocks + 1)

    @jax.jit
    def everywhere(params, batch_stats, pixels):
        ours = bind(definition(SMALL), params, batch_stats)
        features = [ours.prefix(pixels, split) for split in split_points]
        return features, [ours.suffix(part, split) for split, part in enumerate(features)]

    parts, ends = everywhere(*variables, pixels)
    names = ["stem", *SMALL.block_names()[:-1], "pool"]
    for name, features, end in zip(names, parts, ends, strict=True):
        expected = stages[name].numpy()
        if expected.ndim == 4:
            expected = expected.transpose(0, 2, 3, 1)
        assert features.shape == expected.shape
        assert relative(features, expected) < 1e-5
        np.testing.assert_allclose(end, whole, rtol=1e-4, atol=1e-5)
    ours = bind(definition(SMALL), *variables)
    np.testing.assert_array_equal(ours.prefix(pixels, BEFORE_STEM), pixels)
    for split in (-2, SMALL.num_blocks + 1):
        with pytest.raises(UserError, match=f"not at {split}"):
            ours.prefix(pixels, split)


def test_training_mode_moves_statistics_as_torch_does():
    network = random_torch(SMALL)
    variables = variables_of(network)
    pixels = images(5, 17)
    expected = network.train()(nchw(pixels)).detach().numpy()

    @jax.jit
    def train(params, batch_stats, pixels):
        ours = bind(definition(SMALL), params, batch_stats)
        return ours(pixels, train=True), batch_stats_of(ours)

    ours, statistics = train(*variables, pixels)
    assert relative(ours, expected) < 1e-4
    _, moved = variables_of(network)
    for path, statistic in statistics.items():
        np.testing.assert_allclose(statistic, moved[path], rtol=2e-4, atol=1e-5, err_msg=path)
        assert not np.array_equal(statistic, variables[1][path]), path


def test_a_batch_without_statistics_is_refused():
    arch = SMALL.replace(stem_stride=2, stem_pool=True)

    def train(params, batch_stats, pixels):
        return bind(definition(arch), params, batch_stats)(pixels, train=True)

    with pytest.raises(UserError, match="more than one value per channel"):
        jax.eval_shape(train, *variable_shapes(arch), images(1, 8))


def test_bind_leaves_the_callers_arrays_alone():
    variables = jax.tree.map(np.array, initialize(ONE_BLOCK, jax.random.key(0)))
    before = variables[1]["bn1/mean"].copy()
    ours = bind(definition(ONE_BLOCK), *variables)
    ours(images(2, 8), train=True)
    np.testing.assert_array_equal(variables[1]["bn1/mean"], before)
    assert not np.array_equal(batch_stats_of(ours)["bn1/mean"], before)


@pytest.mark.parametrize(("known", "rtol"), [(0.0, 5e-6), (2.5, 5e-7)])
def test_statistics_of_bfloat16_are_torchs(known: float, rtol: float) -> None:
    """They are computed in one pass, from a running mean that is six deviations off, or one."""
    values = np.random.default_rng(0).normal(3, 0.5, (16, 5, 7, 4)).astype("float32")
    inputs = jnp.asarray(values, jnp.bfloat16)
    layer = BatchNorm(4, eps=1e-5, dtype=jnp.dtype(jnp.bfloat16))
    layer.mean[...] = jnp.full(4, known)
    weights = np.random.default_rng(1).normal(size=values.shape).astype("float32")

    def loss(inputs: jax.Array) -> jax.Array:
        return (nnx.clone(layer)(inputs, train=True).astype("float32") * weights).sum()

    out, gradient = layer(inputs, train=True), jax.grad(loss)(inputs)
    theirs = torch.nn.BatchNorm2d(4)
    theirs.running_mean[:] = known
    rounded = nchw(np.array(inputs, np.float32)).requires_grad_()
    expected = theirs(rounded)
    (expected * nchw(weights)).sum().backward()
    np.testing.assert_allclose(layer.mean[...], theirs.running_mean, rtol=1e-6)
    np.testing.assert_allclose(layer.var[...], theirs.running_var, rtol=rtol)
    close = {"rtol": 2**-7, "atol": 2**-7}  # bfloat16 has eight bits
    expected = expected.detach().permute(0, 2, 3, 1)
    np.testing.assert_allclose(np.asarray(out, np.float32), expected, **close)
    np.testing.assert_allclose(
        np.asarray(gradient, np.float32), rounded.grad.permute(0, 2, 3, 1), rtol=2**-6, atol=0.05
    )


def test_bfloat16_is_close_and_keeps_float32_logits():
    network = random_torch(SMALL)
    pixels = images(4, 32)
    with torch.no_grad():
        expected = network(nchw(pixels)).numpy()
    ours = logits(SMALL, variables_of(network), pixels, dtype=jnp.bfloat16)
    assert ours.dtype == np.float32
    assert 1e-6 < relative(ours, expected) < 0.05


def test_initial_values_are_distributed_as_torchvisions():
    arch = architecture("resnet18")
    params, stats = jax.tree.map(np.asarray, initialize(arch, jax.random.key(0)))
    for path, kernel in params.items():
        if path.endswith("kernel") and path != "fc/kernel":
            height, width, _, outputs = kernel.shape
            np.testing.assert_allclose(
                kernel.std(), np.sqrt(2 / (height * width * outputs)), rtol=0.05, err_msg=path
            )
            assert abs(kernel.mean()) < 4 * kernel.std() / np.sqrt(kernel.size)
        elif path.endswith("scale"):
            assert (kernel == 1).all()
    assert np.abs(params["fc/kernel"]).max() <= 1 / np.sqrt(512)
    assert np.abs(params["fc/kernel"]).max() > 0.99 / np.sqrt(512)
    assert all((v == (1 if path.endswith("var") else 0)).all() for path, v in stats.items())
    other, _ = initialize(arch, jax.random.key(1))
    assert not np.array_equal(other["conv1/kernel"], params["conv1/kernel"])


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("resnet18", 11.690),
        ("resnet50", 25.557),
        ("resnet152", 60.193),
        ("wide_resnet50_2", 68.883),
    ],
)
def test_parameter_counts_are_the_published_ones(name: str, millions: float):
    shapes, _ = variable_shapes(architecture(name))
    count = sum(int(np.prod(shape.shape)) for shape in shapes.values())
    assert round(count / 1e6, 3) == millions


def test_architectures_survive_json_and_refuse_nonsense():
    assert ResNetArchitecture.from_dict(SMALL.to_dict() | {"stage_sizes": [1, 2, 1]}) == SMALL
    with pytest.raises(UserError, match="unknown architecture fields"):
        ResNetArchitecture.from_dict({**SMALL.to_dict(), "depth": 3})
    with pytest.raises(UserError, match="incomplete"):
        ResNetArchitecture.from_dict({"name": "x"})
    with pytest.raises(UserError, match="unknown architecture 'resnet51'"):
        architecture("resnet51")
    with pytest.raises(UserError, match="same, positive number of stages"):
        architecture("resnet50", stage_sizes=(1, 1))


def test_input_gradients_equal_torchs_at_the_bounds_too():
    """Black and white pixels lie at the clamp's bounds, where `jnp.clip` halves the gradient."""
    network = random_torch(SMALL)
    pixels = np.clip(images(2, 12) * 2 - 0.5, 0, 1)
    assert (pixels == 0).any() and (pixels == 1).any()
    inputs = nchw(pixels).requires_grad_()
    network(inputs).square().sum().backward()
    graphdef = definition(SMALL)

    def loss(pixels, params, batch_stats):
        return jnp.square(bind(graphdef, params, batch_stats)(pixels)).sum()

    ours = jax.jit(jax.grad(loss))(pixels, *variables_of(network))
    assert relative(ours, inputs.grad.permute(0, 2, 3, 1).numpy()) < 1e-4
