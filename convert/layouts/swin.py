"""Swin transformers under timm's names, today's and those from before 2023."""

import math
import re
import typing
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from rtl_jax.convert.layouts.counting import number_of, size_of
from rtl_jax.convert.layouts.entry import Entry, Shape, Table
from rtl_jax.convert.layouts.layout import Layout, Option
from rtl_jax.errors import UserError
from rtl_jax.models.swin import ARCHITECTURES, SwinArchitecture
from rtl_jax.models.token_layers import Activation

_TABLE = "attn.relative_position_bias_table"


class SwinLayout(Layout):
    """patch_embed.proj, patch_embed.norm, layers.0.blocks.0.attn.qkv, ..., norm, head.fc."""

    name = "swin"
    family = "swin"
    words = "a Swin transformer"
    first: ClassVar[tuple[str, ...]] = ("patch_embed.proj.weight",)
    signs = ("layers.0.blocks.0.attn.",)
    heads: ClassVar[tuple[str, ...]] = ("head.fc", "head")
    options: ClassVar = {
        "activation": Option(
            "gelu", typing.get_args(Activation), "default: the usual one of the family"
        ),
        "norm_eps": Option(1e-5, float, "epsilon of layer normalisations"),
    }
    unused = ("relative_position_index", "attn_mask")
    torch_words = "timm's SwinTransformer"
    merging_first: ClassVar[bool] = True  # a stage begins by merging the previous one's tokens
    stem: ClassVar[tuple[str, str]] = ("patch_embed.proj", "patch_embed.norm")
    mlp: ClassVar[tuple[str, str]] = ("mlp.fc1", "mlp.fc2")

    def _stage(self, stage: int) -> str:
        """Return the prefix of the names of a stage's blocks, before their numbers."""
        return f"layers.{stage}.blocks"

    def _merging(self, stage: int) -> str:
        """Return the name of the patch merging before a stage."""
        return f"layers.{stage if self.merging_first else stage - 1}.downsample"

    def num_stages(self, shapes: Mapping[str, Shape]) -> int:
        """Return the number of stages in these tensors."""
        return number_of(rf"{self._stage(0).partition('.')[0]}\.([0-9]{{1,2}})\.", shapes)

    def describes(self, architecture: SwinArchitecture) -> bool:
        """Whether images that do not fill their windows are shifted before padding, as in timm."""
        return not architecture.pad_before_shift

    def fits(self, shapes: Mapping[str, Shape]) -> bool:
        """Whether the first stage merges tokens if and only if stages end with merging."""
        return ("layers.0.downsample.norm.weight" in shapes) != self.merging_first

    def infer(self, shapes: Mapping[str, Shape], options: Mapping[str, Any]) -> SwinArchitecture:
        """Infer the architecture of these tensors."""
        blocks = [re.escape(self._stage(stage)) for stage in range(self.num_stages(shapes))]
        if not blocks:
            raise UserError(f"has no blocks named {self._stage(0)}.0, ...")
        first = rf"{blocks[0]}\.\d+"
        width = size_of(rf"{first}\.norm1\.weight", 0, shapes)
        inner = size_of(rf"{first}\.{re.escape(self.mlp[0])}\.weight", 0, shapes)
        biases = size_of(rf"{first}\.{_TABLE}", 0, shapes)
        window = (math.isqrt(biases) + 1) // 2
        if not width or inner % width or (2 * window - 1) ** 2 != biases:
            raise UserError(
                f"has {biases} biases of positions and an MLP of {inner} for the width {width}, as "
                "no Swin transformer with square windows has"
            )
        head = shapes[f"{self.heads[0]}.weight"]
        found = SwinArchitecture(
            "",
            depths=tuple(number_of(rf"{each}\.([0-9]{{1,4}})\.", shapes) for each in blocks),
            heads=tuple(size_of(rf"{each}\.\d+\.{_TABLE}", 1, shapes) for each in blocks),
            width=width,
            window=window,
            patch=size_of(rf"{re.escape(self.stem[0])}\.weight", 2, shapes),
            mlp_ratio=inner // width,
            num_classes=head[0] if head else 0,
            **{name: options[name] for name in self.options if name in options},
        )
        return found.replace(name=_name(found))

    def entries(self, architecture: SwinArchitecture) -> Sequence[Entry]:
        """Return every array of a network, from input to output."""
        arch, table = architecture, Table()
        conv, norm = self.stem
        table.conv(conv, 3, arch.width, arch.patch, path="patch_embed/proj", bias=True)
        table.layer_norm(norm, arch.width, path="patch_embed/norm")
        sizes = zip(arch.depths, arch.widths, arch.heads, strict=True)
        for stage, (depth, width, heads) in enumerate(sizes):
            if stage > 0:
                before = arch.widths[stage - 1]
                name = self._merging(stage)
                path = f"stages/{stage}/0/downsample"
                table.layer_norm(f"{name}.norm", 4 * before, path=f"{path}/norm")
                reduction = (f"{name}.reduction", 4 * before, 2 * before)
                table.linear(*reduction, path=f"{path}/reduction", bias=False)
            for index in range(depth):
                name, path = f"{self._stage(stage)}.{index}", f"stages/{stage}/{index}"
                table.layer_norm(f"{name}.norm1", width, path=f"{path}/norm1")
                biases = ((2 * arch.window - 1) ** 2, heads)
                own = f"{path}/attn/relative_position_bias_table"
                table.whole(f"{name}.{_TABLE}", biases, path=own)
                table.linear(f"{name}.attn.qkv", width, 3 * width, path=f"{path}/attn/qkv")
                table.linear(f"{name}.attn.proj", width, width, path=f"{path}/attn/proj")
                table.layer_norm(f"{name}.norm2", width, path=f"{path}/norm2")
                inner, (fc1, fc2) = arch.mlp_ratio * width, self.mlp
                table.linear(f"{name}.{fc1}", width, inner, path=f"{path}/mlp/fc1")
                table.linear(f"{name}.{fc2}", inner, width, path=f"{path}/mlp/fc2")
        table.layer_norm("norm", arch.num_features)
        table.linear(self.heads[0], arch.num_features, arch.num_classes, path="fc")
        return table

    def torch_network(self, architecture: SwinArchitecture) -> Any:
        """Build timm's network."""
        from rtl_jax.convert.torch_networks.timm_networks import swin

        return swin(architecture, self.image_size(architecture))

    @property
    def torch_layout(self) -> Layout:
        """The layout of timm's current names."""
        return SwinLayout()

    def unusual(self, architecture: SwinArchitecture) -> bool:
        """Whether timm's network has another activation or another eps by default."""
        return (architecture.activation, architecture.norm_eps) != ("gelu", 1e-5)

    def image_size(self, architecture: SwinArchitecture) -> int:
        """Return the image size for which the last stage is one window."""
        arch = architecture
        return arch.window * arch.patch * 2 ** (len(arch.depths) - 1)


class OldSwinLayout(SwinLayout):
    """The same with stages that end by merging their tokens, and a head called head."""

    name = "swin-2021"
    heads = ("head", "head.fc")
    merging_first = False


def _name(found: SwinArchitecture) -> str:
    alike = ("depths", "heads", "width", "window", "patch", "mlp_ratio")
    for name, named in ARCHITECTURES.items():
        if all(getattr(found, field) == getattr(named, field) for field in alike):
            return name
    depths = "-".join(map(str, found.depths))
    return f"swin_w{found.width}_d{depths}_patch{found.patch}_window{found.window}"
