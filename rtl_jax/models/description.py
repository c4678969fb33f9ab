"""The base of all architecture descriptions: conversion, checks, and the block of a variable."""

import dataclasses
from collections.abc import Mapping
from functools import lru_cache
from numbers import Integral, Real
from typing import Any, ClassVar, Self

from rtl_jax.errors import UserError, require, shown
from rtl_jax.runtime import limits

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# A split point counts the blocks before it; this one comes before everything.
BEFORE_STEM = -1

# Smaller deviations or larger means do not normalise pixels in [0, 1].
_SMALLEST_STD = 1e-6
_LARGEST = 1e6


class Description:
    """The base of frozen dataclasses that describe a network; it has no fields of its own.

    A family defines `name`, `num_classes`, `mean`, `std` and all else it is built from, the names
    of its blocks, and those of the parts before and after them. Parts after the last block, such as
    a last normalisation, train with the last block.
    """

    # Options and their defaults, which `to_dict` omits so that manifests and digests are the same
    # as before an option was introduced.
    OPTIONS: ClassVar[Mapping[str, Any]] = {}
    # What no name or shape of a variable shows, with the values that digests leave out.
    UNSEEN: ClassVar[Mapping[str, Any]] = {}
    STEM: ClassVar[tuple[str, ...]] = ()
    TAIL: ClassVar[tuple[str, ...]] = ()

    name: str
    num_classes: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def block_names(self) -> list[str]:
        """List the paths of the blocks from input to output."""
        raise NotImplementedError

    def joined(self) -> Mapping[str, int]:
        """Map path prefixes of parts outside blocks to the block that they train with."""
        return {}

    @property
    def num_parameters(self) -> int:
        """The number of trainable parameters, without building the network."""
        raise NotImplementedError

    @property
    def bn_momentum(self) -> float:
        """The weight of a new batch in running statistics."""
        return 0.1

    @property
    def num_blocks(self) -> int:
        """The number of blocks."""
        return len(self.block_names())

    @property
    def head(self) -> tuple[str, str]:
        """The paths of the head's kernel [features, classes] and bias [classes]."""
        return "fc/kernel", "fc/bias"

    @property
    def has_batch_stats(self) -> bool:
        """Whether the network has running statistics, which can be adapted."""
        return True

    def block_of(self, path: str) -> int:
        """Return the index of the block that a variable belongs to, from the input.

        It is BEFORE_STEM for the stem and `num_blocks` for the head. Raises UserError for a path
        that belongs to no part of the network.
        """
        if path in self.head:
            return self.num_blocks
        numbers, pieces = _numbers(self), path.split("/")
        for count in range(1, len(pieces) + 1):
            number = numbers.get("/".join(pieces[:count]))
            if number is not None:
                return number
        raise UserError(f"no freezing rule covers {path!r} of {self.name}")

    @property
    def unseen(self) -> dict[str, Any]:
        """What variables do not show of the network, where it is not as usual: for digests."""
        usual = {field.name: field.default for field in dataclasses.fields(self)}  # type: ignore[arg-type]
        usual = {"mean": usual["mean"], "std": usual["std"], **self.UNSEEN}
        found = {name: getattr(self, name) for name in usual}
        return {name: value for name, value in found.items() if value != usual[name]}

    def replace(self, **changes: Any) -> Self:
        """Return the same architecture with some fields changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable dictionary that `from_dict` reads."""
        fields = dataclasses.asdict(self)  # type: ignore[call-overload]
        return {k: v for k, v in fields.items() if k not in self.OPTIONS or v != self.OPTIONS[k]}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Read a dictionary from `to_dict`. Raises UserError for unknown or missing fields."""
        known = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
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


@lru_cache(maxsize=256)
def _numbers(description: Description) -> dict[str, int]:
    """Map path prefixes of variables to the index of their block."""
    numbers = {name: index for index, name in enumerate(description.block_names())}
    numbers |= dict.fromkeys(description.STEM, BEFORE_STEM)
    numbers |= description.joined()
    return numbers | dict.fromkeys(description.TAIL, len(description.block_names()) - 1)


# A description from a file may contain anything without failing later on, so every family checks
# the types of its fields first.


def require_common(description: Description) -> None:
    """Raise UserError unless the name, classes and normalisation are valid."""
    name, classes = description.name, description.num_classes
    named = isinstance(name, str) and len(name) <= limits.TEXT
    require(named, "name", f"text of at most {limits.TEXT:,} characters", name)
    require_whole(description, "num_classes")
    require(0 < classes <= limits.CLASSES, "num_classes", f"1 to {limits.CLASSES:,}", classes)
    for field in ("mean", "std"):
        value = getattr(description, field)
        finite = isinstance(value, tuple) and all(map(is_finite, value))
        require(finite, field, "three finite numbers, such as 0.485,0.456,0.406", value)
    mean, std = description.mean, description.std
    if len(mean) != 3 or len(std) != 3 or min(std) < _SMALLEST_STD:
        raise UserError(
            f"mean {shown(mean)} and std {shown(std)} must be three finite numbers, std positive"
        )


def require_size(description: Description) -> None:
    """Raise UserError for an absurd number of parameters, before any is evaluated."""
    number, most = description.num_parameters, limits.PARAMETERS
    expected = f"a network of at most {most:,} parameters"
    require(number <= most, "its widths", expected, f"{number:,}")


def require_blocks(description: Description, field: str) -> None:
    """Raise UserError for an absurd number of blocks, given by stage in `field`."""
    sizes = getattr(description, field)
    expected = f"positive numbers, at most {limits.BLOCKS:,} blocks in all"
    require(min(sizes, default=0) > 0 and sum(sizes) <= limits.BLOCKS, field, expected, sizes)


def require_widths(description: Description, *fields: str) -> None:
    """Raise UserError unless these integers, or lists of integers, are positive."""
    for field in fields:
        value = getattr(description, field)
        values = value if isinstance(value, tuple) else (value,)
        require(min(values, default=0) > 0, field, "positive numbers", value)


def require_whole(description: Description, *fields: str) -> None:
    """Raise UserError unless these fields are integers."""
    for field in fields:
        value = getattr(description, field)
        require(is_whole(value), field, "a whole number", value)


def require_wholes(description: Description, *fields: str) -> None:
    """Raise UserError unless these fields are tuples of integers."""
    for field in fields:
        value = getattr(description, field)
        whole = isinstance(value, tuple) and all(map(is_whole, value))
        require(whole, field, "a list of whole numbers", value)


def require_text(description: Description, *fields: str) -> None:
    """Raise UserError unless these fields are strings."""
    for field in fields:
        value = getattr(description, field)
        require(isinstance(value, str), field, "text", value)


def require_truth(description: Description, *fields: str) -> None:
    """Raise UserError unless these fields are booleans."""
    for field in fields:
        value = getattr(description, field)
        require(isinstance(value, bool), field, "true or false", value)


def is_whole(value: object) -> bool:
    """Return whether a value is an integer and not a boolean."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_finite(value: object) -> bool:
    """Return whether a value is a number and not absurdly large."""
    return isinstance(value, Real) and not isinstance(value, bool) and abs(float(value)) <= _LARGEST
