"""Accuracy under attack as a function of the radius."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from rtl_jax.lab.config import Attack
from rtl_jax.lab.report import cells
from rtl_jax.lab.report.elements import Chart, Element, Figure, Series, Table
from rtl_jax.lab.report.names import names_by_checkpoint, target_names
from rtl_jax.lab.report.runs import latest, settings, told_apart
from rtl_jax.lab.results import blocks_name
from rtl_jax.lab.statistics import independent
from rtl_jax.runtime.frequencies import frequencies_name

NORMS = {"linf": "Linf", "l2": "L2", "l1": "L1", "unconstrained": "any norm"}
NOTE = "Accuracy on the attacked test images, in percent; eps is for pixels in [0, 1]. "


_PERTURBED = ("perturbation", "train_eps", "beta")
# Settings that change what an attack finds, and that are named unless they have their defaults.
_USUAL = Attack()
_PGD = ("loss", "keep", "restarts", "random_start", "relative_step")
_SPECIAL = {
    "pgd": _PGD,
    "fourier": _PGD,
    "gaussian": ("sigma",),
    "smoothing": ("samples", "selection_samples", "alpha"),
}


def curves(rows: pd.DataFrame) -> list[Element]:
    """Return a chart for each data set and kind of attack, and the numbers as a table."""
    # A training evaluated under attack along the way counts with its final value.
    ended = rows["task"].isin(["finetune", "sweep"]) & (rows["epoch"] == rows["epochs"])
    rows = rows[(rows["task"] == "attack") | ended.fillna(False)]
    rows = rows[np.isfinite(rows["accuracy"]) & rows["eps"].notna()]
    if rows.empty:
        return []
    names = names_by_checkpoint(rows)
    kinds = [
        _kind(method, norm, settings(config))
        for method, norm, config in rows[["method", "norm", "config"]].fillna("").to_numpy()
    ]
    rows = rows.assign(dataset=target_names(rows), attack=kinds)
    trained = trainings(rows, "dataset")
    rows = rows.assign(network=[names[source] for source in rows["source"]] + trained)
    place = ["dataset", "attack", "network", "eps", "seed", "fold"]
    rows = latest(rows, place).sort_index()
    charts = [
        _chart(f"robustness_{number}", f"{dataset}, {attack}", group)
        for number, ((dataset, attack), group) in enumerate(
            rows.groupby(["dataset", "attack"], sort=False), 1
        )
    ]
    note = NOTE + cells.INTERVALS
    return [
        Figure("robustness_curves", "Robust accuracy by radius", charts, note),
        _table(rows, note),
    ]


def trainings(rows: pd.DataFrame, target: str) -> pd.Series:
    """Describe how each row's network was fine-tuned: ', 1 block, 400 images'; empty if it was not.

    Any other settings that differ among networks of one value of the column `target` are appended,
    and those of the images that differ among rows of a source that was not fine-tuned.
    """
    columns = ["frozen_batch_norm", "blocks", "num_images", *_PERTURBED]
    found = [_training(*each) for each in rows[columns].itertuples(index=False)]
    named = pd.Series(found, rows.index, dtype=object)
    tuned = rows["frozen_batch_norm"].notna()
    transferred = rows.assign(training=named, config=rows["config"].where(tuned))
    sources = rows.assign(config=rows["config"].where(~tuned))
    return (
        named
        + told_apart(transferred, [target, "training"])
        + told_apart(sources, [target, "source"], ["target"])
    )


def _training(statistics: Any, blocks: Any, images: Any, *perturbed: Any) -> str:
    if pd.isna(statistics):
        return ""
    trained = blocks_name(blocks)
    found = f", {trained}, {'all' if pd.isna(images) else f'{images:,}'} images"
    perturbation, eps, beta = perturbed
    if pd.isna(perturbation) or perturbation == "none":
        return found
    words = f"{found}, trained with {perturbation}, eps {eps:.4g}"
    return words if pd.isna(beta) else f"{words}, TRADES {beta:.4g}"


def _kind(method: str, norm: str, config: Mapping[str, Any]) -> str:
    """Describe an attack, such as 'PGD(20), Linf', with any settings that are unusual."""
    attack = config.get("attack", {})
    ensemble = ", ".join(attack.get("attacks") or [attack.get("version", "?")])
    names = {
        "pgd": f"PGD({attack.get('steps', '?')})",
        "fourier": f"PGD({attack.get('steps', '?')}), {_frequencies(attack)}",
        "gaussian": "Gaussian noise",
        "autoattack": f"AutoAttack ({ensemble})",
        "smoothing": f"certified by smoothing, sigma {attack.get('sigma', '?')}",
    }
    special = [
        f"{key}={attack[key]}"
        for key in _SPECIAL.get(method, ())
        if key in attack and attack[key] != getattr(_USUAL, key)
    ]
    return ", ".join(
        [
            names.get(method, method or "an attack not given"),
            NORMS.get(norm, "a norm not given"),
            *special,
        ]
    )


def _frequencies(attack: Mapping[str, Any]) -> str:
    ends = attack.get("low_frequency", "?"), attack.get("high_frequency", "?")
    budget = attack.get("budget") or "flat"
    return frequencies_name(*ends, budget, attack.get("budget_weights") or ())


def _chart(name: str, title: str, rows: pd.DataFrame) -> Chart:
    series = [
        Series(
            str(network),
            [cells.point(float(eps), independent(own)) for eps, own in group.groupby("eps")],
        )
        for network, group in rows.groupby("network", sort=False)
    ]
    return Chart(name, title, "eps", "robust accuracy, %", series)


def _table(rows: pd.DataFrame, note: str) -> Table:
    columns = ["data set", "attack", "network", "eps", "robust accuracy, %", "seeds", "test images"]
    columns += ["warnings"]  # AutoAttack's, about what makes the number doubtful
    groups = rows.groupby(["dataset", "attack", "network", "eps"], sort=False)
    lines = [
        [
            cells.text(dataset),
            cells.text(attack),
            cells.text(network),
            cells.number(eps, 4),
            cells.mean(values := independent(group)),
            cells.count(len(values)),
            cells.count(int(group["num_test_images"].max())),
            cells.text(", ".join(dict.fromkeys(group["warnings"].dropna()))),
        ]
        for (dataset, attack, network, eps), group in groups
    ]
    return Table("robustness", "Robust accuracy", columns, lines, note)
