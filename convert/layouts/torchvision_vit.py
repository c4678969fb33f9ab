"""Vision transformers under torchvision's names."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rtl_jax.convert.layouts.counting import number_of, size_of
from rtl_jax.convert.layouts.entry import Entry, Shape, Table
from rtl_jax.convert.layouts.vit import ViTLayout, edge_of, heads_of, name_of
from rtl_jax.models.vit import ViTArchitecture

_LAYERS = "encoder.layers.encoder_layer_"
# torchvision's files from before 2022 have 'mlp.linear_1' for 'mlp.0'.
_OLD = re.compile(r"(encoder_layer_[0-9]+\.mlp)\.linear_([12])\.")


class TorchvisionViTLayout(ViTLayout):
    """conv_proj, class_token, encoder.pos_embedding, encoder.layers.encoder_layer_0, ..., heads."""

    name = "vit-torchvision"
    first = ("conv_proj.weight",)
    signs = (f"{_LAYERS}0.",)
    heads = ("heads.head",)
    torch_words = "torchvision's VisionTransformer"

    def rename(self, name: str) -> str:
        """Rename MLP layers to the numbers in newer files."""
        return _OLD.sub(lambda match: f"{match[1]}.{3 * int(match[2]) - 3}.", name)

    def infer(self, shapes: Mapping[str, Shape], options: Mapping[str, Any]) -> ViTArchitecture:
        """Infer the architecture of these tensors."""
        layer = re.escape(_LAYERS)
        width = size_of(rf"{layer}\d+\.ln_1\.weight", 0, shapes)
        depth = number_of(rf"{layer}([0-9]{{1,4}})\.", shapes)
        edge = edge_of(size_of(r"encoder\.pos_embedding", 1, shapes), True, shapes)
        head = shapes["heads.head.weight"]
        found = ViTArchitecture(
            "",
            width=width,
            depth=depth,
            heads=heads_of(width, depth, options),
            patch=size_of(r"conv_proj\.weight", 2, shapes),
            grid=(edge, edge),
            mlp_width=size_of(rf"{layer}\d+\.mlp\.0\.weight", 0, shapes),
            pool=options.get("pool") or "token",
            num_classes=head[0] if head else 0,
            **{name: options[name] for name in ("activation", "norm_eps") if name in options},
        )
        return found.replace(name=name_of(found))

    def entries(self, architecture: ViTArchitecture) -> Sequence[Entry]:
        """Return every array of a network, from input to output."""
        arch, table, width = architecture, Table(), architecture.width
        table.conv("conv_proj", 3, width, arch.patch, path="patch_embed/proj", bias=True)
        positions = (1, arch.num_positions, width)
        table.whole("encoder.pos_embedding", positions, path="pos_embed")
        table.whole("class_token", (1, 1, width), path="cls_token")
        for index in range(arch.depth):
            name, path = f"{_LAYERS}{index}", f"layers/{index}"
            table.layer_norm(f"{name}.ln_1", width, path=f"{path}/norm1")
            own, attn, qkv = f"{name}.self_attention", f"{path}/attn", (3 * width, width)
            qkv_path = f"{attn}/qkv"
            kernel = Entry(f"{own}.in_proj_weight", qkv, "params", f"{qkv_path}/kernel", (1, 0))
            table.append(kernel)
            table.vector(f"{own}.in_proj_bias", f"{qkv_path}/bias", 3 * width)
            table.linear(f"{own}.out_proj", width, width, path=f"{attn}/proj")
            table.layer_norm(f"{name}.ln_2", width, path=f"{path}/norm2")
            table.linear(f"{name}.mlp.0", width, arch.mlp_width, path=f"{path}/mlp/fc1")
            table.linear(f"{name}.mlp.3", arch.mlp_width, width, path=f"{path}/mlp/fc2")
        table.layer_norm("encoder.ln", width, path="norm")
        table.linear("heads.head", width, arch.num_classes, path="fc")
        return table

    def torch_network(self, architecture: ViTArchitecture) -> Any:
        """Build torchvision's network, whose head sees the class token."""
        from rtl_jax.convert.torch_networks.torchvision_networks import vit

        if architecture.pool != "token":
            raise self.incomparable(architecture)
        return vit(architecture)
