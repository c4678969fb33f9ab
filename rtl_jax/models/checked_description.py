"""A description whose fields are checked against their annotations."""

import dataclasses
import typing
from typing import Any, ClassVar

from rtl_jax.errors import require, require_choice
from rtl_jax.models.description import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Description,
    is_finite,
    is_whole,
    require_common,
)
from rtl_jax.runtime import limits
from rtl_jax.runtime.hints import type_hints


@dataclasses.dataclass(frozen=True)
class CheckedDescription(Description):
    """A network without running statistics: its name, classes and pixel normalisation.

    A family adds fields of type int, float, bool, a Literal or a tuple of numbers, and implements
    `require_sizes`, `num_features` and `num_parameters`. Its last normalisation is called `norm`.
    """

    TAIL: ClassVar[tuple[str, ...]] = ("norm",)

    name: str
    num_classes: int = dataclasses.field(default=1000, kw_only=True)
    mean: tuple[float, float, float] = dataclasses.field(default=IMAGENET_MEAN, kw_only=True)
    std: tuple[float, float, float] = dataclasses.field(default=IMAGENET_STD, kw_only=True)

    def __post_init__(self) -> None:
        require_common(self)
        kinds = type_hints(type(self))
        for field in dataclasses.fields(self):
            if field.name != "name":
                _require_kind(field.name, kinds[field.name], getattr(self, field.name))
        self.require_sizes()
        expected = f"1 to {limits.BLOCKS:,} blocks in all"
        require(1 <= self.num_blocks <= limits.BLOCKS, "depth", expected, self.num_blocks)
        number, most = self.num_parameters, limits.PARAMETERS
        expected = f"a network of at most {most:,} parameters"
        require(number <= most, "width and depth", expected, f"{number:,}")

    def require_sizes(self) -> None:
        """Raise UserError for sizes that define no valid network."""
        raise NotImplementedError

    @property
    def num_features(self) -> int:
        """The width of the features, the input of the head."""
        raise NotImplementedError

    @property
    def num_parameters(self) -> int:
        """The number of trainable parameters, without building the network."""
        raise NotImplementedError

    @property
    def has_batch_stats(self) -> bool:
        """Whether the network has running statistics, which can be adapted."""
        return False


def require_depths(depths: tuple[int, ...]) -> None:
    """Raise UserError unless stages have blocks, within the bound for networks."""
    good = bool(depths) and min(depths) > 0 and sum(depths) <= limits.BLOCKS
    require(good, "depths", f"positive numbers, {limits.BLOCKS:,} in all at most", depths)


def _require_kind(field: str, kind: Any, value: Any) -> None:
    """Raise UserError unless a value has its field's annotated type and is not absurdly large."""
    if kind is bool:
        require(isinstance(value, bool), field, "true or false", value)
    elif kind is int:
        require(_is_size(value), field, f"a whole number up to {limits.FEATURES:,}", value)
    elif kind is float:
        require(is_finite(value), field, "a number", value)
    elif typing.get_origin(kind) is tuple:
        first, *others = typing.get_args(kind)
        any_length = others[-1:] == [Ellipsis]
        most = limits.BLOCKS if any_length else 1 + len(others)
        good = isinstance(value, tuple) and (
            len(value) <= most if any_length else len(value) == most
        )
        words = "whole numbers" if first is int else "numbers"
        expected = f"a list of {words}" if any_length else f"a list of {most} {words}"
        require(
            good and all(map(_is_size if first is int else is_finite, value)),
            field,
            expected,
            value,
        )
    else:
        require(isinstance(value, str), field, "text", value)
        require_choice(value, kind, field)


def _is_size(value: object) -> bool:
    return is_whole(value) and 0 <= int(typing.cast(int, value)) <= limits.FEATURES
