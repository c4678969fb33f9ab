"""ShuffleNetV2 under torchvision's names."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rtl_jax.convert.layouts.entry import Entry, Shape, Table
from rtl_jax.convert.layouts.layout import Layout, majority, named
from rtl_jax.errors import UserError
from rtl_jax.models.shufflenet import ARCHITECTURES, ShuffleNetArchitecture

_UNIT = re.compile(r"stage([0-9]{1,2})\.([0-9]{1,3})\.branch2\.5\.weight")


class ShuffleNetLayout(Layout):
    """conv1.0, stage2.0.branch1.0, ..., conv5.0, fc."""

    name = "shufflenet_v2"
    family = "shufflenet"
    words = "a ShuffleNetV2"
    first = ("conv1.0.weight",)
    signs = ("stage2.0.",)
    torch_words = "torchvision's ShuffleNetV2"

    def infer(self, shapes: Mapping[str, Shape], options: Mapping[str, Any]) -> Any:
        """Infer the architecture of these tensors; widths by majority vote."""
        sizes: dict[int, int] = {}
        widths: dict[int, list[int]] = {}
        for name, shape in shapes.items():
            if (match := _UNIT.fullmatch(name)) and shape:
                stage = int(match[1])
                sizes[stage] = max(sizes.get(stage, 0), int(match[2]) + 1)
                widths.setdefault(stage, []).append(2 * shape[0])
        stages = range(2, len(sizes) + 2)
        if not sizes or set(sizes) != set(stages):
            raise UserError(f"has {len(sizes)} stages, expected stage2, stage3, ... of units")
        if sum(sizes.values()) > len(shapes):
            raise UserError(f"names unit {max(sizes.values()) - 1} of {len(shapes)} tensors")
        found = ShuffleNetArchitecture(
            name="",
            stage_sizes=tuple(sizes[stage] for stage in stages),
            stage_widths=tuple(majority(widths[stage]) for stage in stages),
            stem_width=majority(shapes["conv1.0.weight"][:1]),
            tail_width=majority(shapes.get("conv5.0.weight", ())[:1]),
            num_classes=majority(shapes["fc.weight"][:1]),
        )
        text = "-".join(map(str, found.stage_widths))
        return named(found, ARCHITECTURES, f"shufflenet_v2_w{text}")

    def entries(self, architecture: ShuffleNetArchitecture) -> Sequence[Entry]:
        """Return every array of a network, from input to output."""
        arch, table = architecture, Table()

        def layer(
            name: str, number: int, path: str, inputs: int, outputs: int, **options: Any
        ) -> None:
            kernel = options.pop("kernel", 1)
            table.conv(f"{name}.{number}", inputs, outputs, kernel, path=f"{path}/conv", **options)
            table.norm(f"{name}.{number + 1}", outputs, path=f"{path}/norm")

        layer("conv1", 0, "conv1", 3, arch.stem_width, kernel=3)
        for path, inputs, outputs, stride in arch.block_specs():
            name, half = path.replace("/", "."), outputs // 2
            if stride == 2:
                first, ours = f"{name}.branch1", f"{path}/branch1"
                layer(first, 0, f"{ours}/0", inputs, inputs, kernel=3, groups=inputs)
                layer(first, 2, f"{ours}/1", inputs, half)
            second, ours = f"{name}.branch2", f"{path}/branch2"
            layer(second, 0, f"{ours}/0", inputs if stride == 2 else half, half)
            layer(second, 3, f"{ours}/1", half, half, kernel=3, groups=half)
            layer(second, 5, f"{ours}/2", half, half)
        layer("conv5", 0, "conv5", arch.stage_widths[-1], arch.tail_width)
        table.linear("fc", arch.tail_width, arch.num_classes)
        return table

    def torch_network(self, architecture: ShuffleNetArchitecture) -> Any:
        """Build torchvision's network."""
        from rtl_jax.convert.torch_networks.torchvision_networks import shufflenet

        return shufflenet(architecture)
