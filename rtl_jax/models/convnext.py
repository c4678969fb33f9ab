"""ConvNeXt in Flax NNX, following timm and torchvision.

A block is a depthwise convolution, a normalisation and an MLP, with a shortcut. The downsampling
before a stage belongs to the stage's first block, the last normalisation to the last block. Between
blocks, features are [N, H, W, width].
"""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from rtl_jax.errors import UserError, require
from rtl_jax.models import conv_stem
from rtl_jax.models.blocks import BlockNetwork, ClassificationHead
from rtl_jax.models.checked_description import CheckedDescription, require_depths
from rtl_jax.models.convolution import Conv, ConvMethod
from rtl_jax.models.token_layers import Activation, LayerNorm, Mlp, PatchConv

# Width (relative to the first stage) and stride of each layer of the convolutional stem.
_STEMS = {"two": ((1, 2), (2, 2)), "three": ((1, 2), (1.5, 2), (2, 1))}


@dataclasses.dataclass(frozen=True)
class ConvNeXtArchitecture(CheckedDescription):
    """A ConvNeXt as data; hashable, and JSON-able through `to_dict` and `from_dict`.

    depths, widths: of the stages. patch: the side in pixels of the stem's patches. stem: 'patch',
    or 'two' or 'three' convolutions (Singh et al. 2023). kernel: of the depthwise convolutions.
    layer_scale: whether each block's branch is scaled per channel. norm_before_pool: whether the
    last normalisation precedes the pooling (timm's `head_norm_first`). activation ('gelu' is the
    exact one), norm_eps: as in timm.
    """

    depths: tuple[int, ...] = (3, 3, 9, 3)
    widths: tuple[int, ...] = (96, 192, 384, 768)
    patch: int = 4
    stem: Literal["patch", "two", "three"] = "patch"
    kernel: int = 7
    mlp_ratio: int = 4
    layer_scale: bool = True
    norm_before_pool: bool = False
    activation: Activation = "gelu"
    norm_eps: float = 1e-6

    STEM: ClassVar = ("patch_embed",)
    UNSEEN: ClassVar = {"activation": "gelu", "norm_eps": 1e-6, "norm_before_pool": False}
    initial_gamma: ClassVar = 1e-6

    def require_sizes(self) -> None:
        """Raise UserError for sizes that define no valid network."""
        require_depths(self.depths)
        stages = len(self.depths) == len(self.widths)
        expected = "as many positive numbers as depths"
        require(stages and min(*self.depths, *self.widths) > 0, "widths", expected, self.widths)
        odd = self.kernel % 2 == 1 and self.kernel < 100
        require(odd, "kernel", "an odd number below 100", self.kernel)
        require(0 < self.mlp_ratio < 100, "mlp_ratio", "1 to 99", self.mlp_ratio)
        require(0 < self.norm_eps < 1, "norm_eps", "a number between 0 and 1", self.norm_eps)
        require(0 < self.patch < 100, "patch", "1 to 99", self.patch)
        if self.stem != "patch" and (self.patch != 4 or self.widths[0] % 4):
            raise UserError(
                f"stem: {self.stem!r} convolutions need patch 4 and a first width that 4 divides, "
                f"received {self.patch} and {self.widths[0]}"
            )

    @property
    def num_features(self) -> int:
        """The width of the features, the input of the head."""
        return self.widths[-1]

    @property
    def num_parameters(self) -> int:
        """The number of trainable parameters, without building the network."""
        first = self.widths[0]
        if self.stem == "patch":
            number = (3 * self.patch**2 + 1 + 2) * first
        else:
            number = conv_stem.num_parameters(self.stem_stages())
        for before, after in zip(self.widths, self.widths[1:], strict=False):
            number += 2 * before + (4 * before + 1) * after
        for depth, width in zip(self.depths, self.widths, strict=True):
            inner = self.mlp_ratio * width
            mlp = 2 * width * inner + inner + width
            number += depth * ((self.kernel**2 + 3 + self.layer_scale) * width + mlp)
        return number + 2 * self.widths[-1] + (self.widths[-1] + 1) * self.num_classes

    def stem_stages(self) -> list[conv_stem.Stage]:
        """Return the convolutions of a stem without patches."""
        stages, before = [], 3
        for factor, stride in _STEMS[self.stem]:
            outputs = int(self.widths[0] // 2 * factor)
            stages.append(conv_stem.Stage(before, outputs, 3, stride))
            before = outputs
        return stages

    def block_names(self) -> list[str]:
        """List the blocks from input to output; downsampling is part of a stage's first block."""
        return [
            f"stages/{stage}/{index}"
            for stage, depth in enumerate(self.depths)
            for index in range(depth)
        ]


class Block(nnx.Module):
    """A depthwise convolution, a normalisation and an MLP, with a shortcut.

    The first block of a stage downsamples by 2 and widens from `before` channels.
    """

    def __init__(
        self,
        arch: ConvNeXtArchitecture,
        width: int,
        before: int | None,
        *,
        dtype: jnp.dtype,
        method: ConvMethod,
    ):
        self.downsample = Downsample(arch, before, width, dtype=dtype) if before else None
        self.conv_dw = Conv(
            width, width, arch.kernel, groups=width, bias=True, dtype=dtype, method=method
        )
        self.norm = LayerNorm(width, eps=arch.norm_eps, dtype=dtype)
        self.mlp = Mlp(width, arch.mlp_ratio * width, activation=arch.activation, dtype=dtype)
        if arch.layer_scale:
            self.gamma = nnx.Param(jnp.zeros(width))
        self.scaled = arch.layer_scale
        self.dtype = dtype

    def __call__(self, features: jax.Array, train: bool) -> jax.Array:
        if self.downsample is not None:
            features = self.downsample(features)
        branch = self.mlp(self.norm(self.conv_dw(features)))
        if self.scaled:
            branch = branch * jnp.asarray(self.gamma[...], self.dtype)
        return features + branch


class Downsample(nnx.Module):
    """A normalisation and a 2x2 convolution with stride 2."""

    def __init__(self, arch: ConvNeXtArchitecture, before: int, after: int, *, dtype: jnp.dtype):
        self.norm = LayerNorm(before, eps=arch.norm_eps, dtype=dtype)
        self.conv = PatchConv(before, after, 2, dtype=dtype)

    def __call__(self, features: jax.Array) -> jax.Array:
        return self.conv(self.norm(features))


class PatchStem(nnx.Module):
    """A convolution with stride equal to its size, and a normalisation."""

    def __init__(self, arch: ConvNeXtArchitecture, *, dtype: jnp.dtype):
        self.conv = PatchConv(3, arch.widths[0], arch.patch, dtype=dtype)
        self.norm = LayerNorm(arch.widths[0], eps=arch.norm_eps, dtype=dtype)

    def __call__(self, images: jax.Array) -> jax.Array:
        return self.norm(self.conv(images))


class ConvNeXt(BlockNetwork):
    """The network, with attributes named as in timm where possible."""

    def __init__(
        self,
        architecture: ConvNeXtArchitecture,
        *,
        dtype: jnp.dtype = jnp.float32,
        method: ConvMethod = "xla",
    ):
        arch = architecture
        self.architecture = arch
        self.dtype = dtype
        if arch.stem == "patch":
            self.patch_embed: nnx.Module = PatchStem(arch, dtype=dtype)
        else:
            self.patch_embed = conv_stem.ConvStem(arch.stem_stages(), dtype=dtype, method=method)
        stages = []
        before: int | None = None
        for depth, width in zip(arch.depths, arch.widths, strict=True):
            firsts = [before, *[None] * (depth - 1)]
            stages.append(
                nnx.List(Block(arch, width, one, dtype=dtype, method=method) for one in firsts)
            )
            before = width
        self.stages = nnx.List(stages)
        self.norm = LayerNorm(arch.num_features, eps=arch.norm_eps, dtype=dtype)
        self.fc = ClassificationHead(arch.num_features, arch.num_classes)

    def blocks(self) -> Sequence[Block]:
        """Return all blocks, over all stages."""
        return [block for stage in self.stages for block in stage]

    def _check_size(self, height: int, width: int) -> None:
        """Raise UserError for images that are too small for the stages."""
        least = self.architecture.patch * 2 ** (len(self.architecture.depths) - 1)
        if min(height, width) < least:
            raise UserError(
                f"{self.architecture.name} needs images of at least {least} x {least} pixels, "
                f"received {height} x {width}"
            )

    def stem(self, images: jax.Array, train: bool) -> jax.Array:
        """Compute the input of the first stage from normalised images."""
        self._check_size(*images.shape[1:3])
        return self.patch_embed(images)  # type: ignore[operator]

    def pool(self, features: jax.Array, train: bool) -> jax.Array:
        """Apply global average pooling and the last normalisation, in either order."""
        kind = jnp.promote_types(features.dtype, jnp.float32)
        if self.architecture.norm_before_pool:
            return self.norm(features).mean((1, 2), dtype=kind)
        return self.norm(features.mean((1, 2), dtype=kind)).astype(kind)


def _named(
    name: str, depths: tuple[int, ...], width: int, **changes: object
) -> ConvNeXtArchitecture:
    widths = tuple(width * 2**stage for stage in range(4))
    return ConvNeXtArchitecture(name, depths=depths, widths=widths, **changes)  # type: ignore[arg-type]


_DEEP = (3, 3, 27, 3)

ARCHITECTURES: dict[str, ConvNeXtArchitecture] = {
    architecture.name: architecture
    for architecture in (
        _named("convnext_atto", (2, 2, 6, 2), 40),
        _named("convnext_femto", (2, 2, 6, 2), 48),
        _named("convnext_pico", (2, 2, 6, 2), 64),
        _named("convnext_nano", (2, 2, 8, 2), 80),
        _named("convnext_tiny", (3, 3, 9, 3), 96),
        _named("convnext_small", _DEEP, 96),
        _named("convnext_base", _DEEP, 128),
        _named("convnext_large", _DEEP, 192),
        _named("convnext_xlarge", _DEEP, 256),
        _named("convnext_tiny_convstem", (3, 3, 9, 3), 96, stem="two"),
        _named("convnext_small_convstem", _DEEP, 96, stem="two"),
        _named("convnext_base_convstem", _DEEP, 128, stem="three"),
        _named("convnext_large_convstem", _DEEP, 192, stem="three"),
    )
}
