"""Pre-activation ResNets under the names in RobustBench's files."""

import re
import typing
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from rtl_jax.convert.layouts.entry import Entry, Shape, Table
from rtl_jax.convert.layouts.layout import Change, Layout, Option
from rtl_jax.convert.layouts.resnet import preactivated
from rtl_jax.errors import UserError
from rtl_jax.models.preact import (
    ARCHITECTURES,
    Activation,
    Padding,
    PreActArchitecture,
    Shortcut,
)

_ACTIVATION = Option("relu", typing.get_args(Activation), "default: the usual one of the family")
_EPS = Option(1e-5, float, "epsilon of batch normalisations (default 1e-5)")
_SHORTCUT = Option(
    None, typing.get_args(Shortcut), "input of the shortcuts in a pre-activation network"
)


class _PreActLayout(Layout):
    """A naming scheme: the first convolution, a block's layers, and the last normalisation.

    padding, shortcuts: those of networks with these names, which no tensor shows.
    block: the prefix of a block's names, formatted with its stage, from `first_stage`, and index.
    parts: names of norm, convolution, norm, convolution and shortcut.
    """

    family = "preact"
    words = "a pre-activation ResNet"
    options: ClassVar = {"activation": _ACTIVATION, "bn_eps": _EPS}
    torch_words = "RobustBench's network"
    padding: ClassVar[Padding] = "both"
    shortcuts: ClassVar[tuple[Shortcut, ...]] = ("activated",)
    stem: ClassVar[str]
    block: ClassVar[str]
    parts: ClassVar[tuple[str, str, str, str, str]]
    tail: ClassVar[str]
    first_stage: ClassVar[int] = 1

    def _named(self, stage: int, index: int) -> str:
        return self.block.format(stage - 1 + self.first_stage, index)

    def infer(self, shapes: Mapping[str, Shape], options: Mapping[str, Any]) -> PreActArchitecture:
        """Infer the architecture of these tensors; widths by majority vote."""
        pattern = re.compile(
            re.escape(self.block).replace(r"\{\}", "([0-9]{1,4})") + r"\.(\w+)(?:\.0)?\.weight"
        )
        sizes: dict[int, int] = {}
        widths: dict[int, Counter[int]] = {}
        kernels: Counter[int] = Counter()
        _, _, norm, conv, shortcut = self.parts
        for name, shape in shapes.items():
            if not (match := pattern.fullmatch(name)) or not shape:
                continue
            stage, index, part = int(match[1]) + 1 - self.first_stage, int(match[2]), match[3]
            sizes[stage] = max(sizes.get(stage, 0), index + 1)
            if part in (norm, conv):
                widths.setdefault(stage, Counter())[shape[0]] += 1
            if part == shortcut.split(".")[0] and len(shape) == 4:
                kernels[shape[2]] += 1
        count = len(sizes)
        if not count or set(sizes) != set(range(1, count + 1)) or set(widths) != set(sizes):
            raise UserError(
                f"has {count} stages with blocks, expected all of {self._named(1, 0)}, "
                f"{self._named(2, 0)}, ... with their convolutions"
            )
        if sum(sizes.values()) > len(shapes):
            raise UserError(f"names block {max(sizes.values()) - 1} of {len(shapes)} tensors")
        head, stem = shapes[f"{self.heads[0]}.weight"], shapes[f"{self.stem}.weight"]
        fields = {name: options[name] for name in ("activation", "bn_eps") if name in options}
        found = PreActArchitecture(
            name="",
            stage_sizes=tuple(sizes[stage] for stage in range(1, count + 1)),
            stage_widths=tuple(widths[stage].most_common(1)[0][0] for stage in range(1, count + 1)),
            stem_width=stem[0] if stem else 0,
            shortcut_kernel=kernels.most_common(1)[0][0] if kernels else 1,
            final_norm=any(name.startswith(f"{self.tail}.") for name in shapes),
            num_classes=head[0] if head else 0,
            **{**self.fixed(shapes, options), **fields},
        )
        return found.replace(name=_name(found))

    def fixed(self, shapes: Mapping[str, Shape], options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields that names of this scheme imply."""
        return {"shortcut": self.shortcuts[0], "padding": self.padding}

    def describes(self, architecture: PreActArchitecture) -> bool:
        """Whether networks with these names have this padding and such shortcuts."""
        arch = architecture
        return arch.padding == self.padding and arch.shortcut in self.shortcuts

    def entries(self, architecture: PreActArchitecture) -> Sequence[Entry]:
        """Return every array of a network, from input to output."""
        arch, table = architecture, Table()
        table.conv(self.stem, 3, arch.stem_width, 3, path="conv1")
        for path, channels, out, stride in arch.block_specs():
            stage, index = path.removeprefix("layer").split("/")
            name = self._named(int(stage), int(index))
            norm1, conv1, norm2, conv2, shortcut = (f"{name}.{part}" for part in self.parts)
            table.norm(norm1, channels, path=f"{path}/bn1")
            table.conv(conv1, channels, out, 3, path=f"{path}/conv1")
            table.norm(norm2, out, path=f"{path}/bn2")
            table.conv(conv2, out, out, 3, path=f"{path}/conv2")
            if stride != 1 or channels != out:
                kernel = arch.shortcut_kernel
                table.conv(shortcut, channels, out, kernel, path=f"{path}/shortcut")
        if arch.final_norm:
            table.norm(self.tail, arch.num_features, path="bn")
        table.linear(self.heads[0], arch.num_features, arch.num_classes, path="fc")
        return table

    def stem_words(self, architecture: PreActArchitecture) -> str:
        """Describe the first convolution."""
        return "stem 3x3, stride 1, no pooling"

    def described(self, architecture: PreActArchitecture) -> str:
        """Describe activation, shortcuts, padding and eps."""
        arch = architecture
        padded = "at the end" if arch.padding == "end" else "on both sides"
        return (
            f"{arch.activation}, {arch.shortcut} shortcuts, strided convolutions padded {padded}, "
            f"BatchNorm eps {arch.bn_eps:g}"
        )

    def changes(self, architecture: PreActArchitecture) -> Iterator[Change]:
        """Yield changes of activation, shortcuts and eps."""
        yield from super().changes(architecture)
        for eps in (1e-5, 1e-4, 1e-3):
            yield Change("bn_eps", f"--bn-eps {eps:g}", {"bn_eps": eps})

    def image_size(self, architecture: PreActArchitecture) -> int:
        """Return the size of CIFAR's images."""
        return 32

    def torch_network(self, architecture: PreActArchitecture) -> Any:
        """Build RobustBench's network, as written in `torch_networks.preact`."""
        from rtl_jax.convert.torch_networks.preact import TorchPreActResNet

        return TorchPreActResNet(architecture)

    @property
    def torch_layout(self) -> Layout:
        """The layout of RobustBench's PreActResNet."""
        return PreActResNetLayout()


class PreActResNetLayout(_PreActLayout):
    """conv1, layer1.0.bn1, layer1.0.conv1, ..., bn, linear."""

    name = "preact_resnet"
    words = "a PreActResNet"
    first = ("conv1.weight",)
    signs = ("layer1.0.",)
    shortcuts = typing.get_args(Shortcut)
    heads = ("linear", "fc")
    options: ClassVar = {"activation": _ACTIVATION, "bn_eps": _EPS, "shortcut": _SHORTCUT}
    stem, block, tail = "conv1", "layer{}.{}", "bn"
    parts = ("bn1", "conv1", "bn2", "conv2", "shortcut.0")

    def rename(self, name: str) -> str:
        """Rename a head called fc to linear."""
        return re.sub(r"^fc\.", "linear.", name)

    def fits(self, shapes: Mapping[str, Shape]) -> bool:
        """Whether normalisations have the width of their convolutions' inputs."""
        return preactivated(shapes)

    def fixed(self, shapes: Mapping[str, Shape], options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the kind of shortcut: of two with these names, the one in the options.

        Shortcuts see a block's input or its activation. Raises UserError if options do not say.
        """
        if "shortcut" not in options:
            raise UserError(
                "holds a PreActResNet, whose shortcuts see the input of a block in some files and "
                "its activation in others, which no tensor shows: pass --shortcut raw "
                "(RobustBench's PreActBlock) or --shortcut activated (its PreActBlockV2, and "
                "kuangliu's); --reference FILE.npz tells whether it fits"
            )
        return {"shortcut": options["shortcut"], "padding": self.padding}


class WideResNetLayout(_PreActLayout):
    """TRADES' names: conv1, block1.layer.0.bn1, ..., bn1, fc."""

    name = "wide_resnet"
    words = "a wide ResNet of CIFAR"
    first = ("conv1.weight",)
    signs = ("block1.layer.0.",)
    stem, block, tail = "conv1", "block{}.layer.{}", "bn1"
    parts = ("bn1", "conv1", "bn2", "conv2", "convShortcut")

    def computes_nothing(self, name: str) -> bool:
        """TRADES' files have a `sub_block1` that no forward pass uses."""
        return name.startswith("sub_block1.") or super().computes_nothing(name)


class _DeepMindLayout(_PreActLayout):
    """DeepMind's names, whose strided convolutions are padded at the end, as TensorFlow pads."""

    first = ("init_conv.weight",)
    heads = ("logits",)
    padding = "end"
    tail = "batchnorm"
    first_stage = 0
    options: ClassVar = {
        "activation": _ACTIVATION._replace(default=None),
        "bn_eps": _EPS,
    }

    def fixed(self, shapes: Mapping[str, Shape], options: Mapping[str, Any]) -> dict[str, Any]:
        """Return padding and shortcut; raise UserError if the options do not say the activation.

        These files have ReLU or, mostly, SiLU (Swish).
        """
        if "activation" not in options:
            raise UserError(
                f"holds {self.words}, whose activation is in no tensor: pass --activation silu "
                "(Swish, which most of RobustBench's have) or --activation relu; --reference "
                "FILE.npz tells whether it fits"
            )
        return super().fixed(shapes, options)

    def stated(self, architecture: PreActArchitecture) -> dict[str, Any]:
        """Return the options, always with the activation, which these names do not imply."""
        return {**super().stated(architecture), "activation": architecture.activation}


class DeepMindWideResNetLayout(_DeepMindLayout):
    """init_conv, layer.0.block.0.batchnorm_0, ..., batchnorm, logits."""

    name = "wide_resnet (DeepMind)"
    words = "a wide ResNet of DeepMind's"
    signs = ("layer.0.block.0.",)
    stem, block = "init_conv", "layer.{}.block.{}"
    parts = ("batchnorm_0", "conv_0", "batchnorm_1", "conv_1", "shortcut")


class DeepMindPreActLayout(_DeepMindLayout):
    """conv_2d, layer_0.0.batchnorm_0, ..., batchnorm, logits; shortcuts are 3x3."""

    name = "preact_resnet (DeepMind)"
    words = "a PreActResNet of DeepMind's"
    first = ("conv_2d.weight",)
    signs = ("layer_0.0.",)
    stem, block = "conv_2d", "layer_{}.{}"
    shortcuts = ("raw",)
    parts = ("batchnorm_0", "conv_2d_1", "batchnorm_1", "conv_2d_2", "shortcut")


def _name(found: PreActArchitecture) -> str:
    fields = ("stage_sizes", "stage_widths", "stem_width")
    for name, named in ARCHITECTURES.items():
        if all(getattr(found, field) == getattr(named, field) for field in fields):
            return name
    sizes, widths = ("-".join(map(str, part)) for part in (found.stage_sizes, found.stage_widths))
    return f"preact_{sizes}_w{widths}"
