"""Swin transformers in Flax NNX, following timm.

A block is attention within windows and an MLP; every second block shifts its windows. The
downsampling before a stage belongs to the stage's first block, the last normalisation to the last
block. Between blocks, features are [N, H, W, width].
"""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from rtl_jax.errors import UserError, require
from rtl_jax.models.blocks import BlockNetwork, ClassificationHead
from rtl_jax.models.checked_description import CheckedDescription, require_depths
from rtl_jax.models.convolution import ConvMethod
from rtl_jax.models.token_layers import Activation, LayerNorm, Linear, Mlp, PatchConv, attend

_MASKED = -100.0  # timm's score for tokens that only the shift of windows made neighbours


@dataclasses.dataclass(frozen=True)
class SwinArchitecture(CheckedDescription):
    """A Swin transformer as data; hashable, and JSON-able through `to_dict` and `from_dict`.

    depths, heads: of the stages. width: of the first stage, doubled in every further one. window:
    the side of a window in tokens. patch: the side of a token in pixels. pad_before_shift: whether
    images that do not fill their windows are padded before the shift, as in torchvision but not in
    timm. activation ('gelu' is the exact one), norm_eps: as in timm.
    """

    depths: tuple[int, ...] = (2, 2, 6, 2)
    heads: tuple[int, ...] = (3, 6, 12, 24)
    width: int = 96
    window: int = 7
    patch: int = 4
    mlp_ratio: int = 4
    pad_before_shift: bool = False
    activation: Activation = "gelu"
    norm_eps: float = 1e-5

    STEM: ClassVar = ("patch_embed",)
    UNSEEN: ClassVar = {"activation": "gelu", "norm_eps": 1e-5, "pad_before_shift": False}

    def require_sizes(self) -> None:
        """Raise UserError for sizes that define no valid network."""
        require_depths(self.depths)
        require(len(self.depths) <= 16, "depths", "16 stages at most", self.depths)
        require(self.width > 0, "width", "a positive number", self.width)
        good = len(self.heads) == len(self.depths) and all(
            heads and width % heads == 0
            for heads, width in zip(self.heads, self.widths, strict=True)
        )
        require(good, "heads", f"divisors of the widths {self.widths}", self.heads)
        for field in ("window", "patch", "mlp_ratio"):
            value = getattr(self, field)
            require(0 < value < 100, field, "1 to 99", value)
        require(0 < self.norm_eps < 1, "norm_eps", "a number between 0 and 1", self.norm_eps)

    @property
    def widths(self) -> tuple[int, ...]:
        """The width of each stage."""
        return tuple(self.width * 2**stage for stage in range(len(self.depths)))

    @property
    def num_features(self) -> int:
        """The width of the features, the input of the head."""
        return self.widths[-1]

    @property
    def num_parameters(self) -> int:
        """The number of trainable parameters, without building the network."""
        number = (3 * self.patch**2 + 3) * self.width
        for before in self.widths[:-1]:
            number += 8 * before + 4 * before * 2 * before
        for depth, width, heads in zip(self.depths, self.widths, self.heads, strict=True):
            inner = self.mlp_ratio * width
            attention = 4 * width * width + 4 * width + (2 * self.window - 1) ** 2 * heads
            number += depth * (attention + 2 * width * inner + inner + width + 4 * width)
        return number + 2 * self.num_features + (self.num_features + 1) * self.num_classes

    def block_names(self) -> list[str]:
        """List the blocks from input to output; downsampling is part of a stage's first block."""
        return [
            f"stages/{stage}/{index}"
            for stage, depth in enumerate(self.depths)
            for index in range(depth)
        ]


class WindowAttention(nnx.Module):
    """Self-attention within windows [N, T, width], with relative position biases."""

    def __init__(self, window: int, width: int, heads: int, *, dtype: jnp.dtype):
        self.relative_position_bias_table = nnx.Param(jnp.zeros(((2 * window - 1) ** 2, heads)))
        self.qkv = Linear(width, 3 * width, dtype=dtype)
        self.proj = Linear(width, width, dtype=dtype)
        self.window, self.heads = window, heads

    def __call__(self, tokens: jax.Array, mask: np.ndarray | None) -> jax.Array:
        """Attend; `mask`, [windows, T, T], is added to the scores of each window of an image."""
        count, size, width = tokens.shape
        qkv = self.qkv(tokens).reshape(count, size, 3, self.heads, width // self.heads)
        table = self.relative_position_bias_table[...]
        bias = table[_places(self.window)].transpose(2, 0, 1)  # [heads, T, T]
        queries, keys, values = jnp.moveaxis(qkv, 2, 0)
        if mask is not None:
            number = len(mask)
            queries, keys, values = (
                part.reshape(count // number, number, *part.shape[1:])
                for part in (queries, keys, values)
            )
            bias = bias + jnp.asarray(mask, bias.dtype)[:, None]
        return self.proj(attend(queries, keys, values, bias).reshape(tokens.shape))


def _places(window: int) -> np.ndarray:
    """Return the table index of the bias for each pair of positions in a window, int [T, T]."""
    rows, columns = (each.reshape(-1) for each in np.mgrid[:window, :window])
    down = rows[:, None] - rows + window - 1
    return down * (2 * window - 1) + columns[:, None] - columns + window - 1


def _mask(rows: int, columns: int, window: int, shifts: tuple[int, int]) -> np.ndarray:
    """Return scores that mask pairs of tokens that only the shift joined, [windows, T, T]."""
    regions = np.zeros((rows, columns))
    for axis, (size, shift) in enumerate(zip((rows, columns), shifts, strict=True)):
        # Follows timm's slices, the last of which is the whole axis if it is not shifted.
        along = np.zeros(size)
        along[size - window : size - shift], along[size - shift if shift else 0 :] = 1, 2
        regions += 3 ** (1 - axis) * (along[:, None] if axis == 0 else along)
    squares = regions.reshape(rows // window, window, columns // window, window)
    flat = squares.transpose(0, 2, 1, 3).reshape(-1, window**2)
    return np.where(flat[:, None] != flat[:, :, None], _MASKED, 0.0)


class PatchMerging(nnx.Module):
    """Merges squares of four tokens into one of twice the width, with normalisation."""

    def __init__(self, arch: SwinArchitecture, width: int, *, dtype: jnp.dtype):
        self.norm = LayerNorm(4 * width, eps=arch.norm_eps, dtype=dtype)
        self.reduction = Linear(4 * width, 2 * width, dtype=dtype, bias=False)

    def __call__(self, features: jax.Array) -> jax.Array:
        batch, height, width, channels = features.shape
        features = jnp.pad(features, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
        rows, columns = -(-height // 2), -(-width // 2)
        squares = features.reshape(batch, rows, 2, columns, 2, channels)
        fours = squares.transpose(0, 1, 3, 4, 2, 5).reshape(batch, rows, columns, 4 * channels)
        return self.reduction(self.norm(fours))


class Block(nnx.Module):
    """Attention within windows and an MLP, each with a normalisation before it and a shortcut.

    The first block of a stage merges tokens of `before` channels.
    """

    def __init__(
        self,
        arch: SwinArchitecture,
        stage: int,
        *,
        shifted: bool,
        before: int | None,
        dtype: jnp.dtype,
    ):
        width, heads = arch.widths[stage], arch.heads[stage]
        self.downsample = PatchMerging(arch, before, dtype=dtype) if before else None
        self.norm1 = LayerNorm(width, eps=arch.norm_eps, dtype=dtype)
        self.attn = WindowAttention(arch.window, width, heads, dtype=dtype)
        self.norm2 = LayerNorm(width, eps=arch.norm_eps, dtype=dtype)
        self.mlp = Mlp(width, arch.mlp_ratio * width, activation=arch.activation, dtype=dtype)
        self.shift = arch.window // 2 if shifted else 0
        self.pad_before_shift = arch.pad_before_shift

    def __call__(self, features: jax.Array, train: bool) -> jax.Array:
        if self.downsample is not None:
            features = self.downsample(features)
        features = features + self._attend(self.norm1(features))
        return features + self.mlp(self.norm2(features))

    def _attend(self, features: jax.Array) -> jax.Array:
        batch, height, width, channels = features.shape
        window = self.attn.window
        # A single window is not shifted.
        down, across = (0 if size <= window else self.shift for size in (height, width))
        shifted = bool(down or across)
        rows, columns = (-(-size // window) * window for size in (height, width))
        around = ((0, 0), (0, rows - height), (0, columns - width), (0, 0))
        if self.pad_before_shift:
            features = jnp.pad(features, around)
        if shifted:
            features = jnp.roll(features, (-down, -across), (1, 2))
        if not self.pad_before_shift:
            features = jnp.pad(features, around)
        squares = features.reshape(
            batch, rows // window, window, columns // window, window, channels
        )
        windows = squares.transpose(0, 1, 3, 2, 4, 5)
        mask = _mask(rows, columns, window, (down, across)) if shifted else None
        found = self.attn(windows.reshape(-1, window**2, channels), mask)
        whole = found.reshape(windows.shape).transpose(0, 1, 3, 2, 4, 5)
        features = whole.reshape(batch, rows, columns, channels)
        if not self.pad_before_shift:
            features = features[:, :height, :width]
        features = jnp.roll(features, (down, across), (1, 2)) if shifted else features
        return features[:, :height, :width]


class PatchEmbed(nnx.Module):
    """Patch embedding with normalisation."""

    def __init__(self, arch: SwinArchitecture, *, dtype: jnp.dtype):
        self.proj = PatchConv(3, arch.width, arch.patch, dtype=dtype)
        self.norm = LayerNorm(arch.width, eps=arch.norm_eps, dtype=dtype)

    def __call__(self, images: jax.Array) -> jax.Array:
        return self.norm(self.proj(images))


class Swin(BlockNetwork):
    """The network, with attributes named as in timm where possible."""

    def __init__(
        self,
        architecture: SwinArchitecture,
        *,
        dtype: jnp.dtype = jnp.float32,
        method: ConvMethod = "xla",
    ):
        arch = architecture
        self.architecture = arch
        self.dtype = dtype
        self.patch_embed = PatchEmbed(arch, dtype=dtype)
        self.stages = nnx.List(
            nnx.List(
                Block(
                    arch,
                    stage,
                    shifted=index % 2 == 1,
                    before=arch.widths[stage - 1] if stage and not index else None,
                    dtype=dtype,
                )
                for index in range(depth)
            )
            for stage, depth in enumerate(arch.depths)
        )
        self.norm = LayerNorm(arch.num_features, eps=arch.norm_eps, dtype=dtype)
        self.fc = ClassificationHead(arch.num_features, arch.num_classes)

    def blocks(self) -> Sequence[Block]:
        """Return all blocks, over all stages."""
        return [block for stage in self.stages for block in stage]

    def stem(self, images: jax.Array, train: bool) -> jax.Array:
        """Compute the tokens of normalised images, [N, H, W, width]."""
        arch = self.architecture
        last = arch.patch * 2 ** (len(arch.depths) - 1)  # pixels of a token of the last stage
        height, width = images.shape[1:3]
        fits = all(
            size % arch.patch == 0 and -(-size // last) >= arch.window for size in (height, width)
        )
        if not fits:
            raise UserError(
                f"{arch.name} has windows of {arch.window} x {arch.window} tokens, and their "
                f"last stage has one token for {last} pixels: expected images whose sides are "
                f"multiples of {arch.patch} and more than {last * (arch.window - 1)}, received "
                f"{height} x {width}"
            )
        return self.patch_embed(images)

    def pool(self, features: jax.Array, train: bool) -> jax.Array:
        """Normalise, then take the average over all positions."""
        kind = jnp.promote_types(features.dtype, jnp.float32)
        return self.norm(features).mean((1, 2), dtype=kind)


_DEEP = (2, 2, 18, 2)

ARCHITECTURES: dict[str, SwinArchitecture] = {
    architecture.name: architecture
    for architecture in (
        SwinArchitecture("swin_tiny_patch4_window7_224"),
        SwinArchitecture("swin_small_patch4_window7_224", depths=_DEEP),
        SwinArchitecture(
            "swin_base_patch4_window7_224", depths=_DEEP, heads=(4, 8, 16, 32), width=128
        ),
        SwinArchitecture(
            "swin_large_patch4_window7_224", depths=_DEEP, heads=(6, 12, 24, 48), width=192
        ),
        SwinArchitecture(
            "swin_base_patch4_window12_384",
            depths=_DEEP,
            heads=(4, 8, 16, 32),
            width=128,
            window=12,
        ),
        SwinArchitecture(
            "swin_large_patch4_window12_384",
            depths=_DEEP,
            heads=(6, 12, 24, 48),
            width=192,
            window=12,
        ),
    )
}
