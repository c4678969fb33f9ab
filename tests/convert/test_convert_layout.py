"""Architectures are recognised by shapes; mismatches are reported with both shapes."""

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch_files import BASIC, BOTTLENECK, SMALL, prefixed, save, state

from rtl_jax.convert import convert
from rtl_jax.convert.command import main
from rtl_jax.convert.export import export_network
from rtl_jax.convert.layouts import entries, layout_of
from rtl_jax.convert.layouts.entry import COUNTER
from rtl_jax.convert.layouts.preact import PreActResNetLayout
from rtl_jax.convert.torch_resnet import torch_resnet
from rtl_jax.convert.torch_weights import in_torch
from rtl_jax.errors import UserError
from rtl_jax.models.architecture import ARCHITECTURES, ResNetArchitecture, architecture
from rtl_jax.models.model import variable_shapes
from rtl_jax.models.network import Network
from rtl_jax.models.preact import PreActArchitecture
from rtl_jax.models.vit import ViTArchitecture
from tests.drawn_variables import drawn_variables
from tests.reference_networks import reference

OTHERS = [
    BASIC,
    BOTTLENECK,
    ResNetArchitecture("x", "bottleneck", (1, 1, 1), (4, 8, 16), inner_factor=3, stem_width=6),
    ResNetArchitecture("x", "basic", (2, 1, 1, 1, 1), (8, 8, 8, 8, 8), **SMALL),
]


def shapes_of(arch):
    with torch.device("meta"):
        return {name: tuple(v.shape) for name, v in torch_resnet(arch).state_dict().items()}


def infer(arch):
    return layout_of(arch).infer(shapes_of(arch), {"anti_aliasing": arch.anti_aliasing})


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("stem", ["imagenet", "small"])
def test_named_architectures(name, stem):
    arch = architecture(name, stem=stem, num_classes=7)
    assert infer(arch) == arch


@pytest.mark.parametrize("arch", OTHERS)
def test_other_architectures(arch):
    found = infer(arch)
    assert found.replace(name=arch.name) == arch
    assert found.name.startswith(f"resnet_{arch.block}_")


@pytest.mark.parametrize("arch", [*OTHERS, *ARCHITECTURES.values()], ids=lambda a: a.name)
def test_every_array_has_its_place(arch):
    """The table maps torch's names and shapes to the network's."""
    table = entries(arch)
    theirs = {n: s for n, s in shapes_of(arch).items() if not n.endswith(COUNTER)}
    assert {entry.torch_name: entry.torch_shape for entry in table} == theirs
    params, stats = variable_shapes(arch)
    ours = {("params", k): v.shape for k, v in params.items()}
    ours |= {("batch_stats", k): v.shape for k, v in stats.items()}
    assert ours == {(e.collection, e.path): e.flax_shape for e in table}


def refuse(weights, tmp_path, capsys, *options):
    path = save(weights, tmp_path / "a.pt")
    assert main([str(path), str(tmp_path / "out"), *options]) == 2
    assert not (tmp_path / "out").exists()
    return capsys.readouterr().err


@pytest.mark.parametrize("prefix", ["", "module.model."])
def test_missing_left_over_and_wrong_are_all_named(tmp_path, capsys, prefix):
    weights = state()
    del weights["layer2.1.conv3.weight"], weights["bn1.running_var"]
    weights["layer1.0.conv2.weight"] = torch.ones(4, 5, 3, 3)
    weights["fc.bias"] = torch.ones(6)
    weights["layer1.0.se.weight"] = torch.ones(2, 3)
    error = refuse(prefixed(prefix, weights), tmp_path, capsys)
    for line in [
        "missing: layer2.1.conv3.weight (32, 8, 1, 1)",
        "missing: bn1.running_var (8,)",
        "left over: layer1.0.se.weight (2, 3)",
        "wrong shape: layer1.0.conv2.weight expected (4, 4, 3, 3), received (4, 5, 3, 3)",
        "wrong shape: fc.bias expected (5,), received (6,)",
    ]:
        assert line in error
    assert error.count("missing:") == 2 and error.count("left over:") == 1
    assert error.count("wrong shape:") == 2


def test_a_wrong_first_tensor_of_a_stage_is_the_one_that_is_named(tmp_path, capsys):
    weights = state(BASIC)
    weights["layer2.0.conv1.weight"] = torch.ones(13, 8, 3, 3)
    error = refuse(weights, tmp_path, capsys)
    assert "layer2.0.conv1.weight expected (12, 8, 3, 3), received (13, 8, 3, 3)" in error
    assert error.count("wrong shape:") == 1


def test_left_over_outside_the_network(tmp_path, capsys):
    weights = prefixed("module.model.", state()) | {"module.projector.weight": torch.ones(4, 2)}
    assert "left over: module.projector.weight (4, 2)" in refuse(weights, tmp_path, capsys)


def test_two_networks(tmp_path, capsys):
    both = prefixed("student.", state()) | prefixed("teacher.", state(seed=1))
    assert "two networks" in refuse(both, tmp_path, capsys)
    (tmp_path / "a.pt").unlink()
    same = prefixed("student.", state()) | prefixed("teacher.", state())
    convert(save(same, tmp_path / "a.pt"), tmp_path / "out", report=lambda _: None)


def test_no_head_no_stage_other_networks(tmp_path, capsys):
    weights = state()
    headless = {n: v for n, v in weights.items() if not n.startswith("fc.")}
    assert "without its head" in refuse(headless, tmp_path, capsys)
    gap = {n.replace("layer2", "layer3"): v for n, v in weights.items()}
    assert "expected layer1, layer2" in refuse(gap, tmp_path, capsys)
    far = weights | {"layer2.9999.conv1.weight": torch.ones(1)}
    assert "block 9999" in refuse(far, tmp_path, capsys)
    grouped = {n: v[:, :1] if n.endswith("0.conv2.weight") else v for n, v in weights.items()}
    assert "conv2.weight expected" in refuse(grouped, tmp_path, capsys)
    twice = weights | {"linear.weight": torch.ones(5, 32)}
    assert "twice" in refuse(twice, tmp_path, capsys)
    assert "holds resnet_bottleneck" in refuse(weights, tmp_path, capsys, "--arch", "resnet50")


def test_a_stem_that_shapes_do_not_tell(tmp_path, capsys):
    arch = BASIC.replace(stem_kernel=5)
    assert "--stem" in refuse(state(arch), tmp_path, capsys)
    path = tmp_path / "a.pt"
    assert main([str(path), str(tmp_path / "out"), "--stem", "small", "--check"]) == 0
    assert Network.load(tmp_path / "out").architecture.stem_kernel == 5


def test_normalisations_that_cannot_be_used(tmp_path, capsys):
    weights = prefixed("model.", state(BASIC)) | {"mean": torch.zeros(3), "std": torch.ones(3)}
    differ = weights | {"model.mu": torch.ones(3), "model.sigma": torch.ones(3)}
    assert "differ" in refuse(differ, tmp_path, capsys)
    zero = weights | {"std": torch.zeros(3)}
    assert "positive" in refuse(zero, tmp_path, capsys)
    grey = weights | {"mean": torch.zeros(2), "std": torch.ones(2)}
    assert "expected 3" in refuse(grey, tmp_path, capsys)
    assert "together" in refuse(weights, tmp_path, capsys, "--mean", "0,0,0")
    path = save(differ, tmp_path / "a.pt")
    convert(path, tmp_path / "out", mean=(0, 0, 0), std=(1, 1, 1), report=lambda _: None)
    with pytest.raises(UserError, match="three numbers"):
        convert(path, tmp_path / "other", mean=(0, 0), std=(1, 1, 1), report=lambda _: None)


@pytest.mark.parametrize(
    ("shortcut", "padding", "first"),
    [
        ("activated", "end", "init_conv.weight"),
        ("raw", "end", "conv_2d.weight"),
        ("activated", "both", "conv1.weight"),
        ("raw", "both", "conv1.weight"),
    ],
)
def test_a_fine_tuned_preact_network_is_exported_as_itself(shortcut, padding, first, tmp_path):
    """It does not record its source's layout; logits are compared with torch's."""
    kernel = 3 if shortcut == "raw" else 1
    arch = PreActArchitecture("a", (1, 1), (6, 8), 4, shortcut, kernel, True, padding, 5)
    tuned = Network(arch, *drawn_variables(arch), {"kind": "fine-tuned", "source": {}})
    path = export_network(tuned, tmp_path / "a.safetensors", report=lambda _: None)
    assert first in load_file(path)
    back = Network.load(convert(path, tmp_path / "back", report=lambda _: None))
    assert (back.architecture.shortcut, back.architecture.padding) == (shortcut, padding)
    images = np.random.default_rng(0).random((3, 8, 8, 3), np.float32)
    with torch.no_grad():
        module = in_torch(tuned, PreActResNetLayout(), "the test")
        expected = module(torch.from_numpy(images.transpose(0, 3, 1, 2))).numpy()
    np.testing.assert_allclose(back.logits_fn()(images), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("arch", "size"),
    [
        (BASIC, 32),
        (BASIC.replace(stem_kernel=7, stem_stride=2, stem_pool=True), None),
        (ViTArchitecture("a", 12, 1, 2, 4, (5, 5), 24, num_classes=3), 20),
    ],
    ids=["small stem", "ImageNet's stem", "positions"],
)
def test_images_have_the_size_that_the_network_takes(arch, size, tmp_path):
    """So that predictions are torch's of the images as they are."""
    network, said = Network(arch, *drawn_variables(arch)), []
    path = export_network(network, tmp_path / "a.safetensors", report=lambda _: None)
    options = {}
    if isinstance(arch, ViTArchitecture):
        reference("timm")
        options["heads"] = 2
    back = Network.load(convert(path, tmp_path / "back", report=said.append, **options))
    assert back.image_size == size
    assert any(f"images are resized to {size} px" in line for line in said) == (size is not None)
    stated = network.replace(provenance={"image_size": 40})
    path = export_network(stated, tmp_path / "b.safetensors", report=lambda _: None)
    other = Network.load(convert(path, tmp_path / "other", report=lambda _: None, **options))
    assert other.image_size == 40
    images = np.random.default_rng(0).random((3, size or 224, size or 224, 3), np.float32)
    with torch.no_grad():
        module = in_torch(network, layout_of(arch), "the test")
        logits = module(torch.from_numpy(images.transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(back.predict_proba(images), logits.softmax(1).numpy(), atol=1e-4)
