"""A network described for timm: an architecture of its registry, with JSON arguments."""

from collections.abc import Callable
from typing import Any, NamedTuple

from rtl_jax.convert.layouts import LAYOUTS
from rtl_jax.convert.layouts.layout import Layout
from rtl_jax.errors import UserError
from rtl_jax.models.architecture import ResNetArchitecture
from rtl_jax.models.convnext import ConvNeXtArchitecture
from rtl_jax.models.densenet import DenseNetArchitecture
from rtl_jax.models.registry import Architecture, family_name
from rtl_jax.models.swin import SwinArchitecture
from rtl_jax.models.vit import ViTArchitecture
from rtl_jax.models.xcit import XCiTArchitecture


class TimmDescription(NamedTuple):
    """Arguments of `timm.create_model`.

    architecture: a name that timm knows. arguments: the architecture's. first, head: timm's names
    of the first convolution and the last layer. layout: the one with timm's names of tensors.
    """

    architecture: str
    arguments: dict[str, Any]
    first: str
    head: str
    layout: Layout


# Describes a network of a family to timm, for an image size.
_Describe = Callable[[Any, int], tuple[str, dict[str, Any], str, str]]


def timm_description(architecture: Architecture, image_size: int) -> TimmDescription:
    """Describe how timm builds a network for images of this size.

    Raises UserError, with the reason, for a network that timm cannot build.
    """
    family = family_name(architecture)
    if family not in _FAMILIES:
        raise UserError(
            f"{architecture.name}: timm has no network with these names ({family}): it has "
            f"{', '.join(_FAMILIES)}; write .safetensors, .onnx or .stablehlo instead"
        )
    layout_name, describe = _FAMILIES[family]
    layout = next(layout for layout in LAYOUTS if layout.name == layout_name)
    if not layout.describes(architecture):
        raise _unlike(architecture, "padding as torchvision's")
    return TimmDescription(*describe(architecture, image_size), layout)


def _unlike(architecture: Architecture, what: str) -> UserError:
    return UserError(
        f"{architecture.name}: timm cannot build it from a config, for it has {what}: write "
        ".safetensors, .onnx or .stablehlo instead"
    )


def _require_usual(architecture: Any, **usual: Any) -> None:
    """Raise UserError unless fields for which timm has no argument have timm's defaults."""
    for name, value in usual.items():
        if (found := getattr(architecture, name)) != value:
            raise _unlike(architecture, f"{name} {found!r}, and not {value!r}")


def _resnet(arch: ResNetArchitecture, size: int) -> tuple[str, dict[str, Any], str, str]:
    kernel = 3 if arch.deep_stem else 7
    _require_usual(arch, stride_in="3x3", bn_eps=1e-5, stem_kernel=kernel, stem_stride=2)
    _require_usual(arch, stem_pool=True)
    if len(arch.stage_sizes) != 4:
        raise _unlike(arch, f"{len(arch.stage_sizes)} stages, and not 4")
    base_width, rest = divmod(64 * arch.inner_factor, arch.groups)
    inner = [width * base_width // 64 * arch.groups for width in arch.stage_widths]
    if rest or inner != [width * arch.inner_factor for width in arch.stage_widths]:
        raise _unlike(arch, f"{arch.groups} groups of a width that is none of timm's")
    arguments: dict[str, Any] = {
        "layers": arch.stage_sizes,
        "channels": arch.stage_widths,
        "cardinality": arch.groups,
        "base_width": base_width,
        "act_layer": arch.activation,
        "avg_down": arch.average_shortcut,
    }
    if arch.deep_stem:
        last = arch.stem_width // 2
        stems = {(last, last): "deep", (3 * (last // 4), last): "deep_tiered"}
        if arch.stem_width % 2 or arch.deep_stem not in stems:
            raise _unlike(arch, f"a stem of widths {(*arch.deep_stem, arch.stem_width)}")
        arguments |= {"stem_type": stems[arch.deep_stem], "stem_width": last}
    else:
        _require_usual(arch, stem_width=64)
        arguments |= {"stem_type": "", "stem_width": 64}
    return (
        _RESNETS[arch.block, arch.anti_aliasing],
        arguments,
        "conv1.0" if arch.deep_stem else "conv1",
        "fc",
    )


# Block type and anti-aliasing cannot be JSON arguments: they belong to timm's architecture.
_RESNETS = {
    ("basic", "none"): "resnet18",
    ("bottleneck", "none"): "resnet50",
    ("basic", "average"): "resnetaa34d",
    ("bottleneck", "average"): "resnetaa50",
    ("basic", "blur"): "resnetblur18",
    ("bottleneck", "blur"): "resnetblur50",
}


def _vit(arch: ViTArchitecture, size: int) -> tuple[str, dict[str, Any], str, str]:
    _require_usual(arch, stem="patch", norm_eps=1e-6, grid=(arch.grid[0],) * 2)
    arguments = {
        "img_size": arch.grid[0] * arch.patch,
        "patch_size": arch.patch,
        "embed_dim": arch.width,
        "depth": arch.depth,
        "num_heads": arch.heads,
        "mlp_ratio": arch.mlp_width / arch.width,
        "qkv_bias": arch.qkv_bias,
        "init_values": 1.0 if arch.layer_scale else None,
        "class_token": arch.class_token,
        "no_embed_class": not arch.class_position,
        "global_pool": "token" if arch.pool == "token" else "avg",
        "fc_norm": arch.norm_after_pool,
        "act_layer": arch.activation,
        "dynamic_img_size": True,
    }
    return "vit_base_patch16_224", arguments, "patch_embed.proj", "head"


def _convnext(arch: ConvNeXtArchitecture, size: int) -> tuple[str, dict[str, Any], str, str]:
    _require_usual(arch, stem="patch", mlp_ratio=4)
    if len(arch.depths) != 4:
        raise _unlike(arch, f"{len(arch.depths)} stages, and not 4")
    arguments = {
        "depths": arch.depths,
        "dims": arch.widths,
        "kernel_sizes": arch.kernel,
        "patch_size": arch.patch,
        "ls_init_value": 1.0 if arch.layer_scale else None,
        "head_norm_first": arch.norm_before_pool,
        "act_layer": arch.activation,
        "norm_eps": arch.norm_eps,
    }
    return "convnext_tiny", arguments, "stem.0", "head.fc"


def _swin(arch: SwinArchitecture, size: int) -> tuple[str, dict[str, Any], str, str]:
    _require_usual(arch, activation="gelu", norm_eps=1e-5)
    arguments = {
        "img_size": size,
        "patch_size": arch.patch,
        "embed_dim": arch.width,
        "depths": arch.depths,
        "num_heads": arch.heads,
        "window_size": arch.window,
        "mlp_ratio": arch.mlp_ratio,
        "strict_img_size": False,
    }
    return "swin_tiny_patch4_window7_224", arguments, "patch_embed.proj", "head.fc"


def _xcit(arch: XCiTArchitecture, size: int) -> tuple[str, dict[str, Any], str, str]:
    _require_usual(arch, activation="gelu", norm_eps=1e-6, bn_eps=1e-5)
    _require_usual(arch, patch=2**arch.convolutions)
    arguments = {
        "img_size": size,
        "patch_size": arch.patch,
        "embed_dim": arch.width,
        "depth": arch.depth,
        "num_heads": arch.heads,
        "mlp_ratio": arch.mlp_width / arch.width,
        "cls_attn_layers": arch.class_depth,
        "tokens_norm": arch.tokens_norm,
    }
    return "xcit_tiny_12_p16_224", arguments, "patch_embed.proj.0.0", "head"


def _densenet(arch: DenseNetArchitecture, size: int) -> tuple[str, dict[str, Any], str, str]:
    _require_usual(arch, stem_width=2 * arch.growth)
    arguments = {
        "growth_rate": arch.growth,
        "block_config": arch.block_sizes,
        "bn_size": arch.bn_size,
    }
    return "densenet121", arguments, "features.conv0", "classifier"


# By family: the layout with timm's names, and the description for timm.
_FAMILIES: dict[str, tuple[str, _Describe]] = {
    "resnet": ("resnet", _resnet),
    "vit": ("vit", _vit),
    "convnext": ("convnext", _convnext),
    "swin": ("swin", _swin),
    "xcit": ("xcit", _xcit),
    "densenet": ("densenet", _densenet),
}
