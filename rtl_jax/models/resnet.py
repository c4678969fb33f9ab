"""ResNet in Flax NNX."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from rtl_jax.models.activations import ACTIVATIONS
from rtl_jax.models.architecture import ResNetArchitecture
from rtl_jax.models.batch_norm import BatchNorm
from rtl_jax.models.blocks import BlockNetwork, ClassificationHead
from rtl_jax.models.convolution import Conv, ConvMethod
from rtl_jax.models.expansion import normalised
from rtl_jax.models.pooling import blur_pool, max_pool, mean_pool


class Block(nnx.Module):
    """A residual block: convolutions, each with batch normalisation, and a shortcut."""

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
        def conv(
            inputs: int, outputs: int, kernel_size: int, stride: int = 1, groups: int = 1
        ) -> Conv:
            return Conv(
                inputs, outputs, kernel_size, stride, groups=groups, dtype=dtype, method=method
            )

        def norm(features: int) -> BatchNorm:
            return BatchNorm(features, eps=architecture.bn_eps, dtype=dtype)

        self.activation = architecture.activation
        self.anti_aliasing = architecture.anti_aliasing if stride == 2 else "none"
        own = 1 if self.anti_aliasing != "none" else stride
        if architecture.block == "bottleneck":
            first, second = (own, 1) if architecture.stride_in == "1x1" else (1, own)
            self.conv1, self.bn1 = conv(channels, inner, 1, first), norm(inner)
            self.conv2, self.bn2 = conv(inner, inner, 3, second, architecture.groups), norm(inner)
            self.conv3, self.bn3 = conv(inner, outputs, 1), norm(outputs)
            self.depth = 3
        else:
            self.conv1, self.bn1 = conv(channels, inner, 3, own), norm(inner)
            self.conv2, self.bn2 = conv(inner, outputs, 3), norm(outputs)
            self.depth = 2
        self.has_downsample = stride != 1 or channels != outputs
        if self.has_downsample:
            self.average = architecture.average_shortcut and stride == 2
            self.downsample_conv = conv(channels, outputs, 1, 1 if self.average else stride)
            self.downsample_bn = norm(outputs)

    def __call__(self, features: jax.Array, train: bool) -> jax.Array:
        shortcut, activation = features, ACTIVATIONS[self.activation]
        if self.has_downsample:
            shortcut = mean_pool(features) if self.average else features
            shortcut = normalised(self.downsample_conv, self.downsample_bn, shortcut, train)
        features = activation(self.bn1(self.conv1(features), train))
        if self.depth == 2:
            features = downsampled(features, self.anti_aliasing)
        features = self.bn2(self.conv2(features), train)
        if self.depth == 3:
            features = downsampled(activation(features), self.anti_aliasing)
            features = normalised(self.conv3, self.bn3, features, train)
        return activation(features + shortcut)


def downsampled(features: jax.Array, anti_aliasing: str) -> jax.Array:
    """Downsample by 2 with anti-aliasing; 'none' leaves the features unchanged."""
    if anti_aliasing == "blur":
        return blur_pool(features)
    if anti_aliasing == "average":  # drops the last row or column of an odd size
        return mean_pool(features[:, : features.shape[1] // 2 * 2, : features.shape[2] // 2 * 2])
    return features


class ResNet(BlockNetwork):
    """The network, with attributes named as in torchvision, so that paths map one to one."""

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
        stem: list[nnx.Module] = []
        widths, stride = (3, *arch.deep_stem, arch.stem_width), arch.stem_stride
        for before, after in itertools.pairwise(widths):
            if stem:
                stem.append(BatchNorm(before, eps=arch.bn_eps, dtype=dtype))
                stride = 1
            stem.append(Conv(before, after, arch.stem_kernel, stride, dtype=dtype, method=method))
        self.method = method
        self.conv1: Any = nnx.List(stem) if arch.deep_stem else stem[0]
        self.bn1 = BatchNorm(arch.stem_width, eps=arch.bn_eps, dtype=dtype)
        blocks = {
            name: Block(arch, channels, inner, out, stride, dtype=dtype, method=method)
            for name, channels, inner, out, stride in arch.block_specs()
        }
        for stage, size in enumerate(arch.stage_sizes, start=1):
            members = [blocks[f"layer{stage}/{index}"] for index in range(size)]
            setattr(self, f"layer{stage}", nnx.List(members))
        # The head always computes in float32, since logits feed a softmax.
        self.fc = ClassificationHead(arch.num_features, arch.num_classes)

    def blocks(self) -> list[Block]:
        """Return all residual blocks, from input to output."""
        stages = range(1, len(self.architecture.stage_sizes) + 1)
        return [block for stage in stages for block in getattr(self, f"layer{stage}")]

    def stem(self, images: jax.Array, train: bool) -> jax.Array:
        """Compute the input of the first block from normalised images."""
        arch, features = self.architecture, images
        activation = ACTIVATIONS[arch.activation]
        if arch.deep_stem:
            first, *others = self.conv1
            features = first(features)
            for norm, conv in zip(others[::2], others[1::2], strict=True):
                features = conv(activation(norm(features, train)))
        else:
            features = self.conv1(features)
        features = activation(self.bn1(features, train))
        if not arch.stem_pool or arch.anti_aliasing == "average":
            return downsampled(features, arch.anti_aliasing) if arch.stem_pool else features
        if arch.anti_aliasing == "blur":
            return blur_pool(max_pool(features, self.method, stride=1))
        return max_pool(features, self.method)
