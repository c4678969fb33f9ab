"""DenseNets under torchvision's names, old and new, which timm uses, too."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rtl_jax.convert.layouts.entry import Entry, Shape, Table
from rtl_jax.convert.layouts.layout import Layout, majority, named
from rtl_jax.errors import UserError
from rtl_jax.models.densenet import ARCHITECTURES, DenseNetArchitecture

# torchvision's files from before 2018 have 'norm.1' for 'norm1'.
_OLD = re.compile(r"(denselayer[0-9]+\.(?:norm|conv))\.([12])\.")
_LAYER = re.compile(r"features\.denseblock([0-9]{1,2})\.denselayer([0-9]{1,3})\.(\w+)\.weight")


class DenseNetLayout(Layout):
    """features.conv0, features.denseblock1.denselayer1.norm1, ..., features.norm5, classifier."""

    name = "densenet"
    family = "densenet"
    words = "a DenseNet"
    first = ("features.conv0.weight",)
    signs = ("features.denseblock1.",)
    heads = ("classifier",)
    torch_words = "torchvision's DenseNet"

    def rename(self, name: str) -> str:
        """Rename 'norm.1' to 'norm1' and the like, as in newer files."""
        return _OLD.sub(r"\1\2.", name)

    def infer(self, shapes: Mapping[str, Shape], options: Mapping[str, Any]) -> Any:
        """Infer the architecture of these tensors; sizes by majority vote."""
        sizes: dict[int, int] = {}
        inside: list[int] = []
        growths: list[int] = []
        for name, shape in shapes.items():
            if not (match := _LAYER.fullmatch(name)):
                continue
            block = int(match[1])
            sizes[block] = max(sizes.get(block, 0), int(match[2]))
            if match[3] in ("conv1", "conv2") and len(shape) == 4:
                (inside if match[3] == "conv1" else growths).append(shape[0])
        count = len(sizes)
        if not growths or not inside or set(sizes) != set(range(1, count + 1)):
            raise UserError(
                f"has {count} dense blocks, expected features.denseblock1, features.denseblock2, "
                "... with convolutions in each"
            )
        if sum(sizes.values()) > len(shapes):
            raise UserError(f"names dense layer {max(sizes.values())} of {len(shapes)} tensors")
        growth = max(majority(growths), 1)
        found = DenseNetArchitecture(
            name="",
            block_sizes=tuple(sizes[block] for block in range(1, count + 1)),
            growth=growth,
            stem_width=majority(shapes["features.conv0.weight"][:1]),
            bn_size=majority(inside) // growth,
            num_classes=majority(shapes["classifier.weight"][:1]),
        )
        sizes_text = "-".join(map(str, found.block_sizes))
        return named(found, ARCHITECTURES, f"densenet_{sizes_text}_k{growth}")

    def entries(self, architecture: DenseNetArchitecture) -> Sequence[Entry]:
        """Return every array of a network, from input to output."""
        arch, table = architecture, Table()
        table.conv("features.conv0", 3, arch.stem_width, 7, path="conv0")
        table.norm("features.norm0", arch.stem_width, path="norm0")
        inner = arch.bn_size * arch.growth
        for path, inputs, transition in arch.layer_specs():
            block, index = (int(part) for part in path.removeprefix("block").split("/"))
            if transition:
                name, ours = f"features.transition{block - 1}", f"transition{block - 1}"
                table.norm(f"{name}.norm", transition, path=f"{ours}/norm")
                table.conv(f"{name}.conv", transition, transition // 2, 1, path=f"{ours}/conv")
            name = f"features.denseblock{block}.denselayer{index + 1}"
            table.norm(f"{name}.norm1", inputs, path=f"{path}/norm1")
            table.conv(f"{name}.conv1", inputs, inner, 1, path=f"{path}/conv1")
            table.norm(f"{name}.norm2", inner, path=f"{path}/norm2")
            table.conv(f"{name}.conv2", inner, arch.growth, 3, path=f"{path}/conv2")
        table.norm("features.norm5", arch.num_features, path="norm5")
        table.linear("classifier", arch.num_features, arch.num_classes, path="fc")
        return table

    def torch_network(self, architecture: DenseNetArchitecture) -> Any:
        """Build torchvision's network."""
        from rtl_jax.convert.torch_networks.torchvision_networks import densenet

        return densenet(architecture)
