"""What the architectures of all newer families have in common, as data.

A description from a file may have anything in it: every field is checked against its annotation and
its bounds before anything is built from it.
"""

import dataclasses
import typing
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, Self

from rtl_jax.errors import UserError, require, require_choice, shown
from rtl_jax.models.architecture import BEFORE_STEM, IMAGENET_MEAN, IMAGENET_STD
from rtl_jax.runtime import limits

_SMALLEST_STD = 1e-6
_LARGEST = 1e6


@dataclasses.dataclass(frozen=True)
class Description:
    """An architecture: a name, the classes of its head, and the normalisation of its pixels.

    A family adds fields of type int, float, bool, a Literal or a tuple of these, and says which
    paths belong to the stem (`stem_paths`), what its blocks are called (`block_names`), which other
    paths a block includes (`block_aliases`) and how many parameters it has (`num_parameters`).
    """

    name: str
    num_classes: int = dataclasses.field(default=1000, kw_only=True)
    mean: tuple[float, float, float] = dataclasses.field(default=IMAGENET_MEAN, kw_only=True)
    std: tuple[float, float, float] = dataclasses.field(default=IMAGENET_STD, kw_only=True)

    def __post_init__(self) -> None:
        named = isinstance(self.name, str) and len(self.name) <= limits.TEXT
        require(named, "name", f"text of at most {limits.TEXT:,} characters", self.name)
        for field, kind in typing.get_type_hints(type(self)).items():
            if field != "name":
                _require_kind(field, kind, getattr(self, field))
        require(min(self.std) >= _SMALLEST_STD, "std", "three positive numbers", self.std)
        classes = self.num_classes
        expected = f"1 to {limits.CLASSES:,} classes"
        require(1 <= classes <= limits.CLASSES, "num_classes", expected, classes)
        self.require_sizes()
        expected = f"1 to {limits.BLOCKS:,} blocks in all"
        require(1 <= self.num_blocks <= limits.BLOCKS, "depth", expected, self.num_blocks)
        number, most = self.num_parameters, limits.PARAMETERS
        expected = f"a network of at most {most:,} parameters"
        require(number <= most, "width and depth", expected, f"{number:,}")

    def require_sizes(self) -> None:
        """Raise UserError for sizes of which no network can be made."""
        raise NotImplementedError

    @property
    def num_blocks(self) -> int:
        """All blocks, over all stages."""
        raise NotImplementedError

    @property
    def num_features(self) -> int:
        """Width of the features that the head sees."""
        raise NotImplementedError

    @property
    def num_parameters(self) -> int:
        """All parameters that train, without building anything."""
        raise NotImplementedError

    @property
    def head(self) -> tuple[str, str]:
        """The paths of the last layer's kernel [features, classes] and bias [classes]."""
        return "head/kernel", "head/bias"

    @property
    def has_batch_stats(self) -> bool:
        """Whether there are running statistics, which can be adapted."""
        return False

    @property
    def stem_paths(self) -> tuple[str, ...]:
        """The first parts of the paths of all variables before the first block."""
        raise NotImplementedError

    def block_names(self) -> list[str]:
        """What the paths of each block begin with, from input to output."""
        raise NotImplementedError

    def block_aliases(self) -> dict[str, int]:
        """What else a block includes, by what its paths begin with: the last normalisation."""
        return {"norm": self.num_blocks - 1}

    def block_of(self, path: str) -> int:
        """The number of the block that a variable belongs to, from the input.

        The stem's is BEFORE_STEM, the head's `num_blocks`. Raises UserError for a path that
        belongs to no part of the network.
        """
        if path in self.head:
            return self.num_blocks
        parts = path.split("/")
        if parts[0] in self.stem_paths:
            return BEFORE_STEM
        found = {name: index for index, name in enumerate(self.block_names())}
        found |= self.block_aliases()
        for length in range(1, len(parts)):
            if (name := "/".join(parts[:length])) in found:
                return found[name]
        raise UserError(f"no freezing rule covers {path!r} of {self.name}")

    def replace(self, **changes: Any) -> Self:
        """The same architecture with some fields changed."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """A dictionary that JSON can hold and `from_dict` reads back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Read `to_dict`'s dictionary; raise UserError for unknown or missing fields."""
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := set(fields) - known:
            raise UserError(
                f"unknown architecture fields {shown(sorted(unknown))}; known: {sorted(known)}"
            )
        values: dict[str, Any] = {k: _frozen(v) for k, v in fields.items()}
        try:
            return cls(**values)
        except TypeError as error:
            raise UserError(f"incomplete architecture {shown(dict(fields))}: {error}") from error


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _require_kind(field: str, kind: Any, value: Any) -> None:
    """Raise UserError unless a value is of its field's annotated type, and no absurd number."""
    if kind is bool:
        require(isinstance(value, bool), field, "true or false", value)
    elif kind is int:
        require(_is_whole(value), field, f"a whole number up to {limits.FEATURES:,}", value)
    elif kind is float:
        require(_is_finite(value), field, "a number", value)
    elif typing.get_origin(kind) is tuple:
        items = typing.get_args(kind)
        length = None if items[-1] is Ellipsis else len(items)
        good = isinstance(value, tuple) and (length or len(value)) == len(value) <= limits.BLOCKS
        of_kind = _is_whole if items[0] is int else _is_finite
        words = "whole numbers" if items[0] is int else "numbers"
        expected = f"a list of {f'{length} ' if length else ''}{words}"
        require(good and all(map(of_kind, value)), field, expected, value)
    else:
        require(isinstance(value, str), field, "text", value)
        require_choice(value, kind, field)


def _is_whole(value: object) -> bool:
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    return whole and 0 <= int(typing.cast(int, value)) <= limits.FEATURES


def _is_finite(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and abs(float(value)) <= _LARGEST
