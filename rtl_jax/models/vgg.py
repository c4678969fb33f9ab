"""VGG, with and without batch normalisation.

A block is a convolution with everything up to the next one, or one of the two linear layers before
the head; the first convolution is the stem.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from rtl_jax.errors import UserError, shown
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
    require_truth,
    require_whole,
    require_wholes,
    require_widths,
)
from rtl_jax.models.pooling import max_pool


@dataclasses.dataclass(frozen=True)
class VGGArchitecture(Description):
    """A VGG: stages of 3x3 convolutions, each followed by max-pooling.

    `widths` are the widths of all convolutions, `stage_sizes` their numbers per stage. The last
    feature maps are averaged to `grid` x `grid`, the input of two linear layers of width `hidden`.
    """

    STEM: ClassVar = ("conv0",)

    name: str
    stage_sizes: tuple[int, ...]
    widths: tuple[int, ...]
    batch_norm: bool = True
    grid: int = 7
    hidden: int = 4096
    num_classes: int = 1000
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        require_common(self)
        require_wholes(self, "stage_sizes", "widths")
        require_whole(self, "grid", "hidden")
        require_truth(self, "batch_norm")
        require_blocks(self, "stage_sizes")
        require_widths(self, "widths", "grid", "hidden")
        if len(self.widths) != sum(self.stage_sizes):
            raise UserError(
                f"widths {shown(self.widths)} must be one for each of the convolutions of "
                f"stage_sizes {shown(self.stage_sizes)}"
            )
        require_size(self)

    def conv_specs(self) -> Iterator[tuple[str, int, int, bool]]:
        """Yield (name, inputs, outputs, whether pooling follows) of every convolution."""
        ends = set(np.cumsum(self.stage_sizes) - 1)
        channels = 3
        for index, width in enumerate(self.widths):
            yield f"conv{index}", channels, width, index in ends
            channels = width

    def block_names(self) -> list[str]:
        """List all convolutions but the first, and the two linear layers."""
        return [f"conv{index}" for index in range(1, len(self.widths))] + ["fc1", "fc2"]

    @property
    def has_batch_stats(self) -> bool:
        """Whether the network has running statistics, which can be adapted."""
        return self.batch_norm

    @property
    def num_features(self) -> int:
        """The width of the input of the head."""
        return self.hidden

    @property
    def num_parameters(self) -> int:
        """The number of trainable parameters, without building the network."""
        number = (self.widths[-1] * self.grid**2 + self.hidden + 2) * self.hidden
        for _, inputs, outputs, _ in self.conv_specs():
            number += (9 * inputs + (3 if self.batch_norm else 1)) * outputs
        return number + (self.hidden + 1) * self.num_classes


def _vgg(name: str, sizes: tuple[int, ...], batch_norm: bool) -> VGGArchitecture:
    each = zip((64, 128, 256, 512, 512), sizes, strict=True)
    widths = tuple(width for width, size in each for _ in range(size))
    return VGGArchitecture(name + "_bn" * batch_norm, sizes, widths, batch_norm)


ARCHITECTURES = {
    each.name: each
    for batch_norm in (True, False)
    for each in (
        _vgg("vgg11", (1, 1, 2, 2, 2), batch_norm),
        _vgg("vgg13", (2, 2, 2, 2, 2), batch_norm),
        _vgg("vgg16", (2, 2, 3, 3, 3), batch_norm),
        _vgg("vgg19", (2, 2, 4, 4, 4), batch_norm),
    )
}


class ConvBlock(nnx.Module):
    """A convolution with bias, an optional normalisation, ReLU and optional max-pooling."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        pooled: bool,
        *,
        norm: bool,
        dtype: jnp.dtype,
        method: ConvMethod,
    ):
        self.conv = Conv(inputs, outputs, 3, bias=True, dtype=dtype, method=method)
        self.has_norm, self.pooled = norm, pooled
        if norm:
            self.norm = BatchNorm(outputs, eps=1e-5, dtype=dtype)

    def __call__(self, features: jax.Array, train: bool) -> jax.Array:
        features = self.conv(features)
        features = nnx.relu(self.norm(features, train) if self.has_norm else features)
        if not self.pooled:
            return features
        return max_pool(features, self.conv.method, size=2, padding=0)


class LinearBlock(nnx.Module):
    """A linear layer and ReLU; maps are averaged to a grid and flattened first."""

    def __init__(self, inputs: int, outputs: int, grid: int, *, dtype: jnp.dtype):
        self.kernel = nnx.Param(jnp.zeros((inputs, outputs)))
        self.bias = nnx.Param(jnp.zeros(outputs))
        self.grid, self.dtype = grid, dtype

    def __call__(self, features: jax.Array, train: bool) -> jax.Array:
        if features.ndim == 4:
            features = adaptive_mean(features, self.grid).reshape(features.shape[0], -1)
        kernel, bias = (jnp.asarray(x[...], self.dtype) for x in (self.kernel, self.bias))
        return nnx.relu(features @ kernel + bias)


def adaptive_mean(features: jax.Array, grid: int) -> jax.Array:
    """Average maps [N, H, W, C] over grid x grid windows, like torch's AdaptiveAvgPool2d."""
    if features.shape[1:3] == (grid, grid):
        return features
    down, across = (_windows(size, grid) for size in features.shape[1:3])
    rows = jnp.einsum("gh,nhwc->ngwc", jnp.asarray(down, features.dtype), features)
    return jnp.einsum("gw,nhwc->nhgc", jnp.asarray(across, features.dtype), rows)


def _windows(size: int, grid: int) -> np.ndarray:
    """Return the averaging weights [grid, size] of windows, which may overlap."""
    weights = np.zeros((grid, size))
    for index in range(grid):
        start, stop = index * size // grid, -(-(index + 1) * size // grid)
        weights[index, start:stop] = 1 / (stop - start)
    return weights


class VGG(BlockNetwork):
    """The VGG."""

    def __init__(
        self,
        architecture: VGGArchitecture,
        *,
        dtype: jnp.dtype = jnp.float32,
        method: ConvMethod = "xla",
    ):
        arch = architecture
        self.architecture, self.dtype = arch, dtype
        for name, inputs, outputs, pooled in arch.conv_specs():
            block = ConvBlock(
                inputs, outputs, pooled, norm=arch.batch_norm, dtype=dtype, method=method
            )
            setattr(self, name, block)
        inputs = arch.widths[-1] * arch.grid**2
        self.fc1 = LinearBlock(inputs, arch.hidden, arch.grid, dtype=dtype)
        self.fc2 = LinearBlock(arch.hidden, arch.hidden, arch.grid, dtype=dtype)
        self.fc = ClassificationHead(arch.hidden, arch.num_classes)

    def blocks(self) -> list[Any]:
        """Return all convolutions but the first, and the two linear layers."""
        return [getattr(self, name) for name in self.architecture.block_names()]

    def stem(self, images: jax.Array, train: bool) -> jax.Array:
        """Apply the first convolution."""
        first = getattr(self, "conv0")  # noqa: B009 (set by its name, too)
        return first(images, train)

    def pool(self, features: jax.Array, train: bool) -> jax.Array:
        """Cast the output of the last linear layer to at least float32."""
        return features.astype(jnp.promote_types(features.dtype, jnp.float32))
