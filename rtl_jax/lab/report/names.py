"""The report's names of sources and targets, and which of them are the paper's.

A source is the paper's if the last part of its checkpoint's path, without `.pt`, `.pth`, `.ckpt`,
`.tar` or `.safetensors`, is the name under which that network was published
(`published/sources.csv`); `random` with every block trained is the paper's training from scratch.
A target is the paper's if it is one of the data sets in `published/targets.csv`, with unmodified
images, all classes and its own test images, not folds (`runs.whole`). Others have no published
value beside them.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import pandas as pd

from rtl_jax.lab.report import published
from rtl_jax.runtime.paths import short_names

_ENDINGS = re.compile(r"(\.(pt|pth|ckpt|tar|safetensors))+$")


def paper_source(checkpoint: str, every_block: bool = False) -> str | None:
    """Return the paper's name of a source, or None if it is not one of the paper's."""
    if checkpoint == "random":
        return published.SCRATCH if every_block else None
    return published.sources().get(_stem(checkpoint))


def paper_target(dataset: str, test_dataset: str = "", variant: str = "") -> str | None:
    """Return the paper's name of a target, or None if it is not one of the paper's.

    As in rows, "" means the data set's own test images and no variant.
    """
    return None if test_dataset or variant else published.targets().get(dataset)


def target_name(dataset: str, test_dataset: str = "", variant: str = "") -> str:
    """Return a target's name: the paper's or its data set's, and whatever was changed about it."""
    tested = f"tested on {test_dataset}" if test_dataset else ""
    known = published.targets().get(dataset, dataset)
    return ", ".join(filter(None, [known, tested, variant]))


def target_names(rows: pd.DataFrame) -> list[str]:
    """Return the `target_name` of every row."""
    parts = rows[["dataset", "test_dataset", "variant"]].fillna("").to_numpy()
    return [target_name(*map(str, each)) for each in parts]


def source_names(sources: Sequence[tuple[str, bool]]) -> dict[tuple[str, bool], str]:
    """Name sources uniquely; each is given as its checkpoint and whether every block trains.

    A source has the paper's name, if it has one, or else the shortest unambiguous end of its
    checkpoint's path, which is also appended where two names would be the same.
    """
    unique = list(dict.fromkeys(checkpoint for checkpoint, _ in sources))
    short = dict(zip(unique, short_names(unique), strict=True)) if unique else {}
    wanted = {each: paper_source(*each) or short[each[0]] for each in sources}
    # A checkpoint that is trained in part and as a whole is one source.
    named = Counter(name for _, name in {(each[0], name) for each, name in wanted.items()})
    return {
        each: name if named[name] == 1 else f"{name} ({short[each[0]]})"
        for each, name in wanted.items()
    }


def in_time(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows in the order of their times, those without one first."""
    return rows.sort_values("time", kind="stable", na_position="first")


def names_by_checkpoint(rows: pd.DataFrame) -> dict[str, str]:
    """Name the sources of rows uniquely, as `source_names`, whatever was trained of them.

    They are in the order of their first rows' times.
    """
    found = source_names([(source, False) for source in in_time(rows)["source"].unique()])
    return {checkpoint: name for (checkpoint, _), name in found.items()}


def reference(names: Mapping[str, str]) -> str | None:
    """Return the source that others are compared with, the natural one, of names by checkpoint.

    It is the paper's, else the first whose checkpoint's name ends in 'natural', or in 'natural' and
    a number as in 'natural_12', else the first, which in a sweep is its config's first.
    """
    natural = [name for path, name in names.items() if paper_source(path) == "natural"]
    for ending in ("natural$", r"natural_\d+$"):
        natural += [name for path, name in names.items() if re.search(ending, _stem(path))]
    return next(iter([*natural, *names.values()]), None)


def _stem(checkpoint: str) -> str:
    return _ENDINGS.sub("", re.split(r"[/:]", checkpoint.rstrip("/"))[-1])
