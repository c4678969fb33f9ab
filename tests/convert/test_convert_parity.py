"""The converted network computes the same as torch; exporting it back is lossless."""

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch_files import BASIC, BOTTLENECK, robustness, save, state

import rtl_jax as rtl
from rtl_jax.convert import convert, parity
from rtl_jax.convert.command import main
from rtl_jax.convert.torch_resnet import torch_resnet
from rtl_jax.models.architecture import ResNetArchitecture, architecture
from rtl_jax.models.network import Network

WIDE = ResNetArchitecture(
    "tiny", "bottleneck", (1, 1, 1, 1), (4, 4, 4, 4), inner_factor=2, stem_width=8, num_classes=3
)


@pytest.mark.parametrize("arch", [BASIC, BOTTLENECK, WIDE], ids=["basic", "bottleneck", "wide"])
def test_check_compares_every_stage(tmp_path, capsys, arch):
    path = save(robustness(state(arch)), tmp_path / "a.pt")
    assert main([str(path), str(tmp_path / "out"), "--check"]) == 0
    printed = capsys.readouterr().out
    for stage in ["normalize", "stem", *arch.block_names(), "pool", "logits"]:
        assert any(line.startswith(f"{stage} ") for line in printed.splitlines()), stage
    assert "equal: every stage" in printed


def test_check_of_a_counter_of_another_shape(tmp_path):
    weights = state(BASIC) | {"bn1.num_batches_tracked": torch.ones(3)}
    path = save(weights, tmp_path / "a.pt")
    assert main([str(path), str(tmp_path / "out"), "--check"]) == 0


def test_check_sees_a_wrong_weight(tmp_path, capsys):
    path = save(state(BASIC), tmp_path / "a.pt")
    network = Network.load(convert(path, tmp_path / "out", report=lambda _: None))
    network.params["layer2/0/conv1/kernel"][0, 0, 0, 0] += 1
    network.save(tmp_path / "wrong")
    rows = parity.differences(path, tmp_path / "wrong", report=lambda _: None)
    relative = {row.stage: row.relative for row in rows}
    assert relative["layer1/0"] < 1e-5 and relative["layer2/0"] > parity.TOLERANCE


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_round_trip_is_exact(tmp_path, ending, legacy):
    weights = state(BASIC)
    source = save(robustness(weights), tmp_path / "a.pt", legacy)
    first = Network.load(convert(source, tmp_path / "first", report=lambda _: None))
    out = tmp_path / f"out.{ending}"
    assert main(["export", str(tmp_path / "first"), str(out)]) == 0
    if ending == "pth":
        exported = torch.load(out, weights_only=True)
    else:
        exported = {name: torch.from_numpy(value) for name, value in load_file(out).items()}
    assert exported.keys() == weights.keys()
    for name, value in weights.items():
        assert exported[name].dtype == value.dtype and torch.equal(exported[name], value), name
    torch_resnet(first.architecture).load_state_dict(exported, strict=True)
    second = Network.load(convert(out, tmp_path / "second", report=lambda _: None))
    for one, other in ((first.params, second.params), (first.batch_stats, second.batch_stats)):
        assert one.keys() == other.keys()
        for path in one:
            np.testing.assert_array_equal(one[path], other[path])
    if ending == "safetensors":  # its metadata keeps what torchvision's names cannot say
        assert second.architecture == first.architecture


def test_export_refuses(tmp_path, capsys):
    source = save(state(BASIC), tmp_path / "a.pt")
    convert(source, tmp_path / "net", report=lambda _: None)
    before = sorted(tmp_path.iterdir())
    assert main(["export", str(tmp_path / "net"), str(tmp_path / "x.onnx")]) == 2
    assert main(["export", str(tmp_path / "net"), str(source)]) == 2
    assert main(["export", str(tmp_path / "nothing"), str(tmp_path / "x.pth")]) == 2
    assert sorted(tmp_path.iterdir()) == before
    assert len(capsys.readouterr().err.strip().splitlines()) == 3


def test_a_bundled_network_is_exported_by_its_name(tmp_path, capsys):
    assert main(["export", "bundled:l2", str(tmp_path / "l2.safetensors")]) == 0
    exported, network = load_file(tmp_path / "l2.safetensors"), rtl.load("bundled:l2")
    np.testing.assert_array_equal(exported["fc.weight"].T, network.params["fc/kernel"])
    assert main(["export", "bundled:l3", str(tmp_path / "l3.safetensors")]) == 2
    assert "there is no bundled:l3: expected one of" in capsys.readouterr().err


def test_torch_resnet_has_torchvisions_parameters():
    """The parameter counts that torchvision publishes for its models."""
    published = {
        "resnet18": 11_689_512,
        "resnet50": 25_557_032,
        "wide_resnet50_2": 68_883_240,
    }
    for name, count in published.items():
        with torch.device("meta"):
            module = torch_resnet(architecture(name))
        assert sum(p.numel() for p in module.parameters()) == count
    names = list(module.state_dict())
    assert names[:3] == ["conv1.weight", "bn1.weight", "bn1.bias"] and len(names) == 320
    assert "layer4.0.downsample.1.running_var" in names
