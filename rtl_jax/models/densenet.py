"""DenseNet: every layer sees all before it in its dense block. A block is one dense layer.

A dense layer returns its input with its own channels behind it, so that a network can be split
between any two. The transition in front of a dense block trains with its first layer.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from rtl_jax.models.blocks import BlockNetwork, ClassificationHead
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
from rtl_jax.models.layers import BatchNorm, Conv, ConvMethod, max_pool, mean_pool


class DenseLayerSpec(NamedTuple):
    """A dense layer: its path, its inputs, and the inputs of a transition in front of it, or 0."""

    name: str
    inputs: int
    transition: int


@dataclasses.dataclass(frozen=True)
class DenseNetArchitecture(Description):
    """A DenseNet-BC: `growth` channels a layer, `bn_size` times as many inside it."""

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
        """The dense layers, as 'block1/0', ..., 'block4/23'."""
        return [spec.name for spec in self.layer_specs()]

    def joined(self) -> Mapping[str, int]:
        """The transitions, each with the layer behind it."""
        specs = list(self.layer_specs())
        starts = [index for index, spec in enumerate(specs) if spec.transition]
        return {f"transition{number}": index for number, index in enumerate(starts, start=1)}

    @property
    def num_features(self) -> int:
        """Width of the pooled features that the head sees."""
        return list(self.layer_specs())[-1].inputs + self.growth

    @property
    def num_parameters(self) -> int:
        """All parameters that train, without building anything."""
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
    """Normalise, activate, convolve, twice; the result stands behind the input."""

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
    """Half the channels, and half the rows and columns."""

    def __init__(self, inputs: int, *, dtype: jnp.dtype, method: ConvMethod):
        self.norm = BatchNorm(inputs, eps=1e-5, dtype=dtype)
        self.conv = Conv(inputs, inputs // 2, 1, dtype=dtype, method=method)

    def __call__(self, features: jax.Array, train: bool) -> jax.Array:
        features = self.conv(nnx.relu(self.norm(features, train)))
        # The last row and column of an odd size are left out, as in torch.
        height, width = (size // 2 * 2 for size in features.shape[1:3])
        return mean_pool(features[:, :height, :width])


class DenseNet(BlockNetwork):
    """The network."""

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
        """The dense layers, each behind its transition where it has one."""
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
        """7x7 with stride 2, and max-pooling."""
        return max_pool(nnx.relu(self.norm0(self.conv0(images), train)), self.method)

    def pool(self, features: jax.Array, train: bool) -> jax.Array:
        """The last normalisation and activation, and the mean."""
        return super().pool(nnx.relu(self.norm5(features, train)), train)
