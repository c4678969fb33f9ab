"""Tables of test accuracy after the last epoch, one for each number of blocks."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from rtl_jax.lab.report import cells
from rtl_jax.lab.report.elements import Element, Table, TableCell
from rtl_jax.lab.report.runs import EVERY, Condition, Finetunings, blocks_name

NOTE = (
    "Test accuracy in percent after the last epoch; the best source of a row is marked. "
    "Differences are paired: the same seed draws the same images for every source. "
)


class _Columns(NamedTuple):
    """The sources that a row compares, all with the same number of blocks."""

    blocks: int
    sources: Sequence[str]
    compared: Sequence[str]  # with the reference
    reference: str


def tables(found: Finetunings, pixels: Mapping[str, Finetunings]) -> list[Element]:
    """Tabulate targets and sizes by source, with each source's difference from the reference.

    `pixels` are the raw-pixel baselines that were fitted along with the fine-tunings, by name.
    """
    beside = {name: _by_size(one) for name, one in pixels.items()}
    return [_table(found, blocks, beside) for blocks in found.blocks]


def _by_size(pixels: Finetunings) -> dict[tuple[str, int], pd.Series]:
    """Return accuracies by target and number of images: a baseline has no source or blocks."""
    places: dict[tuple[str, int], list[pd.Series]] = {}
    for cell, values in pixels.last.items():
        places.setdefault((cell.target, cell.num_images), []).append(values)
    joined = {place: pd.concat(values) for place, values in places.items()}
    return {place: values[~values.index.duplicated()] for place, values in joined.items()}


def _table(
    found: Finetunings, blocks: int, pixels: Mapping[str, dict[tuple[str, int], pd.Series]]
) -> Table:
    places = list(found.having(blocks=blocks))
    sources = [name for name in found.sources if any(place.source == name for place in places)]
    reference = found.reference if found.reference in sources else sources[0]
    compared = [name for name in sources if name != reference]
    columns = _Columns(blocks, sources, compared, reference)
    keys = [
        (target, size)
        for target in found.targets
        for size in sorted({place.num_images for place in places if place.target == target})
    ]
    rows = [_row(found, target, size, columns) for target, size in keys]
    heads = ["target", "images", "seeds", *sources, *(f"{name} - {reference}" for name in compared)]
    nothing = pd.Series(dtype=float)
    for method, measured in pixels.items():
        if any(key in measured for key in keys):
            heads.append(method)
            rows = [
                [*row, cells.mean(measured.get(key, nothing))]
                for row, key in zip(rows, keys, strict=True)
            ]
    name = "accuracy_every_block" if blocks == EVERY else f"accuracy_{blocks}_blocks"
    return Table(name, f"{blocks_name(blocks)} trained", heads, rows, NOTE + cells.INTERVALS)


def _row(found: Finetunings, target: str, size: int, columns: _Columns) -> list[TableCell]:
    values = {
        name: found.at(Condition(target, name, columns.blocks, size)) for name in columns.sources
    }
    best = max(each.mean() for each in values.values() if len(each))
    means = [cells.mean(each, best=each.mean() == best) for each in values.values()]
    differences = [
        cells.mean((values[name] - values[columns.reference]).dropna(), signed=True)
        for name in columns.compared
    ]
    seeds = cells.seeds(list(values.values()))
    return [cells.text(target), cells.count(size), seeds, *means, *differences]
