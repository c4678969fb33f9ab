"""Families that others define: logits, exported bytes and recognition against their own modules.

The truth is torchvision's, timm's or robustbench's own network, shallow, with random weights and
statistics, at two image sizes.
"""

import json
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from convert import convert
from convert.export import export
from rtl_jax.errors import UserError
from rtl_jax.models.network import Network
from tests.last_block import require_the_same_training
from tests.reference_networks import definitions, jax_logits, moved, reference, torch_logits

pytestmark = pytest.mark.slow


class Case(NamedTuple):
    """A network of a family: how to build it, and what no file of it says."""

    name: str
    build: Callable[[], torch.nn.Module]
    options: dict[str, Any] = {}  # noqa: RUF012 (never written)
    sizes: tuple[int, ...] = (32, 47)


def timm_resnet(block: str = "Bottleneck", **options: Any) -> torch.nn.Module:
    resnet = reference("timm").models.resnet
    layers = {"layers": (1, 1, 1, 1), "channels": (8, 16, 16, 16), "num_classes": 7}
    return resnet.ResNet(block=getattr(resnet, block), **{**layers, **options})


def torchvision(name: str) -> ModuleType:
    """A module of network definitions of torchvision."""
    return reference(f"torchvision.models.{name}")


def torchvision_vgg(norm: bool) -> torch.nn.Module:
    vgg = torchvision("vgg")
    network = vgg.VGG(vgg.make_layers([8, "M", 12, 12, "M", 16, "M"], norm), 7)
    network.classifier[0] = torch.nn.Linear(16 * 49, 20)
    network.classifier[3], network.classifier[6] = torch.nn.Linear(20, 20), torch.nn.Linear(20, 7)
    return network


def robustbench(name: str) -> ModuleType:
    """A module of network definitions of RobustBench."""
    return definitions("robustbench", f"model_zoo/architectures/{name}.py")


def robustbench_preact(block: str, **options: Any) -> torch.nn.Module:
    module = robustbench("resnet")
    return module.PreActResNet(getattr(module, block), (1, 1, 1, 1), 7, **options)


CIFAR = (32,)  # whose last mean is over a window of fixed size

DEEP = {"stem_width": 8, "stem_type": "deep", "avg_down": True}

CASES = [
    Case(
        "resnext",
        lambda: timm_resnet(cardinality=4, base_width=32),
    ),
    Case("resnet-d", lambda: timm_resnet(**DEEP)),
    Case("resnet-t", lambda: timm_resnet("BasicBlock", **{**DEEP, "stem_type": "deep_tiered"})),
    Case(
        "resnetaa",
        lambda: timm_resnet(aa_layer=torch.nn.AvgPool2d),
        {"anti_aliasing": "average"},
        (32, 64),  # whose odd sizes timm's own network refuses
    ),
    Case(
        "resnetblur",
        lambda: timm_resnet("BasicBlock", aa_layer=reference("timm").layers.BlurPool2d, **DEEP),
        {"anti_aliasing": "blur"},
    ),
    Case("preact-raw", lambda: robustbench_preact("PreActBlock"), {"shortcut": "raw"}, CIFAR),
    Case(
        "preact-activated",
        lambda: robustbench_preact("PreActBlockV2", bn_before_fc=True),
        {"shortcut": "activated"},
        CIFAR,
    ),
    Case("wide", lambda: robustbench("wide_resnet").WideResNet(10, 7, 2, True), {}, CIFAR),
    *(
        Case(
            f"deepmind-{name}",
            lambda network=network, options=options: getattr(
                robustbench("dm_wide_resnet"), network
            )(7, activation_fn=torch.nn.SiLU, mean=(0.0,) * 3, std=(1.0,) * 3, **options),
            {"activation": "silu"},
            CIFAR,
        )
        for name, network, options in (
            ("wide", "DMWideResNet", {"depth": 10, "width": 2}),
            ("preact", "DMPreActResNet", {}),
        )
    ),
    Case(
        "densenet",
        lambda: torchvision("densenet").DenseNet(6, (2, 2), 8, 2, num_classes=7),
    ),
    Case("vgg-bn", lambda: torchvision_vgg(True)),
    Case("vgg", lambda: torchvision_vgg(False)),
    Case("mobilenet_v2", lambda: torchvision("mobilenetv2").MobileNetV2(7, 0.25)),
    Case("mnasnet", lambda: torchvision("mnasnet").MNASNet(0.25, 7)),
    Case(
        "shufflenet",
        lambda: torchvision("shufflenetv2").ShuffleNetV2((2, 1, 1), (8, 12, 16, 20, 24), 7),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_logits_and_bytes(case: Case, tmp_path):
    module = moved(case.build())
    torch.save(module.state_dict(), tmp_path / "a.pth")
    convert(tmp_path / "a.pth", tmp_path / "out", report=lambda _: None, **case.options)
    network = Network.load(tmp_path / "out")
    variables = {"params": network.params, "batch_stats": network.batch_stats}
    for size in case.sizes:
        images = np.random.default_rng(size).random((2, size, size, 3), np.float32)
        theirs = torch_logits(module, network.architecture, images)
        ours = jax_logits(network.architecture, variables, images)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())
    export(tmp_path / "out", tmp_path / "b.pth", report=lambda _: None)
    back, saved = torch.load(tmp_path / "b.pth"), module.state_dict()
    saved = {name: value for name, value in saved.items() if not name.startswith("sub_block1.")}
    assert back.keys() == saved.keys()
    assert all(torch.equal(back[name], saved[name]) for name in saved)


def test_a_config_or_a_name_tells_what_no_tensor_shows(tmp_path, capsys):
    module = moved(timm_resnet(aa_layer=torch.nn.AvgPool2d))
    path = tmp_path / "resnetaa50.pth"
    torch.save(module.state_dict(), path)
    with pytest.raises(UserError, match="say --anti-aliasing average, or --anti-aliasing none"):
        convert(path, tmp_path / "out")
    cfg = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3], "input_size": [3, 40, 40]}
    config = {"architecture": "resnetaa50", "pretrained_cfg": cfg}
    (tmp_path / "config.json").write_text(json.dumps(config))
    convert(path, tmp_path / "out")
    network = Network.load(tmp_path / "out")
    assert network.architecture.anti_aliasing == "average" and network.image_size == 40
    assert network.architecture.mean == (0.5, 0.4, 0.3)
    assert "config.json" in network.provenance["normalization"]
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        convert(path, tmp_path / "other")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("conv1.weight", "bn1.weight", "layer1.0.se.fc1.weight", "fc.weight"), "a SENet"),
        (("stem.1.0.weight", "blocks.0.layers.0.layers.MBconv.proj.1.weight"), "a MaxViT"),
        (("stem.0.weight", "trunk_output.block1.block1-0.proj.0.weight"), "a RegNet"),
        (("stem.conv.weight", "s1.b1.conv1.conv.weight", "head.fc.weight"), "a RegNet"),
        (("features.0.0.weight", "features.1.0.block.0.0.weight"), "an EfficientNet"),
        (("conv_stem.weight", "blocks.0.0.conv_dw.weight", "classifier.weight"), "an EfficientNet"),
    ],
)
def test_other_families_are_refused_by_name(tmp_path, names, words):
    torch.save({f"module.{name}": torch.ones(3, 3) for name in names}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=f"{words}.* not supported; what is: a ResNet"):
        convert(tmp_path / "a.pth", tmp_path / "out", report=lambda _: None)


TRAINED = ("resnet-d", "preact-raw", "densenet", "vgg-bn", "mobilenet_v2", "mnasnet", "shufflenet")


@pytest.mark.parametrize("name", TRAINED)
def test_the_last_block_trains_as_in_torch(name, tmp_path):
    """Five steps of SGD in float64; all statistics move, as in the paper's mode."""
    case = next(case for case in CASES if case.name == name)
    module = moved(case.build())
    require_the_same_training(module, tmp_path, 32, **case.options)
