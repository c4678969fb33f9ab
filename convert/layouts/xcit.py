"""XCiT under timm's names."""

import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from rtl_jax.convert.layouts.counting import number_of, size_of
from rtl_jax.convert.layouts.entry import COUNTER, Entry, Shape, Table
from rtl_jax.convert.layouts.layout import Change, Layout, Option
from rtl_jax.errors import UserError
from rtl_jax.models.token_layers import Activation
from rtl_jax.models.xcit import ARCHITECTURES, XCiTArchitecture

_ANSWERS = {"yes": True, "no": False}


class XCiTLayout(Layout):
    """patch_embed.proj.0.0, blocks.0.attn.temperature, cls_attn_blocks.0, ..., norm, head."""

    name = "xcit"
    family = "xcit"
    words = "an XCiT"
    first = ("patch_embed.proj.0.0.weight",)
    signs = ("blocks.0.attn.temperature",)
    heads = ("head",)
    options: ClassVar = {
        "patch": Option(
            None,
            ("2", "4", "8", "16"),
            "side of a token in pixels, if the first convolutions have no stride",
        ),
        "tokens_norm": Option(
            None,
            tuple(_ANSWERS),
            "whether class-attention blocks normalise all tokens, for unknown sizes",
        ),
        "activation": Option(
            "gelu", typing.get_args(Activation), "default: the usual one of the family"
        ),
        "norm_eps": Option(1e-6, float, "epsilon of layer normalisations"),
    }
    unused = (COUNTER,)
    torch_words = "timm's Xcit"

    def infer(self, shapes: Mapping[str, Shape], options: Mapping[str, Any]) -> XCiTArchitecture:
        """Infer the architecture of these tensors."""
        width = size_of(r"blocks\.\d+\.norm1\.weight", 0, shapes)
        depth = number_of(r"blocks\.([0-9]{1,4})\.", shapes)
        # Every second layer is an activation.
        convolutions = (number_of(r"patch_embed\.proj\.([0-9]{1,2})\.", shapes) + 1) // 2
        found = XCiTArchitecture(
            "",
            width=width,
            depth=depth,
            class_depth=number_of(r"cls_attn_blocks\.([0-9]{1,4})\.", shapes),
            heads=size_of(r"blocks\.\d+\.attn\.temperature", 0, shapes),
            convolutions=convolutions,
            patch=int(options.get("patch") or 2**convolutions),
            mlp_width=size_of(r"blocks\.\d+\.mlp\.fc1\.weight", 0, shapes),
            tokens_norm=_tokens_norm(width, depth, options),
            num_classes=shapes["head.weight"][0] if shapes["head.weight"] else 0,
            **{name: options[name] for name in ("activation", "norm_eps") if name in options},
        )
        return found.replace(name=_name(found))

    def entries(self, architecture: XCiTArchitecture) -> Sequence[Entry]:
        """Return every array of a network, from input to output."""
        arch, table, width = architecture, Table(), architecture.width

        def mlp(name: str, path: str) -> None:
            table.linear(f"{name}.mlp.fc1", width, arch.mlp_width, path=f"{path}/mlp/fc1")
            table.linear(f"{name}.mlp.fc2", arch.mlp_width, width, path=f"{path}/mlp/fc2")

        for index, (before, after, _) in enumerate(arch.stem_stages()):
            name = f"patch_embed.proj.{2 * index}"
            table.conv(f"{name}.0", before, after, 3, path=f"patch_embed/convs/{index}")
            table.norm(f"{name}.1", after, path=f"patch_embed/norms/{index}")
        table.pointwise("pos_embed.token_projection", 64, width)
        for index in range(arch.depth):
            name, path = f"blocks.{index}", f"layers/{index}"
            for number in (1, 2, 3):
                table.vector(f"{name}.gamma{number}", f"{path}/scale{number}/gamma", width)
                table.layer_norm(f"{name}.norm{number}", width, path=f"{path}/norm{number}")
            own = f"{path}/attn/temperature"
            table.whole(f"{name}.attn.temperature", (arch.heads, 1, 1), path=own)
            table.linear(f"{name}.attn.qkv", width, 3 * width, path=f"{path}/attn/qkv")
            table.linear(f"{name}.attn.proj", width, width, path=f"{path}/attn/proj")
            for layer in ("conv1", "conv2"):
                local = (f"{name}.local_mp.{layer}", width, width, 3)
                table.conv(*local, path=f"{path}/local_mp/{layer}", groups=width, bias=True)
            table.norm(f"{name}.local_mp.bn", width, path=f"{path}/local_mp/bn")
            mlp(name, path)
        table.whole("cls_token", (1, 1, width), path="class_layers/0/cls_token")
        for index in range(arch.class_depth):
            name, path = f"cls_attn_blocks.{index}", f"class_layers/{index}"
            for number in (1, 2):
                table.vector(f"{name}.gamma{number}", f"{path}/scale{number}/gamma", width)
                table.layer_norm(f"{name}.norm{number}", width, path=f"{path}/norm{number}")
            for layer in ("q", "k", "v", "proj"):
                table.linear(f"{name}.attn.{layer}", width, width, path=f"{path}/attn/{layer}")
            mlp(name, path)
        table.layer_norm("norm", width)
        table.linear("head", width, arch.num_classes, path="fc")
        return table

    def described(self, architecture: XCiTArchitecture) -> str:
        """Describe what no tensor shows."""
        arch = architecture
        norm = "all tokens" if arch.tokens_norm else "the class token"
        return (
            f"tokens of {arch.patch} pixels, class blocks normalise {norm}, {arch.activation}, "
            f"LayerNorm eps {arch.norm_eps:g}"
        )

    def stated(self, architecture: XCiTArchitecture) -> dict[str, Any]:
        """Return the options as their flags take them."""
        arch = architecture
        words = {"patch": str(arch.patch), "tokens_norm": "yes" if arch.tokens_norm else "no"}
        return {**super().stated(arch), **words}

    def torch_network(self, architecture: XCiTArchitecture) -> Any:
        """Build timm's network."""
        from rtl_jax.convert.torch_networks.timm_networks import xcit

        return xcit(architecture)

    def unusual(self, architecture: XCiTArchitecture) -> bool:
        """Whether timm's network of this name differs."""
        arch = architecture
        usual = (arch.activation, arch.norm_eps) == ("gelu", 1e-6)
        return not usual or arch.patch != 2**arch.convolutions

    def changes(self, architecture: XCiTArchitecture) -> Iterator[Change]:
        """Yield changes of activation, token size and normalisation of tokens."""
        for change in super().changes(architecture):
            if change.kind == "activation":
                yield change
        for word, answer in _ANSWERS.items():
            yield Change("tokens_norm", f"--tokens-norm {word}", {"tokens_norm": answer})
        for number in range(1, architecture.convolutions + 1):
            yield Change("patch", f"--patch {2**number}", {"patch": 2**number})

    def image_size(self, architecture: XCiTArchitecture) -> int:
        """Return 224, or 32 if tokens are smaller than usual for the convolutions."""
        return 224 if architecture.patch == 2**architecture.convolutions else 32


def _tokens_norm(width: int, depth: int, options: Mapping[str, Any]) -> bool:
    """Return the option as given, or as in the known networks of this size."""
    if (said := options.get("tokens_norm")) is not None:
        return said if isinstance(said, bool) else _ANSWERS[said]
    known = {
        each.tokens_norm
        for each in ARCHITECTURES.values()
        if (each.width, each.depth) == (width, depth)
    }
    if len(known) != 1:
        raise UserError(
            f"has {depth} blocks of width {width}, as no known XCiT has, and no shape shows what "
            "blocks of the class token normalise: pass --tokens-norm yes, as most have it, or no"
        )
    return known.pop()


def _name(found: XCiTArchitecture) -> str:
    alike = ("width", "depth", "class_depth", "heads", "convolutions", "patch", "mlp_width")
    for name, named in ARCHITECTURES.items():
        if all(getattr(found, field) == getattr(named, field) for field in alike):
            return name
    return f"xcit_w{found.width}_d{found.depth}_p{found.patch}"
