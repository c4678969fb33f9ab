"""Every layout that users have yields the weights that torch itself saved."""

import argparse
import collections
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch_files import BASIC, BOTTLENECK, prefixed, robustness, save, state

from rtl_jax.convert import convert
from rtl_jax.convert.command import main
from rtl_jax.convert.torch_resnet import torch_resnet
from rtl_jax.models.architecture import IMAGENET_MEAN, IMAGENET_STD
from rtl_jax.models.network import Network

pytestmark = pytest.mark.slow

CONV, BLOCK_CONV = "conv1.weight", "layer2.1.conv2.weight"


def check(path, weights, architecture, lines=None, **options):
    """Convert, read back, and compare a tensor of every kind with torch's own layout."""
    lines = [] if lines is None else lines
    network = Network.load(convert(path, path.with_suffix(".out"), report=lines.append, **options))
    arch, params, stats = network.architecture, network.params, network.batch_stats
    for field in ("block", "stage_sizes", "stage_widths", "inner_factor", "stem_width"):
        assert getattr(arch, field) == getattr(architecture, field)
    assert arch.num_classes == architecture.num_classes
    assert arch.stem_pool == architecture.stem_pool
    expected = {name: value.float().numpy() for name, value in weights.items()}
    np.testing.assert_array_equal(
        params["conv1/kernel"], np.einsum("oihw->hwio", expected["conv1.weight"])
    )
    np.testing.assert_array_equal(
        params["layer2/0/downsample_conv/kernel"],
        np.einsum("oihw->hwio", expected["layer2.0.downsample.0.weight"]),
    )
    np.testing.assert_array_equal(params["fc/kernel"], expected["fc.weight"].T)
    np.testing.assert_array_equal(params["fc/bias"], expected["fc.bias"])
    np.testing.assert_array_equal(params["layer1/0/bn2/scale"], expected["layer1.0.bn2.weight"])
    np.testing.assert_array_equal(params["bn1/bias"], expected["bn1.bias"])
    np.testing.assert_array_equal(stats["bn1/mean"], expected["bn1.running_mean"])
    np.testing.assert_array_equal(
        stats["layer2/0/downsample_bn/var"], expected["layer2.0.downsample.1.running_var"]
    )
    counted = sum(not name.endswith("num_batches_tracked") for name in weights)
    assert len(params) + len(stats) == counted
    return network


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("key", ["model", "state_dict"])
@pytest.mark.parametrize("level", ["", "model."], ids=["robustness", "salman"])
def test_robustness(tmp_path, legacy, key, level):
    weights, lines = state(), []
    path = save(robustness(weights, level, key), tmp_path / "source.ckpt", legacy)
    network = check(path, weights, BOTTLENECK, lines)
    assert network.architecture.mean == (0.1, 0.2, 0.3)
    assert network.architecture.std == (0.4, 0.5, 0.6)
    text = "\n".join(lines)
    assert "optimizer" in text and "equal in every bit" in text
    assert network.provenance["source"] == "source.ckpt"
    assert len(network.provenance["sha256"]) == 64
    assert network.provenance["converter"] == 2


def test_a_duplicate_in_storages_of_its_own_is_compared_too(tmp_path):
    weights = state()
    content = robustness(weights)
    tensors = content["model"]
    for name in list(tensors):
        tensors[name] = tensors[name].clone()
    lines = []
    check(save(content, tmp_path / "a.pt"), weights, BOTTLENECK, lines)
    assert any("equal in every bit" in line for line in lines)
    tensors["module.attacker.model.fc.bias"] += 1
    lines.clear()
    check(save(content, tmp_path / "b.pt"), weights, BOTTLENECK, lines)
    assert any(line.startswith("warning") and "fc.bias" in line for line in lines)


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "1."])
@pytest.mark.parametrize("key", [None, "state_dict", "net", "anything"])
def test_flat_and_prefixed(tmp_path, prefix, key):
    weights, lines = state(BASIC), []
    tensors = prefixed(prefix, weights)
    path = save(tensors if key is None else {key: tensors, "epoch": 3}, tmp_path / "a.pth")
    network = check(path, weights, BASIC, lines)
    assert network.architecture.mean == IMAGENET_MEAN and network.architecture.std == IMAGENET_STD
    assert any("ASSUMED" in line for line in lines)
    assert network.provenance["normalization"] == "assumed"


@pytest.mark.parametrize(
    "names", [("mu", "sigma"), ("mean", "std"), ("normalize.mean", "normalize.std")]
)
def test_robustbench(tmp_path, names):
    weights = state(BASIC)
    tensors = prefixed("module.model.", weights)
    tensors[f"module.{names[0]}"] = torch.tensor([0.4914, 0.4822, 0.4465]).view(1, 3, 1, 1)
    tensors[f"module.{names[1]}"] = torch.tensor([0.2471, 0.2435, 0.2616]).view(1, 3, 1, 1)
    network = check(save({"state_dict": tensors}, tmp_path / "a.pt"), weights, BASIC)
    assert network.architecture.mean == (0.4914, 0.4822, 0.4465)
    assert network.architecture.std == (0.2471, 0.2435, 0.2616)


def test_normaliser_at_the_level_of_the_network(tmp_path):
    weights = state(BASIC)
    tensors = weights | {"mu": torch.zeros(1, 3, 1, 1), "sigma": torch.ones(1, 3, 1, 1)}
    network = check(save(tensors, tmp_path / "a.pt"), weights, BASIC)
    assert (network.architecture.mean, network.architecture.std) == ((0, 0, 0), (1, 1, 1))


def test_names_of_files_become_names_in_archives(tmp_path):
    """torch names the archive's members after the file."""
    for name in ("2024-01-01_12:30:00.pt", "epoch=3, \u00fc.ckpt", "-x.pt"):
        check(save(state(BASIC), tmp_path / name), state(BASIC), BASIC)


def test_lightning_and_a_moving_average(tmp_path):
    """Other content saved by trainers: parameters, settings, callbacks, optimizer tensors."""
    weights, lines = state(BASIC), []
    network = torch_resnet(BASIC)
    network.load_state_dict(weights)
    content = {
        "pytorch-lightning_version": "2.5.0",
        "state_dict": prefixed("model.", network.state_dict(keep_vars=True)),
        "state_dict_ema": state(BASIC, seed=1),
        "hyper_parameters": argparse.Namespace(path=Path("x"), seen=collections.Counter("ab")),
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best": torch.tensor(1.0)}},
        "optimizer_states": [{"state": {0: {"momentum_buffer": torch.ones(2)}}}],
        "rng": (torch.get_rng_state(), np.random.get_state()),
    }
    check(save(content, tmp_path / "a.ckpt"), weights, BASIC, lines)
    (warning,) = (line for line in lines if line.startswith("warning"))
    assert "not used" in warning and "state_dict_ema" in warning


def test_cifar_names(tmp_path):
    weights = state(BASIC)
    theirs = {
        name.replace("downsample", "shortcut").replace("fc.", "linear."): value
        for name, value in weights.items()
    }
    check(save(robustness(theirs), tmp_path / "a.pt"), weights, BASIC)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_precisions(tmp_path, dtype, form):
    weights = {
        name: value.to(dtype) if value.is_floating_point() else value
        for name, value in state().items()
    }
    if form == "safetensors":
        path = tmp_path / "a.safetensors"
        save_file(weights, path)
    else:
        path = save(weights, tmp_path / "a.pt", legacy=form == "legacy")
    lines = []
    check(path, weights, BOTTLENECK, lines)
    assert any("written as float32" in line for line in lines) == (dtype != torch.float32)


def test_the_content_decides_and_not_the_name(tmp_path):
    weights = state()
    path = tmp_path / "named.pt"
    save_file(weights, path)
    check(path, weights, BOTTLENECK)


def test_given_normalisation_overrules_the_file(tmp_path):
    path = save(robustness(state()), tmp_path / "a.pt")
    arguments = [str(path), str(tmp_path / "out"), "--mean", "0,0,0", "--std", "1,1,1"]
    assert main([*arguments, "--stem", "small"]) == 0
    arch = Network.load(tmp_path / "out").architecture
    assert (arch.mean, arch.std) == ((0, 0, 0), (1, 1, 1))
    assert (arch.stem_kernel, arch.stem_stride, arch.stem_pool) == (7, 1, False)


def test_views_of_one_storage_and_other_strides(tmp_path):
    """Weights that are slices of one flat buffer, channels-last, or transposed."""
    weights = state()
    flat = torch.cat([value.flatten() for value in weights.values() if value.ndim])
    views, start = {}, 0
    for name, value in weights.items():
        if value.ndim:
            views[name] = flat[start : start + value.numel()].view(value.shape)
            start += value.numel()
    views["fc.weight"] = weights["fc.weight"].t().contiguous().t()
    views["layer2.1.conv2.weight"] = weights["layer2.1.conv2.weight"].to(
        memory_format=torch.channels_last
    )
    for legacy in (False, True):
        path = save(views, tmp_path / f"{legacy}.pt", legacy)
        network = Network.load(convert(path, tmp_path / f"{legacy}", report=lambda _: None))
        got = network.params["layer2/1/conv2/kernel"]
        np.testing.assert_array_equal(got, weights[BLOCK_CONV].permute(2, 3, 1, 0).numpy())
        np.testing.assert_array_equal(network.params["fc/kernel"], weights["fc.weight"].t().numpy())
        np.testing.assert_array_equal(
            network.batch_stats["bn1/var"], weights["bn1.running_var"].numpy()
        )


@pytest.mark.parametrize("length", [0x2080, 0x4B50], ids=["a pickle's", "a zip archive's"])
def test_safetensors_whose_length_looks_like_another_format(tmp_path, length):
    """A file begins with the length of its header, here equal to other formats' first bytes."""
    path = tmp_path / "net.safetensors"
    save_file({name: value.contiguous() for name, value in state(BASIC).items()}, path)
    data = path.read_bytes()
    (own,) = struct.unpack_from("<Q", data)
    header = data[8 : 8 + own].ljust(length)
    path.write_bytes(struct.pack("<Q", length) + header + data[8 + own :])
    convert(path, tmp_path / "out")
    assert Network.load(tmp_path / "out").num_classes == BASIC.num_classes
