"""MobileNetV2 and MNASNet: inverted residuals with depthwise 3x3 and 5x5 convolutions.

A block is one inverted residual; the first has no expansion. The last convolution, 1x1, trains with
the last block.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from rtl_jax.errors import UserError, require_choice, shown
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
    require_text,
    require_whole,
    require_wholes,
    require_widths,
)

Kind = Literal["mobilenet_v2", "mnasnet"]

# torchvision's MNASNet was trained with a different momentum.
_MOMENTUM = {"mobilenet_v2": 0.1, "mnasnet": 1 - 0.9997}
_ACTIVATION = {"mobilenet_v2": "relu6", "mnasnet": "relu"}


class BlockSpec(NamedTuple):
    """An inverted residual: its path and the sizes of its layers."""

    name: str
    inputs: int
    inner: int
    outputs: int
    kernel: int
    stride: int


@dataclasses.dataclass(frozen=True)
class MobileArchitecture(Description):
    """A sequence of inverted residuals.

    `first_width` is the width of the first block, which has no expansion. Every stage has a number
    of blocks, a width, an expansion and a kernel size, and a stride for its first block.
    """

    STEM: ClassVar = ("stem_layer",)
    TAIL: ClassVar = ("tail",)

    name: str
    kind: Kind
    stem_width: int
    first_width: int
    stage_sizes: tuple[int, ...]
    stage_widths: tuple[int, ...]
    stage_strides: tuple[int, ...]
    expansions: tuple[int, ...]
    kernels: tuple[int, ...]
    tail_width: int = 1280
    num_classes: int = 1000
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        require_common(self)
        require_text(self, "kind")
        require_choice(self.kind, Kind, "kind")
        stages = ("stage_sizes", "stage_widths", "stage_strides", "expansions", "kernels")
        require_wholes(self, *stages)
        require_whole(self, "stem_width", "first_width", "tail_width")
        require_widths(self, *stages, "stem_width", "first_width", "tail_width")
        require_blocks(self, "stage_sizes")
        if len({len(getattr(self, stage)) for stage in stages}) != 1:
            raise UserError(f"{', '.join(stages)} must have the same length: {shown(self)}")
        if not {*self.stage_strides} <= {1, 2} or not {*self.kernels} <= {3, 5, 7}:
            raise UserError("strides must be 1 or 2, and kernels 3, 5 or 7")
        require_size(self)

    def block_specs(self) -> Iterator[BlockSpec]:
        """Yield every block, from input to output."""
        channels = self.first_width
        yield BlockSpec("stage0/0", self.stem_width, self.stem_width, channels, 3, 1)
        stages = zip(
            self.stage_sizes,
            self.stage_widths,
            self.stage_strides,
            self.expansions,
            self.kernels,
            strict=True,
        )
        for stage, (size, width, stride, expansion, kernel) in enumerate(stages, start=1):
            for index in range(size):
                name, inner = f"stage{stage}/{index}", channels * expansion
                yield BlockSpec(name, channels, inner, width, kernel, stride if index == 0 else 1)
                channels = width

    def block_names(self) -> list[str]:
        """List the blocks, as 'stage0/0', ..., 'stage6/0'."""
        return [spec.name for spec in self.block_specs()]

    @property
    def activation(self) -> str:
        """The activation after all normalisations except the last of a block."""
        return _ACTIVATION[self.kind]

    @property
    def bn_momentum(self) -> float:
        """The weight of a new batch in running statistics."""
        return _MOMENTUM[self.kind]

    @property
    def num_features(self) -> int:
        """The width of the pooled features, the input of the head."""
        return self.tail_width

    @property
    def num_parameters(self) -> int:
        """The number of trainable parameters, without building the network."""
        number = (27 + 2) * self.stem_width
        number += (self.stage_widths[-1] + 2 + self.num_classes) * self.tail_width
        for name, inputs, inner, outputs, kernel, _ in self.block_specs():
            number += (kernel**2 + 2 + outputs) * inner + 2 * outputs
            number += 0 if name == "stage0/0" else (inputs + 2) * inner
        return number + self.num_classes


_MOBILENET: Any = {
    "kind": "mobilenet_v2",
    "stage_sizes": (2, 3, 4, 3, 3, 1),
    "stage_strides": (2, 2, 2, 1, 2, 1),
    "expansions": (6,) * 6,
    "kernels": (3,) * 6,
}
_MNASNET: Any = {
    "kind": "mnasnet",
    "stage_sizes": (3, 3, 3, 2, 4, 1),
    "stage_strides": (2, 2, 2, 1, 2, 1),
    "expansions": (3, 3, 6, 6, 6, 6),
    "kernels": (3, 5, 5, 3, 5, 3),
}


def _mnasnet(name: str, *widths: int) -> MobileArchitecture:
    stem, first, *stages = widths
    return MobileArchitecture(
        name, stem_width=stem, first_width=first, stage_widths=tuple(stages), **_MNASNET
    )


ARCHITECTURES = {
    each.name: each
    for each in (
        MobileArchitecture(
            "mobilenet_v2",
            stem_width=32,
            first_width=16,
            stage_widths=(24, 32, 64, 96, 160, 320),
            **_MOBILENET,
        ),
        _mnasnet("mnasnet0_5", 16, 8, 16, 24, 40, 48, 96, 160),
        _mnasnet("mnasnet0_75", 24, 16, 24, 32, 64, 72, 144, 240),
        _mnasnet("mnasnet1_0", 32, 16, 24, 40, 80, 96, 192, 320),
        _mnasnet("mnasnet1_3", 40, 24, 32, 56, 104, 128, 248, 416),
    )
}


class InvertedResidual(nnx.Module):
    """An inverted residual, with a shortcut if the shape is unchanged.

    1x1 expansion, depthwise convolution, 1x1 projection.
    """

    def __init__(
        self,
        arch: MobileArchitecture,
        spec: BlockSpec,
        *,
        dtype: jnp.dtype,
        method: ConvMethod,
    ):
        def layer(inputs: int, outputs: int, kernel: int = 1, **options: Any) -> ConvNorm:
            options = {"activation": arch.activation} | options
            return ConvNorm(
                inputs,
                outputs,
                kernel,
                momentum=arch.bn_momentum,
                dtype=dtype,
                method=method,
                **options,
            )

        inner = spec.inner
        self.widened = spec.name != "stage0/0"
        if self.widened:
            self.expand = layer(spec.inputs, inner)
        self.depthwise = layer(inner, inner, spec.kernel, stride=spec.stride, groups=inner)
        self.project = layer(inner, spec.outputs, activation="none")
        same = spec.stride == 1 and spec.inputs == spec.outputs
        # MNASNet has no shortcut around its first block.
        self.has_shortcut = same and (self.widened or arch.kind == "mobilenet_v2")

    def __call__(self, features: jax.Array, train: bool) -> jax.Array:
        out = self.expand(features, train) if self.widened else features
        out = self.project(self.depthwise(out, train), train)
        return out + features if self.has_shortcut else out


class MobileNet(BlockNetwork):
    """The MobileNetV2 or MNASNet."""

    def __init__(
        self,
        architecture: MobileArchitecture,
        *,
        dtype: jnp.dtype = jnp.float32,
        method: ConvMethod = "xla",
    ):
        arch = architecture
        self.architecture, self.dtype = arch, dtype
        options: Any = {
            "activation": arch.activation,
            "momentum": arch.bn_momentum,
            "dtype": dtype,
            "method": method,
        }
        # Not `stem`, which is a method.
        self.stem_layer = ConvNorm(3, arch.stem_width, 3, 2, **options)
        members: dict[str, list[nnx.Module]] = {}
        for spec in arch.block_specs():
            block = InvertedResidual(arch, spec, dtype=dtype, method=method)
            members.setdefault(spec.name.split("/")[0], []).append(block)
        for stage, blocks in members.items():
            setattr(self, stage, nnx.List(blocks))
        self.tail = ConvNorm(arch.stage_widths[-1], arch.tail_width, 1, **options)
        self.fc = ClassificationHead(arch.tail_width, arch.num_classes)

    def blocks(self) -> list[Any]:
        """Return all inverted residuals, from input to output."""
        stages = range(len(self.architecture.stage_sizes) + 1)
        return [block for stage in stages for block in getattr(self, f"stage{stage}")]

    def stem(self, images: jax.Array, train: bool) -> jax.Array:
        """Apply a 3x3 convolution with stride 2."""
        return self.stem_layer(images, train)

    def pool(self, features: jax.Array, train: bool) -> jax.Array:
        """Apply the last convolution and take the mean."""
        return super().pool(self.tail(features, train), train)
