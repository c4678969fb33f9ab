"""Chapters on networks: attacks, corruptions, influence, roughness, and the small tables."""

import json

import numpy as np
import pytest

from rtl_jax.lab.report.chapters import compose
from rtl_jax.lab.report.elements import Figure
from tests.lab.report.rows import L2, NATURAL, cell, finetuning, frame, other, seed
from tests.lab.report.tables import elements, table


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
