"""Every setting takes its good values, and refuses the others by name."""

import typing
from typing import Any

import pytest

from rtl_jax.errors import UserError
from rtl_jax.lab.config import (
    Sweep,
    freeze,
)
from rtl_jax.runtime.hints import item_types, plain_type
from tests.lab.settings_values import KEYS, VALUES, frozen, nested

pytestmark = pytest.mark.slow


# More than any use asks for: would be gigabytes, hours or a traceback.
ABSURD = [2**53, 10**26, 10**400]


def numbers(key: str) -> bool:
    """Whether a setting, or each item of it, is an integer without a natural bound."""
    _, hint = KEYS[key]
    return plain_type(hint) is int or int in item_types(hint)


@pytest.mark.parametrize("value", ABSURD, ids=["2**53", "1e26", "1e400"])
@pytest.mark.parametrize("key", [key for key in VALUES if numbers(key)])
def test_absurd_numbers_are_refused_by_name(key: str, value: int) -> None:
    if key in ("source.stage_sizes", "source.stage_widths"):
        pytest.skip("the architecture is what bounds them")
    several = (0, value) if plain_type(KEYS[key][1]) is tuple else value
    with pytest.raises(UserError) as caught:
        freeze(nested(key, several))
    assert str(caught.value).startswith(f"{key}: expected ")
    assert len(str(caught.value)) < 450


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("target.image_size", 100_000), ("target.folds", 10**6), ("sweep.seeds", 2**32)],
        *[("augmentation.crop_padding", 5000), ("attack.eps", (1e300,)), ("attack.sigma", 1e38)],
        *[("visualize.eps", 1e30), ("pretraining.eps", 1e30), ("transfer.blocks", 5000)],
    ],
)
def test_absurd_sizes_are_refused_by_name(key: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"{key}: expected at most"):
        freeze(nested(key, value))


def test_a_sweep_of_too_many_runs() -> None:
    with pytest.raises(UserError, match=r"a grid of at most 200,000 runs, received 3000000"):
        Sweep(targets=tuple(f"folder:{number}" for number in range(300)), seeds=10_000)


WRONG_TYPE: dict[type, list[Any]] = {
    bool: [0, 1, "true", 1.0],
    int: [True, False, 1.0, 1.5, "1", (1,), {}],
    float: [True, "0.5", (0.5,), float("nan"), float("inf"), float("-inf")],
    str: [1, True, b"x", ("x",)],
    tuple: ["1,2", (1.0, 2.0), (True, False), ("1", "2"), 1.5],
}


def test_every_setting_has_values_here() -> None:
    assert VALUES.keys() == KEYS.keys()


def wrong_types(key: str) -> list[Any]:
    _, hint = KEYS[key]
    optional = type(None) in typing.get_args(hint)
    wrong = WRONG_TYPE[plain_type(hint)]
    if float in item_types(hint):
        wrong = ["1,2", (True, False), ("1", "2"), "x"]
    if str in item_types(hint):
        wrong = [(1, 2), (True, False), ("a", 1), 1]
    return wrong if optional else [*wrong, None]


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, (good, _) in VALUES.items() for value in good]
)
def test_good_values_are_taken(key: str, value: Any) -> None:
    assert frozen(key, value) == value


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, (_, bad) in VALUES.items() for value in bad]
)
def test_bad_values_are_refused_by_name(key: str, value: Any) -> None:
    with pytest.raises(UserError) as caught:
        freeze(nested(key, value))
    message = str(caught.value)
    assert message.startswith(f"{key}: expected ")
    assert message.endswith(f"received {value!r}")


@pytest.mark.parametrize(("key", "value"), [(key, v) for key in KEYS for v in wrong_types(key)])
def test_wrong_types_are_refused_by_name(key: str, value: Any) -> None:
    with pytest.raises(UserError) as caught:
        freeze(nested(key, value))
    assert str(caught.value).startswith(f"{key}: expected ")
    assert repr(value) in str(caught.value)
