"""VGGs under torchvision's names, whose numbers count all preceding layers."""

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rtl_jax.convert.layouts.entry import Entry, Shape, Table
from rtl_jax.convert.layouts.layout import Layout, majority, named
from rtl_jax.errors import UserError
from rtl_jax.models.vgg import ARCHITECTURES, VGGArchitecture

_LAYER = re.compile(r"features\.([0-9]{1,3})\.weight")


class VGGLayout(Layout):
    """features.0, features.1, ... without numbers for ReLU and pooling; classifier.0, 3 and 6."""

    name = "vgg"
    family = "vgg"
    words = "a VGG"
    first = ("features.0.weight",)
    signs = ("classifier.6.",)
    heads = ("classifier.6",)
    torch_words = "torchvision's VGG"

    def infer(self, shapes: Mapping[str, Shape], options: Mapping[str, Any]) -> Any:
        """Infer the architecture of these tensors.

        Between two convolutions there are a ReLU, a normalisation if its tensors exist, and pooling
        if one more number is skipped.
        """
        layers = sorted((int(m[1]), shapes[m[0]]) for m in map(_LAYER.fullmatch, shapes) if m)
        convs = [(index, shape[0]) for index, shape in layers if len(shape) == 4]
        norm = any(len(shape) == 1 for _, shape in layers)
        grid = self._grid(shapes, convs[-1][1] if convs else 0)
        if not convs or grid is None:
            raise UserError(
                "has convolutions named features.0, ... as a VGG, and classifier.0.weight does not "
                "see their last maps: expected (width, channels * 7 * 7)"
            )
        step, sizes = 3 if norm else 2, [1]
        for (before, _), (after, _) in itertools.pairwise(convs):
            if after - before not in (step, step + 1):
                raise UserError(
                    f"has convolutions features.{before} and features.{after}, between which a VGG "
                    f"has {step - 1} or {step} layers"
                )
            sizes = [*sizes, 1] if after - before > step else [*sizes[:-1], sizes[-1] + 1]
        found = VGGArchitecture(
            name="",
            stage_sizes=tuple(sizes),
            widths=tuple(width for _, width in convs),
            batch_norm=norm,
            grid=grid,
            hidden=majority(shapes["classifier.0.weight"][:1]),
            num_classes=majority(shapes["classifier.6.weight"][:1]),
        )
        text = "-".join(map(str, found.stage_sizes)) + "_bn" * norm
        return named(found, ARCHITECTURES, f"vgg_{text}_w{found.widths[-1]}")

    def _grid(self, shapes: Mapping[str, Shape], width: int) -> int | None:
        first = shapes.get("classifier.0.weight", ())
        if len(first) != 2 or not width:
            return None
        grid = round((first[1] / width) ** 0.5)
        return grid if grid and grid**2 * width == first[1] else None

    def entries(self, architecture: VGGArchitecture) -> Sequence[Entry]:
        """Return every array of a network, from input to output."""
        arch, table, index = architecture, Table(), 0
        for path, inputs, outputs, pooled in arch.conv_specs():
            name = f"features.{index}"
            table.conv(name, inputs, outputs, 3, path=f"{path}/conv", bias=True)
            if arch.batch_norm:
                table.norm(f"features.{index + 1}", outputs, path=f"{path}/norm")
            index += 2 + arch.batch_norm + pooled
        width, grid, hidden = arch.widths[-1], arch.grid, arch.hidden
        # torch flattens [channels, height, width], and we [height, width, channels].
        seen = width * grid**2
        table.append(
            Entry(
                "classifier.0.weight",
                (hidden, seen),
                "params",
                "fc1/kernel",
                (2, 3, 1, 0),
                split=(hidden, width, grid, grid),
                shape=(seen, hidden),
            )
        )
        table.vector("classifier.0.bias", "fc1/bias", hidden)
        table.linear("classifier.3", hidden, hidden, path="fc2")
        table.linear("classifier.6", hidden, arch.num_classes, path="fc")
        return table

    def torch_network(self, architecture: VGGArchitecture) -> Any:
        """Build torchvision's network."""
        from rtl_jax.convert.torch_networks.torchvision_networks import vgg

        return vgg(architecture)
