"""ResNet architectures as data, sufficient to build a network and to name its blocks.

Shapes follow torchvision's ResNet v1.5. Blocks are counted from the input, through all stages:
ResNet-50 has 16.
"""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from rtl_jax.errors import UserError, require, require_choice, shown
from rtl_jax.models.description import (
    BEFORE_STEM,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Description,
    is_finite,
    require_common,
    require_text,
    require_truth,
    require_whole,
    require_wholes,
)
from rtl_jax.runtime import limits

__all__ = [
    "ARCHITECTURES",
    "BEFORE_STEM",
    "EXPANSION",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "ResNetArchitecture",
    "architecture",
]

EXPANSION = {"basic": 1, "bottleneck": 4}

Activation = Literal["relu", "silu", "gelu"]
StrideIn = Literal["3x3", "1x1"]
AntiAliasing = Literal["none", "average", "blur"]


@dataclasses.dataclass(frozen=True)
class ResNetArchitecture(Description):
    """A ResNet as data; hashable, and JSON-able through `to_dict` and `from_dict`.

    `stage_widths` are the widths inside a stage's blocks; a stage outputs `EXPANSION[block]` times
    as many channels. `inner_factor` widens only the inside (2 in wide_resnet50_2). `mean` and `std`
    normalise pixels in [0, 1] inside the network. `activation` follows every normalisation ('gelu'
    is the exact one). `stride_in` says which convolution of a bottleneck has the stride: its 3x3
    (torchvision's ResNet v1.5) or its first 1x1 (the original ResNet v1). `bn_eps` is added to
    every variance. `groups` is for the 3x3 convolutions of bottlenecks (ResNeXt). `deep_stem` lists
    the widths of the 3x3 convolutions before the last one of the stem, and `average_shortcut`
    replaces the stride of shortcuts by 2x2 averaging, both as in ResNet-D. `anti_aliasing` replaces
    a layer's stride by a 2x2 mean or a blur after it, as in timm's resnetaa50 and resnetblur50.
    """

    OPTIONS: ClassVar = {
        "activation": "relu",
        "stride_in": "3x3",
        "bn_eps": 1e-5,
        "groups": 1,
        "deep_stem": (),
        "average_shortcut": False,
        "anti_aliasing": "none",
    }
    UNSEEN: ClassVar = {
        "activation": "relu",
        "stride_in": "3x3",
        "bn_eps": 1e-5,
        "anti_aliasing": "none",
        "stem_stride": 2,
    }
    STEM: ClassVar = ("conv1", "bn1")

    name: str
    block: Literal["basic", "bottleneck"]
    stage_sizes: tuple[int, ...]
    stage_widths: tuple[int, ...] = (64, 128, 256, 512)
    inner_factor: int = 1
    stem_width: int = 64
    stem_kernel: int = 7
    stem_stride: int = 2
    stem_pool: bool = True
    num_classes: int = 1000
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    activation: Activation = "relu"
    stride_in: StrideIn = "3x3"
    bn_eps: float = 1e-5
    groups: int = 1
    deep_stem: tuple[int, ...] = ()
    average_shortcut: bool = False
    anti_aliasing: AntiAliasing = "none"

    def __post_init__(self) -> None:
        self._require_types()
        if self.block not in EXPANSION:
            raise UserError(f"unknown block {shown(self.block)}: choose one of {sorted(EXPANSION)}")
        if not self.stage_sizes or len(self.stage_sizes) != len(self.stage_widths):
            raise UserError(
                f"stage_sizes {shown(self.stage_sizes)} and stage_widths "
                f"{shown(self.stage_widths)} "
                "must name the same, positive number of stages"
            )
        counts = (*self.stage_sizes, *self.stage_widths, self.inner_factor, self.stem_width)
        counts += (*self.deep_stem, self.groups)
        if min(counts) < 1:
            raise UserError(f"sizes and widths must be positive: {shown(self)}")
        if (self.inner_factor, self.groups) != (1, 1) and self.block == "basic":
            raise UserError("inner_factor and groups apply only to bottleneck blocks")
        if any(width * self.inner_factor % self.groups for width in self.stage_widths):
            raise UserError(f"groups {self.groups} do not divide the widths {self.stage_widths}")
        require(len(self.deep_stem) < limits.BLOCKS, "deep_stem", "a few widths", self.deep_stem)
        kernel, stride = self.stem_kernel, self.stem_stride
        good = kernel % 2 == 1 and 0 < kernel < limits.STEM_KERNEL
        require(good, "stem_kernel", f"an odd number below {limits.STEM_KERNEL}", kernel)
        require(stride in (1, 2), "stem_stride", "1 or 2", stride)
        require_choice(self.activation, Activation, "activation")
        require_choice(self.stride_in, StrideIn, "stride_in")
        require_choice(self.anti_aliasing, AntiAliasing, "anti_aliasing")
        if self.stride_in != "3x3" and self.block == "basic":
            raise UserError("stride_in applies only to bottleneck blocks")
        require(0 < self.bn_eps < 1, "bn_eps", "a number between 0 and 1", self.bn_eps)
        self._require_bounds()

    def _require_types(self) -> None:
        require_wholes(self, "stage_sizes", "stage_widths", "deep_stem")
        require_whole(self, "inner_factor", "groups", "stem_width", "stem_kernel", "stem_stride")
        require_common(self)
        require_truth(self, "stem_pool", "average_shortcut")
        require_text(self, "block", "activation", "stride_in", "anti_aliasing")
        require(is_finite(self.bn_eps), "bn_eps", "a number between 0 and 1", self.bn_eps)

    def _require_bounds(self) -> None:
        """Raise UserError for absurd sizes before the shape of any block is evaluated."""
        blocks = self.num_blocks
        expected = f"at most {limits.BLOCKS:,} blocks in all"
        require(blocks <= limits.BLOCKS, "stage_sizes", expected, self.stage_sizes)
        number, most = self.num_parameters, limits.PARAMETERS
        expected = f"a network of at most {most:,} parameters"
        require(number <= most, "stem_width and stage_widths", expected, f"{number:,}")

    @property
    def unseen(self) -> dict[str, Any]:
        """What variables do not show of the network, where it is not as usual: for digests."""
        pools = self.stem_kernel != 3 or bool(self.deep_stem)
        other = {} if self.stem_pool == pools else {"stem_pool": self.stem_pool}
        return super().unseen | other

    @property
    def num_parameters(self) -> int:
        """The number of trainable parameters, without building the network."""
        widths = (3, *self.deep_stem, self.stem_width)
        number = sum(
            (before * self.stem_kernel**2 + 2) * after
            for before, after in itertools.pairwise(widths)
        )
        for _, channels, inner, out, stride in self.block_specs():
            if self.block == "basic":
                shapes = [(9, channels, inner), (9, inner, out)]
            else:
                shapes = [(1, channels, inner), (9, inner // self.groups, inner), (1, inner, out)]
            if stride != 1 or channels != out:
                shapes.append((1, channels, out))
            number += sum(area * before * after + 2 * after for area, before, after in shapes)
        return number + (self.num_features + 1) * self.num_classes

    @property
    def num_blocks(self) -> int:
        """The number of residual blocks, over all stages."""
        return sum(self.stage_sizes)

    @property
    def num_features(self) -> int:
        """The width of the pooled features, the input of the head."""
        return self.stage_widths[-1] * EXPANSION[self.block]

    def block_names(self) -> list[str]:
        """List the blocks from input to output, as 'layer1/0', ..., 'layer4/2'."""
        return [
            f"layer{stage}/{index}"
            for stage, size in enumerate(self.stage_sizes, start=1)
            for index in range(size)
        ]

    def block_specs(self) -> Iterator[tuple[str, int, int, int, int]]:
        """Yield (name, input channels, inner width, output channels, stride) of every block."""
        channels = self.stem_width
        for stage, (size, width) in enumerate(
            zip(self.stage_sizes, self.stage_widths, strict=True), start=1
        ):
            out = width * EXPANSION[self.block]
            for index in range(size):
                stride = 2 if stage > 1 and index == 0 else 1
                yield f"layer{stage}/{index}", channels, width * self.inner_factor, out, stride
                channels = out


_STEMS: dict[str, dict[str, Any]] = {
    "imagenet": {},
    "small": {"stem_kernel": 3, "stem_stride": 1, "stem_pool": False, "deep_stem": ()},
    "small_stride2": {"stem_kernel": 3, "stem_stride": 2, "stem_pool": False, "deep_stem": ()},
}

_RESNET_D: dict[str, Any] = {"stem_kernel": 3, "deep_stem": (32, 32), "average_shortcut": True}

ARCHITECTURES: dict[str, ResNetArchitecture] = {
    architecture.name: architecture
    for architecture in (
        ResNetArchitecture("resnet18", "basic", (2, 2, 2, 2)),
        ResNetArchitecture("resnet26", "bottleneck", (2, 2, 2, 2)),
        ResNetArchitecture("resnet34", "basic", (3, 4, 6, 3)),
        ResNetArchitecture("resnet50", "bottleneck", (3, 4, 6, 3)),
        ResNetArchitecture("resnet101", "bottleneck", (3, 4, 23, 3)),
        ResNetArchitecture("resnet152", "bottleneck", (3, 8, 36, 3)),
        ResNetArchitecture("wide_resnet50_2", "bottleneck", (3, 4, 6, 3), inner_factor=2),
        ResNetArchitecture("wide_resnet50_4", "bottleneck", (3, 4, 6, 3), inner_factor=4),
        ResNetArchitecture("wide_resnet101_2", "bottleneck", (3, 4, 23, 3), inner_factor=2),
        ResNetArchitecture(
            "resnext50_32x4d", "bottleneck", (3, 4, 6, 3), inner_factor=2, groups=32
        ),
        ResNetArchitecture(
            "resnext101_32x8d", "bottleneck", (3, 4, 23, 3), inner_factor=4, groups=32
        ),
        ResNetArchitecture(
            "resnext101_64x4d", "bottleneck", (3, 4, 23, 3), inner_factor=4, groups=64
        ),
        ResNetArchitecture("resnet18d", "basic", (2, 2, 2, 2), **_RESNET_D),
        ResNetArchitecture("resnet26d", "bottleneck", (2, 2, 2, 2), **_RESNET_D),
        ResNetArchitecture("resnet34d", "basic", (3, 4, 6, 3), **_RESNET_D),
        ResNetArchitecture("resnet50d", "bottleneck", (3, 4, 6, 3), **_RESNET_D),
        ResNetArchitecture("resnet101d", "bottleneck", (3, 4, 23, 3), **_RESNET_D),
        ResNetArchitecture("resnet152d", "bottleneck", (3, 8, 36, 3), **_RESNET_D),
        ResNetArchitecture("resnetaa50", "bottleneck", (3, 4, 6, 3), anti_aliasing="average"),
        ResNetArchitecture("resnetblur18", "basic", (2, 2, 2, 2), anti_aliasing="blur"),
        ResNetArchitecture("resnetblur50", "bottleneck", (3, 4, 6, 3), anti_aliasing="blur"),
    )
}


def architecture(name: str, *, stem: str = "imagenet", **changes: Any) -> ResNetArchitecture:
    """Look up a named architecture, optionally with another stem or other fields.

    `stem` is 'imagenet' (unchanged: 7x7, stride 2, max-pooling), 'small' (3x3, stride 1, for images
    of about 32 pixels) or 'small_stride2' (3x3, stride 2, at a quarter of the cost). Raises
    UserError for an unknown name, stem or field.
    """
    if name not in ARCHITECTURES:
        raise UserError(f"unknown architecture {name!r}: choose one of {', '.join(ARCHITECTURES)}")
    if stem not in _STEMS:
        raise UserError(f"unknown stem {stem!r}: choose one of {', '.join(_STEMS)}")
    try:
        return ARCHITECTURES[name].replace(**(_STEMS[stem] | changes))
    except TypeError as error:
        raise UserError(f"{name} has no such setting: {error}") from error
