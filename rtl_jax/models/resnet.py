"""ResNet in Flax NNX, split at any block boundary, and its variables as flat dictionaries.

A split point counts the blocks before it: 0 is just behind the stem, `num_blocks` behind the last
block and the global pool, where features are [N, num_features]; BEFORE_STEM (-1) leaves
everything to the suffix. `suffix(prefix(images, split), split)` is the network, for
every split point.
"""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from rtl_jax.errors import UserError
from rtl_jax.models.architecture import BEFORE_STEM, ResNetArchitecture
from rtl_jax.models.layers import BatchNorm, Conv, ConvMethod, max_pool

Variables = dict[str, jax.Array]

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": nnx.relu,
    "silu": nnx.silu,
    "gelu": partial(nnx.gelu, approximate=False),  # torch's default
}


class Block(nnx.Module):
    """A residual block: convolutions, each with batch normalisation, plus a shortcut."""

    def __init__(
        self,
        architecture: ResNetArchitecture,
        channels: int,
        inner: int,
        outputs: int,
        stride: int,
        *,
        dtype: jnp.dtype,
        method: ConvMethod,
    ):
        def conv(inputs: int, outputs: int, kernel_size: int, stride: int = 1) -> Conv:
            return Conv(inputs, outputs, kernel_size, stride, dtype=dtype, method=method)

        def norm(features: int) -> BatchNorm:
            return BatchNorm(features, eps=architecture.bn_eps, dtype=dtype)

        self.activation = architecture.activation
        if architecture.block == "bottleneck":
            first, second = (stride, 1) if architecture.stride_in == "1x1" else (1, stride)
            self.conv1, self.bn1 = conv(channels, inner, 1, first), norm(inner)
            self.conv2, self.bn2 = conv(inner, inner, 3, second), norm(inner)
            self.conv3, self.bn3 = conv(inner, outputs, 1), norm(outputs)
            self.depth = 3
        else:
            self.conv1, self.bn1 = conv(channels, inner, 3, stride), norm(inner)
            self.conv2, self.bn2 = conv(inner, outputs, 3), norm(outputs)
            self.depth = 2
        self.has_downsample = stride != 1 or channels != outputs
        if self.has_downsample:
            self.downsample_conv = conv(channels, outputs, 1, stride)
            self.downsample_bn = norm(outputs)

    def __call__(self, features: jax.Array, train: bool) -> jax.Array:
        shortcut, activation = features, ACTIVATIONS[self.activation]
        if self.has_downsample:
            shortcut = self.downsample_bn(self.downsample_conv(features), train)
        features = activation(self.bn1(self.conv1(features), train))
        features = self.bn2(self.conv2(features), train)
        if self.depth == 3:
            features = self.bn3(self.conv3(activation(features)), train)
        return activation(features + shortcut)


class ClassificationHead(nnx.Module):
    """The last, linear layer; kernel [features, classes] and bias, in float32."""

    def __init__(self, features: int, classes: int):
        self.kernel = nnx.Param(jnp.zeros((features, classes)))
        self.bias = nnx.Param(jnp.zeros(classes))

    def __call__(self, features: jax.Array) -> jax.Array:
        return features @ self.kernel[...] + self.bias[...]


class ResNet(nnx.Module):
    """The network; attributes are named as torchvision's, so that paths map one to one."""

    def __init__(
        self,
        architecture: ResNetArchitecture,
        *,
        dtype: jnp.dtype = jnp.float32,
        method: ConvMethod = "xla",
    ):
        arch = architecture
        self.architecture = arch
        self.dtype = dtype
        self.conv1 = Conv(
            3,
            arch.stem_width,
            arch.stem_kernel,
            arch.stem_stride,
            dtype=dtype,
            method=method,
        )
        self.bn1 = BatchNorm(arch.stem_width, eps=arch.bn_eps, dtype=dtype)
        blocks = {
            name: Block(arch, channels, inner, out, stride, dtype=dtype, method=method)
            for name, channels, inner, out, stride in arch.block_specs()
        }
        for stage, size in enumerate(arch.stage_sizes, start=1):
            members = [blocks[f"layer{stage}/{index}"] for index in range(size)]
            setattr(self, f"layer{stage}", nnx.List(members))
        # The head computes in float32 whatever the blocks do: logits feed a softmax.
        self.fc = ClassificationHead(arch.num_features, arch.num_classes)

    def blocks(self) -> list[Block]:
        """All residual blocks, from input to output."""
        stages = range(1, len(self.architecture.stage_sizes) + 1)
        return [block for stage in stages for block in getattr(self, f"layer{stage}")]

    def normalize(self, images: jax.Array) -> jax.Array:
        """Clamp pixels to [0, 1], subtract the mean, divide by the standard deviation."""
        mean = jnp.asarray(self.architecture.mean, images.dtype)
        std = jnp.asarray(self.architecture.std, images.dtype)
        # By comparison, as torch's clamp: `jnp.clip` halves the gradient of a value that lies on
        # a bound, and black and white pixels, and all that an attack has clamped, lie there.
        clamped = jnp.where(images < 0, 0, jnp.where(images > 1, 1, images))
        return (clamped - mean) / std

    def _stem(self, images: jax.Array, train: bool) -> jax.Array:
        features = self.normalize(images).astype(self.dtype)
        features = self.bn1(self.conv1(features), train)
        features = ACTIVATIONS[self.architecture.activation](features)
        if self.architecture.stem_pool:
            features = max_pool(features, self.conv1.method)
        return features

    def _run(self, features: jax.Array, start: int, stop: int, train: bool) -> jax.Array:
        """From split point `start` to split point `stop`; pooled if `stop` is the last."""
        if start == BEFORE_STEM and stop > BEFORE_STEM:
            features = self._stem(features, train)
        for block in self.blocks()[max(start, 0) : max(stop, 0)]:
            features = block(features, train)
        if stop == self.architecture.num_blocks and start < stop:
            # Averaged in float32 at least: bfloat16 would lose what the head needs.
            features = features.mean((1, 2), dtype=jnp.promote_types(features.dtype, jnp.float32))
        return features

    def _check(self, split: int) -> None:
        if not BEFORE_STEM <= split <= self.architecture.num_blocks:
            raise UserError(
                f"{self.architecture.name} can be split at {BEFORE_STEM} to "
                f"{self.architecture.num_blocks}, not at {split}"
            )

    def prefix(self, images: jax.Array, split: int, *, train: bool = False) -> jax.Array:
        """Map images [N, H, W, 3] to the features at a split point.

        With `train`, batch statistics normalise and the running ones move.
        """
        self._check(split)
        return self._run(images, BEFORE_STEM, split, train)

    def suffix(self, features: jax.Array, split: int, *, train: bool = False) -> jax.Array:
        """Map the features at a split point to logits [N, classes]."""
        self._check(split)
        features = self._run(features, split, self.architecture.num_blocks, train)
        return self.fc(features)

    def __call__(self, images: jax.Array, *, train: bool = False) -> jax.Array:
        """Map images [N, H, W, 3] to logits [N, classes]."""
        return self.suffix(images, BEFORE_STEM, train=train)


def initialize(
    architecture: ResNetArchitecture, key: jax.Array, shapes: Variables, stats: Variables
) -> tuple[Variables, Variables]:
    """Random parameters and fresh statistics (mean 0, variance 1), distributed as torchvision's.

    `shapes` and `stats` describe every parameter and statistic.

    Convolutions are normal with He's variance by their outputs, the head uniform within
    1 / sqrt(features), scales 1, biases 0.
    """
    kernels = [path for path in shapes if path.endswith("kernel") and path not in architecture.head]
    sizes = [math.prod(shapes[path].shape) for path in kernels]
    key, head_key = jax.random.split(key)
    # One draw cut in pieces: a draw per kernel would compile for seconds.
    draws = jnp.split(jax.random.normal(key, (sum(sizes),)), np.cumsum(sizes)[:-1])
    params: Variables = {}
    for path, shape in shapes.items():
        params[path] = jnp.ones(shape.shape) if path.endswith("scale") else jnp.zeros(shape.shape)
    for path, draw in zip(kernels, draws, strict=True):
        height, width, _, outputs = shapes[path].shape
        params[path] = draw.reshape(shapes[path].shape) * math.sqrt(2 / (height * width * outputs))
    for path, part in zip(architecture.head, jax.random.split(head_key), strict=True):
        bound = 1 / math.sqrt(architecture.num_features)
        params[path] = jax.random.uniform(part, shapes[path].shape, minval=-bound, maxval=bound)
    batch_stats = {
        path: jnp.ones(shape.shape) if path.endswith("var") else jnp.zeros(shape.shape)
        for path, shape in stats.items()
    }
    return params, batch_stats
