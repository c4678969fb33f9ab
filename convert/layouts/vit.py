"""Vision transformers under timm's names and, with a convolutional stem, RobustBench's."""

import dataclasses
import math
import typing
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from rtl_jax.convert.layouts.counting import number_of, size_of
from rtl_jax.convert.layouts.entry import Entry, Shape, Table
from rtl_jax.convert.layouts.layout import Layout, Option
from rtl_jax.errors import UserError
from rtl_jax.models.token_layers import Activation
from rtl_jax.models.vit import ARCHITECTURES, ViTArchitecture

_STEM = "patch_embed.proj.stem"
_DISTILLED = (
    "a distilled DeiT, whose two heads on two tokens are averaged, which is not supported: take "
    "the one that was trained without distillation (of hf:timm/deit_small_distilled_patch16_224."
    "fb_in1k it is hf:timm/deit_small_patch16_224.fb_in1k)"
)


class ViTLayout(Layout):
    """patch_embed.proj, cls_token, pos_embed, blocks.0.attn.qkv, ..., norm or fc_norm, head."""

    name = "vit"
    family = "vit"
    words = "a vision transformer"
    first: ClassVar[tuple[str, ...]] = ("patch_embed.proj.weight", f"{_STEM}.0.weight")
    signs = ("blocks.0.attn.qkv.",)
    heads = ("head",)
    options: ClassVar = {
        "heads": Option(
            None, float, "attention heads, if width and depth are not those of a known network"
        ),
        "pool": Option(
            None,
            ("token", "average"),
            "input of the head (default: the class token, if there is one)",
        ),
        "activation": Option(
            "gelu", typing.get_args(Activation), "default: the usual one of the family"
        ),
        "norm_eps": Option(1e-6, float, "epsilon of layer normalisations"),
    }
    torch_words = "timm's VisionTransformer"

    def infer(self, shapes: Mapping[str, Shape], options: Mapping[str, Any]) -> ViTArchitecture:
        """Infer the architecture of these tensors."""
        width = size_of(r"blocks\.\d+\.norm1\.weight", 0, shapes)
        depth = number_of(r"blocks\.([0-9]{1,4})\.", shapes)
        convolutions = f"{_STEM}.0.weight" in shapes
        token, after = "cls_token" in shapes, "fc_norm.weight" in shapes
        positions = size_of("pos_embed", 1, shapes)
        with_position = token and math.isqrt(positions - 1) ** 2 == positions - 1
        edge = edge_of(positions, with_position, shapes)
        pool: Any = options.get("pool") or ("average" if after or not token else "token")
        found = ViTArchitecture(
            "",
            width=width,
            depth=depth,
            heads=heads_of(width, depth, options),
            patch=16 if convolutions else size_of(r"patch_embed\.proj\.weight", 2, shapes),
            grid=(edge, edge),
            mlp_width=size_of(r"blocks\.\d+\.mlp\.fc1\.weight", 0, shapes),
            stem="convolutions" if convolutions else "patch",
            stem_width=size_of(rf"{_STEM}\.0\.weight", 0, shapes) if convolutions else 48,
            class_token=token,
            class_position=with_position or not token,
            pool=pool,
            norm_after_pool=after,
            layer_scale="blocks.0.ls1.gamma" in shapes,
            qkv_bias="blocks.0.attn.qkv.bias" in shapes,
            num_classes=shapes["head.weight"][0] if shapes["head.weight"] else 0,
            **{name: options[name] for name in ("activation", "norm_eps") if name in options},
        )
        return found.replace(name=name_of(found))

    def entries(self, architecture: ViTArchitecture) -> Sequence[Entry]:
        """Return every array of a network, from input to output."""
        arch, table = architecture, Table()
        width = arch.width
        if arch.stem == "patch":
            table.conv("patch_embed.proj", 3, width, arch.patch, bias=True)
        else:
            conv_stem_entries(table, _STEM, "patch_embed/proj", arch.stem_stages())
        table.whole("pos_embed", (1, arch.num_positions, width))
        if arch.class_token:
            table.whole("cls_token", (1, 1, width))
        for index in range(arch.depth):
            name, path = f"blocks.{index}", f"layers/{index}"
            table.layer_norm(f"{name}.norm1", width, path=f"{path}/norm1")
            qkv = (f"{name}.attn.qkv", width, 3 * width)
            table.linear(*qkv, path=f"{path}/attn/qkv", bias=arch.qkv_bias)
            table.linear(f"{name}.attn.proj", width, width, path=f"{path}/attn/proj")
            if arch.layer_scale:
                table.vector(f"{name}.ls1.gamma", f"{path}/ls1/gamma", width)
                table.vector(f"{name}.ls2.gamma", f"{path}/ls2/gamma", width)
            table.layer_norm(f"{name}.norm2", width, path=f"{path}/norm2")
            table.linear(f"{name}.mlp.fc1", width, arch.mlp_width, path=f"{path}/mlp/fc1")
            table.linear(f"{name}.mlp.fc2", arch.mlp_width, width, path=f"{path}/mlp/fc2")
        table.layer_norm("fc_norm" if arch.norm_after_pool else "norm", width, path="norm")
        table.linear("head", width, arch.num_classes, path="fc")
        return table

    def described(self, architecture: ViTArchitecture) -> str:
        """Describe what no tensor shows."""
        arch = architecture
        eps = f"LayerNorm eps {arch.norm_eps:g}"
        return f"{arch.heads} heads, head on the {arch.pool}, {arch.activation}, {eps}"

    def torch_network(self, architecture: ViTArchitecture) -> Any:
        """Build timm's network, with the stem of Singh et al. if it is convolutional."""
        from rtl_jax.convert.torch_networks.timm_networks import vit

        return vit(architecture)

    def unusual(self, architecture: ViTArchitecture) -> bool:
        """Whether timm's network has another activation or another eps by default."""
        return (architecture.activation, architecture.norm_eps) != ("gelu", 1e-6)

    def hints(self, architecture: ViTArchitecture, problems: Sequence[str]) -> list[str]:
        """Recognise unsupported relatives by the names of left-over tensors."""
        known = {
            "reg_token": "a vision transformer with register tokens",
            "attn.q_norm": "a vision transformer that normalises queries and keys",
            "norm_pre": "a vision transformer of CLIP",
        }
        return [
            f"It is {words}: these are not supported."
            for part, words in known.items()
            if any(line.startswith("left over") and part in line for line in problems)
        ]

    def image_size(self, architecture: ViTArchitecture) -> int:
        """Return the image size for which there are position embeddings."""
        return architecture.grid[0] * architecture.patch


def conv_stem_entries(table: Table, name: str, path: str, stages: Sequence[Any]) -> None:
    """Add the stem of Singh et al.: convolution, normalisation, activation, numbered by three."""
    for index, stage in enumerate(stages):
        own = f"{path}/convs/{index}"
        conv = (f"{name}.{3 * index}", stage.inputs, stage.outputs, stage.kernel)
        table.conv(*conv, path=own, bias=True)
        if stage.normed:
            own = f"{path}/norms/{index}"
            table.layer_norm(f"{name}.{3 * index + 1}", stage.outputs, path=own)


def edge_of(positions: int, with_token: bool, shapes: Mapping[str, Shape]) -> int:
    """Return the edge, in tokens, of a square with these positions; UserError if there is none."""
    if "dist_token" in shapes:
        raise UserError(f"holds {_DISTILLED}")
    edge = math.isqrt(max(positions - with_token, 0))
    if edge**2 != positions - with_token or not edge:
        raise UserError(
            f"has {positions} positions, expected those of a square of tokens, and one more at "
            "most, of a class token"
        )
    return edge


def heads_of(width: int, depth: int, options: Mapping[str, Any]) -> int:
    """Return the number of heads as given, or that of the known network with these sizes."""
    if (heads := options.get("heads")) is not None:
        if heads != int(heads):
            raise UserError(f"--heads: expected a whole number, received {heads}")
        return int(heads)
    sizes = {(known.width, known.depth): known.heads for known in ARCHITECTURES.values()}
    if (width, depth) not in sizes:
        raise UserError(
            f"has {depth} blocks of width {width}, as no known vision transformer has, and no "
            f"shape shows the number of its heads: pass --heads {max(width // 64, 1)} or another"
        )
    return sizes[width, depth]


def name_of(found: ViTArchitecture) -> str:
    for name, named in ARCHITECTURES.items():
        same = ("name", "num_classes", "mean", "std", "grid", "activation", "norm_eps")
        ours, theirs = (dataclasses.replace(each, **{f: getattr(named, f) for f in same})
                        for each in (found, named))  # fmt: skip
        if ours == theirs:
            return name
    stem = "convstem" if found.stem == "convolutions" else f"patch{found.patch}"
    return f"vit_w{found.width}_d{found.depth}_h{found.heads}_{stem}"
