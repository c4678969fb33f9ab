"""The fine-tunings among a work directory's rows: test accuracy by cell, seed and epoch.

A cell is a target, a source, a number of blocks and a number of images, all named as the report
shows them. If runs of a cell differ in other settings (epochs, frozen BatchNorm, ...), these are
appended to the target's name. Of two runs whose rows record the same settings, such as before and
after a change to the source's file, the later one counts.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from rtl_jax.errors import UserError
from rtl_jax.lab import results
from rtl_jax.lab.config import LATER, NAMES, NUMBERS, WITHOUT_EFFECT, Experiment
from rtl_jax.lab.report import names, published
from rtl_jax.lab.report.names import paper_source, paper_target, target_name
from rtl_jax.lab.statistics import sizes
from rtl_jax.runtime import limits
from rtl_jax.runtime.documents import parse_json

# Replaces a missing number of blocks, which means that every block trains; larger than any other.
EVERY = 1_000_000

NOTHING = pd.Series(dtype=float)
_TARGET = ["dataset", "test_dataset", "variant"]
# The groups of settings that a fine-tuning reads.
TRAINING = ("source", "target", "augmentation", "transfer")
# Settings that define a cell, or that do not affect results.
_ELSEWHERE = {
    *("source.checkpoint", "target.dataset", "target.num_images", "transfer.blocks"),
    *("target.test_dataset", "target.low_resolution", "target.low_pass", "target.low_pass_share"),
    *("target.fold", "target.corruption"),
    *("influence.question", "influence.run", "influence.compare", "influence.num_shown"),
    *("influence.perturb", "influence.perturb_eps", "influence.perturb_steps"),
    *("influence.batch_size", "visualize.sources", "visualize.num_shown"),
    *WITHOUT_EFFECT,
}


# Settings that older rows lack, where they had today's defaults. As in rows, tuples are lists.
_USUAL = parse_json(results.as_json(Experiment().to_dict()))
_LATER = {
    key: _USUAL[group][name]
    for key in LATER
    for group, _, name in [key.partition(".")]
    if group == "transfer"
}


# The settings that a sweep can vary besides sources and blocks, and their names.
AXES = {f"transfer.{name}": name for name in (*NUMBERS.values(), *NAMES.values())}


class Setting(NamedTuple):
    """The parts of a target's name: the target without a sweep's axes, and the axes' values."""

    target: str
    axes: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        return ", ".join(f"{name}={_number(value)}" for name, value in self.axes)


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


class Condition(NamedTuple):
    """A cell, the unit over whose seeds means are taken."""

    target: str
    source: str
    blocks: int
    num_images: int


@dataclasses.dataclass(frozen=True)
class Finetunings:
    """Accuracies in percent by cell, each a series over seeds, and notes on what was left out.

    A seed is text, such as '20000000'; in cross-validation a fold counts as one, 'fold 0', with the
    mean over its seeds, which share its test images.
    """

    evaluations: pd.DataFrame  # target, source, blocks, num_images, seed, epoch, epochs, accuracy
    targets: tuple[str, ...]  # in the report's order: the paper's, then the others
    sources: tuple[str, ...]  # likewise, after the reference
    paper_targets: Mapping[str, str]  # the paper's names of those targets that are the paper's
    paper_sources: Mapping[str, str]  # likewise
    reference: str | None  # the source that others are compared with: the natural one
    notes: tuple[str, ...]  # what was left out, and runs that differ in epochs
    settings: Mapping[str, Setting]  # of each target's name
    number: int  # of fine-tunings

    @functools.cached_property
    def last(self) -> Mapping[Condition, pd.Series]:
        """Accuracy after the last epoch, as in the paper's tables."""
        rows = self.evaluations
        return _by_cell(rows[rows["epoch"] == rows["epochs"]])

    @functools.cached_property
    def best(self) -> Mapping[Condition, pd.Series]:
        """Accuracy after each run's best epoch, as in the paper's Figures 4, 5 and 11."""
        rows = self.evaluations.sort_values("accuracy", kind="stable")
        return _by_cell(rows.drop_duplicates([*Condition._fields, "seed"], keep="last"))

    def by_epoch(self, cell: Condition) -> pd.DataFrame:
        """Return a cell's accuracy, with a row per evaluated epoch and a column per seed.

        Only the runs with the most frequent total number of epochs are included.
        """
        rows = self._groups.get(cell)
        if rows is None:
            return pd.DataFrame()
        length = rows.groupby("epochs")["seed"].nunique().idxmax()
        return rows[rows["epochs"] == length].pivot(
            index="epoch", columns="seed", values="accuracy"
        )

    @functools.cached_property
    def _groups(self) -> Mapping[Condition, pd.DataFrame]:
        groups = self.evaluations.groupby(list(Condition._fields), sort=False)
        return {Condition(*key): rows for key, rows in groups}

    def at(self, cell: Condition, best: bool = False) -> pd.Series:
        """Return a cell's accuracy by seed after the last or best epoch; empty if unmeasured."""
        return (self.best if best else self.last).get(cell, NOTHING)

    @functools.cached_property
    def blocks(self) -> list[int]:
        """The numbers of blocks that were trained."""
        return sorted({cell.blocks for cell in self.last})

    def having(self, **fixed: Any) -> Iterator[Condition]:
        """Yield the cells whose fields have these values."""
        for cell in self.last:
            if all(getattr(cell, name) == value for name, value in fixed.items()):
                yield cell


def finetunings(rows: pd.DataFrame, method: str = "transfer") -> Finetunings:
    """Gather the evaluations of 'transfer', or of a method of PIXEL_BASELINES.

    Those without an accuracy are omitted. Raises UserError if a row's settings are not JSON.
    """
    rows = rows[rows["method"] == method]
    needed = ["dataset", "source", "num_images", "epoch", "epochs"]
    known = rows[np.isfinite(rows["accuracy"]) & rows[needed].notna().all(axis=1)]
    notes = []
    if len(known) < len(rows):
        notes.append(f"Evaluations omitted for lack of an accuracy: {len(rows) - len(known):,}.")
    texts = {column: known[column].fillna("") for column in (*_TARGET, "config")}
    known = known.assign(blocks=known["blocks"].fillna(EVERY).astype(int), **texts)
    wrong = known["config"].isin([one for one in known["config"].unique() if with_flips(one)])
    if wrong.any():
        known = known[~wrong]
        notes.append(f"Evaluations omitted for labels that were made wrong: {int(wrong.sum()):,}.")
    known = _fewer(known, notes)
    varied, sources = _targets(known), _sources(known)
    targets = {given: _name(one) for given, one in varied.items()}
    labelled = known.assign(
        seed=[
            str(seed) if pd.isna(fold) else f"{seed}/{fold}"
            for seed, fold in zip(known["seed"], known["fold"], strict=True)
        ],
        num_images=sizes(known),
        target=[targets[given] for given in _rows_of(known, [*_TARGET, "config"])],
        source=[sources[origin] for origin in _origins(known)],
    )
    kept = _latest_runs(labelled)
    if repeated := labelled["run"].nunique() - kept["run"].nunique():
        notes.append(f"Runs superseded by a later one with the same settings: {repeated:,}.")
    parts = [one for one in known["config"].unique() if not whole(one)]
    partly = labelled["fold"].notna() | labelled["config"].isin(parts)
    divided = set(labelled.loc[partly, "target"])
    paper_targets = _known(
        {name: paper_target(*each[:3]) for each, name in targets.items() if name not in divided}
    )
    paper_sources = _known({name: paper_source(*each) for each, name in sources.items()})
    reference = names.reference(
        {path: name for (path, every), name in sources.items() if not every}
    )
    ordered = _in_order(sources.values(), paper_sources, list(published.table7()))
    columns = [*Condition._fields, "seed", "epoch", "epochs", "accuracy"]
    evaluations = kept[columns].astype({"num_images": int, "epoch": int, "epochs": int})
    return Finetunings(
        _by_fold(evaluations).reset_index(drop=True),
        _in_order(targets.values(), paper_targets, list(published.targets().values())),
        tuple(sorted(ordered, key=lambda name: name != reference)),
        paper_targets,
        paper_sources,
        reference,
        tuple([*notes, *_unequal(evaluations), *_unlike_sources(kept)]),
        {name: varied[given] for given, name in targets.items()},
        len(evaluations.drop_duplicates([*Condition._fields, "seed"])),
    )


def settings(config: str) -> dict[str, Any]:
    """Parse a row's settings, empty without a config. Raises UserError if they are not JSON."""
    try:
        return parse_json(config) if config else {}
    except ValueError as error:
        raise UserError(f"a row's config is not JSON ({error}): remove its file") from error


def whole(config: str) -> bool:
    """Return whether a row's target has all of its classes, and its own training and test images.

    Those of cross-validation are all from its training images.
    """
    target = settings(config).get("target", {})
    return not (target.get("folds") or target.get("classes"))


def blocks_name(blocks: int) -> str:
    """Return a name such as '3 blocks', '1 block' or 'every block'."""
    return results.blocks_name(None if blocks == EVERY else blocks)


def _fewer(rows: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Limit rows to as many sources and data sets as a report can show, and note the omissions.

    The paper's are kept first, then the most accurate.
    """
    for column, paper, most in (
        ("source", paper_source, limits.SOURCES),
        ("dataset", paper_target, 0),
    ):
        most = most or max(
            len(published.targets()), limits.PLACES // max(1, rows["source"].nunique())
        )
        best = rows.groupby(column)["accuracy"].max().sort_values(ascending=False, kind="stable")
        if len(best) <= most:
            continue
        ranked = sorted(best.index, key=lambda name: paper(name) is None)
        rows = rows[rows[column].isin(ranked[:most])]
        notes.append(
            f"A report shows at most {most} {column}s. Omitted, with the lowest accuracy: "
            f"{len(best) - most:,}."
        )
    return rows


def _by_cell(rows: pd.DataFrame) -> dict[Condition, pd.Series]:
    groups = rows.groupby(list(Condition._fields), sort=False)
    return {Condition(*key): group.set_index("seed")["accuracy"] for key, group in groups}


def latest(rows: pd.DataFrame, place: Sequence[str]) -> pd.DataFrame:
    """Keep the latest of the rows that agree in the columns `place`, in the order of their times.

    What was measured again, such as on more images, replaces what there was. Rows without a time
    count as the oldest.
    """
    return names.in_time(rows).drop_duplicates(list(place), keep="last")


def _latest_runs(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the latest run of every cell and seed."""
    place = [*Condition._fields, "seed"]
    ends = rows.groupby("run", sort=False).agg({**dict.fromkeys(place, "first"), "time": "max"})
    rows = rows[rows["run"].isin(latest(ends, place).index)]
    return rows.drop_duplicates(["run", "epoch"], keep="last")


def _by_fold(evaluations: pd.DataFrame) -> pd.DataFrame:
    """Replace the seeds of each fold, '20000000/0', by their mean, 'fold 0'."""
    if evaluations.empty:
        return evaluations
    folds = evaluations["seed"].str.partition("/")[2]
    named = evaluations.assign(seed=evaluations["seed"].where(folds == "", "fold " + folds))
    keys = [name for name in named if name != "accuracy"]
    return named.groupby(keys, sort=False, as_index=False)["accuracy"].mean()


def _origins(rows: pd.DataFrame) -> list[tuple[str, bool]]:
    """Return each row's checkpoint, and whether every block was trained."""
    return list(zip(rows["source"], rows["blocks"] == EVERY, strict=True))


def _sources(rows: pd.DataFrame) -> dict[tuple[str, bool], str]:
    """Name each source: the paper's name, or as much of its path as makes it unique.

    They are in the order of their first rows' times.
    """
    return names.source_names(list(dict.fromkeys(_origins(names.in_time(rows)))))


def _rows_of(rows: pd.DataFrame, columns: Sequence[str]) -> list[tuple[str, ...]]:
    return list(zip(*(rows[column] for column in columns), strict=True))


def _targets(rows: pd.DataFrame) -> dict[tuple[str, ...], Setting]:
    """Return, for each target and config, the settings that distinguish runs of a cell.

    A sweep's axes are kept separately; the other settings are appended to the target's name.
    """
    flat = {text: _flat(text) for text in rows["config"].unique()}
    varying = _varying(rows, flat)
    found = {}
    for given in dict.fromkeys(_rows_of(rows, [*_TARGET, "config"])):
        *target, config = given
        known = {key: flat[config].get(key) for key in varying.get(target[0], ())}
        others = [f"{key}={value}" for key, value in known.items() if key not in AXES]
        axes = tuple((AXES[key], value) for key, value in known.items() if key in AXES)
        found[given] = Setting(", ".join([target_name(*target), *others]), axes)
    return found


def _name(setting: Setting) -> str:
    """Return a target's name with all the settings that distinguish its runs."""
    return ", ".join(part for part in (setting.target, str(setting)) if part)


def _known(names: Mapping[str, str | None]) -> dict[str, str]:
    return {name: paper for name, paper in names.items() if paper is not None}


def _in_order(
    found: Iterable[str], paper: Mapping[str, str], order: Sequence[str]
) -> tuple[str, ...]:
    """Return names without repeats: the paper's in its order, then the others alphabetically."""
    ranks = {name: order.index(paper[name]) for name in paper if paper[name] in order}
    return tuple(sorted(set(found), key=lambda name: (ranks.get(name, len(order)), name)))


def _varying(rows: pd.DataFrame, flat: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return, for each data set, the settings that differ within some cell."""
    found: dict[str, set[str]] = {}
    place = [*_TARGET, "source", "blocks", "num_images"]
    for (dataset, *_), configs in rows.groupby(place, sort=False)["config"]:
        found.setdefault(dataset, set()).update(_unlike([flat[text] for text in configs.unique()]))
    return {dataset: sorted(keys) for dataset, keys in found.items()}


def _unlike(each: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the settings that are not the same in all."""
    keys = {key for one in each for key in one}
    return {key for key in keys if any(one.get(key) != each[0].get(key) for one in each)}


def told_apart(
    rows: pd.DataFrame, place: Sequence[str], groups: Sequence[str] = TRAINING
) -> pd.Series:
    """Return for each row the settings, among these groups, that differ within its `place`.

    They read ', learning_rate=0.1', or are empty, as for rows without a config. Neither the number
    of test images is among them nor how a source is read, so that networks from several sources
    that were trained alike are described alike. Raises UserError if a row's settings are not JSON.
    """
    configs = rows["config"].fillna("")
    flat = {text: _flat(text, groups) for text in configs.unique() if text}
    said = pd.Series("", rows.index, dtype=object)
    for _, group in configs[configs != ""].groupby([rows[name] for name in place], sort=False):
        unlike = [
            key
            for key in sorted(_unlike([flat[text] for text in group.unique()]))
            if key != "target.num_test_images" and not key.startswith("source.")
        ]
        words = {
            text: "".join(
                f", {AXES.get(key, key)}={_number(flat[text].get(key))}" for key in unlike
            )
            for text in group.unique()
        }
        said[group.index] = group.map(words)
    return said


def _flat(config: str, groups: Sequence[str] = TRAINING) -> dict[str, Any]:
    """Return the settings of these groups by dotted name, except those that define a cell."""
    known = settings(config)
    later = {key: value for key, value in _LATER.items() if key.partition(".")[0] in groups}
    return later | {
        f"{group}.{name}": value
        for group in groups
        for name, value in known.get(group, {}).items()
        if f"{group}.{name}" not in _ELSEWHERE
    }


def with_flips(config: str) -> bool:
    """Return whether a fine-tuning was on labels some of which were made wrong."""
    return bool(settings(config).get("influence", {}).get("flip_labels"))


def _unlike_sources(rows: pd.DataFrame) -> list[str]:
    """Return a note if sources are compared that were fine-tuned with different settings.

    Numbers of epochs have a note of their own, and training from scratch has settings of its own.
    Settings that some rows lack, such as those of other systems, are not compared.
    """
    found: dict[str, set[str]] = {}
    transferred = rows[(rows["blocks"] != EVERY) & (rows["config"] != "")]
    for (target, *_), group in transferred.groupby(["target", "blocks", "num_images"], sort=False):
        if group["source"].nunique() > 1:
            each = [_flat(text) for text in group["config"].unique()]
            found.setdefault(target, set()).update(
                key
                for key in _unlike(each) - {"transfer.epochs"}
                if not key.startswith("source.") and all(key in one for one in each)
            )
    where = [f"{target} ({', '.join(sorted(keys))})" for target, keys in found.items() if keys]
    if not where:
        return []
    return [f"Sources are compared that were fine-tuned with other settings: {'; '.join(where)}."]


def _unequal(evaluations: pd.DataFrame) -> list[str]:
    """Return a note if runs with different numbers of epochs are compared."""
    transferred = evaluations[evaluations["blocks"] != EVERY]
    by_place = transferred.groupby(["target", "num_images"])["epochs"].nunique()
    unequal = by_place[by_place > 1].index
    if unequal.empty:
        return []
    where = [
        f"{target} on {', '.join(f'{size:,}' for _, size in group)}"
        for target, group in itertools.groupby(unequal, key=lambda place: place[0])
    ]
    return [f"Runs with different numbers of epochs are compared: {'; '.join(where)} images."]
