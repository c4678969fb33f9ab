"""MobileNetV2 and MNASNet under torchvision's names."""

from collections.abc import Mapping, Sequence
from typing import Any

from rtl_jax.convert.layouts.entry import Entry, Shape, Table
from rtl_jax.convert.layouts.layout import Layout, majority, named
from rtl_jax.errors import UserError
from rtl_jax.models.mobile import ARCHITECTURES, BlockSpec, MobileArchitecture


def _conv_norm(
    table: Table,
    names: tuple[str, str],
    path: str,
    channels: tuple[int, int],
    *,
    kernel: int = 1,
    groups: int = 1,
) -> None:
    """Add a convolution and its normalisation, given both names and (inputs, outputs) channels."""
    inputs, outputs = channels
    table.conv(names[0], inputs, outputs, kernel, path=f"{path}/conv", groups=groups)
    table.norm(names[1], outputs, path=f"{path}/norm")


class _MobileLayout(Layout):
    """The common part of both: names of a block's layers by stage and index, and one known shape.

    No tensor's shape shows strides: they are those of the family's only published networks, of
    which `like` is one.
    """

    family = "mobile"
    heads = ("classifier.1",)
    like: MobileArchitecture

    def block(self, spec: BlockSpec) -> dict[str, tuple[str, str]]:
        """Return torch's names of convolution and norm of 'expand', 'depthwise', 'project'."""
        raise NotImplementedError

    @property
    def ends(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """The names of convolution and normalisation of the stem and of the tail."""
        raise NotImplementedError

    def _shape(self, shapes: Mapping[str, Shape], name: str) -> Shape:
        shape = shapes.get(f"{name}.weight", ())
        if len(shape) != 4:
            raise UserError(
                f"holds {self.words} with {shape or 'nothing'} as {name}.weight, where published "
                f"networks have a convolution (expected the blocks of {self.like.name})"
            )
        return shape

    def infer(self, shapes: Mapping[str, Shape], options: Mapping[str, Any]) -> Any:
        """Infer the architecture of these tensors: a published one, wider or narrower."""
        specs = list(self.like.block_specs())
        starts = [spec for spec in specs if spec.name.endswith("/0")]
        stem, tail = (self._shape(shapes, names[0])[0] for names in self.ends)
        widths, expansions, kernels = [], [], []
        for spec in starts:
            names = self.block(spec)
            kernels.append(self._shape(shapes, names["depthwise"][0])[2])
            widths.append(self._shape(shapes, names["project"][0])[0])
            if "expand" in names:
                inner, before = self._shape(shapes, names["expand"][0])[:2]
                expansions.append(inner // max(before, 1))
        found = self.like.replace(
            name="",
            stem_width=stem,
            first_width=widths[0],
            stage_widths=tuple(widths[1:]),
            expansions=tuple(expansions),
            kernels=tuple(kernels[1:]),
            tail_width=tail,
            num_classes=majority(shapes["classifier.1.weight"][:1]),
        )
        text = "-".join(map(str, (stem, *widths, tail)))
        return named(found, ARCHITECTURES, f"{self.like.kind}_w{text}")

    def describes(self, architecture: MobileArchitecture) -> bool:
        """Whether it is of the same kind."""
        return architecture.kind == self.like.kind

    def entries(self, architecture: MobileArchitecture) -> Sequence[Entry]:
        """Return every array of a network, from input to output."""
        arch, table = architecture, Table()
        stem, tail = self.ends
        _conv_norm(table, stem, "stem_layer", (3, arch.stem_width), kernel=3)
        for spec in arch.block_specs():
            names, path, inner = self.block(spec), spec.name, spec.inner
            if "expand" in names:
                _conv_norm(table, names["expand"], f"{path}/expand", (spec.inputs, inner))
            depthwise = (names["depthwise"], f"{path}/depthwise", (inner, inner))
            _conv_norm(table, *depthwise, kernel=spec.kernel, groups=inner)
            _conv_norm(table, names["project"], f"{path}/project", (inner, spec.outputs))
        _conv_norm(table, tail, "tail", (arch.stage_widths[-1], arch.tail_width))
        table.linear("classifier.1", arch.tail_width, arch.num_classes, path="fc")
        return table

    def torch_network(self, architecture: MobileArchitecture) -> Any:
        """Build torchvision's network of the same width, if it has one."""
        from rtl_jax.convert.torch_networks import torchvision_networks

        build = getattr(torchvision_networks, self.like.kind)
        shapes = {each.torch_name: each.torch_shape for each in self.entries(architecture)}
        network = build(architecture, shapes)
        if network is None:
            raise self.incomparable(architecture)
        return network


class MobileNetV2Layout(_MobileLayout):
    """features.0.0, features.1.conv.0.0, ..., features.18.0, classifier.1."""

    name = "mobilenet_v2"
    words = "a MobileNetV2"
    first = ("features.0.0.weight",)
    signs = ("features.1.conv.0.0.",)
    torch_words = "torchvision's MobileNetV2"
    like = ARCHITECTURES["mobilenet_v2"]

    def block(self, spec: BlockSpec) -> dict[str, tuple[str, str]]:
        """Return names in features.N.conv, N counted through all stages."""
        name = f"features.{1 + self.like.block_names().index(spec.name)}.conv"
        if spec.name == "stage0/0":
            return {
                "depthwise": (f"{name}.0.0", f"{name}.0.1"),
                "project": (f"{name}.1", f"{name}.2"),
            }
        return {
            "expand": (f"{name}.0.0", f"{name}.0.1"),
            "depthwise": (f"{name}.1.0", f"{name}.1.1"),
            "project": (f"{name}.2", f"{name}.3"),
        }

    @property
    def ends(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """The first and last of `features`."""
        last = 1 + self.like.num_blocks
        return ("features.0.0", "features.0.1"), (f"features.{last}.0", f"features.{last}.1")


class MNASNetLayout(_MobileLayout):
    """layers.0, layers.3, layers.8.0.layers.0, ..., layers.14, classifier.1."""

    name = "mnasnet"
    words = "an MNASNet"
    first = ("layers.0.weight",)
    signs = ("layers.8.0.layers.",)
    torch_words = "torchvision's MNASNet"
    like = ARCHITECTURES["mnasnet1_0"]

    def block(self, spec: BlockSpec) -> dict[str, tuple[str, str]]:
        """Return names in layers.3 to layers.7, without expansion, or layers.8 to layers.13."""
        if spec.name == "stage0/0":
            return {"depthwise": ("layers.3", "layers.4"), "project": ("layers.6", "layers.7")}
        stage, index = spec.name.removeprefix("stage").split("/")
        name = f"layers.{7 + int(stage)}.{index}.layers"
        return {
            part: (f"{name}.{number}", f"{name}.{number + 1}")
            for part, number in (("expand", 0), ("depthwise", 3), ("project", 6))
        }

    @property
    def ends(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """The first and last layer."""
        return ("layers.0", "layers.1"), ("layers.14", "layers.15")
