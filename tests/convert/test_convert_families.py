"""Families of other libraries: logits, exported bytes and recognition, compared with their modules.

The references are torchvision's, timm's or robustbench's own networks, shallow, with random
weights and statistics, at two image sizes.
"""

import functools
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from rtl_jax.convert import convert
from rtl_jax.convert.export import export
from rtl_jax.errors import UserError
from rtl_jax.models.network import Network
from tests.last_block import require_the_same_training
from tests.reference_networks import (
    definitions,
    jax_logits,
    moved,
    reference,
    shaken,
    torch_logits,
)

pytestmark = pytest.mark.slow


class Case(NamedTuple):
    """A network of a family: how to build it, and options that its file does not contain."""

    name: str
    build: Callable[[], torch.nn.Module]
    options: dict[str, Any] = {}  # noqa: RUF012 (never written)
    sizes: tuple[int, ...] = (32, 47)


def timm_resnet(block: str = "Bottleneck", **options: Any) -> torch.nn.Module:
    resnet = reference("timm").models.resnet
    layers = {"layers": (1, 1, 1, 1), "channels": (8, 16, 16, 16), "num_classes": 7}
    return resnet.ResNet(block=getattr(resnet, block), **{**layers, **options})


def torchvision(name: str) -> ModuleType:
    """Import a module of network definitions from torchvision."""
    return reference(f"torchvision.models.{name}")


def torchvision_vgg(norm: bool) -> torch.nn.Module:
    vgg = torchvision("vgg")
    network = vgg.VGG(vgg.make_layers([8, "M", 12, 12, "M", 16, "M"], norm), 7)
    network.classifier[0] = torch.nn.Linear(16 * 49, 20)
    network.classifier[3], network.classifier[6] = torch.nn.Linear(20, 20), torch.nn.Linear(20, 7)
    return network


def robustbench(name: str) -> ModuleType:
    """Import a module of network definitions from RobustBench."""
    return definitions("robustbench", f"model_zoo/architectures/{name}.py")


def robustbench_preact(block: str, **options: Any) -> torch.nn.Module:
    module = robustbench("resnet")
    return module.PreActResNet(getattr(module, block), (1, 1, 1, 1), 7, **options)


FOUR = (1, 1, 1, 1)

# timm's networks with and without anti-aliasing have the same parts, and tensors.
PLAIN = {"anti_aliasing": "none"}

CIFAR = (32,)  # whose last mean is over a window of fixed size

DEEP = {"stem_width": 8, "stem_type": "deep", "avg_down": True}

CASES = [
    Case(
        "resnext",
        lambda: timm_resnet(cardinality=4, base_width=32),
        PLAIN,
    ),
    Case("resnet-d", lambda: timm_resnet(**DEEP), PLAIN),
    Case(
        "resnet-t",
        lambda: timm_resnet("BasicBlock", **{**DEEP, "stem_type": "deep_tiered"}),
        PLAIN,
    ),
    Case(
        "resnetaa",
        lambda: timm_resnet(aa_layer=torch.nn.AvgPool2d),
        {"anti_aliasing": "average"},
        (32, 64),  # whose odd sizes timm's own network refuses
    ),
    Case(
        "resnetblur",
        lambda: timm_resnet("BasicBlock", aa_layer=reference("timm").layers.BlurPool2d, **DEEP),
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
    with pytest.raises(UserError, match="pass --anti-aliasing average, or --anti-aliasing none"):
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


SHALLOW = {"layers": FOUR, "channels": (8, 16, 16, 16)}
TINY_VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 6}
TINY_CONVNEXT = {"depths": FOUR, "dims": (8, 8, 16, 16)}
TINY_XCIT = {"img_size": 32, "embed_dim": 16, "depth": 1, "num_heads": 2}
TINY_SWIN = {"depths": (1, 1), "embed_dim": 8, "num_heads": (1, 2), "window_size": 4}


def saved_by_timm(name: str, arguments: dict[str, Any], folder: Path) -> torch.nn.Module:
    """Return a network that timm has written, with a config, and whose weights are moved."""
    timm = reference("timm")
    network = shaken(timm.create_model(name, num_classes=7, **arguments))
    timm.models.save_for_hf(network, folder, model_args=arguments, safe_serialization=True)
    return network


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("resnet18", {**SHALLOW, "act_layer": "swish"}),
        ("vit_tiny_patch16_224", TINY_VIT),
        ("vit_tiny_patch16_224", {**TINY_VIT, "global_pool": "avg", "fc_norm": False}),
        ("convnext_atto", {**TINY_CONVNEXT, "norm_eps": 1e-2, "drop_rate": 0.5}),
        ("xcit_tiny_12_p16_224", {**TINY_XCIT, "tokens_norm": False}),
        ("swin_tiny_patch4_window7_224", {**TINY_SWIN, "img_size": 32}),
    ],
)
def test_what_timms_arguments_say_is_computed(name, arguments, tmp_path):
    module = saved_by_timm(name, arguments, tmp_path / "saved")
    path = tmp_path / "saved" / "model.safetensors"
    arch = (network := Network.load(convert(path, tmp_path / "a", report=str))).architecture
    images = np.random.default_rng(0).random((3, 32, 32, 3), np.float32)
    theirs = torch_logits(module, arch, images)
    variables = {"params": network.params, "batch_stats": network.batch_stats}
    ours = jax_logits(arch, variables, images)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("resnet18", {**SHALLOW, "act_layer": "mish"}, "act_layer mish, which a ResNet here"),
        ("resnet18", {**SHALLOW, "global_pool": "max"}, "global_pool max"),
        ("resnet18", {**SHALLOW, "output_stride": 8}, "output_stride 8"),
        ("vit_tiny_patch16_224", {**TINY_VIT, "global_pool": "max"}, "global_pool max"),
        ("xcit_tiny_12_p16_224", {**TINY_XCIT, "global_pool": "avg"}, "global_pool avg"),
    ],
)
def test_arguments_that_no_network_here_has_are_refused(name, arguments, said, tmp_path):
    saved_by_timm(name, arguments, tmp_path)
    with pytest.raises(UserError, match=rf"config\.json .* timm's {name} has {said}"):
        convert(tmp_path / "model.safetensors", tmp_path / "a", report=str)


def test_what_the_parts_of_a_network_show_is_asked_for_or_read(tmp_path, capsys):
    """A torch state dict also names parts without tensors, such as 'aa' in timm's blocks."""
    path = tmp_path / "a.pth"
    module = moved(timm_resnet(aa_layer=torch.nn.AvgPool2d))
    torch.save({"state_dict": module.state_dict()}, path)
    with pytest.raises(UserError, match="--anti-aliasing none .* --anti-aliasing average or blur"):
        convert(path, tmp_path / "out")
    named = tmp_path / "resnet50_a1.pth"  # what is called so is the usual one
    torch.save(module.state_dict(), named)
    convert(named, tmp_path / "named")
    torch.save(moved(timm_resnet(aa_layer=reference("timm").layers.BlurPool2d)).state_dict(), path)
    convert(path, tmp_path / "blur")
    assert Network.load(tmp_path / "blur").architecture.anti_aliasing == "blur"
    state = module.state_dict()  # as timm before 2023, whose other blocks have no such part
    for name in [name for name in state._metadata if re.search(r"layer(1|\d\.[1-9])\S*\.aa", name)]:
        del state._metadata[name]
    torch.save(state, path)
    convert(path, tmp_path / "old")
    assert Network.load(tmp_path / "old").architecture.anti_aliasing == "average"


OTHERS = {
    "seresnet18": "a SENet", "efficientnet_b0": "an EfficientNet", "regnety_002": "a RegNet",
    "tf_efficientnetv2_b0": "an EfficientNet", "mobilenetv3_small_050": "an EfficientNet",
    "regnetz_b16": "a RegNet", "maxvit_tiny_rw_224": "a MaxViT", "coatnet_0_rw_224": "a CoAtNet",
    "nfnet_f0": "an NFNet", "resnest14d": "a ResNeSt", "res2net50_26w_4s": "a Res2Net",
    "skresnet18": "a ResNet with selective kernels", "hrnet_w18_small": "an HRNet",
    "inception_v3": "an Inception", "swinv2_tiny_window8_256": "a Swin transformer V2",
    "cait_xxs24_224": "a CaiT", "convit_tiny": "a ConViT", "beit_base_patch16_224": "a BEiT",
    "vit_relpos_small_patch16_224": "a vision transformer with relative positions",
    "mixer_s32_224": "an MLP-Mixer", "resmlp_12_224": "a ResMLP", "gmlp_s16_224": "a gMLP",
    "torchvision.efficientnet_b0": "an EfficientNet", "torchvision.regnet_y_400mf": "a RegNet",
    "torchvision.maxvit_t": "a MaxViT", "torchvision.swin_v2_t": "a Swin transformer V2",
    "torchvision.mobilenet_v3_small": "a MobileNetV3", "torchvision.squeezenet1_0": "a SqueezeNet",
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_other_families_are_refused_by_name(name, tmp_path):
    """By the tensor names of timm and torchvision."""
    where, _, last = name.rpartition(".")
    # On torch's meta device, but where a network copies what it draws.
    with torch.device("cpu" if last.startswith("regnet_y") else "meta"):
        if where:
            network = getattr(reference("torchvision.models"), last)(weights=None)
        else:
            network = reference("timm").create_model(name)
    state = {f"module.{key}": torch.ones(3, 3) for key in network.state_dict()}
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(UserError, match=f"holds {OTHERS[name]}.* not supported; what is: a ResNet"):
        convert(tmp_path / "a.pth", tmp_path / "out", report=lambda _: None)


def test_group_normalisation_is_refused_by_name(tmp_path):
    norm = functools.partial(reference("timm").layers.GroupNorm, num_groups=2)
    torch.save(timm_resnet(norm_layer=norm).state_dict(), tmp_path / "a.pth")
    with pytest.raises(UserError, match="groups are not supported"):
        convert(tmp_path / "a.pth", tmp_path / "out", report=lambda _: None, **PLAIN)


TRAINED = ("resnet-d", "preact-raw", "densenet", "vgg-bn", "mobilenet_v2", "mnasnet", "shufflenet")


@pytest.mark.parametrize("name", TRAINED)
def test_the_last_block_trains_as_in_torch(name, tmp_path):
    """Five steps of SGD in float64; all statistics move, as in the paper's mode."""
    case = next(case for case in CASES if case.name == name)
    module = moved(case.build())
    require_the_same_training(module, tmp_path, 32, **case.options)
