"""timm's ViT, ConvNeXt, Swin and XCiT, optionally with the stems of Singh et al."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from rtl_jax.convert.torch_needed import import_package
from rtl_jax.convert.torch_networks.activations import ACTIVATIONS
from rtl_jax.models.conv_stem import EPS, Stage
from rtl_jax.models.convnext import ConvNeXtArchitecture
from rtl_jax.models.swin import SwinArchitecture
from rtl_jax.models.vit import ViTArchitecture
from rtl_jax.models.xcit import XCiTArchitecture


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of [n, channels, height, width]."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each pixel."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvStem(nn.Module):
    """Convolutions instead of patches, each normalised and activated unless it is linear."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for stage in stages:
            size, stride = stage.kernel, stage.stride
            layers.append(nn.Conv2d(stage.inputs, stage.outputs, size, stride, size // 2))
            if stage.normed:
                layers += [ChannelNorm(stage.outputs, eps=EPS), nn.GELU()]
        self.stem = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Compute features of images."""
        return self.stem(x)


def vit(arch: ViTArchitecture) -> nn.Module:
    """Build timm's VisionTransformer."""
    network = _models("vision_transformer").VisionTransformer(
        img_size=tuple(edge * arch.patch for edge in arch.grid),
        patch_size=arch.patch,
        embed_dim=arch.width,
        depth=arch.depth,
        num_heads=arch.heads,
        mlp_ratio=arch.mlp_width / arch.width,
        qkv_bias=arch.qkv_bias,
        init_values=1.0 if arch.layer_scale else None,
        class_token=arch.class_token,
        no_embed_class=not arch.class_position,
        global_pool="token" if arch.pool == "token" else "avg",
        fc_norm=arch.norm_after_pool,
        num_classes=arch.num_classes,
        norm_layer=partial(nn.LayerNorm, eps=arch.norm_eps),
        act_layer=ACTIVATIONS[arch.activation],
        dynamic_img_size=True,
    )
    if arch.stem == "convolutions":
        network.patch_embed.proj = ConvStem(arch.stem_stages())
    return network


def convnext(arch: ConvNeXtArchitecture, *, as_convolutions: bool) -> nn.Module:
    """Build timm's ConvNeXt."""
    network = _models("convnext").ConvNeXt(
        depths=arch.depths,
        dims=arch.widths,
        kernel_sizes=arch.kernel,
        patch_size=arch.patch if arch.stem == "patch" else 4,
        ls_init_value=1.0 if arch.layer_scale else None,
        head_norm_first=arch.norm_before_pool,
        conv_mlp=as_convolutions,
        act_layer=ACTIVATIONS[arch.activation],
        norm_eps=arch.norm_eps,
        num_classes=arch.num_classes,
    )
    if arch.stem != "patch":
        network.stem = ConvStem(arch.stem_stages())
    return network


def swin(arch: SwinArchitecture, image_size: int) -> nn.Module:
    """Build timm's SwinTransformer, whose activations can only be replaced afterwards."""
    network = _models("swin_transformer").SwinTransformer(
        img_size=image_size,
        patch_size=arch.patch,
        embed_dim=arch.width,
        depths=arch.depths,
        num_heads=arch.heads,
        window_size=arch.window,
        mlp_ratio=arch.mlp_ratio,
        norm_layer=partial(nn.LayerNorm, eps=arch.norm_eps),
        num_classes=arch.num_classes,
        strict_img_size=False,
    )
    for layer in network.layers:
        for block in layer.blocks:
            block.mlp.act = ACTIVATIONS[arch.activation]()
    return network


def xcit(arch: XCiTArchitecture) -> nn.Module:
    """Build timm's Xcit; if tokens are small, the first convolutions lose their strides."""
    network: Any = _models("xcit").Xcit(
        patch_size=2**arch.convolutions,
        embed_dim=arch.width,
        depth=arch.depth,
        num_heads=arch.heads,
        mlp_ratio=arch.mlp_width / arch.width,
        cls_attn_layers=arch.class_depth,
        tokens_norm=arch.tokens_norm,
        norm_layer=partial(nn.LayerNorm, eps=arch.norm_eps),
        act_layer=ACTIVATIONS[arch.activation],
        num_classes=arch.num_classes,
    )
    for number in range(arch.convolutions):
        halves = 2 ** (arch.convolutions - number) <= arch.patch
        network.patch_embed.proj[2 * number][0].stride = (2, 2) if halves else (1, 1)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.eps = arch.bn_eps
    return network


def _models(name: str) -> Any:
    return import_package(f"timm.models.{name}", "--check")
