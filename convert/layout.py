"""torchvision's names and layouts against ours, and an architecture found from shapes.

torch keeps a convolution as [out, in, height, width] and a linear layer as [out, in]; Flax as
[height, width, in, out] and [in, out]. BatchNorm's counter of batches has no counterpart.
"""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from convert.pickles import shown
from rtl_jax.errors import UserError
from rtl_jax.models.architecture import ARCHITECTURES, EXPANSION, ResNetArchitecture

COUNTER = "num_batches_tracked"

# Names of CIFAR networks (robustness, RobustBench) for what torchvision calls otherwise.
_ALIASES = (
    (re.compile(r"\.shortcut\.(\d)\."), r".downsample.\1."),
    (re.compile(r"^linear\."), "fc."),
)
_BLOCK = re.compile(r"layer([0-9]{1,2})\.([0-9]{1,4})\.(\w+)")

_NORM = (
    ("weight", "scale", "params"),
    ("bias", "bias", "params"),
    ("running_mean", "mean", "batch_stats"),
    ("running_var", "var", "batch_stats"),
)

Shape = tuple[int, ...]


class Entry(NamedTuple):
    """One array under both of its names: torch's name and shape, our collection and path.

    `axes` takes torch's layout to ours, as in `numpy.transpose`.
    """

    torch_name: str
    torch_shape: Shape
    collection: str
    path: str
    axes: tuple[int, ...]

    def to_flax(self, values: np.ndarray) -> np.ndarray:
        """torch's array as ours: contiguous float32 in Flax's layout."""
        return np.ascontiguousarray(np.transpose(values, self.axes), np.float32)

    def to_torch(self, values: np.ndarray) -> np.ndarray:
        """Our array as torch's: contiguous float32 in torch's layout."""
        return np.ascontiguousarray(np.transpose(values, np.argsort(self.axes)), np.float32)


def entries(architecture: ResNetArchitecture) -> list[Entry]:
    """Every array of a network, from input to output."""
    arch = architecture
    table: list[Entry] = []

    def conv(name: str, path: str, channels: int, out: int, kernel: int) -> None:
        shape = (out, channels, kernel, kernel)
        table.append(Entry(f"{name}.weight", shape, "params", f"{path}/kernel", (2, 3, 1, 0)))

    def norm(name: str, path: str, width: int) -> None:
        for theirs, ours, collection in _NORM:
            table.append(Entry(f"{name}.{theirs}", (width,), collection, f"{path}/{ours}", (0,)))

    conv("conv1", "conv1", 3, arch.stem_width, arch.stem_kernel)
    norm("bn1", "bn1", arch.stem_width)
    for path, channels, inner, out, stride in arch.block_specs():
        if arch.block == "bottleneck":
            layers = [(channels, inner, 1), (inner, inner, 3), (inner, out, 1)]
        else:
            layers = [(channels, inner, 3), (inner, out, 3)]
        name = path.replace("/", ".")
        for index, (before, after, kernel) in enumerate(layers, start=1):
            conv(f"{name}.conv{index}", f"{path}/conv{index}", before, after, kernel)
            norm(f"{name}.bn{index}", f"{path}/bn{index}", after)
        if stride != 1 or channels != out:
            conv(f"{name}.downsample.0", f"{path}/downsample_conv", channels, out, 1)
            norm(f"{name}.downsample.1", f"{path}/downsample_bn", out)
    head = (arch.num_classes, arch.num_features)
    table.append(Entry("fc.weight", head, "params", "fc/kernel", (1, 0)))
    table.append(Entry("fc.bias", head[:1], "params", "fc/bias", (0,)))
    return table


def torchvision_name(name: str) -> str:
    """A name inside the network, with torchvision's words for CIFAR networks' own."""
    for pattern, replacement in _ALIASES:
        name = pattern.sub(replacement, name)
    return name


def infer(shapes: Mapping[str, Shape], stem: str | None = None) -> ResNetArchitecture:
    """The architecture whose tensors these are, by torchvision's names inside the network.

    Sizes are put to the vote of all tensors that show them, so that a single wrong one is
    later named as wrong. `stem` ('imagenet' or 'small') says what shapes do not show, stride
    and pooling; by default a 7x7 kernel means 'imagenet' and a 3x3 one 'small'.
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
            f"has the stages {[f'layer{s}' for s in sorted(stages)]}, expected layer1, layer2, ..."
        )
    bottleneck = any("conv3" in layers for block in stages.values() for layers in block.values())
    sizes = tuple(max(stages[s]) + 1 for s in range(1, count + 1))
    if sum(sizes) > len(shapes):
        raise UserError(f"names block {max(sizes) - 1} of a stage, and has {len(shapes)} tensors")

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
            f"has a first convolution of shape {conv1}, expected (width, 3, k, k): every network "
            "here sees three colours"
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
        **_stem(conv1[2], stem),
    )
    return general.replace(name=_name(general))


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


def mismatches(architecture: ResNetArchitecture, shapes: Mapping[str, Shape]) -> list[str]:
    """A line for every tensor that is missing, left over or of the wrong shape, both shown."""
    expected = {entry.torch_name: entry.torch_shape for entry in entries(architecture)}
    received = {name: s for name, s in shapes.items() if name.rsplit(".")[-1] != COUNTER}
    lines = [f"missing: {name} {expected[name]}" for name in expected if name not in received]
    lines += [
        f"left over: {shown(name)} {received[name]}" for name in received if name not in expected
    ]
    lines += [
        f"wrong shape: {name} expected {expected[name]}, received {received[name]}"
        for name in expected
        if name in received and received[name] != expected[name]
    ]
    return lines
