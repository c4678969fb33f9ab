"""The tables of the study's grid and of its parts, for `study_page`."""

import dataclasses
import itertools
import json
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd

from rtl_jax.lab.report import cells, published
from rtl_jax.lab.report.accuracy import tables
from rtl_jax.lab.report.elements import Table, TableCell
from rtl_jax.lab.report.names import target_name
from rtl_jax.lab.report.runs import EVERY, Condition, Finetunings, blocks_name, finetunings
from rtl_jax.lab.statistics import mean_interval

NATURAL = "bundled:natural"
PAIR = (NATURAL, "bundled:l2")
# The paper's Figures 5 and 8: L2 against Linf, and against noise of the same size, with which a
# source trained on single-step attacks is compared, too.
NOISE = "bundled:gaussian"
_ROBUST = "bundled:linf4", "bundled:linf8", "bundled:pgd1", NOISE
AGAINST = [*((PAIR[1], name) for name in _ROBUST), ("bundled:pgd1", NOISE)]
SHALLOW, NEARLY_ALL = (0, 1, 3), 7
SIZES = (100, 400, 800, 1600)
MODES = ("source", "adapt", "batch", "source, augmented")
EPOCHS = (1, 5, 13, 21, 41, 60)
NEAR = 1  # point below the natural source's own last epoch that counts as nearly converged


def modes(rows: pd.DataFrame, source: str) -> list[Table]:
    """Make a table for each number of blocks that compares modes instead of sources."""
    rows = rows[rows["source"] == source]
    found, kept = finetunings(rows.assign(source=_mode(rows))), MODES[0]
    others = [name for name in found.sources if name != kept]
    return accuracy(dataclasses.replace(found, reference=kept, sources=(kept, *others)))


def modes_advantage(rows: pd.DataFrame) -> Table:
    """Tabulate L2 - natural by mode, for each target and number of blocks."""
    names, lines = _mode(rows), []
    found = {name: finetunings(rows[names == name]) for name in MODES}
    for target, blocks in itertools.product(found[MODES[0]].targets, SHALLOW):
        pairs = [
            [each.at(Condition(target, name, blocks, 100)) for name in PAIR]
            for each in found.values()
        ]
        if not pairs[0][0].empty:
            less = [(robust - natural).dropna() for natural, robust in pairs]
            means = [cells.mean(each, signed=True) for each in less]
            lines.append([cells.text(target), cells.text(blocks_name(blocks)), *means])
    return Table("modes_advantage", "L2 - natural by mode", ["target", "trained", *MODES], lines)


def _mode(rows: pd.DataFrame) -> pd.Series:
    """Name what the frozen blocks' statistics are, and augmentation."""
    flipped = rows["config"].str.contains('"flip":true', regex=False)
    return rows["frozen_batch_norm"].where(~flipped, MODES[-1])


def accuracy(found: Finetunings) -> list[Table]:
    """Return the report's tables, one per number of blocks."""
    made = tables(found, {})  # the study has no results on raw pixels
    return [table for table in made if isinstance(table, Table)]


def against_others(found: Finetunings) -> Table:
    """Tabulate mean differences over cells, and how many of them are significant, by target."""
    pairs = [*AGAINST, (NOISE, NATURAL)]
    lines = [
        [cells.text(target), *(_mean_and_counts(found, target, pair) for pair in pairs)]
        for target in found.targets
    ]
    heads = ["target", *map(_less, pairs)]
    return Table("against_others", "Perturbation types", heads, lines)


def _mean_and_counts(found: Finetunings, target: str, pair: tuple[str, str]) -> TableCell:
    """Return the mean difference over cells, and how many are significantly better and worse."""
    every = _differences(found, target, *pair)
    means, halves = np.transpose([mean_interval(each) for each in every])
    better, worse = (means > halves).sum(), (means < -halves).sum()
    centre = cells.number(means.mean(), signed=True)
    return cells.text(f"{centre.text} ({better}, {worse})", centre.value)


def _less(pair: tuple[str, str]) -> str:
    source, other = (name.removeprefix("bundled:") for name in pair)
    return f"{source} - {other}"


def ahead(found: Finetunings, pairs: Iterable[tuple[str, str]]) -> Table:
    """Count, for each target and pair of sources, the cells where the first is better or worse."""
    lines = []
    for target, pair in itertools.product(found.targets, pairs):
        if differences := _differences(found, target, *pair):
            means, halves = np.transpose([mean_interval(each) for each in differences])
            surely = (means > halves).sum(), (means < -halves).sum()
            counts = (len(means), surely[0], len(means) - sum(surely), surely[1])
            numbers = [cells.number(each, signed=True) for each in (means.mean(), *_ends(means))]
            names = map(cells.text, (target, *pair))
            lines.append([*names, *map(cells.count, counts), *numbers])
    heads = [
        "target",
        "source",
        "against",
        "cells",
        "significantly better",
        "inconclusive",
        "significantly worse",
    ]
    heads += ["mean difference", "least", "most"]
    return Table("ahead", "One source against another", heads, lines)


def _differences(found: Finetunings, target: str, source: str, other: str) -> list[pd.Series]:
    """Return one source minus another, paired by seed, in each cell with several seeds of both."""
    each = [
        (found.at(place) - found.at(place._replace(source=other))).dropna()
        for place in found.having(target=target, source=source)
        if place.blocks in SHALLOW
    ]
    return [values for values in each if len(values) > 1]


def _ends(values: np.ndarray) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def advantage(found: Finetunings) -> Table:
    """Tabulate L2 - natural for each target and size, by number of blocks."""
    lines = []
    for target, size in itertools.product(found.targets, SIZES):
        each = [
            [found.at(Condition(target, name, blocks, size)) for name in PAIR] for blocks in SHALLOW
        ]
        if not any(values.empty for pair in each for values in pair):
            less = [(robust - natural).dropna() for natural, robust in each]
            means = [cells.mean(values, signed=True) for values in less]
            lines.append([cells.text(target), cells.count(size), *means])
    heads = ["target", "images", *map(blocks_name, SHALLOW)]
    return Table("advantage", "L2 - natural", heads, lines)


def blocks_gained(found: Finetunings) -> Table:
    """Tabulate what the L2 source's networks gain by more trained blocks, paired by seed."""
    pairs = ((1, 0), (3, 1), (7, 3))
    lines = []
    for target, size in itertools.product(found.targets, (100, 400)):
        by = {blocks: found.at(Condition(target, PAIR[1], blocks, size)) for blocks in (0, 1, 3, 7)}
        less = [(by[more] - by[fewer]).dropna() for more, fewer in pairs]
        lines.append([cells.text(target), cells.count(size),
                      *(cells.mean(each, signed=True) for each in less)])  # fmt: skip
    heads = ["target", "images", *(f"from {fewer} to {more}" for more, fewer in pairs)]
    return Table("blocks_gained", "More blocks", heads, lines)


def by_blocks(found: Finetunings) -> Table:
    """Tabulate accuracy by number of blocks, and from scratch, for the natural and L2 sources."""
    lines = []
    for target, source, size in itertools.product(found.targets, PAIR, (100, 400, 1600)):
        each = [
            found.at(Condition(target, source, blocks, size)) for blocks in (*SHALLOW, NEARLY_ALL)
        ]
        if not len(each[-1]):
            continue
        scratch = found.at(Condition(target, published.SCRATCH, EVERY, size))
        less = (each[-2] - each[-1]).dropna()
        means = map(cells.mean, (*each, scratch))
        lines.append([cells.text(target), cells.count(size), cells.text(source), *means,
                      cells.mean(less, signed=True)])  # fmt: skip
    heads = ["target", "images", "source", *map(blocks_name, (*SHALLOW, NEARLY_ALL))]
    heads += ["from scratch", f"{SHALLOW[-1]} - {NEARLY_ALL} blocks"]
    return Table("by_blocks", "How many blocks", heads, lines)


def by_epochs(found: Finetunings) -> Table:
    """Tabulate L2 - natural by epoch on 100 images."""
    lines = [
        [cells.text(target), cells.text(blocks_name(blocks)),
         *(cells.mean((robust.loc[epoch] - natural.loc[epoch]).dropna(), signed=True)
           for epoch in EPOCHS)]
        for target, blocks, natural, robust in _courses(found)
    ]  # fmt: skip
    heads = ["target", "trained", *(f"after {epoch}" for epoch in EPOCHS)]
    return Table("by_epochs", "L2 - natural by epochs", heads, lines)


def epochs_saved(found: Finetunings) -> Table:
    """Tabulate the epochs that each source needs on 100 images, and how many L2 saves."""
    lines = []
    for target, blocks, natural, robust in _courses(found):
        needed = [_needed(each, natural.iloc[-1] - NEAR) for each in (natural, robust)]
        saved = (needed[0] - needed[1]).dropna()
        lines.append([cells.text(target), cells.text(blocks_name(blocks)),
                      *map(cells.mean, needed), cells.mean(saved, signed=True)])  # fmt: skip
    heads = ["target", "trained", "natural needs", "L2 needs", "epochs saved"]
    return Table("epochs_saved", "Epochs that L2 saves", heads, lines)


def _courses(found: Finetunings) -> Iterator[tuple[str, int, pd.DataFrame, pd.DataFrame]]:
    """Yield target, blocks, and accuracy on 100 images by epoch of the natural and L2 sources."""
    for target, blocks in itertools.product(found.targets, SHALLOW):
        natural, robust = (found.by_epoch(Condition(target, name, blocks, 100)) for name in PAIR)
        if not (natural.empty or robust.empty):
            yield target, blocks, natural, robust


def _needed(accuracies: pd.DataFrame, aims: pd.Series) -> pd.Series:
    """Return for each seed the first epoch that reaches its target, else the last epoch."""
    reached = accuracies.ge(aims, axis="columns")
    return reached.idxmax().where(reached.any(), accuracies.index[-1])


def by_rates(rows: pd.DataFrame) -> Table:
    """Tabulate L2 - natural at each learning rate, and with each source at its best rate.

    A source's best rate has the highest mean of the test accuracies shown, which favours both
    sources equally.
    """
    chosen = rows["config"].map(lambda settings: json.loads(settings)["transfer"]["learning_rate"])
    found = {rate: finetunings(rows[chosen == rate]) for rate in sorted(chosen.unique())}
    lines = []
    for target, blocks in itertools.product(next(iter(found.values())).targets, SHALLOW):
        by_rate = {
            rate: [each.at(Condition(target, name, blocks, 100)) for name in PAIR]
            for rate, each in found.items()
        }
        if any(values.empty for pair in by_rate.values() for values in pair):
            continue
        best = [max(by_rate, key=lambda rate, of=of: by_rate[rate][of].mean()) for of in (0, 1)]
        natural, robust = (by_rate[rate][of] for of, rate in enumerate(best))
        lines.append([cells.text(target), cells.text(blocks_name(blocks)),
                      *(cells.mean((pair[1] - pair[0]).dropna(), signed=True)
                        for pair in by_rate.values()),
                      *(cell for rate, each in zip(best, (natural, robust), strict=True)
                        for cell in (cells.text(f"{rate:g}"), cells.mean(each))),
                      cells.mean((robust - natural).dropna(), signed=True)])  # fmt: skip
    heads = ["target", "trained", *(f"at {rate:g}" for rate in found)]
    heads += ["natural's rate", "natural", "L2's rate", "L2", "best - best"]
    return Table("by_rates", "L2 - natural by learning rate", heads, lines)


def robustness(rows: pd.DataFrame) -> Table:
    """Tabulate accuracy with and without an attack, by target, source and blocks."""
    rows = rows[rows["task"] == "attack"]
    radii = sorted(rows["eps"].unique())
    lines = []
    for (dataset, blocks, source), group in rows.groupby(["dataset", "blocks", "source"]):
        each = [group[group["eps"] == eps]["accuracy"] for eps in radii]
        seeds = cells.count(group["seed"].nunique())
        lines.append([cells.text(target_name(dataset)), cells.count(blocks), cells.text(source),
                      seeds, *map(cells.mean, each)])  # fmt: skip
    heads = ["target", "blocks", "source", "seeds", *(f"eps {eps:g}" for eps in radii)]
    return Table("robustness", "Under PGD(10), L2", heads, lines)


def adversarial(rows: pd.DataFrame) -> Table:
    """Tabulate accuracy without and under an attack after fine-tuning on perturbed images or not.

    The last column of each pair is paired by seed.
    """
    lines, rows = [], rows[rows["epoch"] == rows["epochs"]]
    for (dataset, blocks, source), group in rows.groupby(["dataset", "blocks", "source"]):
        if group["perturbation"].nunique() < 2:
            continue
        line = [
            cells.text(target_name(dataset)),
            cells.text(blocks_name(blocks)),
            cells.text(source),
        ]
        for method in ("transfer", "pgd"):
            found = group[group["method"] == method].pivot(
                index="seed", columns="perturbation", values="accuracy"
            )
            line += map(cells.mean, (found["none"], found["pgd"]))
            line.append(cells.mean(found["pgd"] - found["none"], signed=True))
        lines.append(line)
    trained = ("trained on clean", "on perturbed", "difference")
    heads = [f"{tested}: {each}" for tested in ("no attack", "PGD(20)") for each in trained]
    return Table(
        "adversarial", "Adversarial fine-tuning", ["target", "trained", "source", *heads], lines
    )


def autoattack(rows: pd.DataFrame) -> Table:
    """Tabulate accuracy under PGD(20) and under AutoAttack on the same images, by training images.

    One network for each line and each kind of training images.
    """
    lines, columns = [], list(itertools.product(("none", "pgd"), ("pgd", "autoattack")))
    for (dataset, blocks, source), group in rows.groupby(["dataset", "blocks", "source"]):
        found = group.set_index(["perturbation", "method"])["accuracy"]
        each = [cells.number(accuracy, 1) for accuracy in found.reindex(columns)]
        trained = cells.text(blocks_name(blocks))
        lines.append([cells.text(target_name(dataset)), trained, cells.text(source), *each])
    heads = [
        f"{trained}: {attack}"
        for trained in ("trained on clean", "on perturbed")
        for attack in ("PGD(20)", "AutoAttack")
    ]
    return Table("autoattack", "AutoAttack", ["target", "trained", "source", *heads], lines)


def influence_ahead(rows: pd.DataFrame) -> Table:
    """Tabulate how many more of the L2 source's most influential images have the right label."""
    rows = rows[rows["task"] == "influence"]
    lines = []
    for (dataset, method), group in rows.groupby(["dataset", "method"]):
        line = [cells.text(target_name(dataset)), cells.text(method)]
        line.append(cells.count(group["seed"].nunique()))
        for measure in ("top1_match", "top5_match"):
            found = group.pivot(index="seed", columns="source", values=measure)
            line.append(cells.mean((found[PAIR[1]] - found[PAIR[0]]).dropna(), signed=True))
        lines.append(line)
    heads = ["target", "scores", "seeds", "top-1 match, L2 - natural", "3 of top 5, L2 - natural"]
    return Table("influence_ahead", "L2 - natural by influence", heads, lines)
