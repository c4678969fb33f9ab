"""ShuffleNetV2: half of the channels pass through a block, and the halves are shuffled.

A block is one unit of a stage. The last convolution, 1x1, trains with the last block.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from rtl_jax.errors import UserError, shown
from rtl_jax.models.blocks import BlockNetwork, ClassificationHead
from rtl_jax.models.conv_norm import ConvNorm
from rtl_jax.models.convolution import ConvMethod
from rtl_jax.models.description import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Description,
    require_blocks,
    require_common,
    require_size,
    require_whole,
    require_wholes,
    require_widths,
)
from rtl_jax.models.pooling import max_pool


@dataclasses.dataclass(frozen=True)
class ShuffleNetArchitecture(Description):
    """A ShuffleNetV2, where the first unit of every stage downsamples by 2."""

    STEM: ClassVar = ("conv1",)
    TAIL: ClassVar = ("conv5",)

    name: str
    stage_sizes: tuple[int, ...]
    stage_widths: tuple[int, ...]
    stem_width: int = 24
    tail_width: int = 1024
    num_classes: int = 1000
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        require_common(self)
        require_wholes(self, "stage_sizes", "stage_widths")
        require_whole(self, "stem_width", "tail_width")
        require_widths(self, "stage_widths", "stem_width", "tail_width")
        require_blocks(self, "stage_sizes")
        if len(self.stage_sizes) != len(self.stage_widths) or any(
            width % 2 for width in self.stage_widths
        ):
            raise UserError(
                f"stage_sizes {shown(self.stage_sizes)} and stage_widths "
                f"{shown(self.stage_widths)} must have the same length, with even widths"
            )
        require_size(self)

    def block_specs(self) -> Iterator[tuple[str, int, int, int]]:
        """Yield (name, inputs, outputs, stride) of every unit."""
        channels = self.stem_width
        for stage, (size, width) in enumerate(
            zip(self.stage_sizes, self.stage_widths, strict=True), start=2
        ):
            for index in range(size):
                yield f"stage{stage}/{index}", channels, width, 2 if index == 0 else 1
                channels = width

    def block_names(self) -> list[str]:
        """List the units, as 'stage2/0', ..., 'stage4/3'."""
        return [name for name, *_ in self.block_specs()]

    @property
    def num_features(self) -> int:
        """The width of the pooled features, the input of the head."""
        return self.tail_width

    @property
    def num_parameters(self) -> int:
        """The number of trainable parameters, without building the network."""
        number = (27 + 2) * self.stem_width
        number += (self.stage_widths[-1] + 2 + self.num_classes) * self.tail_width
        for _, inputs, outputs, stride in self.block_specs():
            half = outputs // 2
            seen = half if stride == 1 else inputs
            number += (seen + 2 + 9 + 2 + half + 2) * half
            number += (9 + 2 + half) * inputs + 2 * half if stride == 2 else 0
        return number + self.num_classes


ARCHITECTURES = {
    each.name: each
    for each in (
        ShuffleNetArchitecture("shufflenet_v2_x0_5", (4, 8, 4), (48, 96, 192)),
        ShuffleNetArchitecture("shufflenet_v2_x1_0", (4, 8, 4), (116, 232, 464)),
        ShuffleNetArchitecture("shufflenet_v2_x1_5", (4, 8, 4), (176, 352, 704)),
        ShuffleNetArchitecture("shufflenet_v2_x2_0", (4, 8, 4), (244, 488, 976), 24, 2048),
    )
}


class Unit(nnx.Module):
    """Two parallel branches with interleaved channels; without a stride, one is the identity."""

    def __init__(
        self, inputs: int, outputs: int, stride: int, *, dtype: jnp.dtype, method: ConvMethod
    ):
        def layer(inputs: int, outputs: int, kernel: int = 1, **options: Any) -> ConvNorm:
            options = {"activation": "relu"} | options
            return ConvNorm(inputs, outputs, kernel, dtype=dtype, method=method, **options)

        self.stride, half = stride, outputs // 2
        depthwise: Any = {"kernel": 3, "stride": stride, "activation": "none"}
        if stride == 2:
            self.branch1 = nnx.List(
                [layer(inputs, inputs, groups=inputs, **depthwise), layer(inputs, half)]
            )
        self.branch2 = nnx.List(
            [
                layer(inputs if stride == 2 else half, half),
                layer(half, half, groups=half, **depthwise),
                layer(half, half),
            ]
        )

    def __call__(self, features: jax.Array, train: bool) -> jax.Array:
        first, second = features, features
        if self.stride == 1:
            first, second = jnp.split(features, 2, axis=-1)
        else:
            for layer in self.branch1:
                first = layer(first, train)
        for layer in self.branch2:
            second = layer(second, train)
        return jnp.stack([first, second], axis=-1).reshape(*second.shape[:-1], -1)


class ShuffleNet(BlockNetwork):
    """The ShuffleNetV2."""

    def __init__(
        self,
        architecture: ShuffleNetArchitecture,
        *,
        dtype: jnp.dtype = jnp.float32,
        method: ConvMethod = "xla",
    ):
        arch = architecture
        self.architecture, self.dtype, self.method = arch, dtype, method
        options: Any = {"activation": "relu", "dtype": dtype, "method": method}
        self.conv1 = ConvNorm(3, arch.stem_width, 3, 2, **options)
        members: dict[str, list[nnx.Module]] = {}
        for name, inputs, outputs, stride in arch.block_specs():
            block = Unit(inputs, outputs, stride, dtype=dtype, method=method)
            members.setdefault(name.split("/")[0], []).append(block)
        for stage, blocks in members.items():
            setattr(self, stage, nnx.List(blocks))
        self.conv5 = ConvNorm(arch.stage_widths[-1], arch.tail_width, 1, **options)
        self.fc = ClassificationHead(arch.tail_width, arch.num_classes)

    def blocks(self) -> list[Any]:
        """Return all units, from input to output."""
        stages = range(2, len(self.architecture.stage_sizes) + 2)
        return [block for stage in stages for block in getattr(self, f"stage{stage}")]

    def stem(self, images: jax.Array, train: bool) -> jax.Array:
        """Apply a 3x3 convolution with stride 2 and max-pooling."""
        return max_pool(self.conv1(images, train), self.method)

    def pool(self, features: jax.Array, train: bool) -> jax.Array:
        """Apply the last convolution and take the mean."""
        return super().pool(self.conv5(features, train), train)
