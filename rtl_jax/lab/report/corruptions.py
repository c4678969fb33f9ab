"""Accuracy under common corruptions, and the mean corruption error relative to a reference."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from rtl_jax.data.corruptions.errors import mean_corruption_error
from rtl_jax.lab.report import cells, names
from rtl_jax.lab.report.elements import Element, Table
from rtl_jax.lab.report.robustness import trainings
from rtl_jax.lab.report.runs import latest
from rtl_jax.lab.results import corruption_of
from rtl_jax.lab.statistics import units

KINDS = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
}
NOTE = (
    "Accuracy on corrupted test images in percent, over all corruptions and severities that were "
    "measured. mCE: the sum of errors over severities as a share of the reference's, in "
    "percent, averaged over corruptions; below 100 is better than {}. "
)
_PLACE = ["target", "training", "seed", "fold"]


def tables(rows: pd.DataFrame) -> list[Element]:
    """Tabulate each network's accuracy by kind of corruption, and by corruption."""
    rows = rows[(rows["method"] == "corruptions") & np.isfinite(rows["accuracy"])]
    if rows.empty:
        return []
    known = names.names_by_checkpoint(rows)
    reference = names.reference(known)
    rows = _described(rows, known)
    # A network may have been measured in several runs, such as for further corruptions.
    place = ["network", *_PLACE]
    rows = latest(rows, [*place, "corruption", "severity"])
    rows = rows.assign(run=rows.groupby(place, sort=False).ngroup())
    runs = {run: group for run, group in rows.groupby("run", sort=False)}
    errors = {run: _errors(group) for run, group in runs.items()}
    firsts = rows.drop_duplicates("run").set_index("run")
    against = {
        tuple(first[_PLACE]): run
        for run, first in firsts.iterrows()
        if first["source_name"] == reference
    }
    kinds, each = [], []
    for (target, network), group in firsts.groupby(["target", "network"], sort=False):
        measured = pd.DataFrame([_by_name(runs[run]) for run in group.index], group.index)
        measured = measured.groupby(group["unit"], sort=False).mean()
        common = pd.Series(
            {
                run: mean_corruption_error(_lists(errors[run]), _lists(errors[other]))
                for run, first in group.iterrows()
                if (other := against.get(tuple(first[_PLACE]))) is not None
                and _severities(errors[run]) == _severities(errors[other])
            },
            dtype=float,
        )
        head = [cells.text(target), cells.text(network)]
        most = max(int(runs[run]["num_test_images"].max()) for run in group.index)
        ending = [cells.count(len(measured)), cells.count(most)]
        kinds.append(
            [
                *head,
                cells.mean(measured["clean"]),
                *(cells.mean(_means(measured, own)) for own in KINDS.values()),
                cells.mean(_means(measured, [name for own in KINDS.values() for name in own])),
                cells.mean(common.groupby(group["unit"], sort=False).mean()),
                *ending,
            ]
        )
        each += [
            [*head, cells.text(name), cells.mean(values), *ending]
            for own in KINDS.values()
            for name in own
            if len(values := _means(measured, [name]))
        ]
    note = NOTE.format(f"{reference}, trained alike") + cells.INTERVALS
    columns = ["data set", "network"]
    last = ["seeds", "test images"]
    return [
        Table(
            "corruptions",
            "Accuracy under corruptions",
            [*columns, "clean, %", *(f"{kind}, %" for kind in KINDS), "mean, %", "mCE, %", *last],
            kinds,
            note,
        ),
        Table(
            "corruptions_each",
            "Accuracy under each corruption",
            [*columns, "corruption", "accuracy, %", *last],
            each,
            note,
        ),
    ]


def _described(rows: pd.DataFrame, sources: dict[str, str]) -> pd.DataFrame:
    """Add each row's target, network, and corruption and severity ("" and 0 if there is none)."""
    found = [corruption_of(variant) for variant in rows["variant"]]
    alone = rows["variant"].fillna("").str.replace(r",?corruption=.*", "", regex=True)
    rows = rows.assign(
        target=names.target_names(rows.assign(variant=alone)),
        source_name=[sources[source] for source in rows["source"]],
        corruption=[one.name if one else "" for one in found],
        severity=[one.severity if one else 0 for one in found],
        unit=units(rows),
        fold=rows["fold"].fillna(-1),
    )
    rows = rows.assign(training=trainings(rows, "target"))
    return rows.assign(network=rows["source_name"] + rows["training"])


_Errors = dict[str, dict[int, float]]  # by corruption and severity, in percent


def _errors(run: pd.DataFrame) -> _Errors:
    """Return the errors of each corruption by severity, in percent."""
    corrupted = run[run["corruption"] != ""].sort_values("severity")
    return {
        str(name): dict(zip(group["severity"], 100 - group["accuracy"], strict=True))
        for name, group in corrupted.groupby("corruption")
    }


def _lists(errors: _Errors) -> dict[str, list[float]]:
    return {name: list(by_severity.values()) for name, by_severity in errors.items()}


def _severities(errors: _Errors) -> dict[str, tuple[int, ...]]:
    """Return the severities of each corruption: errors at others are no reference."""
    return {name: tuple(values) for name, values in errors.items()}


def _by_name(run: pd.DataFrame) -> dict[str, float]:
    """Return mean accuracy by corruption, and without one as 'clean'."""
    means = run.groupby("corruption")["accuracy"].mean()
    return {str(name) or "clean": float(mean) for name, mean in means.items()}


def _means(measured: pd.DataFrame, own: Sequence[str]) -> pd.Series:
    """Return, for each seed, the mean over the corruptions in `own` that were measured."""
    return measured[measured.columns.intersection(list(own))].mean(axis=1).dropna()
