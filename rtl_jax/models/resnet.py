"""ResNet in Flax NNX."""

import jax
import jax.numpy as jnp
from flax import nnx

from rtl_jax.models.architecture import ResNetArchitecture
from rtl_jax.models.blocks import BlockNetwork, ClassificationHead
from rtl_jax.models.layers import ACTIVATIONS, BatchNorm, Conv, ConvMethod, max_pool


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


class ResNet(BlockNetwork):
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

    def stem(self, images: jax.Array, train: bool) -> jax.Array:
        """What the first block sees of normalised images."""
        features = self.bn1(self.conv1(images), train)
        features = ACTIVATIONS[self.architecture.activation](features)
        if self.architecture.stem_pool:
            features = max_pool(features, self.conv1.method)
        return features
