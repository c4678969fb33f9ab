"""Pre-activation ResNets for small images: PreActResNet-18 and the wide ResNets of CIFAR.

A block normalises and activates before its convolutions; a last normalisation follows all blocks.
The description covers the variants in RobustBench's files: the input of shortcuts, their kernel,
and the side on which strided convolutions are padded.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from rtl_jax.errors import UserError, require, require_choice, shown
from rtl_jax.models.activations import ACTIVATIONS
from rtl_jax.models.batch_norm import BatchNorm
from rtl_jax.models.blocks import BlockNetwork, ClassificationHead
from rtl_jax.models.convolution import Conv, ConvMethod
from rtl_jax.models.description import (
    Description,
    is_finite,
    require_common,
    require_size,
    require_text,
    require_truth,
    require_whole,
    require_wholes,
)
from rtl_jax.runtime import limits

Activation = Literal["relu", "silu", "gelu"]
Shortcut = Literal["raw", "activated"]
Padding = Literal["both", "end"]


@dataclasses.dataclass(frozen=True)
class PreActArchitecture(Description):
    """A pre-activation ResNet with two 3x3 convolutions per block and a 3x3 stem.

    `stage_widths` are the channels of each stage; all stages except the first downsample by 2.
    `shortcut` says whether shortcut convolutions take a block's input or its activation. `padding`
    applies to strided convolutions: 'both' sides, or only the 'end', as in TensorFlow.
    """

    OPTIONS: ClassVar = {"activation": "relu", "bn_eps": 1e-5}
    UNSEEN: ClassVar = {**OPTIONS, "shortcut": "raw", "padding": "both"}
    STEM: ClassVar = ("conv1",)
    TAIL: ClassVar = ("bn",)

    name: str
    stage_sizes: tuple[int, ...]
    stage_widths: tuple[int, ...]
    stem_width: int
    shortcut: Shortcut
    shortcut_kernel: int = 1
    final_norm: bool = True
    padding: Padding = "both"
    num_classes: int = 10
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    activation: Activation = "relu"
    bn_eps: float = 1e-5

    def __post_init__(self) -> None:
        require_common(self)
        require_wholes(self, "stage_sizes", "stage_widths")
        require_whole(self, "stem_width", "shortcut_kernel")
        require_truth(self, "final_norm")
        require_text(self, "shortcut", "padding", "activation")
        if not self.stage_sizes or len(self.stage_sizes) != len(self.stage_widths):
            raise UserError(
                f"stage_sizes {shown(self.stage_sizes)} and stage_widths "
                f"{shown(self.stage_widths)} must name the same, positive number of stages"
            )
        if min((*self.stage_sizes, *self.stage_widths, self.stem_width)) < 1:
            raise UserError(f"sizes and widths must be positive: {shown(self)}")
        blocks, most = sum(self.stage_sizes), f"at most {limits.BLOCKS:,} blocks in all"
        require(blocks <= limits.BLOCKS, "stage_sizes", most, self.stage_sizes)
        require_choice(self.shortcut, Shortcut, "shortcut")
        require_choice(self.padding, Padding, "padding")
        require_choice(self.activation, Activation, "activation")
        require(self.shortcut_kernel in (1, 3), "shortcut_kernel", "1 or 3", self.shortcut_kernel)
        finite = is_finite(self.bn_eps) and 0 < self.bn_eps < 1
        require(finite, "bn_eps", "a number between 0 and 1", self.bn_eps)
        require_size(self)

    @property
    def num_parameters(self) -> int:
        """The number of trainable parameters, without building the network."""
        number = 27 * self.stem_width + (self.num_features + 1) * self.num_classes
        for _, channels, out, stride in self.block_specs():
            number += 9 * out * (channels + out) + 2 * (channels + out)
            if stride != 1 or channels != out:
                number += self.shortcut_kernel**2 * channels * out
        return number + 2 * self.num_features * self.final_norm

    @property
    def num_features(self) -> int:
        """The width of the pooled features, the input of the head."""
        return self.stage_widths[-1]

    def block_names(self) -> list[str]:
        """List the blocks from input to output, as 'layer1/0', ..., 'layer3/3'."""
        return [name for name, *_ in self.block_specs()]

    def block_specs(self) -> Iterator[tuple[str, int, int, int]]:
        """Yield (name, input channels, output channels, stride) of every block."""
        channels = self.stem_width
        for stage, (size, width) in enumerate(
            zip(self.stage_sizes, self.stage_widths, strict=True), start=1
        ):
            for index in range(size):
                yield (
                    f"layer{stage}/{index}",
                    channels,
                    width,
                    2 if stage > 1 and index == 0 else 1,
                )
                channels = width


def _wide(name: str, depth: int, factor: int, padding: Padding = "both") -> PreActArchitecture:
    sizes, widths = ((depth - 4) // 6,) * 3, (16 * factor, 32 * factor, 64 * factor)
    return PreActArchitecture(name, sizes, widths, 16, "activated", padding=padding)


ARCHITECTURES = {
    each.name: each
    for each in (
        PreActArchitecture("preact_resnet18", (2, 2, 2, 2), (64, 128, 256, 512), 64, "activated"),
        _wide("wide_resnet28_10", 28, 10),
        _wide("wide_resnet34_10", 34, 10),
        _wide("wide_resnet34_20", 34, 20),
        _wide("wide_resnet70_16", 70, 16),
    )
}


class PreActBlock(nnx.Module):
    """Normalisation, activation and convolution, twice, with a shortcut."""

    def __init__(
        self,
        arch: PreActArchitecture,
        channels: int,
        outputs: int,
        stride: int,
        *,
        dtype: jnp.dtype,
        method: ConvMethod,
    ):
        def conv(inputs: int, kernel: int, stride: int = 1) -> Conv:
            # Padding only at the end is done before the convolution.
            padding = 0 if self.end and stride == 2 else None
            return Conv(
                inputs, outputs, kernel, stride, padding=padding, dtype=dtype, method=method
            )

        self.end = arch.padding == "end" and stride == 2
        self.activation, self.shortcut_sees = arch.activation, arch.shortcut
        self.wide_shortcut = arch.shortcut_kernel == 3
        self.bn1 = BatchNorm(channels, eps=arch.bn_eps, dtype=dtype)
        self.conv1 = conv(channels, 3, stride)
        self.bn2 = BatchNorm(outputs, eps=arch.bn_eps, dtype=dtype)
        self.conv2 = conv(outputs, 3)
        self.has_shortcut = stride != 1 or channels != outputs
        if self.has_shortcut:
            self.shortcut = conv(channels, arch.shortcut_kernel, stride)

    def _padded(self, features: jax.Array) -> jax.Array:
        around = ((0, 0), (0, 1), (0, 1), (0, 0))
        return jnp.pad(features, around) if self.end else features

    def __call__(self, features: jax.Array, train: bool) -> jax.Array:
        activation = ACTIVATIONS[self.activation]
        out = activation(self.bn1(features, train))
        shortcut = features
        if self.has_shortcut:
            shortcut = out if self.shortcut_sees == "activated" else features
            shortcut = self.shortcut(self._padded(shortcut) if self.wide_shortcut else shortcut)
        out = self.conv1(self._padded(out))
        return self.conv2(activation(self.bn2(out, train))) + shortcut


class PreActResNet(BlockNetwork):
    """The network; its variables have the same paths for all file formats."""

    def __init__(
        self,
        architecture: PreActArchitecture,
        *,
        dtype: jnp.dtype = jnp.float32,
        method: ConvMethod = "xla",
    ):
        arch = architecture
        self.architecture, self.dtype = arch, dtype
        self.conv1 = Conv(3, arch.stem_width, 3, dtype=dtype, method=method)
        members: dict[str, list[nnx.Module]] = {}
        for name, channels, outputs, stride in arch.block_specs():
            block = PreActBlock(arch, channels, outputs, stride, dtype=dtype, method=method)
            members.setdefault(name.split("/")[0], []).append(block)
        for stage, blocks in members.items():
            setattr(self, stage, nnx.List(blocks))
        if arch.final_norm:
            self.bn = BatchNorm(arch.num_features, eps=arch.bn_eps, dtype=dtype)
        self.fc = ClassificationHead(arch.num_features, arch.num_classes)

    def blocks(self) -> list[Any]:
        """Return all blocks, from input to output."""
        stages = range(1, len(self.architecture.stage_sizes) + 1)
        return [block for stage in stages for block in getattr(self, f"layer{stage}")]

    def stem(self, images: jax.Array, train: bool) -> jax.Array:
        """Apply the first convolution, without normalisation or activation."""
        return self.conv1(images)

    def pool(self, features: jax.Array, train: bool) -> jax.Array:
        """Apply any last normalisation and activation, and take the mean."""
        if self.architecture.final_norm:
            features = ACTIVATIONS[self.architecture.activation](self.bn(features, train))
        return super().pool(features, train)
