"""ConvNeXt under timm's and torchvision's names and, with convolutional stems, RobustBench's."""

import typing
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from rtl_jax.convert.layouts.counting import number_of, size_of
from rtl_jax.convert.layouts.entry import Entry, Shape, Table
from rtl_jax.convert.layouts.layout import Layout, Option
from rtl_jax.convert.layouts.vit import conv_stem_entries
from rtl_jax.errors import UserError
from rtl_jax.models.convnext import ARCHITECTURES, ConvNeXtArchitecture
from rtl_jax.models.token_layers import Activation

_STEM = "stem.stem"
_OPTIONS: Mapping[str, Option] = {
    "activation": Option(
        "gelu", typing.get_args(Activation), "default: the usual one of the family"
    ),
    "norm_eps": Option(1e-6, float, "epsilon of layer normalisations"),
}


class ConvNeXtLayout(Layout):
    """stem.0, stages.0.blocks.0.conv_dw, ..., head.norm or norm_pre, head.fc; linear layers."""

    name = "convnext"
    family = "convnext"
    words = "a ConvNeXt"
    first = ("stem.0.weight", f"{_STEM}.0.weight")
    signs = ("stages.0.blocks.0.conv_dw.",)
    heads = ("head.fc",)
    options: ClassVar = _OPTIONS
    torch_words = "timm's ConvNeXt"
    as_convolutions: ClassVar[bool] = False  # whether MLPs are 1x1 convolutions

    def fits(self, shapes: Mapping[str, Shape]) -> bool:
        """Whether the first MLP has this layout's number of dimensions."""
        mlp = shapes.get("stages.0.blocks.0.mlp.fc1.weight", ())
        return len(mlp) == (4 if self.as_convolutions else 2)

    def infer(
        self, shapes: Mapping[str, Shape], options: Mapping[str, Any]
    ) -> ConvNeXtArchitecture:
        """Infer the architecture of these tensors."""
        stages = range(number_of(r"stages\.([0-9]{1,2})\.", shapes))
        convolutions = f"{_STEM}.0.weight" in shapes
        stem = ("three" if f"{_STEM}.6.weight" in shapes else "two") if convolutions else "patch"
        return _architecture(
            shapes,
            options,
            depths=tuple(number_of(rf"stages\.{s}\.blocks\.([0-9]{{1,4}})\.", shapes)
                         for s in stages),
            widths=tuple(size_of(rf"stages\.{s}\.blocks\.\d+\.norm\.weight", 0, shapes)
                         for s in stages),
            patch=4 if convolutions else size_of(r"stem\.0\.weight", 2, shapes),
            stem=stem,
            kernel=size_of(r"stages\.\d+\.blocks\.\d+\.conv_dw\.weight", 2, shapes),
            inner=size_of(r"stages\.0\.blocks\.\d+\.mlp\.fc1\.weight", 0, shapes),
            layer_scale="stages.0.blocks.0.gamma" in shapes,
            norm_before_pool="norm_pre.weight" in shapes,
            head="head.fc",
        )  # fmt: skip

    def entries(self, architecture: ConvNeXtArchitecture) -> Sequence[Entry]:
        """Return every array of a network, from input to output."""
        arch, table = architecture, Table()
        if arch.stem == "patch":
            table.conv("stem.0", 3, arch.widths[0], arch.patch, path="patch_embed/conv", bias=True)
            table.layer_norm("stem.1", arch.widths[0], path="patch_embed/norm")
        else:
            conv_stem_entries(table, _STEM, "patch_embed", arch.stem_stages())
        linear = table.pointwise if self.as_convolutions else table.linear
        for stage, (depth, width) in enumerate(zip(arch.depths, arch.widths, strict=True)):
            if stage > 0:
                before, name = arch.widths[stage - 1], f"stages.{stage}.downsample"
                path = f"stages/{stage}/0/downsample"
                table.layer_norm(f"{name}.0", before, path=f"{path}/norm")
                table.conv(f"{name}.1", before, width, 2, path=f"{path}/conv", bias=True)
            for index in range(depth):
                name, path = f"stages.{stage}.blocks.{index}", f"stages/{stage}/{index}"
                if arch.layer_scale:
                    table.vector(f"{name}.gamma", f"{path}/gamma", width)
                depthwise = (f"{name}.conv_dw", width, width, arch.kernel)
                table.conv(*depthwise, path=f"{path}/conv_dw", groups=width, bias=True)
                table.layer_norm(f"{name}.norm", width, path=f"{path}/norm")
                inner = arch.mlp_ratio * width
                linear(f"{name}.mlp.fc1", width, inner, path=f"{path}/mlp/fc1")
                linear(f"{name}.mlp.fc2", inner, width, path=f"{path}/mlp/fc2")
        norm = "norm_pre" if arch.norm_before_pool else "head.norm"
        table.layer_norm(norm, arch.num_features, path="norm")
        table.linear("head.fc", arch.num_features, arch.num_classes, path="fc")
        return table

    def torch_network(self, architecture: ConvNeXtArchitecture) -> Any:
        """Build timm's network, with the stem of Singh et al. if it is convolutional."""
        from rtl_jax.convert.torch_networks.timm_networks import convnext

        if architecture.mlp_ratio != 4:
            raise self.incomparable(architecture)
        return convnext(architecture, as_convolutions=self.as_convolutions)

    def unusual(self, architecture: ConvNeXtArchitecture) -> bool:
        """Whether timm's network has another activation or another eps by default."""
        return (architecture.activation, architecture.norm_eps) != ("gelu", 1e-6)

    def hints(self, architecture: ConvNeXtArchitecture, problems: Sequence[str]) -> list[str]:
        """Recognise ConvNeXt V2 by the names of left-over tensors."""
        if any(".grn." in line for line in problems):
            return ["ConvNeXt V2, with its global response normalisation, is not supported."]
        return []


class ConvolutionalConvNeXtLayout(ConvNeXtLayout):
    """The same with MLPs as 1x1 convolutions: timm's atto, femto, pico, nano and *_hnf."""

    name = "convnext-1x1"
    as_convolutions = True


class TorchvisionConvNeXtLayout(Layout):
    """features.0 is the stem; then stages and downsampling alternate; classifier."""

    name = "convnext-torchvision"
    family = "convnext"
    words = "a ConvNeXt"
    first = ("features.0.0.weight",)
    signs = ("features.1.0.layer_scale",)
    heads = ("classifier.2",)
    options: ClassVar = _OPTIONS
    torch_words = "torchvision's ConvNeXt"

    def infer(
        self, shapes: Mapping[str, Shape], options: Mapping[str, Any]
    ) -> ConvNeXtArchitecture:
        """Infer the architecture of these tensors."""
        odd = range(1, number_of(r"features\.([0-9]{1,2})\.", shapes), 2)
        return _architecture(
            shapes,
            options,
            depths=tuple(number_of(rf"features\.{n}\.([0-9]{{1,4}})\.", shapes) for n in odd),
            widths=tuple(size_of(rf"features\.{n}\.\d+\.block\.2\.weight", 0, shapes) for n in odd),
            patch=size_of(r"features\.0\.0\.weight", 2, shapes),
            kernel=size_of(r"features\.\d+\.\d+\.block\.0\.weight", 2, shapes),
            inner=size_of(r"features\.1\.\d+\.block\.3\.weight", 0, shapes),
            head="classifier.2",
        )

    def entries(self, architecture: ConvNeXtArchitecture) -> Sequence[Entry]:
        """Return every array of a network, from input to output."""
        arch, table = architecture, Table()
        first = ("features.0.0", 3, arch.widths[0], arch.patch)
        table.conv(*first, path="patch_embed/conv", bias=True)
        table.layer_norm("features.0.1", arch.widths[0], path="patch_embed/norm")
        for stage, (depth, width) in enumerate(zip(arch.depths, arch.widths, strict=True)):
            if stage > 0:
                before, name = arch.widths[stage - 1], f"features.{2 * stage}"
                path = f"stages/{stage}/0/downsample"
                table.layer_norm(f"{name}.0", before, path=f"{path}/norm")
                table.conv(f"{name}.1", before, width, 2, path=f"{path}/conv", bias=True)
            for index in range(depth):
                name, path = f"features.{2 * stage + 1}.{index}", f"stages/{stage}/{index}"
                scale = (f"{name}.layer_scale", (width, 1, 1))
                table.whole(*scale, path=f"{path}/gamma", shape=(width,))
                depthwise = (f"{name}.block.0", width, width, arch.kernel)
                table.conv(*depthwise, path=f"{path}/conv_dw", groups=width, bias=True)
                table.layer_norm(f"{name}.block.2", width, path=f"{path}/norm")
                inner = arch.mlp_ratio * width
                table.linear(f"{name}.block.3", width, inner, path=f"{path}/mlp/fc1")
                table.linear(f"{name}.block.5", inner, width, path=f"{path}/mlp/fc2")
        table.layer_norm("classifier.0", arch.num_features, path="norm")
        table.linear("classifier.2", arch.num_features, arch.num_classes, path="fc")
        return table

    def torch_network(self, architecture: ConvNeXtArchitecture) -> Any:
        """Build torchvision's network, which has no options."""
        from rtl_jax.convert.torch_networks.torchvision_networks import convnext

        arch = architecture
        if self.unusual(arch) or (arch.mlp_ratio, arch.kernel, arch.patch) != (4, 7, 4):
            raise self.incomparable(arch)
        return convnext(arch)

    def unusual(self, architecture: ConvNeXtArchitecture) -> bool:
        """Whether torchvision's network has another activation or eps, or another structure."""
        arch = architecture
        return (arch.activation, arch.norm_eps) != ("gelu", 1e-6) or arch.stem != "patch"


def _architecture(
    shapes: Mapping[str, Shape],
    options: Mapping[str, Any],
    *,
    inner: int,
    head: str,
    **fields: Any,
) -> ConvNeXtArchitecture:
    widths, head_shape = fields["widths"], shapes[f"{head}.weight"]
    if not widths or not fields["depths"] or min(widths) < 1 or inner % widths[0]:
        raise UserError(
            f"has stages of the widths {widths} with an MLP of {inner}, expected a multiple"
        )
    found = ConvNeXtArchitecture(
        "",
        mlp_ratio=inner // widths[0],
        num_classes=head_shape[0] if head_shape else 0,
        **fields,
        **{name: options[name] for name in _OPTIONS if name in options},
    )
    return found.replace(name=_name(found))


def _name(found: ConvNeXtArchitecture) -> str:
    alike = ("depths", "widths", "patch", "stem", "kernel", "mlp_ratio", "layer_scale")
    for name, named in ARCHITECTURES.items():
        if all(getattr(found, field) == getattr(named, field) for field in alike):
            return f"{name}_hnf" if found.norm_before_pool else name
    depths, widths = ("-".join(map(str, each)) for each in (found.depths, found.widths))
    return f"convnext_d{depths}_w{widths}_{found.stem}"
