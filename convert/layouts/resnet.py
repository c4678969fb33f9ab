"""ResNets under torchvision's names, those of CIFAR networks and timm's."""

import re
import typing
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

from convert.layouts.entry import Entry, Shape, Table
from convert.layouts.layout import Change, Layout, Option
from rtl_jax.errors import UserError
from rtl_jax.models.architecture import (
    ARCHITECTURES,
    EXPANSION,
    Activation,
    ResNetArchitecture,
    StrideIn,
)

# Names of CIFAR networks (robustness, RobustBench) for what torchvision calls otherwise.
_ALIASES = (
    (re.compile(r"\.shortcut\.(\d)\."), r".downsample.\1."),
    (re.compile(r"^linear\."), "fc."),
)
_BLOCK = re.compile(r"layer([0-9]{1,2})\.([0-9]{1,4})\.(\w+)")

_FIELDS = ("activation", "stride_in", "bn_eps")


class ResNetLayout(Layout):
    """conv1, bn1, layer1.0.conv1, ..., fc; shortcuts are downsample.0 and downsample.1."""

    name = "resnet"
    family = "resnet"
    words = "a ResNet"
    first = ("conv1.weight",)
    signs = ("layer1.0.",)
    heads = ("fc", "linear")
    options: ClassVar = {
        "stem": Option(None, ("imagenet", "small"), "overrule the first layers"),
        "activation": Option("relu", typing.get_args(Activation), "where it is not relu"),
        "stride_in": Option(
            "3x3",
            typing.get_args(StrideIn),
            "the convolution of a bottleneck with the stride, where it is not the 3x3",
        ),
        "bn_eps": Option(1e-5, float, "where it is not 1e-5"),
    }
    torch_words = "torchvision's ResNet"

    def rename(self, name: str) -> str:
        """A name inside the network, with torchvision's words for CIFAR networks' own."""
        for pattern, replacement in _ALIASES:
            name = pattern.sub(replacement, name)
        return name

    def infer(self, shapes: Mapping[str, Shape], options: Mapping[str, Any]) -> ResNetArchitecture:
        """The architecture whose tensors these are, by torchvision's names inside the network.

        The stem says what shapes do not show, stride and pooling; by default a 7x7 kernel means
        'imagenet' and a 3x3 one 'small'.
        """
        stages: dict[int, dict[int, set[str]]] = {}
        widths: dict[tuple[int, str], Counter[int]] = {}
        for name, shape in shapes.items():
            if (match := _BLOCK.match(name)) and shape:
                stage, index, layer = int(match[1]), int(match[2]), match[3]
                stages.setdefault(stage, {}).setdefault(index, set()).add(layer)
                widths.setdefault((stage, layer[-1]), Counter())[shape[0]] += 1
        count = max(stages, default=0)
        if not count or set(stages) != set(range(1, count + 1)):
            raise UserError(
                f"has the stages {[f'layer{s}' for s in sorted(stages)]}, expected layer1, "
                "layer2, ..."
            )
        bottleneck = any(
            "conv3" in layers for block in stages.values() for layers in block.values()
        )
        sizes = tuple(max(stages[s]) + 1 for s in range(1, count + 1))
        if sum(sizes) > len(shapes):
            raise UserError(
                f"names block {max(sizes) - 1} of a stage, and has {len(shapes)} tensors"
            )

        def vote(stage: int, layer: str) -> int:
            votes = widths.get((stage, layer), Counter({0: 1}))
            return votes.most_common(1)[0][0]

        outs = [vote(s, "3" if bottleneck else "2") for s in range(1, count + 1)]
        block: Literal["basic", "bottleneck"] = "bottleneck" if bottleneck else "basic"
        stage_widths = tuple(out // EXPANSION[block] for out in outs)
        inner_factor = max(vote(1, "1") // max(stage_widths[0], 1), 1) if bottleneck else 1
        if min(stage_widths) < 1:
            raise UserError(f"has stages of {outs} channels, which no {block} ResNet has")
        conv1 = shapes["conv1.weight"]
        if len(conv1) != 4 or conv1[1] != 3 or conv1[2] != conv1[3]:
            raise UserError(
                f"has a first convolution of shape {conv1}, expected (width, 3, k, k): every "
                "network here sees three colours"
            )
        stem_votes = Counter(shape[0] for name, shape in shapes.items()
                             if name.startswith("bn1.") and shape)  # fmt: skip
        stem_votes[conv1[0]] += 1
        head = shapes["fc.weight"]
        general = ResNetArchitecture(
            name="",
            block=block,
            stage_sizes=sizes,
            stage_widths=stage_widths,
            inner_factor=inner_factor,
            stem_width=stem_votes.most_common(1)[0][0],
            num_classes=head[0] if head else 0,
            **_stem(conv1[2], options.get("stem")),
        )
        fields = {name: options[name] for name in _FIELDS if name in options}
        return general.replace(name=_name(general), **fields)

    def entries(self, architecture: ResNetArchitecture) -> Sequence[Entry]:
        """Every array of a network, from input to output."""
        arch, table = architecture, Table()
        table.conv("conv1", 3, arch.stem_width, arch.stem_kernel)
        table.norm("bn1", arch.stem_width)
        for path, channels, inner, out, stride in arch.block_specs():
            if arch.block == "bottleneck":
                layers = [(channels, inner, 1), (inner, inner, 3), (inner, out, 1)]
            else:
                layers = [(channels, inner, 3), (inner, out, 3)]
            name = path.replace("/", ".")
            for index, (before, after, kernel) in enumerate(layers, start=1):
                table.conv(f"{name}.conv{index}", before, after, kernel)
                table.norm(f"{name}.bn{index}", after)
            if stride != 1 or channels != out:
                table.conv(f"{name}.downsample.0", channels, out, 1, path=f"{path}/downsample_conv")
                table.norm(f"{name}.downsample.1", out, path=f"{path}/downsample_bn")
        table.linear("fc", arch.num_features, arch.num_classes)
        return table

    def stem_words(self, architecture: ResNetArchitecture) -> str:
        """Kernel, stride and pooling."""
        arch = architecture
        pool = "max-pool" if arch.stem_pool else "no pooling"
        return f"stem {arch.stem_kernel}x{arch.stem_kernel}, stride {arch.stem_stride}, {pool}"

    def described(self, architecture: ResNetArchitecture) -> str:
        """The options in words; the stride only where there is a choice."""
        arch = architecture
        stride = f", stride in the {arch.stride_in}" if arch.block == "bottleneck" else ""
        return f"{arch.activation}{stride}, BatchNorm eps {arch.bn_eps:g}"

    def stated(self, architecture: ResNetArchitecture) -> dict[str, Any]:
        """The stem in one word, and the other options where they are not the usual."""
        stem = "imagenet" if architecture.stem_pool else "small"
        return {"stem": stem, **super().stated(architecture)}

    def changes(self, architecture: ResNetArchitecture) -> Iterator[Change]:
        """Activation, stride, eps and stem."""
        arch = architecture
        for change in super().changes(arch):
            if change.kind == "stem" or (change.kind == "stride_in" and arch.block == "basic"):
                continue
            yield change
        for eps in (1e-5, 1e-4, 1e-3):
            yield Change("bn_eps", f"--bn-eps {eps:g}", {"bn_eps": eps})
        for stem, imagenet in (("imagenet", True), ("small", False)):
            fields = {"stem_stride": 2 if imagenet else 1, "stem_pool": imagenet}
            yield Change("stem", f"--stem {stem}", fields)

    def hints(self, architecture: ResNetArchitecture, problems: Sequence[str]) -> list[str]:
        """Grouped convolutions, by the shapes of their kernels."""
        grouped = sum("conv2.weight expected" in line for line in problems)
        if grouped == architecture.num_blocks:
            return ["Grouped convolutions (ResNeXt) are not supported."]
        return []

    def image_size(self, architecture: ResNetArchitecture) -> int:
        """224, or 32 behind a small stem."""
        return 224 if architecture.stem_pool else 32

    def torch_module(self, architecture: ResNetArchitecture) -> Any:
        """torchvision's ResNet, written down in `torch_resnet`."""
        from convert.torch_resnet import torch_resnet

        return torch_resnet(architecture)


def _stem(kernel: int, stem: str | None) -> dict[str, Any]:
    known = {7: "imagenet", 3: "small"}
    if stem is None and kernel not in known:
        raise UserError(
            f"has a first convolution of {kernel}x{kernel}, whose stride and pooling are in no "
            "shape: say --stem imagenet (stride 2, max-pool) or --stem small (neither)"
        )
    stem = stem or known[kernel]
    if stem not in known.values():
        raise UserError(f"has no stem {stem!r}: choose imagenet or small")
    imagenet = stem == "imagenet"
    return {"stem_kernel": kernel, "stem_stride": 2 if imagenet else 1, "stem_pool": imagenet}


def _name(found: ResNetArchitecture) -> str:
    for name, named in ARCHITECTURES.items():
        fields = ("block", "stage_sizes", "stage_widths", "inner_factor", "stem_width")
        if all(getattr(found, field) == getattr(named, field) for field in fields):
            return name
    sizes = "-".join(map(str, found.stage_sizes))
    widths = "-".join(map(str, found.stage_widths))
    factor = f"_x{found.inner_factor}" if found.inner_factor > 1 else ""
    return f"resnet_{found.block}_{sizes}_w{widths}{factor}"
