"""`--check` and `--attack` for every family, compared with torchvision, timm and robustbench."""

import re
import sys

import numpy as np
import pytest
import torch
from test_convert_families import CASES
from test_convert_transformers import PRESENT, shaken

from rtl_jax.convert import parity
from rtl_jax.convert.choices import Choices
from rtl_jax.convert.command import main
from rtl_jax.convert.layouts import layout_of
from rtl_jax.errors import UserError
from rtl_jax.models.network import Network
from rtl_jax.models.registry import FAMILIES

pytestmark = pytest.mark.slow

CHECKED = {case.name: case for case in (*CASES, *PRESENT)}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """An npz dataset of 32 px."""
    draw, path = np.random.default_rng(0), tmp_path_factory.mktemp("data") / "own.npz"
    pixels, labels = draw.integers(0, 256, (6, 32, 32, 3), np.uint8), np.arange(6) % 3
    np.savez(path, x_train=pixels, y_train=labels, x_test=pixels, y_test=labels)
    return f"npz:{path}"


def saved(name, tmp_path):
    """Save a file of a case's network; return it with the command options that it needs."""
    case = CHECKED[name]
    torch.save(shaken(case.build()).state_dict(), tmp_path / "a.pth")
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in case.options.items()]
    return tmp_path / "a.pth", flags


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("wide", "RobustBench's network"),
        ("deepmind-wide", "RobustBench's network"),
        ("densenet", "torchvision's DenseNet"),
        ("mobilenet_v2", "torchvision's MobileNetV2"),
        ("mnasnet", "torchvision's MNASNet"),
        ("shufflenet", "torchvision's ShuffleNetV2"),
        ("convnext-torchvision", "torchvision's ConvNeXt"),
        ("convnext-convstem-t", "timm's ConvNeXt"),
        ("vit-convstem", "timm's VisionTransformer"),
        ("vit-torchvision", "torchvision's VisionTransformer"),
        ("swin-torchvision", "torchvision's SwinTransformer"),
        ("swin", "timm's SwinTransformer"),
        ("xcit-small", "timm's Xcit"),
    ],
    ids=lambda word: word.rpartition("'s ")[2],
)
def test_check(name, words, tmp_path, capsys):
    path, flags = saved(name, tmp_path)
    assert main([str(path), str(tmp_path / "out"), "--check", *flags]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^logits +\S+e-0[5-9] ", printed, re.MULTILINE)
    assert "equal: logits within" in printed and f"compared: {words}" in printed


@pytest.mark.parametrize(("name", "size"), [("vgg-bn", 32), ("vit", 32)])
def test_check_and_attack(name, size, tmp_path, capsys, images):
    path, flags = saved(name, tmp_path)
    attack = ["--attack", "linf:4/255", "--data", images, "--image-size", str(size)]
    assert main([str(path), str(tmp_path / "out"), "--check", *attack, *flags]) == 0
    printed = capsys.readouterr().out
    assert "equal: logits within" in printed and "equally robust" in printed
    (row,) = re.findall(r"^linf:4/255(.*)$", printed, re.MULTILINE)
    norm = float(row.split()[-1])
    assert 0.9 * 4 / 255 < norm <= 4 / 255 + 1e-6


def test_check_sees_a_wrong_weight(tmp_path):
    path, _ = saved("vit", tmp_path)
    assert main([str(path), str(tmp_path / "out"), "--heads=3"]) == 0
    network = Network.load(tmp_path / "out")
    network.params["layers/1/mlp/fc1/kernel"][:] += 0.05
    network.save(tmp_path / "wrong")

    def relative(destination):
        rows = parity.differences(
            path, destination, choices=Choices.of(heads=3), report=lambda _: None
        )
        return {row.stage: row.relative for row in rows}["logits"]

    assert relative(tmp_path / "out") < 1e-5
    assert relative(tmp_path / "wrong") > parity.TOLERANCE


def test_check_of_images_that_torchs_network_does_not_take(tmp_path):
    reference_path, _ = saved("vit-torchvision", tmp_path)
    assert main([str(reference_path), str(tmp_path / "out"), "--heads=3"]) == 0
    with pytest.raises(UserError, match="does not take images of 32 x 32 px"):
        parity.differences(
            reference_path,
            tmp_path / "out",
            choices=Choices.of(heads=3),
            images=np.zeros((1, 32, 32, 3), np.float32),
            report=lambda _: None,
        )


def test_a_package_that_is_absent(tmp_path, capsys, monkeypatch):
    path, flags = saved("swin", tmp_path)

    class Absent:
        def find_spec(self, name, *_):
            if name == "timm":
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    for name in [name for name in sys.modules if name.partition(".")[0] == "timm"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    assert main([str(path), str(tmp_path / "out"), "--check", *flags]) == 2
    error = capsys.readouterr().err
    assert "timm is not installed: pip install" in error and "Traceback" not in error
    assert Network.load(tmp_path / "out").architecture.width == 8  # converted all the same


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("mobile", {"tail_width": 12}),
        ("convnext", {"mlp_ratio": 3}),
    ],
)
def test_what_torch_has_no_network_of(family, changes):
    arch = next(iter(FAMILIES[family].named.values())).replace(**changes)
    with pytest.raises(UserError, match="cannot be built as .* --reference FILE.npz"):
        layout_of(arch).torch_module(arch)
