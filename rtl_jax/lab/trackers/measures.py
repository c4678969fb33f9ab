"""The measurements in a run's rows, under names that trackers accept."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rtl_jax.runtime.paths import short_names

MEASURES = (
    "accuracy",
    "loss",
    "train_accuracy",
    "train_loss",
    "top1_match",
    "top5_match",
    "recall",
    "roughness",
)
# The methods whose measures have no method in their names.
_PLAIN = ("transfer", "pretrain")


def measures(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield each row's epoch (0 if it has none) and its measurements by name.

    `rows` are as `results.row` makes them, with None for what was not measured. Names are the
    columns', prefixed by what distinguishes rows of one epoch: 'pgd/eps_0.5/accuracy'.
    """
    sources, variants = ({row[name] for row in rows} for name in ("source", "variant"))
    # Not whole paths: in a name, MLflow takes neither '//' nor '..'.
    short = dict(zip(sources, short_names(list(sources)), strict=True))
    for row in rows:
        parts = [] if row["method"] in _PLAIN else [row["method"]]
        parts += [short[row["source"]]] if len(sources) > 1 else []
        parts += [row["variant"]] if len(variants) > 1 and row["variant"] else []
        parts += [f"{name}_{row[name]:g}" for name in ("eps", "inspected") if row[name] is not None]
        found = {
            "/".join([*parts, name]): float(row[name]) for name in MEASURES if row[name] is not None
        }
        yield row["epoch"] or 0, found


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings to their names on the command line, such as 'transfer.blocks'."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found
