"""DenseNet, where the input of a layer is all previous outputs of its dense block.

A block is one dense layer. It appends its channels to its input, so that a network can be split
between any two layers. The transition before a dense block trains with that block's first layer.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from rtl_jax.models.batch_norm import BatchNorm
from rtl_jax.models.blocks import BlockNetwork, ClassificationHead
from rtl_jax.models.convolution import Conv, ConvMethod
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
from rtl_jax.models.pooling import max_pool, mean_pool


class DenseLayerSpec(NamedTuple):
    """A dense layer: its path, its inputs, and the inputs of a transition before it, or 0."""

    name: str
    inputs: int
    transition: int


@dataclasses.dataclass(frozen=True)
class DenseNetArchitecture(Description):
    """A DenseNet-BC with `growth` channels per layer and `bn_size` times as many inside."""

    STEM: ClassVar = ("conv0", "norm0")
    TAIL: ClassVar = ("norm5",)

    name: str
    block_sizes: tuple[int, ...]
    growth: int = 32
    stem_width: int = 64
    bn_size: int = 4
    num_classes: int = 1000
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        require_common(self)
        require_wholes(self, "block_sizes")
        require_whole(self, "growth", "stem_width", "bn_size")
        require_blocks(self, "block_sizes")
        require_widths(self, "growth", "stem_width", "bn_size")
        require_size(self)

    def layer_specs(self) -> Iterator[DenseLayerSpec]:
        """Yield every dense layer, from input to output."""
        channels = self.stem_width
        for block, size in enumerate(self.block_sizes, start=1):
            for index in range(size):
                transition = 0
                if block > 1 and index == 0:
                    transition, channels = channels, channels // 2
                yield DenseLayerSpec(f"block{block}/{index}", channels, transition)
                channels += self.growth

    def block_names(self) -> list[str]:
        """List the dense layers, as 'block1/0', ..., 'block4/23'."""
        return [spec.name for spec in self.layer_specs()]

    def joined(self) -> Mapping[str, int]:
        """Map each transition to the layer after it."""
        specs = list(self.layer_specs())
        starts = [index for index, spec in enumerate(specs) if spec.transition]
        return {f"transition{number}": index for number, index in enumerate(starts, start=1)}

    @property
    def num_features(self) -> int:
        """The width of the pooled features, the input of the head."""
        return list(self.layer_specs())[-1].inputs + self.growth

    @property
    def num_parameters(self) -> int:
        """The number of trainable parameters, without building the network."""
        inner, number = self.bn_size * self.growth, (147 + 2) * self.stem_width
        for _, inputs, transition in self.layer_specs():
            number += 2 * inputs + inputs * inner + 2 * inner + 9 * inner * self.growth
            number += 2 * transition + transition * (transition // 2)
        return number + 2 * self.num_features + (self.num_features + 1) * self.num_classes


ARCHITECTURES = {
    each.name: each
    for each in (
        DenseNetArchitecture("densenet121", (6, 12, 24, 16)),
        DenseNetArchitecture("densenet161", (6, 12, 36, 24), 48, 96),
        DenseNetArchitecture("densenet169", (6, 12, 32, 32)),
        DenseNetArchitecture("densenet201", (6, 12, 48, 32)),
    )
}


class DenseLayer(nnx.Module):
    """Normalisation, activation and convolution, twice; the result is appended to the input."""

    def __init__(
        self, arch: DenseNetArchitecture, inputs: int, *, dtype: jnp.dtype, method: ConvMethod
    ):
        inner = arch.bn_size * arch.growth
        self.norm1 = BatchNorm(inputs, eps=1e-5, dtype=dtype)
        self.conv1 = Conv(inputs, inner, 1, dtype=dtype, method=method)
        self.norm2 = BatchNorm(inner, eps=1e-5, dtype=dtype)
        self.conv2 = Conv(inner, arch.growth, 3, dtype=dtype, method=method)

    def __call__(self, features: jax.Array, train: bool) -> jax.Array:
        out = self.conv1(nnx.relu(self.norm1(features, train)))
        out = self.conv2(nnx.relu(self.norm2(out, train)))
        return jnp.concatenate([features, out], axis=-1)


class Transition(nnx.Module):
    """Halves the number of channels, rows and columns."""

    def __init__(self, inputs: int, *, dtype: jnp.dtype, method: ConvMethod):
        self.norm = BatchNorm(inputs, eps=1e-5, dtype=dtype)
        self.conv = Conv(inputs, inputs // 2, 1, dtype=dtype, method=method)

    def __call__(self, features: jax.Array, train: bool) -> jax.Array:
        features = self.conv(nnx.relu(self.norm(features, train)))
        # As in torch, the last row or column of an odd size is dropped.
        height, width = (size // 2 * 2 for size in features.shape[1:3])
        return mean_pool(features[:, :height, :width])


class DenseNet(BlockNetwork):
    """The DenseNet."""

    def __init__(
        self,
        architecture: DenseNetArchitecture,
        *,
        dtype: jnp.dtype = jnp.float32,
        method: ConvMethod = "xla",
    ):
        arch = architecture
        self.architecture, self.dtype, self.method = arch, dtype, method
        self.conv0 = Conv(3, arch.stem_width, 7, 2, dtype=dtype, method=method)
        self.norm0 = BatchNorm(arch.stem_width, eps=1e-5, dtype=dtype)
        members: dict[str, list[nnx.Module]] = {}
        for name, inputs, transition in arch.layer_specs():
            block = name.split("/")[0]
            if transition:
                layer = Transition(transition, dtype=dtype, method=method)
                setattr(self, f"transition{len(members)}", layer)
            members.setdefault(block, []).append(
                DenseLayer(arch, inputs, dtype=dtype, method=method)
            )
        for block, layers in members.items():
            setattr(self, block, nnx.List(layers))
        self.norm5 = BatchNorm(arch.num_features, eps=1e-5, dtype=dtype)
        self.fc = ClassificationHead(arch.num_features, arch.num_classes)

    def blocks(self) -> list[Any]:
        """Return the dense layers, each after its transition if it has one."""
        found: list[Any] = []
        for number in range(1, len(self.architecture.block_sizes) + 1):
            first, *others = getattr(self, f"block{number}")
            if number > 1:
                transition = getattr(self, f"transition{number - 1}")
                found.append(
                    lambda x, train, before=transition, layer=first: layer(before(x, train), train)
                )
            else:
                found.append(first)
            found += others
        return found

    def stem(self, images: jax.Array, train: bool) -> jax.Array:
        """Apply a 7x7 convolution with stride 2 and max-pooling."""
        return max_pool(nnx.relu(self.norm0(self.conv0(images), train)), self.method)

    def pool(self, features: jax.Array, train: bool) -> jax.Array:
        """Apply the last normalisation and activation, and take the mean."""
        return super().pool(nnx.relu(self.norm5(features, train)), train)
