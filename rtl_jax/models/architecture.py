"""What a network looks like, as data: enough to build it and to name its blocks.

Shapes follow torchvision's ResNet v1.5. Blocks are counted from the input, through all stages:
ResNet-50 has 16.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from numbers import Integral, Real
from typing import Any, Literal

from rtl_jax.errors import UserError, require, require_choice, shown
from rtl_jax.runtime import limits

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

EXPANSION = {"basic": 1, "bottleneck": 4}

Activation = Literal["relu", "silu", "gelu"]
StrideIn = Literal["3x3", "1x1"]

# What no shape of a variable shows. `to_dict` leaves out the defaults, so that manifests and
# digests are those from before there was a choice.
OPTIONS = {"activation": "relu", "stride_in": "3x3", "bn_eps": 1e-5}

# What divides by less, or subtracts more, is no normalisation of pixels in [0, 1].
_SMALLEST_STD = 1e-6
_LARGEST = 1e6

# A split point counts the blocks before it; this one leaves everything behind it.
BEFORE_STEM = -1


@dataclasses.dataclass(frozen=True)
class ResNetArchitecture:
    """A ResNet as data; hashable, and JSON-able through `to_dict` and `from_dict`.

    `stage_widths` are the widths inside a stage's blocks; a stage puts out
    `EXPANSION[block]` times as many channels. `inner_factor` widens only the inside
    (wide_resnet50_2 has 2). `mean` and `std` normalise pixels of [0, 1] inside the network.
    `activation` follows every normalisation ('gelu' is the exact one). `stride_in` says which
    convolution of a bottleneck has the stride: its 3x3 (torchvision's ResNet v1.5) or its first
    1x1 (the original ResNet v1). `bn_eps` is added to every variance.
    """

    name: str
    block: Literal["basic", "bottleneck"]
    stage_sizes: tuple[int, ...]
    stage_widths: tuple[int, ...] = (64, 128, 256, 512)
    inner_factor: int = 1
    stem_width: int = 64
    stem_kernel: int = 7
    stem_stride: int = 2
    stem_pool: bool = True
    num_classes: int = 1000
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    activation: Activation = "relu"
    stride_in: StrideIn = "3x3"
    bn_eps: float = 1e-5

    def __post_init__(self) -> None:
        self._require_types()
        if self.block not in EXPANSION:
            raise UserError(f"unknown block {shown(self.block)}: choose one of {sorted(EXPANSION)}")
        if not self.stage_sizes or len(self.stage_sizes) != len(self.stage_widths):
            raise UserError(
                f"stage_sizes {shown(self.stage_sizes)} and stage_widths "
                f"{shown(self.stage_widths)} "
                "must name the same, positive number of stages"
            )
        counts = (*self.stage_sizes, *self.stage_widths, self.inner_factor, self.stem_width)
        if min(counts) < 1 or self.num_classes < 1:
            raise UserError(f"sizes, widths and classes must be positive: {shown(self)}")
        if self.inner_factor != 1 and self.block == "basic":
            raise UserError("inner_factor widens bottleneck blocks only")
        kernel, stride = self.stem_kernel, self.stem_stride
        good = kernel % 2 == 1 and 0 < kernel < limits.STEM_KERNEL
        require(good, "stem_kernel", f"an odd number below {limits.STEM_KERNEL}", kernel)
        require(stride in (1, 2), "stem_stride", "1 or 2", stride)
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) < _SMALLEST_STD:
            raise UserError(
                f"mean {shown(self.mean)} and std {shown(self.std)} must be three finite numbers, "
                "std positive"
            )
        require_choice(self.activation, Activation, "activation")
        require_choice(self.stride_in, StrideIn, "stride_in")
        if self.stride_in != "3x3" and self.block == "basic":
            raise UserError("stride_in chooses a convolution of bottleneck blocks: basic have 3x3s")
        require(0 < self.bn_eps < 1, "bn_eps", "a number between 0 and 1", self.bn_eps)
        self._require_bounds()

    def _require_types(self) -> None:
        """A description from a file may have anything in it, and nothing built from it says so."""
        named = isinstance(self.name, str) and len(self.name) <= limits.TEXT
        require(named, "name", f"text of at most {limits.TEXT:,} characters", self.name)
        for field in ("stage_sizes", "stage_widths"):
            value = getattr(self, field)
            whole = isinstance(value, tuple) and all(map(_is_whole, value))
            require(whole, field, "a list of whole numbers", value)
        for field in ("inner_factor", "stem_width", "stem_kernel", "stem_stride", "num_classes"):
            value = getattr(self, field)
            require(_is_whole(value), field, "a whole number", value)
        require(isinstance(self.stem_pool, bool), "stem_pool", "true or false", self.stem_pool)
        for field in ("mean", "std"):
            value = getattr(self, field)
            finite = isinstance(value, tuple) and all(map(_is_finite, value))
            require(finite, field, "three finite numbers, such as 0.485,0.456,0.406", value)
        for field in ("block", "activation", "stride_in"):
            value = getattr(self, field)
            require(isinstance(value, str), field, "text", value)
        require(_is_finite(self.bn_eps), "bn_eps", "a number between 0 and 1", self.bn_eps)

    def _require_bounds(self) -> None:
        """Refuse what nobody trains, before a shape is evaluated for each of its blocks."""
        classes, blocks = self.num_classes, self.num_blocks
        expected = f"at most {limits.CLASSES:,} classes"
        require(classes <= limits.CLASSES, "num_classes", expected, classes)
        expected = f"at most {limits.BLOCKS:,} blocks in all"
        require(blocks <= limits.BLOCKS, "stage_sizes", expected, self.stage_sizes)
        number, most = self.num_parameters, limits.PARAMETERS
        expected = f"a network of at most {most:,} parameters"
        require(number <= most, "stem_width and stage_widths", expected, f"{number:,}")

    @property
    def num_parameters(self) -> int:
        """All parameters that train, without building anything."""
        number = (3 * self.stem_kernel**2 + 2) * self.stem_width
        for _, channels, inner, out, stride in self.block_specs():
            if self.block == "basic":
                shapes = [(9, channels, inner), (9, inner, out)]
            else:
                shapes = [(1, channels, inner), (9, inner, inner), (1, inner, out)]
            if stride != 1 or channels != out:
                shapes.append((1, channels, out))
            number += sum(area * before * after + 2 * after for area, before, after in shapes)
        return number + (self.num_features + 1) * self.num_classes

    @property
    def num_blocks(self) -> int:
        """All residual blocks, over all stages."""
        return sum(self.stage_sizes)

    @property
    def num_features(self) -> int:
        """Width of the pooled features that the head sees."""
        return self.stage_widths[-1] * EXPANSION[self.block]

    @property
    def head(self) -> tuple[str, str]:
        """The paths of the last layer's kernel [features, classes] and bias [classes]."""
        return "fc/kernel", "fc/bias"

    @property
    def has_batch_stats(self) -> bool:
        """Whether there are running statistics, which can be adapted."""
        return True

    def block_of(self, path: str) -> int:
        """The number of the block that a variable belongs to, from the input.

        The stem's is BEFORE_STEM, the head's `num_blocks`. Raises UserError for a path that
        belongs to no part of the network.
        """
        if path in self.head:
            return self.num_blocks
        if path.split("/")[0] in ("conv1", "bn1"):
            return BEFORE_STEM
        block, names = "/".join(path.split("/")[:2]), self.block_names()
        if block not in names:
            raise UserError(f"no freezing rule covers {path!r} of {self.name}")
        return names.index(block)

    def block_names(self) -> list[str]:
        """The blocks from input to output, as 'layer1/0', ..., 'layer4/2'."""
        return [
            f"layer{stage}/{index}"
            for stage, size in enumerate(self.stage_sizes, start=1)
            for index in range(size)
        ]

    def block_specs(self) -> Iterator[tuple[str, int, int, int, int]]:
        """Yield (name, input channels, inner width, output channels, stride) of every block."""
        channels = self.stem_width
        for stage, (size, width) in enumerate(
            zip(self.stage_sizes, self.stage_widths, strict=True), start=1
        ):
            out = width * EXPANSION[self.block]
            for index in range(size):
                stride = 2 if stage > 1 and index == 0 else 1
                yield f"layer{stage}/{index}", channels, width * self.inner_factor, out, stride
                channels = out

    def replace(self, **changes: Any) -> "ResNetArchitecture":
        """The same architecture with some fields changed."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """A dictionary that JSON can hold and `from_dict` reads back."""
        fields = dataclasses.asdict(self)
        return {k: v for k, v in fields.items() if k not in OPTIONS or v != OPTIONS[k]}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "ResNetArchitecture":
        """Read `to_dict`'s dictionary; raise UserError for unknown or missing fields."""
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := set(fields) - known:
            raise UserError(
                f"unknown architecture fields {shown(sorted(unknown))}; known: {sorted(known)}"
            )
        tuples: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()
        }
        try:
            return cls(**tuples)
        except TypeError as error:
            raise UserError(f"incomplete architecture {shown(dict(fields))}: {error}") from error


def _is_whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_finite(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and abs(float(value)) <= _LARGEST


_STEMS = {
    "imagenet": {"stem_kernel": 7, "stem_stride": 2, "stem_pool": True},
    "small": {"stem_kernel": 3, "stem_stride": 1, "stem_pool": False},
    "small_stride2": {"stem_kernel": 3, "stem_stride": 2, "stem_pool": False},
}

ARCHITECTURES: dict[str, ResNetArchitecture] = {
    architecture.name: architecture
    for architecture in (
        ResNetArchitecture("resnet18", "basic", (2, 2, 2, 2)),
        ResNetArchitecture("resnet26", "bottleneck", (2, 2, 2, 2)),
        ResNetArchitecture("resnet34", "basic", (3, 4, 6, 3)),
        ResNetArchitecture("resnet50", "bottleneck", (3, 4, 6, 3)),
        ResNetArchitecture("resnet101", "bottleneck", (3, 4, 23, 3)),
        ResNetArchitecture("resnet152", "bottleneck", (3, 8, 36, 3)),
        ResNetArchitecture("wide_resnet50_2", "bottleneck", (3, 4, 6, 3), inner_factor=2),
        ResNetArchitecture("wide_resnet50_4", "bottleneck", (3, 4, 6, 3), inner_factor=4),
    )
}


def architecture(name: str, *, stem: str = "imagenet", **changes: Any) -> ResNetArchitecture:
    """Look up a named architecture, with another stem or other fields where asked.

    `stem` is 'imagenet' (7x7, stride 2, max-pool), 'small' (3x3, stride 1, for images of
    about 32 pixels) or 'small_stride2' (3x3, stride 2: a quarter of the cost). Raises
    UserError for an unknown name, stem or field.
    """
    if name not in ARCHITECTURES:
        raise UserError(f"unknown architecture {name!r}: choose one of {', '.join(ARCHITECTURES)}")
    if stem not in _STEMS:
        raise UserError(f"unknown stem {stem!r}: choose one of {', '.join(_STEMS)}")
    try:
        return ARCHITECTURES[name].replace(**(_STEMS[stem] | changes))
    except TypeError as error:
        raise UserError(f"{name} has no such setting: {error}") from error
