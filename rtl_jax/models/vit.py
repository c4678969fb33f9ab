"""Vision transformers (ViT, DeiT, DeiT III) in Flax NNX, following timm.

A block is attention and an MLP, each with its normalisation and shortcut. The stem consists of the
class token, the positions and the patch embedding; the last normalisation belongs to the last
block. Between blocks, features are tokens [N, T, width].
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from rtl_jax.errors import UserError, require
from rtl_jax.models import conv_stem
from rtl_jax.models.blocks import BlockNetwork, ClassificationHead
from rtl_jax.models.checked_description import CheckedDescription, require_depths
from rtl_jax.models.convolution import ConvMethod
from rtl_jax.models.token_layers import (
    Activation,
    LayerNorm,
    Linear,
    Mlp,
    PatchConv,
    attend,
    resized_positions,
)

_HALF = (0.5, 0.5, 0.5)


@dataclasses.dataclass(frozen=True)
class ViTArchitecture(CheckedDescription):
    """A vision transformer as data; hashable, and JSON-able through `to_dict` and `from_dict`.

    width: of tokens. depth: the number of blocks. heads: of attention. patch: the side of a token
    in pixels. grid: tokens down and across for which there are positions; other sizes are
    interpolated. mlp_width: inside the MLPs. stem: 'patch', or 'convolutions' with initially
    `stem_width` channels (Singh et al. 2023). pool: whether the head takes the class 'token' or the
    'average' of the others. norm_after_pool: whether the last normalisation follows the pooling.
    class_position: whether the class token has a position too. layer_scale: whether each branch is
    scaled per channel. qkv_bias, activation ('gelu' is the exact one), norm_eps: as in timm.
    """

    width: int = 384
    depth: int = 12
    heads: int = 6
    patch: int = 16
    grid: tuple[int, int] = (14, 14)
    mlp_width: int = 1536
    stem: Literal["patch", "convolutions"] = "patch"
    stem_width: int = 48
    class_token: bool = True
    class_position: bool = True
    pool: Literal["token", "average"] = "token"
    norm_after_pool: bool = False
    layer_scale: bool = False
    qkv_bias: bool = True
    activation: Activation = "gelu"
    norm_eps: float = 1e-6

    STEM: ClassVar = ("patch_embed", "pos_embed", "cls_token")
    UNSEEN: ClassVar = {
        "activation": "gelu",
        "norm_eps": 1e-6,
        "pool": "token",
        "norm_after_pool": False,
    }
    initial_gamma: ClassVar = 1e-6  # of layer scales, as in DeiT III

    @property
    def unseen(self) -> dict[str, Any]:
        """What variables do not show of the network, where it is not as usual: for digests."""
        other = {} if 64 * self.heads == self.width else {"heads": self.heads}
        return super().unseen | other

    def require_sizes(self) -> None:
        """Raise UserError for sizes that define no valid network."""
        for field in ("width", "heads", "patch", "mlp_width", "stem_width"):
            require(getattr(self, field) > 0, field, "a positive number", getattr(self, field))
        require_depths((self.depth,))
        require(min(self.grid) > 0, "grid", "two positive numbers", self.grid)
        divides = self.width % self.heads == 0
        require(divides, "heads", f"a divisor of the width {self.width}", self.heads)
        require(0 < self.norm_eps < 1, "norm_eps", "a number between 0 and 1", self.norm_eps)
        if self.pool == "token" and not self.class_token:
            raise UserError("pool: 'token' needs a class token, expected 'average'")
        if self.stem == "convolutions":
            require(self.patch == 16, "patch", "16 where the stem is of convolutions", self.patch)

    @property
    def num_features(self) -> int:
        """The width of the features, the input of the head."""
        return self.width

    @property
    def num_parameters(self) -> int:
        """The number of trainable parameters, without building the network."""
        d, inner = self.width, self.mlp_width
        block = 4 * d * d + d + 3 * d * self.qkv_bias + 2 * d * inner + inner + d + 4 * d
        block += 2 * d * self.layer_scale
        stem = self.num_positions * d + d * self.class_token
        if self.stem == "patch":
            stem += (3 * self.patch**2 + 1) * d
        else:
            stem += conv_stem.num_parameters(self.stem_stages())
        return stem + self.depth * block + 2 * d + (d + 1) * self.num_classes

    @property
    def num_positions(self) -> int:
        """The number of tokens with a position."""
        return self.grid[0] * self.grid[1] + (self.class_token and self.class_position)

    def stem_stages(self) -> list[conv_stem.Stage]:
        """Return the stem's convolutions: four that downsample by 2, and one to the width."""
        widths = [3, *(self.stem_width * 2**index for index in range(4))]
        halving = [conv_stem.Stage(*pair, 3, 2) for pair in itertools.pairwise(widths)]
        return [*halving, conv_stem.Stage(widths[-1], self.width, 1, 1, normed=False)]

    def block_names(self) -> list[str]:
        """List the blocks from input to output."""
        return [f"layers/{index}" for index in range(self.depth)]


class Attention(nnx.Module):
    """Multi-head self-attention of tokens [N, T, width]."""

    def __init__(self, arch: ViTArchitecture, *, dtype: jnp.dtype):
        self.qkv = Linear(arch.width, 3 * arch.width, dtype=dtype, bias=arch.qkv_bias)
        self.proj = Linear(arch.width, arch.width, dtype=dtype)
        self.heads = arch.heads

    def __call__(self, tokens: jax.Array) -> jax.Array:
        batch, count, width = tokens.shape
        qkv = self.qkv(tokens).reshape(batch, count, 3, self.heads, width // self.heads)
        return self.proj(attend(*jnp.moveaxis(qkv, 2, 0)).reshape(tokens.shape))


class Block(nnx.Module):
    """Attention and an MLP, each with a normalisation before it and a shortcut."""

    def __init__(self, arch: ViTArchitecture, *, dtype: jnp.dtype):
        self.norm1 = LayerNorm(arch.width, eps=arch.norm_eps, dtype=dtype)
        self.attn = Attention(arch, dtype=dtype)
        self.norm2 = LayerNorm(arch.width, eps=arch.norm_eps, dtype=dtype)
        self.mlp = Mlp(arch.width, arch.mlp_width, activation=arch.activation, dtype=dtype)
        self.ls1 = LayerScale(arch.width, dtype=dtype) if arch.layer_scale else None
        self.ls2 = LayerScale(arch.width, dtype=dtype) if arch.layer_scale else None

    def __call__(self, tokens: jax.Array, train: bool) -> jax.Array:
        branch = self.attn(self.norm1(tokens))
        tokens = tokens + (branch if self.ls1 is None else self.ls1(branch))
        branch = self.mlp(self.norm2(tokens))
        return tokens + (branch if self.ls2 is None else self.ls2(branch))


class LayerScale(nnx.Module):
    """A learned factor for every channel."""

    def __init__(self, width: int, *, dtype: jnp.dtype):
        self.gamma = nnx.Param(jnp.zeros(width))
        self.dtype = dtype

    def __call__(self, tokens: jax.Array) -> jax.Array:
        return tokens * jnp.asarray(self.gamma[...], self.dtype)


class PatchEmbed(nnx.Module):
    """Patch embedding: maps [N, H, W, 3] to [N, H / patch, W / patch, width]."""

    def __init__(self, arch: ViTArchitecture, *, dtype: jnp.dtype, method: ConvMethod):
        if arch.stem == "patch":
            self.proj: nnx.Module = PatchConv(3, arch.width, arch.patch, dtype=dtype)
        else:
            self.proj = conv_stem.ConvStem(arch.stem_stages(), dtype=dtype, method=method)

    def __call__(self, images: jax.Array) -> jax.Array:
        return self.proj(images)  # type: ignore[operator]


class ViT(BlockNetwork):
    """The network, with attributes named as in timm where possible."""

    def __init__(
        self,
        architecture: ViTArchitecture,
        *,
        dtype: jnp.dtype = jnp.float32,
        method: ConvMethod = "xla",
    ):
        arch = architecture
        self.architecture = arch
        self.dtype = dtype
        self.patch_embed = PatchEmbed(arch, dtype=dtype, method=method)
        self.pos_embed = nnx.Param(jnp.zeros((1, arch.num_positions, arch.width)))
        if arch.class_token:
            self.cls_token = nnx.Param(jnp.zeros((1, 1, arch.width)))
        self.layers = nnx.List(Block(arch, dtype=dtype) for _ in range(arch.depth))
        self.norm = LayerNorm(arch.width, eps=arch.norm_eps, dtype=dtype)
        self.fc = ClassificationHead(arch.num_features, arch.num_classes)

    def blocks(self) -> Sequence[Block]:
        """Return all blocks, from input to output."""
        return list(self.layers)

    def _check_size(self, height: int, width: int) -> None:
        """Raise UserError for images whose sides are not multiples of the patch size."""
        patch = self.architecture.patch
        if height % patch or width % patch or not height * width:
            raise UserError(
                f"{self.architecture.name} makes a token of {patch} x {patch} pixels: expected "
                f"images whose sides are multiples of {patch}, received {height} x {width}"
            )

    def stem(self, images: jax.Array, train: bool) -> jax.Array:
        """Compute the tokens of normalised images with positions, the class token first."""
        arch = self.architecture
        self._check_size(*images.shape[1:3])
        grid = self.patch_embed(images)
        batch, rows, columns, width = grid.shape
        with_position = arch.class_token and arch.class_position
        positions = resized_positions(
            self.pos_embed[...], arch.grid, (rows, columns), int(with_position)
        ).astype(self.dtype)
        tokens = grid.reshape(batch, rows * columns, width)
        if not arch.class_token:
            return tokens + positions
        first = jnp.asarray(self.cls_token[...], self.dtype)
        if with_position:
            first, positions = first + positions[:, :1], positions[:, 1:]
        first = jnp.broadcast_to(first, (batch, 1, width))
        return jnp.concatenate([first, tokens + positions], axis=1)

    def pool(self, features: jax.Array, train: bool) -> jax.Array:
        """Compute the normalised input of the head."""
        arch = self.architecture
        if arch.pool == "token":  # the others are not used
            return self.norm(features[:, 0]).astype(jnp.promote_types(self.dtype, jnp.float32))
        features = features if arch.norm_after_pool else self.norm(features)
        kind = jnp.promote_types(features.dtype, jnp.float32)
        features = features[:, int(arch.class_token) :].mean(1, dtype=kind)
        return self.norm(features).astype(kind) if arch.norm_after_pool else features


def _named(name: str, width: int, depth: int, heads: int, **changes: object) -> ViTArchitecture:
    fields = {"mlp_width": 4 * width, **changes}
    return ViTArchitecture(name, width=width, depth=depth, heads=heads, **fields)  # type: ignore[arg-type]


_SIZES = {
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
    "huge": (1280, 32, 16),
}
_GRIDS = {8: (28, 28), 14: (16, 16), 16: (14, 14), 32: (7, 7)}
_PATCHES = (
    ("tiny", 16),
    ("small", 16),
    ("small", 32),
    ("base", 8),
    ("base", 16),
    ("base", 32),
    ("large", 16),
    ("large", 32),
    ("huge", 14),
)

# Files without a description match in this order: DeiT first, with ImageNet's normalisation.
ARCHITECTURES: dict[str, ViTArchitecture] = {
    architecture.name: architecture
    for architecture in (
        *(_named(f"deit_{size}_patch16_224", *_SIZES[size]) for size in ("tiny", "small", "base")),
        *(
            _named(
                f"deit3_{size}_patch16_224",
                *_SIZES[size],
                class_position=False,
                layer_scale=True,
            )
            for size in ("small", "base", "large")
        ),
        *(
            _named(
                f"vit_{size}_patch{patch}_224",
                *_SIZES[size],
                patch=patch,
                grid=_GRIDS[patch],
                mean=_HALF,
                std=_HALF,
            )
            for size, patch in _PATCHES
        ),
        _named("vit_small_convstem", *_SIZES["small"], stem="convolutions"),
        _named("vit_base_convstem", *_SIZES["base"], stem="convolutions"),
    )
}
