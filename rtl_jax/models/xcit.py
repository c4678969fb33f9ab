"""XCiT, with attention among channels, in Flax NNX, following timm.

A block is attention, local convolutions and an MLP. In the last blocks, only a class token attends;
it belongs to the first of these blocks, and the last normalisation to the last. Before these blocks
features are [N, H, W, width]; between them they are tokens [N, 1 + T, width].
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from rtl_jax.errors import UserError, require
from rtl_jax.models.batch_norm import BatchNorm
from rtl_jax.models.blocks import BlockNetwork, ClassificationHead
from rtl_jax.models.checked_description import CheckedDescription, require_depths
from rtl_jax.models.convolution import Conv, ConvMethod
from rtl_jax.models.token_layers import (
    ACTIVATIONS,
    Activation,
    LayerNorm,
    Linear,
    Mlp,
    at_least_float32,
    attend,
)

_WAVES = 32  # sines and cosines for each of the two axes


@dataclasses.dataclass(frozen=True)
class XCiTArchitecture(CheckedDescription):
    """An XCiT as data; hashable, and JSON-able through `to_dict` and `from_dict`.

    depth, class_depth: the numbers of channel-attention blocks and of class-token blocks. patch:
    the side of a token in pixels; the last log2(patch) of `convolutions` downsample by 2.
    tokens_norm: whether class-token blocks normalise the other tokens too. activation ('gelu' is
    the exact one), norm_eps, bn_eps: as in timm.
    """

    width: int = 384
    depth: int = 12
    class_depth: int = 2
    heads: int = 8
    convolutions: int = 4
    patch: int = 16
    mlp_width: int = 1536
    tokens_norm: bool = True
    activation: Activation = "gelu"
    norm_eps: float = 1e-6
    bn_eps: float = 1e-5

    STEM: ClassVar = ("patch_embed", "pos_embed")
    UNSEEN: ClassVar = {
        "activation": "gelu",
        "norm_eps": 1e-6,
        "bn_eps": 1e-5,
        "patch": 16,
        "tokens_norm": True,
    }

    def require_sizes(self) -> None:
        """Raise UserError for sizes that define no valid network."""
        require_depths((self.depth, self.class_depth))
        require(self.mlp_width > 0, "mlp_width", "a positive number", self.mlp_width)
        require(self.convolutions in (3, 4), "convolutions", "3 or 4", self.convolutions)
        good = self.width and self.width % 2**self.convolutions == 0
        require(bool(good), "width", f"a multiple of {2**self.convolutions}", self.width)
        divides = self.heads > 0 and self.width % self.heads == 0
        require(divides, "heads", f"a divisor of the width {self.width}", self.heads)
        patches = [2**number for number in range(1, self.convolutions + 1)]
        require(self.patch in patches, "patch", f"one of {patches}", self.patch)
        for field in ("norm_eps", "bn_eps"):
            value = getattr(self, field)
            require(0 < value < 1, field, "a number between 0 and 1", value)

    @property
    def num_features(self) -> int:
        """The width of the features, the input of the head."""
        return self.width

    @property
    def has_batch_stats(self) -> bool:
        """Whether the network has running statistics, which can be adapted."""
        return True

    @property
    def num_parameters(self) -> int:
        """The number of trainable parameters, without building the network."""
        d, inner = self.width, self.mlp_width
        both = 4 * d * d + 4 * d + 2 * d * inner + inner + d  # attention and MLP
        stem = sum(9 * before * after + 2 * after for before, after, _ in self.stem_stages())
        block = both + 6 * d + 3 * d + self.heads + 2 * (9 * d + d) + 2 * d
        last = both + 4 * d + 2 * d
        number = stem + (2 * _WAVES + 1) * d + self.depth * block + d + self.class_depth * last
        return number + 2 * d + (d + 1) * self.num_classes

    def stem_stages(self) -> list[tuple[int, int, int]]:
        """Return the inputs, outputs and stride of each convolution of the stem."""
        number = self.convolutions
        widths = [3, *(self.width // 2**left for left in reversed(range(number)))]
        halving = self.patch.bit_length() - 1
        strides = [1] * (number - halving) + [2] * halving
        pairs = zip(itertools.pairwise(widths), strides, strict=True)
        return [(before, after, stride) for (before, after), stride in pairs]

    def block_names(self) -> list[str]:
        """List the blocks from input to output."""
        names = [f"layers/{index}" for index in range(self.depth)]
        return names + [f"class_layers/{index}" for index in range(self.class_depth)]


class ChannelAttention(nnx.Module):
    """Attention among the channels of each head, from their cross-covariance over all tokens."""

    def __init__(self, arch: XCiTArchitecture, *, dtype: jnp.dtype):
        self.temperature = nnx.Param(jnp.ones((arch.heads, 1, 1)))
        self.qkv = Linear(arch.width, 3 * arch.width, dtype=dtype)
        self.proj = Linear(arch.width, arch.width, dtype=dtype)
        self.heads = arch.heads

    def __call__(self, features: jax.Array) -> jax.Array:
        batch, height, width, channels = features.shape
        qkv = self.qkv(features).reshape(batch, height * width, 3, self.heads, -1)
        queries, keys, values = jnp.moveaxis(qkv, 2, 0)
        scores = jnp.einsum("nthc,nthd->nhcd", _unit(queries), _unit(keys))
        scores = at_least_float32(scores) * self.temperature[...]
        weights = jax.nn.softmax(scores, axis=-1).astype(values.dtype)
        found = jnp.einsum("nhcd,nthd->nthc", weights, values)
        return self.proj(found.reshape(batch, height, width, channels))


def _unit(tokens: jax.Array) -> jax.Array:
    """Normalise [N, T, ...] to unit length along T, like torch's normalize."""
    squares = jnp.square(at_least_float32(tokens)).sum(1, keepdims=True)
    return (tokens * lax.rsqrt(jnp.maximum(squares, 1e-24))).astype(tokens.dtype)


class LocalInteraction(nnx.Module):
    """Two depthwise convolutions with an activation and batch normalisation in between."""

    def __init__(self, arch: XCiTArchitecture, *, dtype: jnp.dtype, method: ConvMethod):
        def depthwise() -> Conv:
            width = arch.width
            return Conv(width, width, 3, groups=width, bias=True, dtype=dtype, method=method)

        self.conv1 = depthwise()
        self.bn = BatchNorm(arch.width, eps=arch.bn_eps, dtype=dtype)
        self.conv2 = depthwise()
        self.activation = arch.activation

    def __call__(self, features: jax.Array, train: bool) -> jax.Array:
        features = ACTIVATIONS[self.activation](self.conv1(features))
        return self.conv2(self.bn(features, train))


class Block(nnx.Module):
    """Channel attention, local convolutions and an MLP, each scaled, with shortcuts."""

    def __init__(self, arch: XCiTArchitecture, *, dtype: jnp.dtype, method: ConvMethod):
        def norm() -> LayerNorm:
            return LayerNorm(arch.width, eps=arch.norm_eps, dtype=dtype)

        self.norm1, self.norm2, self.norm3 = norm(), norm(), norm()
        self.attn = ChannelAttention(arch, dtype=dtype)
        self.local_mp = LocalInteraction(arch, dtype=dtype, method=method)
        self.mlp = Mlp(arch.width, arch.mlp_width, activation=arch.activation, dtype=dtype)
        self.scale1, self.scale2, self.scale3 = (
            Scale(arch.width, dtype=dtype) for _ in range(3)
        )  # fmt: skip

    def __call__(self, features: jax.Array, train: bool) -> jax.Array:
        features = features + self.scale1(self.attn(self.norm1(features)))
        features = features + self.scale3(self.local_mp(self.norm3(features), train))
        return features + self.scale2(self.mlp(self.norm2(features)))


class Scale(nnx.Module):
    """A learned factor for every channel."""

    def __init__(self, width: int, *, dtype: jnp.dtype):
        self.gamma = nnx.Param(jnp.ones(width))
        self.dtype = dtype

    def __call__(self, tokens: jax.Array) -> jax.Array:
        return tokens * jnp.asarray(self.gamma[...], self.dtype)


class ClassAttention(nnx.Module):
    """Attention of the first token to all tokens, [N, T, width] to [N, 1, width]."""

    def __init__(self, arch: XCiTArchitecture, *, dtype: jnp.dtype):
        self.q, self.k, self.v, self.proj = (
            Linear(arch.width, arch.width, dtype=dtype) for _ in range(4)
        )
        self.heads = arch.heads

    def __call__(self, tokens: jax.Array) -> jax.Array:
        def divided(layer: Linear, tokens: jax.Array) -> jax.Array:
            return layer(tokens).reshape(*tokens.shape[:2], self.heads, -1)

        queries = divided(self.q, tokens[:, :1])
        found = attend(queries, divided(self.k, tokens), divided(self.v, tokens))
        return self.proj(found.reshape(tokens.shape[0], 1, -1))


class ClassBlock(nnx.Module):
    """Attention and an MLP for the class token; the first such block holds the token."""

    def __init__(self, arch: XCiTArchitecture, *, first: bool, dtype: jnp.dtype):
        if first:
            self.cls_token = nnx.Param(jnp.zeros((1, 1, arch.width)))
        self.norm1 = LayerNorm(arch.width, eps=arch.norm_eps, dtype=dtype)
        self.attn = ClassAttention(arch, dtype=dtype)
        self.norm2 = LayerNorm(arch.width, eps=arch.norm_eps, dtype=dtype)
        self.mlp = Mlp(arch.width, arch.mlp_width, activation=arch.activation, dtype=dtype)
        self.scale1, self.scale2 = (Scale(arch.width, dtype=dtype) for _ in range(2))
        self.first, self.tokens_norm, self.dtype = first, arch.tokens_norm, dtype

    def __call__(self, tokens: jax.Array, train: bool) -> jax.Array:
        if self.first:
            batch, width = tokens.shape[0], tokens.shape[-1]
            token = jnp.asarray(self.cls_token[...], self.dtype)
            token = jnp.broadcast_to(token, (batch, 1, width))
            tokens = jnp.concatenate([token, tokens.reshape(batch, -1, width)], axis=1)
        normed = self.norm1(tokens)
        tokens = tokens + self.scale1(jnp.concatenate([self.attn(normed), normed[:, 1:]], axis=1))
        token, others = tokens[:, :1], tokens[:, 1:]
        token = self.norm2(token)
        others = self.norm2(others) if self.tokens_norm else others
        # The others are doubled, as when the authors' weights were trained.
        return jnp.concatenate([token + self.scale2(self.mlp(token)), others + others], axis=1)


class PatchEmbed(nnx.Module):
    """Convolutions with batch normalisation and activations in between."""

    def __init__(self, arch: XCiTArchitecture, *, dtype: jnp.dtype, method: ConvMethod):
        stages = arch.stem_stages()
        self.convs = nnx.List(
            Conv(before, after, 3, stride, dtype=dtype, method=method)
            for before, after, stride in stages
        )
        self.norms = nnx.List(
            BatchNorm(after, eps=arch.bn_eps, dtype=dtype) for _, after, _ in stages
        )
        self.activation = arch.activation

    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        for index, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            images = images if index == 0 else ACTIVATIONS[self.activation](images)
            images = norm(conv(images), train)
        return images


class Positions(nnx.Module):
    """Sinusoidal position embeddings passed through a linear layer, [1, H, W, width]."""

    def __init__(self, arch: XCiTArchitecture, *, dtype: jnp.dtype):
        self.token_projection = Linear(2 * _WAVES, arch.width, dtype=dtype)
        self.dtype = dtype

    def __call__(self, rows: int, columns: int) -> jax.Array:
        frequencies = 10_000.0 ** (2 * (np.arange(_WAVES) // 2) / _WAVES)

        def waves(count: int) -> np.ndarray:
            places = np.arange(1, count + 1) / (count + 1e-6) * 2 * np.pi
            angles = places[:, None] / frequencies
            pairs = np.stack([np.sin(angles[:, ::2]), np.cos(angles[:, 1::2])], axis=2)
            return pairs.reshape(count, _WAVES)

        shape = (rows, columns, _WAVES)
        down = np.broadcast_to(waves(rows)[:, None], shape)
        across = np.broadcast_to(waves(columns), shape)
        both = np.concatenate([down, across], axis=-1)[None]
        return self.token_projection(jnp.asarray(both, self.dtype))


class XCiT(BlockNetwork):
    """The network, with attributes named as in timm where possible."""

    def __init__(
        self,
        architecture: XCiTArchitecture,
        *,
        dtype: jnp.dtype = jnp.float32,
        method: ConvMethod = "xla",
    ):
        arch = architecture
        self.architecture = arch
        self.dtype = dtype
        self.patch_embed = PatchEmbed(arch, dtype=dtype, method=method)
        self.pos_embed = Positions(arch, dtype=dtype)
        self.layers = nnx.List(Block(arch, dtype=dtype, method=method) for _ in range(arch.depth))
        self.class_layers = nnx.List(
            ClassBlock(arch, first=index == 0, dtype=dtype) for index in range(arch.class_depth)
        )
        self.norm = LayerNorm(arch.width, eps=arch.norm_eps, dtype=dtype)
        self.fc = ClassificationHead(arch.num_features, arch.num_classes)

    def blocks(self) -> Sequence[Callable[[jax.Array, bool], jax.Array]]:
        """Return all blocks, with the class-token blocks last."""
        return [*self.layers, *self.class_layers]

    def stem(self, images: jax.Array, train: bool) -> jax.Array:
        """Compute the tokens of normalised images, with positions added."""
        height, width = images.shape[1:3]
        patch = self.architecture.patch
        if height % patch or width % patch or not height * width:
            raise UserError(
                f"{self.architecture.name} makes a token of {patch} x {patch} pixels: expected "
                f"images whose sides are multiples of {patch}, received {height} x {width}"
            )
        features: Any = self.patch_embed(images, train)
        return features + self.pos_embed(*features.shape[1:3])

    def pool(self, features: jax.Array, train: bool) -> jax.Array:
        """Return the normalised class token."""
        return at_least_float32(self.norm(features[:, 0]))


_SIZES = {
    "nano_12": (128, 12, 4),
    "tiny_12": (192, 12, 4),
    "small_12": (384, 12, 8),
    "tiny_24": (192, 24, 4),
    "small_24": (384, 24, 8),
    "medium_24": (512, 24, 8),
    "large_24": (768, 24, 16),
}

ARCHITECTURES: dict[str, XCiTArchitecture] = {
    architecture.name: architecture
    for architecture in (
        XCiTArchitecture(
            f"xcit_{size}_p{patch}_224",
            width=width,
            depth=depth,
            heads=heads,
            convolutions=convolutions,
            patch=patch,
            mlp_width=4 * width,
            tokens_norm=size != "nano_12",
        )
        for size, (width, depth, heads) in _SIZES.items()
        for patch, convolutions in ((16, 4), (8, 3))
    )
}
