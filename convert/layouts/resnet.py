"""ResNets under torchvision's names, those of CIFAR networks and timm's."""

import itertools
import re
import typing
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

from rtl_jax.convert.layouts.entry import Entry, Shape, Table
from rtl_jax.convert.layouts.layout import Change, Layout, Option
from rtl_jax.errors import UserError
from rtl_jax.models.architecture import (
    ARCHITECTURES,
    EXPANSION,
    Activation,
    AntiAliasing,
    ResNetArchitecture,
    StrideIn,
)

# Names in CIFAR networks (robustness, RobustBench) that differ from torchvision's.
_ALIASES = (
    (re.compile(r"\.shortcut\.(\d)\."), r".downsample.\1."),
    (re.compile(r"^linear\."), "fc."),
)
_FIRST_NORM = re.compile(r"(layer[0-9]{1,2}\.[0-9]{1,4})\.bn1\.weight")
_DEEP = re.compile(r"conv1\.([0-9]{1,2})\.weight")
_MIDDLE = re.compile(r"layer[0-9]{1,2}\.[0-9]{1,4}\.conv2\.weight")
_AVERAGED = re.compile(r"layer[0-9]{1,2}\.[0-9]{1,4}\.downsample\.2\.weight")
_BLOCK = re.compile(r"layer([0-9]{1,2})\.([0-9]{1,4})\.(\w+)")

_FIELDS = ("activation", "stride_in", "bn_eps", "anti_aliasing")


def preactivated(shapes: Mapping[str, Shape]) -> bool:
    """Whether most blocks' first normalisation has the width of their input, not their inner width.

    If no block shows this, whether no normalisation follows the first convolution.
    """
    votes: Counter[bool] = Counter()
    seen = False
    for name, shape in shapes.items():
        if match := _FIRST_NORM.fullmatch(name):
            seen = True
            conv = shapes.get(f"{match[1]}.conv1.weight", ())
            if len(conv) == 4 and len(shape) == 1 and conv[0] != conv[1]:
                votes[shape[0] == conv[1]] += 1
    bare = "bn1.weight" in shapes or "bn1.bias" in shapes
    return votes[True] > votes[False] if votes else seen and not bare


# Stride of the first convolution, and whether max-pooling follows.
_STEMS = {"imagenet": (2, True), "small": (1, False), "small_stride2": (2, False)}


class ResNetLayout(Layout):
    """conv1, bn1, layer1.0.conv1, ..., fc; shortcuts are downsample.0 and downsample.1."""

    name = "resnet"
    family = "resnet"
    words = "a ResNet"
    first = ("conv1.weight", "conv1.0.weight")
    signs = ("layer1.0.",)
    heads = ("fc", "linear")
    options: ClassVar = {
        "stem": Option(None, tuple(_STEMS), "override the first layers"),
        "activation": Option(
            "relu", typing.get_args(Activation), "default: the usual one of the family"
        ),
        "stride_in": Option(
            "3x3",
            typing.get_args(StrideIn),
            "which convolution of a bottleneck has the stride (default 3x3)",
        ),
        "bn_eps": Option(1e-5, float, "epsilon of batch normalisations (default 1e-5)"),
        "anti_aliasing": Option(
            "none",
            typing.get_args(AntiAliasing),
            "pooling in place of strides, as in timm's resnetaa50 and resnetblur50",
        ),
    }
    torch_words = "torchvision's ResNet"

    def rename(self, name: str) -> str:
        """Rename CIFAR networks' layers to torchvision's names."""
        for pattern, replacement in _ALIASES:
            name = pattern.sub(replacement, name)
        return name

    def fits(self, shapes: Mapping[str, Shape]) -> bool:
        """Whether normalisations follow their convolutions."""
        return not preactivated(shapes)

    def infer(self, shapes: Mapping[str, Shape], options: Mapping[str, Any]) -> ResNetArchitecture:
        """Infer the architecture of these tensors, by torchvision's names inside the network.

        The stem implies what shapes do not show, stride and pooling; by default, a 7x7 kernel means
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
        deep = sorted(
            (int(match[1]), shapes[name])
            for name in shapes
            if (match := _DEEP.fullmatch(name)) and len(shapes[name]) == 4
        )
        conv1 = shapes["conv1.weight"] if "conv1.weight" in shapes else shapes["conv1.0.weight"]
        if len(conv1) != 4 or conv1[1] != 3 or conv1[2] != conv1[3]:
            raise UserError(
                f"has a first convolution of shape {conv1}, expected (width, 3, k, k), for "
                "three colour channels"
            )
        stem_votes = Counter(shape[0] for name, shape in shapes.items()
                             if name.startswith("bn1.") and shape)  # fmt: skip
        stem_votes[deep[-1][1][0] if deep else conv1[0]] += 1
        groups = Counter(
            shape[0] // shape[1]
            for name, shape in shapes.items()
            if bottleneck and _MIDDLE.fullmatch(name) and len(shape) == 4 and shape[1]
        )
        head = shapes["fc.weight"]
        general = ResNetArchitecture(
            name="",
            block=block,
            stage_sizes=sizes,
            stage_widths=stage_widths,
            inner_factor=inner_factor,
            stem_width=stem_votes.most_common(1)[0][0],
            num_classes=head[0] if head else 0,
            groups=max(groups.most_common(1)[0][0], 1) if groups else 1,
            deep_stem=tuple(shape[0] for _, shape in deep[:-1]),
            average_shortcut=any(_AVERAGED.fullmatch(name) for name in shapes),
            **_stem(conv1[2], options.get("stem") or ("imagenet" if deep else None)),
        )
        fields = {name: options[name] for name in _FIELDS if name in options}
        found = general.replace(**fields)
        return found.replace(name=_name(found))

    def entries(self, architecture: ResNetArchitecture) -> Sequence[Entry]:
        """Return every array of a network, from input to output."""
        arch, table = architecture, Table()
        for index, (before, after) in enumerate(
            itertools.pairwise((3, *arch.deep_stem, arch.stem_width))
        ):
            if index:
                table.norm(f"conv1.{3 * index - 2}", before, path=f"conv1/{2 * index - 1}")
            name, path = (f"conv1.{3 * index}", f"conv1/{2 * index}")
            if not arch.deep_stem:
                name = path = "conv1"
            table.conv(name, before, after, arch.stem_kernel, path=path)
        table.norm("bn1", arch.stem_width)
        for path, channels, inner, out, stride in arch.block_specs():
            if arch.block == "bottleneck":
                layers = [(channels, inner, 1), (inner, inner, 3), (inner, out, 1)]
            else:
                layers = [(channels, inner, 3), (inner, out, 3)]
            name = path.replace("/", ".")
            for index, (before, after, kernel) in enumerate(layers, start=1):
                groups = arch.groups if index == 2 else 1
                table.conv(f"{name}.conv{index}", before, after, kernel, groups=groups)
                table.norm(f"{name}.bn{index}", after)
            if stride != 1 or channels != out:
                first = 1 if arch.average_shortcut else 0  # after the pool
                shortcut = f"{name}.downsample.{first}"
                table.conv(shortcut, channels, out, 1, path=f"{path}/downsample_conv")
                table.norm(f"{name}.downsample.{first + 1}", out, path=f"{path}/downsample_bn")
        table.linear("fc", arch.num_features, arch.num_classes)
        return table

    def options_of_name(self, name: str) -> dict[str, Any]:
        """Recognise timm's resnetaa50 and resnetblur50, whose tensors are a ResNet-50's."""
        aliasing = {"aa": "average", "blur": "blur", "": "none"}
        found = re.search(r"(?:resnet|resnext)(aa|blur|)\d", name)
        return {"anti_aliasing": aliasing[found[1]]} if found else {}

    def options_of_modules(self, modules: Collection[str]) -> dict[str, Any]:
        """Recognise anti-aliasing by timm's modules 'aa', in each block or only where they average.

        A stem that blurs has two modules; one that averages has one, as without anti-aliasing.
        """
        anywhere = any(re.fullmatch(r"layer[0-9]{1,2}\.[0-9]{1,4}\.aa", name) for name in modules)
        if not anywhere:
            return {}
        if "maxpool.1" in modules:
            return {"anti_aliasing": "blur"}
        return {"anti_aliasing": None if "layer1.0.aa" in modules else "average"}

    def stem_words(self, architecture: ResNetArchitecture) -> str:
        """Describe kernel, stride and pooling."""
        arch = architecture
        pool = "max-pool" if arch.stem_pool else "no pooling"
        number = f"{len(arch.deep_stem) + 1} times " if arch.deep_stem else ""
        size = f"{number}{arch.stem_kernel}x{arch.stem_kernel}"
        return f"stem {size}, stride {arch.stem_stride}, {pool}"

    def described(self, architecture: ResNetArchitecture) -> str:
        """Describe the options; the stride only if there is a choice."""
        arch = architecture
        stride = f", stride in the {arch.stride_in}" if arch.block == "bottleneck" else ""
        aliasing = f"anti-aliasing {arch.anti_aliasing}"
        stem = "" if _stem_of(arch) == "imagenet" else f", stem {_stem_of(arch)}"
        return f"{arch.activation}{stride}, BatchNorm eps {arch.bn_eps:g}, {aliasing}{stem}"

    def stated(self, architecture: ResNetArchitecture) -> dict[str, Any]:
        """Return the stem as one word, and the other options that are not the default."""
        return {"stem": _stem_of(architecture), **super().stated(architecture)}

    def unusual(self, architecture: ResNetArchitecture) -> bool:
        """Whether torchvision's ResNet has other options or another stem by default."""
        return super().unusual(architecture) or _stem_of(architecture) != "imagenet"

    def changes(self, architecture: ResNetArchitecture) -> Iterator[Change]:
        """Yield changes of activation, stride, anti-aliasing, eps and stem."""
        arch = architecture
        for change in super().changes(arch):
            if change.kind == "stem" or (change.kind == "stride_in" and arch.block == "basic"):
                continue
            yield change
        for eps in (1e-5, 1e-4, 1e-3):
            yield Change("bn_eps", f"--bn-eps {eps:g}", {"bn_eps": eps})
        for stem, (stride, pool) in _STEMS.items():
            yield Change("stem", f"--stem {stem}", {"stem_stride": stride, "stem_pool": pool})

    def hints(self, architecture: ResNetArchitecture, problems: Sequence[str]) -> list[str]:
        """Recognise other normalisations if only running statistics are missing."""
        if problems and all(re.match(r"missing: \S+\.running_(mean|var) ", p) for p in problems):
            return ["Its normalisations have no running statistics: groups are not supported."]
        return []

    def image_size(self, architecture: ResNetArchitecture) -> int:
        """Return 224, or 32 for a small stem."""
        return 224 if architecture.stem_pool else 32

    def torch_module(self, architecture: ResNetArchitecture) -> Any:
        """Build torchvision's ResNet, as written in `torch_resnet`."""
        from rtl_jax.convert.torch_resnet import torch_resnet

        return torch_resnet(architecture)


def _stem(kernel: int, stem: str | None) -> dict[str, Any]:
    known = {7: "imagenet", 3: "small"}
    if stem is None and kernel not in known:
        raise UserError(
            f"has a first convolution of {kernel}x{kernel}, whose stride and pooling no shape "
            "shows: pass --stem imagenet (stride 2, max-pool), --stem small (neither) or --stem "
            "small_stride2"
        )
    stem = stem or known[kernel]
    if stem not in _STEMS:
        raise UserError(f"has no stem {stem!r}: choose one of {', '.join(_STEMS)}")
    stride, pool = _STEMS[stem]
    return {"stem_kernel": kernel, "stem_stride": stride, "stem_pool": pool}


def _stem_of(architecture: ResNetArchitecture) -> str:
    found = architecture.stem_stride, architecture.stem_pool
    for stem, fields in _STEMS.items():
        if found == fields:
            return stem
    raise UserError(
        f"{architecture.name} has a stem of stride 1 with max-pooling, which files cannot state: "
        f"expected one of {', '.join(_STEMS)}"
    )


_NAMED = (
    "block",
    "stage_sizes",
    "stage_widths",
    "inner_factor",
    "stem_width",
    "groups",
    "average_shortcut",
    "anti_aliasing",
)


def _name(found: ResNetArchitecture) -> str:
    for name, named in ARCHITECTURES.items():
        if found.deep_stem and found.deep_stem != named.deep_stem:
            continue
        if all(getattr(found, field) == getattr(named, field) for field in _NAMED):
            return name
    sizes = "-".join(map(str, found.stage_sizes))
    widths = "-".join(map(str, found.stage_widths))
    factor = f"_x{found.inner_factor}" if found.inner_factor > 1 else ""
    factor += f"_g{found.groups}" if found.groups > 1 else ""
    factor += "_deep" if found.deep_stem else ""
    factor += "_d" if found.average_shortcut else ""
    factor += f"_{found.anti_aliasing}" if found.anti_aliasing != "none" else ""
    return f"resnet_{found.block}_{sizes}_w{widths}{factor}"
