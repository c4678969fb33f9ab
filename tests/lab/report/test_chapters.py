"""Tables and charts of the report, made from rows."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from rtl_jax.errors import UserError
from rtl_jax.lab import results
from rtl_jax.lab.report import published
from rtl_jax.lab.report.chapters import compose
from rtl_jax.lab.report.elements import Figure, Report, Table, Text
from rtl_jax.lab.report.runs import EVERY, Condition, finetunings
from tests.lab.report.rows import L2, NATURAL, cell, finetuning, frame, other, seed


def elements(report: Report) -> dict[str, Table | Figure]:
    """Return tables and figures by name, which must be unique, since files have these names."""
    named = [
        element
        for section in report.sections
        for element in section.elements
        if isinstance(element, Table | Figure)
    ]
    assert len({(type(element), element.name) for element in named}) == len(named)
    charts = [chart.name for each in named if isinstance(each, Figure) for chart in each.charts]
    assert len(set(charts)) == len(charts)
    return {element.name: element for element in named}


def table(report: Report, name: str) -> pd.DataFrame:
    """Return the texts of a table."""
    found = elements(report)[name]
    assert isinstance(found, Table)
    texts = [[cell.text for cell in row] for row in found.rows]
    return pd.DataFrame(texts, columns=list(found.columns))


# ---- Fine-tunings --------------------------------------------------------------------------------


def test_last_and_best_epochs():
    rows = frame(finetuning({1: 10.0, 21: 80.0, 40: 70.0}), finetuning({1: 20.0, 40: 60.0}, seed=7))
    found = finetunings(rows)
    place = Condition("SVHN", "natural", 3, 100)
    assert found.at(place).to_dict() == {str(seed(0)): 70, "7": 60}
    assert found.at(place, best=True).to_dict() == {str(seed(0)): 80, "7": 60}
    curve = found.by_epoch(place)
    assert curve.loc[1].to_dict() == {str(seed(0)): 10, "7": 20} and np.isnan(curve.loc[21, "7"])


def test_runs_with_other_settings_are_kept_apart():
    """Only the settings that differ are named, after the target on which they differ."""
    rows = frame(
        cell([50, 51], settings={"epochs": 5}),
        cell([60, 61], settings={"epochs": 9}),
        cell([70, 71], dataset="digits", settings={"epochs": 5}),
    )
    found = finetunings(rows)
    assert found.targets == ("SVHN, transfer.epochs=5", "SVHN, transfer.epochs=9", "digits")
    assert found.at(Condition(found.targets[1], "natural", 3, 100)).tolist() == [60, 61]
    assert set(found.paper_targets.values()) == {"SVHN"}


def test_settings_that_go_with_the_size_do_not_divide():
    rows = frame(
        cell([50], size=100, settings={"epochs": 5}), cell([60], size=200, settings={"epochs": 9})
    )
    assert finetunings(rows).targets == ("SVHN",)


def test_variants_of_the_images_are_other_targets():
    rows = frame(cell([50, 51]), cell([40, 41], variant="low_pass=9", run="low"))
    found = finetunings(rows)
    assert found.targets == ("SVHN", "SVHN, low_pass=9")
    assert list(found.paper_targets) == ["SVHN"]


def test_folds_count_like_seeds_however_many_seeds_they_have():
    accuracies = {(0, 0): 50.0, (0, 1): 54.0, (1, 0): 51.0, (1, 1): 56.0}
    rows = frame(
        *(
            finetuning({1: accuracy}, fold=fold, seed=seed(number), run=f"fold {fold}, {number}")
            for (fold, number), accuracy in accuracies.items()
        )
    )
    found = finetunings(rows)
    by_fold = {"fold 0": 52, "fold 1": 53.5}
    assert found.at(Condition("SVHN", "natural", 3, 100)).to_dict() == by_fold
    assert found.number == 4


def test_whole_folds_of_unequal_size_are_one_cell():
    folds = [
        finetuning(
            {1: accuracy}, fold=fold, num_images=images, run=f"fold {fold}",
            config=results.as_json({"target": {"folds": 2, "fold": fold, "num_images": None}}),
        )
        for fold, images, accuracy in ((0, 101, 52.0), (1, 100, 53.5))
    ]  # fmt: skip
    found = finetunings(frame(*folds))
    by_fold = {"fold 0": 52, "fold 1": 53.5}
    assert found.at(Condition("SVHN", "natural", 3, 100)).to_dict() == by_fold


def test_a_repeated_run_counts_once():
    old = finetuning({1: 10.0}, time="2026-01-01T00:00:00+00:00", run="old")
    new = finetuning({1: 30.0}, time="2026-02-01T00:00:00+00:00", run="new")
    found = finetunings(frame(new, old))
    assert found.at(Condition("SVHN", "natural", 3, 100)).tolist() == [30]
    assert "superseded by a later one with the same settings: 1" in " ".join(found.notes)


def test_what_was_not_measured_is_left_out_and_said():
    rows = frame(cell([50, np.nan, 52]))
    found = finetunings(rows)
    assert found.at(Condition("SVHN", "natural", 3, 100)).tolist() == [50, 52]
    assert "omitted for lack of an accuracy: 1" in " ".join(found.notes)


def test_different_numbers_of_epochs_side_by_side_are_said():
    rows = frame(finetuning({5: 50.0}), finetuning({9: 60.0}, source=L2))
    assert "SVHN on 100 images" in " ".join(finetunings(rows).notes)


def test_settings_that_are_no_json_are_refused():
    with pytest.raises(UserError, match="not JSON"):
        compose(frame(finetuning({1: 50.0}, config="{")))


# ---- Table 7 and accuracy ------------------------------------------------------------------------


def test_table_7():
    natural, robust = [22.5, 23.5, 25.5], [37.0, 39.0, 38.9]
    rows = frame(cell(natural), cell(robust, source=L2), cell([20.0], source="random", blocks=None))
    found = elements(compose(rows))["table7"]
    assert isinstance(found, Table) and len(found.rows) == 60
    line = next(row for row in found.rows if (row[0].text, row[1].text) == ("SVHN", "100"))
    entries = dict(zip(found.columns, line, strict=True))
    mean, error = np.mean(natural), stats.sem(natural)
    half = stats.t.ppf(0.975, 2) * error
    assert entries["natural"].text == f"{mean:.2f} ± {half:.2f}"
    assert entries["natural, published"].value == 23.5
    assert entries["natural, difference"].text == f"{(mean - 23.5) / error:+.1f}"
    assert entries["L2 eps=3"].best and not entries["natural"].best
    assert entries["from scratch"].text == "20.00"  # of one seed: no interval, no standard error
    assert entries["from scratch, difference"].missing and not entries["from scratch"].best
    assert entries["Linf eps=8/255"].missing and entries["Linf eps=8/255, published"].value == 35.75
    measured = [row for row in found.rows if any(not row[place].missing for place in (3, 6, 9, 12))]
    assert measured == [line]
    marked = [row[found.columns.index("L2 eps=3, published")].best for row in found.rows]
    expected = published.table7().drop(columns=published.SCRATCH)
    assert sum(marked) == (expected["L2 eps=3"] == expected.max(axis=1)).sum()


@pytest.mark.parametrize(
    "other_cell",
    [{"dataset": "digits"}, {"source": "bundled:l2"}, {"blocks": 1}, {"size": 150}],
)
def test_table_7_is_left_out_where_nothing_of_it_was_measured(other_cell: dict):
    assert "table7" not in elements(compose(frame(cell([50, 60], **other_cell))))


@pytest.mark.parametrize("changed", [{"folds": 5, "fold": 1}, {"classes": [0, 1]}])
def test_folds_and_fewer_classes_have_no_published_numbers(changed: dict):
    settings = {"config": json.dumps({"target": changed}), "fold": changed.get("fold")}
    found = elements(compose(frame(cell([50, 60], **settings))))
    assert "table7" not in found and "accuracy_3_blocks" in found
    rows = frame(cell([50, 60], **settings), cell([80, 90], dataset="tfds:kmnist"))
    lines = table(compose(rows), "table7").set_index(["target", "images"])["natural"]
    assert lines["SVHN", "100"] == "" and lines["KMNIST", "100"].startswith("85.00")
    place = {"dataset": "tfds:caltech101", "size": 3000, "source": L2}
    rows = frame(cell([80, 82], variant="low_resolution=32", **place, **settings))
    assert table(compose(rows), "table2")["Low-Res"].tolist() == ["", ""]


def test_accuracy_tables():
    rows = frame(
        cell([50, 60, 70], dataset="digits", source="bundled:natural", blocks=0),
        cell([53, 62, 74], dataset="digits", source="bundled:l2", blocks=0),
        cell([30, 31], dataset="digits", source="bundled:l2", blocks=0, method="linear_pixels"),
        cell([40, 41], dataset="digits", source="bundled:l2", blocks=0, method="nearest_pixels"),
    )  # fmt: skip
    found = table(compose(rows), "accuracy_0_blocks").iloc[0]
    half = stats.t.ppf(0.975, 2) * stats.sem([3, 2, 4])
    assert found["bundled:l2 - bundled:natural"] == f"+3.00 ± {half:.2f}"
    assert found["seeds"] == "3" and found["linear on pixels"].startswith("30.50")
    assert found["1-NN on pixels"].startswith("40.50") and "ridge on pixels" not in found


# ---- Figures -------------------------------------------------------------------------------------


def test_figures_by_epoch_mark_11_and_21():
    curves = [{1: 10.0, 11: 40.0, 21: 50.0, 30: 55.0}, {1: 12.0, 11: 44.0, 21: 52.0, 30: 56.0}]
    rows = frame(
        *(finetuning(each, seed=seed(i)) for i, each in enumerate(curves)),
        *(finetuning({epoch: value + 3 for epoch, value in each.items()}, seed=seed(i), source=L2)
          for i, each in enumerate(curves)),
    )  # fmt: skip
    figure = elements(compose(rows))["figure3"]
    assert isinstance(figure, Figure)
    both, difference = figure.charts
    assert difference.marks == [11, 21] and [line.name for line in difference.series] == ["SVHN"]
    assert [(point.x, point.mean) for point in difference.series[0].points] == [
        (1, 3), (11, 3), (21, 3), (30, 3)
    ]  # fmt: skip
    natural = next(line for line in both.series if line.name == "natural")
    half = stats.t.ppf(0.975, 1) * stats.sem([40, 44])
    assert (natural.points[1].mean, natural.points[1].number) == (42, 2)
    assert natural.points[1].half == pytest.approx(half)


def test_figures_by_blocks_take_the_best_epoch():
    groups = [
        finetuning({1: 90.0 + blocks, 9: 50.0}, blocks=blocks, source=L2) for blocks in (0, 1, 3, 9)
    ]
    figure = elements(compose(frame(*groups)))["figure4"]
    assert isinstance(figure, Figure)
    lines, difference = figure.charts
    assert [(line.name, line.points[0].mean) for line in lines.series] == [
        ("0 blocks", 90), ("1 block", 91), ("3 blocks", 93), ("9 blocks", 99)
    ]  # fmt: skip
    assert difference.series[0].points[0].mean == 2  # three minus one


def test_sources_that_are_not_the_papers_are_in_order_of_their_names():
    """In any order of rows; the L2 source is then the first in figures."""
    named = [f"bundled:{name}" for name in ("linf4", "gaussian", "natural", "l2")]
    groups = [cell([50, 60], source=source, blocks=blocks) for source in named for blocks in (1, 3)]
    report = compose(frame(*groups))
    assert finetunings(frame(*groups)).sources == tuple(
        f"bundled:{name}" for name in ("natural", "gaussian", "l2", "linf4")
    )
    for figure, sources in (("figure4", {"l2"}), ("figure11", {"natural", "gaussian", "linf4"})):
        drawn = elements(report)[figure]
        assert isinstance(drawn, Figure)
        titles = {chart.title.split("bundled:")[-1] for chart in drawn.charts}
        assert titles == sources


def test_a_gap_in_a_line_is_missing():
    rows = frame(
        *(cell([50, 51], size=size) for size in (100, 200)), cell([60, 61], source=L2, size=100)
    )
    figure = elements(compose(rows))["figure2"]
    assert isinstance(figure, Figure)
    robust = next(line for line in figure.charts[0].series if line.name == "L2 eps=3")
    assert [point.known for point in robust.points] == [True, False]
    shown = next(line for line in figure.charts[0].series if line.name == "L2 eps=3, published")
    assert shown.dashed and shown.points[0].mean == 37.9


def test_figures_without_their_runs_are_named():
    report = compose(frame(cell([50, 51])))
    texts = [
        each.text for part in report.sections for each in part.elements if isinstance(each, Text)
    ]
    assert any(
        "Not measured here: Figure 2 (needs a natural and a robust" in text for text in texts
    )


# ---- Other tasks ---------------------------------------------------------------------------------


def test_robustness_and_the_papers_other_tables():
    attacked = {
        "dataset": "folder:images/imagenet",
        "method": "pgd",
        "norm": "l2",
        "source": NATURAL,
        "config": '{"attack": {"method": "pgd", "steps": 3, "norm": "l2"}}',
    }
    rows = frame(
        [other("attack", eps=eps, accuracy=50 - 100 * eps, **attacked) for eps in (0, 3 / 32, 1)]
    )
    report = compose(rows)
    assert table(report, "table1b")["IN"].tolist() == ["40.62", ""]
    assert table(report, "table5")["ImageNet test accuracy"].tolist() == ["50.00", "", "", ""]
    figure = next(
        each for part in report.sections if part.title == "Robustness" for each in part.elements
    )
    assert isinstance(figure, Figure) and "PGD(3), L2" in figure.charts[0].title
    assert [point.x for point in figure.charts[0].series[0].points] == [0, 3 / 32, 1]


def test_attacked_fine_tunings_are_told_apart_by_what_was_trained():
    place = {"dataset": "digits", "method": "pgd", "norm": "l2", "eps": 0.5, "config": "{}"}
    tuned = {"num_images": 400, "frozen_batch_norm": "source", "source": "bundled:l2"}
    report = compose(
        frame(
            [
                other("attack", accuracy=20.0, seed=1, blocks=1, **tuned, **place),
                other("attack", accuracy=30.0, seed=2, blocks=1, **tuned, **place),
                other("attack", accuracy=40.0, seed=1, **tuned, **place),
            ]
        )
    )
    found = table(report, "robustness").set_index("network")["robust accuracy, %"]
    assert set(found.index) == {
        "bundled:l2, 1 block, 400 images", "bundled:l2, every block, 400 images",
    }  # fmt: skip
    assert found["bundled:l2, 1 block, 400 images"].startswith("25.00")


def test_attacked_networks_are_told_apart_by_every_setting_of_their_training():
    """Of networks with one name, all but one would be dropped as earlier attacks on the same."""
    place = {"dataset": "digits", "method": "pgd", "norm": "l2", "eps": 0.5}
    tuned = {"num_images": 400, "blocks": 1, "frozen_batch_norm": "source"}

    def attacked(accuracy, settings, **columns):
        known = {**place, **tuned, "source": "bundled:l2", "seed": 1, **columns}
        return other("attack", accuracy=accuracy, config=settings, **known)

    slow, fast = (json.dumps({"transfer": {"learning_rate": rate}}) for rate in (0.1, 0.3))
    other_file = json.dumps({"source": {"stem": "small"}, "transfer": {"learning_rate": 0.1}})
    perturbed = {"perturbation": "pgd", "train_eps": 0.5}
    report = compose(
        frame(
            [
                attacked(20.0, slow),
                attacked(30.0, fast),
                attacked(40.0, slow, **perturbed),
                attacked(50.0, slow, fold=0, **perturbed),
                # On more images, later, but read before the next.
                attacked(25.0, slow, seed=2, num_test_images=900, time="2026-01-02"),
                attacked(10.0, slow, seed=2, num_test_images=100, time="2026-01-01"),
                attacked(35.0, other_file, source="bundled:natural"),
            ]
        )
    )
    found = table(report, "robustness").set_index("network")[["robust accuracy, %", "seeds"]]
    means = {name: (float(text.split()[0]), seeds) for name, text, seeds in found.itertuples()}
    assert means == {
        "bundled:l2, 1 block, 400 images, learning_rate=0.1": (22.5, "2"),
        "bundled:l2, 1 block, 400 images, learning_rate=0.3": (30.0, "1"),
        "bundled:l2, 1 block, 400 images, trained with pgd, eps 0.5": (45.0, "2"),
        "bundled:natural, 1 block, 400 images, learning_rate=0.1": (35.0, "1"),
    }


@pytest.mark.parametrize("method", ["pgd", "corruptions"])
def test_attacked_sources_are_told_apart_by_the_size_of_images(method: str):
    place = {"dataset": "imagenet", "method": method, "norm": "l2", "eps": 0.5}
    variants = [None, "corruption=fog:3"] if method == "corruptions" else [None]
    rows = [
        other(
            "attack", accuracy=accuracy, time=time, run=f"{size} {number}",
            config=json.dumps({"target": {"image_size": size, "num_test_images": number}}),
            variant=variant, **place,
        )
        for variant in variants
        for size, number, accuracy, time in (
            (224, 100, 71.0, "2026-01-01"), (224, 200, 70.0, "2026-01-02"),
            (256, 100, 60.0, "2026-01-03"),
        )
    ]  # fmt: skip
    name, column = ("robustness", "robust accuracy, %")
    if method == "corruptions":
        name, column = ("corruptions", "mean, %")
    found = table(compose(frame(rows)), name).set_index("network")[column]
    assert found.to_dict() == {
        "natural, target.image_size=224": "70.00",
        "natural, target.image_size=256": "60.00",
    }


def test_attacks_of_other_kinds_have_their_own_charts():
    place = {"dataset": "digits", "eps": 0.1, "accuracy": 40.0, "norm": "linf"}
    settings = '{"attack": {"method": "pgd", "steps": 20, "loss": "margin"}}'
    report = compose(
        frame(
            [
                other("attack", method="pgd", config=settings, **place),
                other(
                    "attack",
                    method="autoattack",
                    warnings="zero_gradients",
                    config='{"attack": {"method": "autoattack", "version": "plus", "attacks": []}}',
                    **place,
                ),
                other("attack", method="gaussian", **place),
            ]
        )
    )
    figure = elements(report)["robustness_curves"]
    assert isinstance(figure, Figure)
    assert [chart.title for chart in figure.charts] == [
        "digits, PGD(20), Linf, loss=margin",
        "digits, AutoAttack (plus), Linf",
        "digits, Gaussian noise, Linf",
    ]
    assert table(report, "robustness")["warnings"].tolist() == ["", "zero_gradients", ""]


def test_the_low_resolution_of_table_2():
    place = {"dataset": "tfds:caltech101", "size": 3000, "source": L2}
    rows = frame(cell([80, 82], variant="low_resolution=32", **place), cell([90, 92], **place))
    (found, natural) = table(compose(rows), "table2")["Low-Res"]
    assert found.startswith("81.00 ±") and natural == ""


def test_fine_tunings_on_wrong_labels_are_not_beside_published_numbers():
    noisy = json.dumps({"influence": {"flip_labels": 0.5}})
    place = {"dataset": "tfds:caltech101", "size": 3000, "source": L2}
    place |= {"variant": "low_resolution=32"}
    rows = frame(cell([80, 82], **place), finetuning({1: 10.0}, run="noisy", config=noisy, **place))
    found, _ = table(compose(rows), "table2")["Low-Res"]
    assert found.startswith("81.00 ±")


def test_the_later_of_two_measurements_is_beside_the_published_number():
    """Here on more images, and read first."""
    clean = {"method": "pgd", "dataset": "tfds:imagenet2012", "norm": "l2", "eps": 0.0}
    rows = [
        other("attack", accuracy=accuracy, num_test_images=number, time=time, **clean)
        for accuracy, number, time in ((76.0, 50_000, "2026-01-02"), (70.0, 100, "2026-01-01"))
    ]
    found = table(compose(frame(rows)), "table5")["ImageNet test accuracy"]
    assert found.tolist() == ["76.00", "", "", ""]


def test_influence():
    rows = frame(
        [
            other("influence", method="influence", dataset="tfds:cifar10", source=source,
                  top1_match=top1, top5_match=50.0)
            for source, top1 in ((NATURAL, 55.0), (L2, 78.0), ("bundled:l2", 60.0))
        ],
        [
            other("influence", method=method, dataset="digits", inspected=share, recall=2 * share)
            for method in ("influence", "loss") for share in (10.0, 20.0)
        ],
    )  # fmt: skip
    report = compose(rows)
    found = table(report, "influence").set_index("source")
    assert found["top-1 match"].tolist() == ["55.00", "78.00", "60.00"]
    assert found["top-1 match, published"].tolist() == ["55.1", "78.6", ""]
    figure = elements(report)["wrong_labels"]
    assert isinstance(figure, Figure)
    assert [point.mean for point in figure.charts[0].series[1].points] == [20, 40]


def test_trained_sources_and_roughness():
    trained = {"dataset": "digits", "epochs": 2, "architecture": "resnet18"}
    rows = frame(
        [
            other("pretrain", epoch=1, accuracy=10.0, method="pretrain", **trained),
            other("pretrain", epoch=2, accuracy=20.0, method="pretrain", **trained),
            other("pretrain", epoch=2, accuracy=15.0, method="pgd", norm="l2", eps=0.5, **trained),
            other("visualize", method="gradients", dataset="digits", roughness=2.5),
        ]
    )
    report = compose(rows)
    assert table(report, "trained_sources")["top-1, %"].tolist() == ["20.00", "15.00"]
    assert table(report, "roughness")["roughness"].tolist() == ["2.50"]


def test_other_attacks_are_no_published_numbers():
    """Of fine-tuned networks, by other attacks, or of certificates at radius 0."""
    known = {"dataset": "imagenet", "norm": "l2", "source": NATURAL, "accuracy": 70.0}
    three, ten = (json.dumps({"attack": {"steps": steps}}) for steps in (3, 10))
    rows = frame(
        [
            other("attack", method="pgd", eps=3 / 32, config=ten, **known),
            other("attack", method="gaussian", eps=3 / 32, config=three, **known),
            other("attack", method="smoothing", eps=0.0, config=three, **known),
            other(
                "attack", method="pgd", eps=0.0, config=three, blocks=3, num_images=100,
                frozen_batch_norm="source", **known,
            ),
        ]
    )  # fmt: skip
    report = compose(rows)
    assert table(report, "table1b")["IN"].tolist() == ["", ""]
    assert table(report, "table5")["ImageNet test accuracy"].tolist() == ["", "", "", ""]


def test_attacks_are_told_apart_by_their_own_settings():
    place = {"dataset": "digits", "eps": 0.1, "norm": "l2"}
    settings = [
        ("pgd", {"steps": 20, "relative_step": 0.1}),
        ("pgd", {"steps": 20, "relative_step": 2.5}),
        ("gaussian", {"sigma": 0.02}),
        ("gaussian", {"sigma": 1.0}),
        ("fourier", {"steps": 20, "restarts": 5, "random_start": True}),
        ("smoothing", {"sigma": 0.5, "samples": 100}),
    ]
    rows = [
        other("attack", method=method, accuracy=number, config=json.dumps({"attack": one}), **place)
        for number, (method, one) in enumerate(settings)
    ]
    found = table(compose(frame(rows)), "robustness")
    assert found["attack"].tolist() == [
        "PGD(20), L2, relative_step=0.1",
        "PGD(20), L2",
        "Gaussian noise, L2, sigma=0.02",
        "Gaussian noise, L2",
        "PGD(20), frequencies ? to ?, L2, restarts=5, random_start=True",
        "certified by smoothing, sigma 0.5, L2, samples=100",
    ]


def test_settings_that_older_rows_lack_had_their_defaults():
    """A tuple is one of them."""
    config = json.loads(finetuning({1: 50.0})[0]["config"])
    for name in ("optimizer_options", "budget_weights", "clip_norm"):
        del config["transfer"][name]
    older = finetuning({1: 50.0}, run="older", config=json.dumps(config))
    found = finetunings(frame(older, finetuning({1: 52.0}, seed=seed(1))))
    assert found.targets == ("SVHN",)
    assert found.at(Condition("SVHN", "natural", 3, 100)).tolist() == [50, 52]


def test_fine_tunings_on_wrong_labels_are_left_out_and_said():
    noisy = json.dumps({"influence": {"flip_labels": 0.5}})
    rows = frame(cell([50, 52]), finetuning({1: 10.0}, run="noisy", config=noisy))
    found = finetunings(rows)
    assert found.at(Condition("SVHN", "natural", 3, 100)).tolist() == [50, 52]
    assert "omitted for labels that were made wrong: 1" in " ".join(found.notes)


def test_influence_and_roughness_are_of_networks_and_searches_alike():
    tuned = {"dataset": "digits", "method": "influence", "frozen_batch_norm": "source"}
    configs = [json.dumps({"influence": {"damping": damping}}) for damping in (0.1, 0.2)]
    gradients = {"dataset": "digits", "method": "features"}
    rows = frame(
        [
            other("influence", blocks=blocks, num_images=100, top1_match=match, top5_match=match,
                  config=config, **tuned)
            for blocks, match, config in (
                (0, 40.0, configs[0]), (3, 80.0, configs[0]), (3, 90.0, configs[1]))
        ],
        [
            other("visualize", roughness=eps, config=json.dumps({"visualize": {"eps": eps}}),
                  **gradients)
            for eps in (4.0, 1000.0)
        ],
    )  # fmt: skip
    report = compose(rows)
    found = table(report, "influence").set_index("source")["top-1 match"]
    assert found.to_dict() == {
        "natural, 0 blocks, 100 images": "40.00",
        "natural, 3 blocks, 100 images, influence.damping=0.1": "80.00",
        "natural, 3 blocks, 100 images, influence.damping=0.2": "90.00",
    }
    assert table(report, "roughness").set_index("what")["roughness"].to_dict() == {
        "features, visualize.eps=4": "4.00",
        "features, visualize.eps=1000": "1000.00",
    }


def test_roughness_is_of_a_source_and_its_images_once():
    """Not a mean with other images, nor with a second run on more images."""
    seen = {"method": "gradients", "dataset": "digits"}
    runs = [
        other("visualize", roughness=roughness, num_test_images=number, time=time, **seen, **more)
        for roughness, number, time, more in (
            (2.5, 900, "2026-01-02", {}),
            (1.5, 100, "2026-01-01", {}),
            (1.0, 100, "2026-01-03", {"variant": "low_resolution=8"}),
        )
    ]
    found = table(compose(frame(runs)), "roughness")
    assert found[["images of", "roughness"]].to_numpy().tolist() == [
        ["digits", "2.50"],
        ["digits, low_resolution=8", "1.00"],
    ]


def test_influence_on_changed_images_is_told_apart():
    tuned = {"method": "influence", "frozen_batch_norm": "batch", "blocks": 3, "num_images": 3200}
    runs = [
        other("influence", dataset="tfds:cifar10", top1_match=match, top5_match=50.0, **tuned, **of)
        for match, of in ((40.0, {}), (20.0, {"variant": "corruption=fog:3"}))
    ]
    found = table(compose(frame(runs)), "influence").set_index("target")
    assert found["top-1 match"].to_dict() == {
        "CIFAR-10": "40.00",
        "CIFAR-10, corruption=fog:3": "20.00",
    }
    assert (found["top-1 match, published"] != "").tolist() == [True, False]


def test_influence_counts_a_fold_and_a_network_once():
    """Not the seeds of a fold, and not a second run on more test images."""
    tuned = {"dataset": "digits", "method": "influence", "frozen_batch_norm": "source"}
    tuned |= {"blocks": 0, "num_images": 100, "top5_match": 50.0}
    folds = [
        other("influence", top1_match=match, seed=seed(number), fold=fold, **tuned)
        for fold, number, match in ((0, 0, 88.0), (0, 1, 92.0), (1, 0, 94.0), (1, 1, 96.0))
    ]
    twice = [
        other("influence", top1_match=match, source=L2, num_test_images=number, time=time, **tuned)
        for number, match, time in ((900, 70.0, "2026-01-02"), (100, 50.0, "2026-01-01"))
    ]
    # Nor does a later question about labels replace an answer about predictions.
    labels = [other("influence", source=L2, time="2026-01-03", **tuned | {"top5_match": None})]
    found = table(compose(frame(folds, twice, labels)), "influence").set_index("source")
    half = 12.71 * np.std([90, 95], ddof=1) / np.sqrt(2)
    match, number = found.loc["natural, 0 blocks, 100 images", ["top-1 match", "seeds"]]
    assert number == "2" and match.startswith("92.50 ± ")
    assert float(match.split()[-1]) == pytest.approx(half, rel=1e-3)
    again = found.loc["L2 eps=3, 0 blocks, 100 images"]
    assert (again["top-1 match"], again["seeds"]) == ("70.00", "1")


# ---- Whatever comes ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rows",
    [
        frame(),
        frame(cell([50])),
        frame(cell([np.nan, np.nan])),
        frame(cell([np.inf])),
        frame(cell([50, 50], blocks=None)),
        frame(cell([100, 100, 100], size=1), cell([100, 100, 100], size=2)),
        frame([{**row, "source": None, "dataset": None} for row in cell([50])]),
        frame(finetuning({1: 50.0}, config=None, num_images=None, epoch=None, epochs=None)),
        frame(finetuning({1: 50.0}, epochs=9)),  # killed before its end
        frame([other("attack"), other("influence"), other("pretrain")]),
        frame([other("attack", dataset=None, source="x", eps=0.1, accuracy=5.0, config=None)]),
    ],
)
def test_there_is_always_a_report(rows: pd.DataFrame):
    report = compose(rows)
    elements(report)
    assert report.sections and report.summary


def test_every_block_has_its_own_table():
    report = compose(frame(cell([50, 51], blocks=None, source="bundled:l2")))
    assert "accuracy_every_block" in elements(report)
    assert finetunings(frame(cell([50], blocks=None))).blocks == [EVERY]


def test_a_report_needs_no_jax():
    code = (
        "import sys, rtl_jax.lab.report.chapters, rtl_jax.lab.report.importer\n"
        "assert not {'jax', 'flax', 'optax', 'ml_collections'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_rows_of_two_schemas(tmp_path):
    """Rows of an older file without later columns, and of the current schema."""
    old = results.frame(cell([50, 51])).drop(columns=["variant", "test_dataset", "roughness"])
    (tmp_path / "rows").mkdir()
    old.to_parquet(tmp_path / "rows" / "old.parquet")
    results.write_rows(tmp_path, "new", cell([60, 61], source=L2))
    report = compose(results.read_rows(tmp_path))
    assert table(report, "accuracy_3_blocks").loc[0, "L2 eps=3 - natural"].startswith("+10.00")


def test_hundreds_of_sources_are_left_out_by_name():
    """The paper's sources are kept, then the most accurate, as many as a page can show."""
    rows = [cell([50 + number / 10], source=f"net/{number:03d}") for number in range(300)]
    found = finetunings(frame(cell([1]), *rows))
    assert len(found.sources) == 40 and found.sources[0] == "natural"
    assert set(found.sources[1:]) == {f"{number:03d}" for number in range(261, 300)}
    assert any("Omitted" in note and "261" in note for note in found.notes)
