"""torchvision's networks other than its ResNets."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from rtl_jax.convert.layouts.entry import Shape
from rtl_jax.convert.torch_needed import import_package
from rtl_jax.convert.torch_networks.activations import ACTIVATIONS
from rtl_jax.models.convnext import ConvNeXtArchitecture
from rtl_jax.models.densenet import DenseNetArchitecture
from rtl_jax.models.mobile import MobileArchitecture
from rtl_jax.models.shufflenet import ShuffleNetArchitecture
from rtl_jax.models.swin import SwinArchitecture
from rtl_jax.models.vgg import VGGArchitecture
from rtl_jax.models.vit import ViTArchitecture

# Channels of both mobile networks' last stage at a multiplier of 1, and the tolerance for rounding.
_LAST, _ROUNDED = 320, 16


def convnext(arch: ConvNeXtArchitecture) -> nn.Module:
    """Build torchvision's ConvNeXt."""
    module = _models("convnext")
    afterwards = (*arch.widths[1:], None)
    stages = [
        module.CNBlockConfig(*sizes)
        for sizes in zip(arch.widths, afterwards, arch.depths, strict=True)
    ]
    return module.ConvNeXt(stages, num_classes=arch.num_classes)


def vit(arch: ViTArchitecture) -> nn.Module:
    """Build torchvision's VisionTransformer, whose activations can only be replaced afterwards."""
    network: Any = _models("vision_transformer").VisionTransformer(
        image_size=arch.grid[0] * arch.patch,
        patch_size=arch.patch,
        num_layers=arch.depth,
        num_heads=arch.heads,
        hidden_dim=arch.width,
        mlp_dim=arch.mlp_width,
        num_classes=arch.num_classes,
        norm_layer=partial(nn.LayerNorm, eps=arch.norm_eps),
    )
    for block in network.encoder.layers:
        block.mlp[1] = ACTIVATIONS[arch.activation]()
    return network


def swin(arch: SwinArchitecture) -> nn.Module:
    """Build torchvision's SwinTransformer, whose activations can only be replaced afterwards."""
    network: Any = _models("swin_transformer").SwinTransformer(
        patch_size=[arch.patch] * 2,
        embed_dim=arch.width,
        depths=list(arch.depths),
        num_heads=list(arch.heads),
        window_size=[arch.window] * 2,
        mlp_ratio=arch.mlp_ratio,
        num_classes=arch.num_classes,
        norm_layer=partial(nn.LayerNorm, eps=arch.norm_eps),
    )
    for stage in network.features[1::2]:
        for block in stage:
            block.mlp[1] = ACTIVATIONS[arch.activation]()
    return network


def densenet(arch: DenseNetArchitecture) -> nn.Module:
    """Build torchvision's DenseNet."""
    return _models("densenet").DenseNet(
        arch.growth,
        arch.block_sizes,
        arch.stem_width,
        arch.bn_size,
        num_classes=arch.num_classes,
    )


def vgg(arch: VGGArchitecture) -> nn.Module:
    """Build torchvision's VGG, whose classifier can only be resized afterwards."""
    module = _models("vgg")
    plan: list[int | str] = []
    for _, _, width, pooled in arch.conv_specs():
        plan += [width, "M"] if pooled else [width]
    # Without memory: the classifier, which is replaced at once, is the largest part.
    with torch.device("meta"):
        network = module.VGG(nn.Identity(), arch.num_classes, init_weights=False)
    hidden = arch.hidden
    network.features = module.make_layers(plan, arch.batch_norm)
    network.avgpool = nn.AdaptiveAvgPool2d(arch.grid)
    network.classifier[0] = nn.Linear(arch.widths[-1] * arch.grid**2, hidden)
    network.classifier[3] = nn.Linear(hidden, hidden)
    network.classifier[6] = nn.Linear(hidden, arch.num_classes)
    return network


def shufflenet(arch: ShuffleNetArchitecture) -> nn.Module:
    """Build torchvision's ShuffleNetV2."""
    widths = (arch.stem_width, *arch.stage_widths, arch.tail_width)
    return _models("shufflenetv2").ShuffleNetV2(
        list(arch.stage_sizes), list(widths), arch.num_classes
    )


def mobilenet_v2(arch: MobileArchitecture, shapes: Mapping[str, Shape]) -> nn.Module | None:
    """Build torchvision's MobileNetV2 with these shapes; None if there is none."""
    build = _models("mobilenetv2").MobileNetV2
    return _of_width(lambda width: build(arch.num_classes, width), arch, shapes)


def mnasnet(arch: MobileArchitecture, shapes: Mapping[str, Shape]) -> nn.Module | None:
    """Build torchvision's MNASNet with these shapes; None if there is none."""
    build = _models("mnasnet").MNASNet
    return _of_width(lambda width: build(width, arch.num_classes), arch, shapes)


def _of_width(
    build: Callable[[float], nn.Module], arch: MobileArchitecture, shapes: Mapping[str, Shape]
) -> nn.Module | None:
    """Build the network with the width multiplier that gives these shapes, if there is one."""
    for twentieths in range(1, 61):
        width = twentieths / 20
        if abs(_LAST * width - arch.stage_widths[-1]) > _ROUNDED:
            continue
        with torch.device("meta"):
            state = build(width).state_dict()
        if all(name in state and tuple(state[name].shape) == shapes[name] for name in shapes):
            return build(width)
    return None


def _models(name: str) -> Any:
    return import_package(f"torchvision.models.{name}", "--check")
