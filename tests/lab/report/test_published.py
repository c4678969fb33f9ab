"""The paper's numbers, and the recognition of the paper's sources and targets."""

import numpy as np
import pytest

from rtl_jax.lab.report import published
from rtl_jax.lab.report.names import (
    paper_source,
    paper_target,
    reference,
    source_names,
    target_name,
)

SIZES = [100 * 2**power for power in range(9)]
FULL = {"CIFAR-100": 50000, "CIFAR-10": 50000, "SVHN": 73257}


def test_every_row_of_table_7_is_there():
    table = published.table7()
    assert table.shape == (60, 5) and table.index.is_unique
    for target in published.targets().values():
        sizes = [*SIZES, FULL.get(target, 60000)]
        assert table.loc[target].index.tolist() == sizes
    assert np.isfinite(table.to_numpy()).all()
    assert table.to_numpy().min() > 1 and table.to_numpy().max() < 100


@pytest.mark.parametrize(
    ("target", "size", "row"),
    [
        ("CIFAR-100", 100, [7.97, 8.54, 8.24, 8.84, 1.34]),
        (
            "CIFAR-100",
            3200,
            [51.46, 56.91, 55.79, 51.34, 20.94],
        ),  # two with stray marks in the text
        ("CIFAR-100", 6400, [62.26, 66.1, 65.31, 60.75, 36.74]),
        ("KMNIST", 800, [63, 79.67, 77.73, 80.68, 16.86]),
        ("MNIST", 1600, [94.47, 97.13, 97, 97.16, 85.55]),
        ("SVHN", 73257, [95.33, 96.02, 95.42, 95.63, 96.53]),
    ],
)
def test_rows_of_table_7(target: str, size: int, row: list[float]):
    assert published.table7().loc[(target, size)].tolist() == row


def test_table_7_grows_with_labels():
    """A misplaced decimal point would violate the order by size."""
    table = published.table7().drop(columns=published.SCRATCH)  # which is noise on few labels
    for target in published.targets().values():
        assert (np.diff(table.loc[target].to_numpy(), axis=0) > 0).all()


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("table1a", [20.1, 64.2, 11.4, 36.1]),
        ("table1b", [52.1, 39.6, 53.9, 34.7, 25.5, 38.5]),
        ("table2", [83.7, 85.3, 79.1, 80.7]),
        ("table5", [76.13, 57.90, 62.42, 47.91]),
    ],
)
def test_small_tables(name: str, numbers: list[float]):
    assert published.small_table(name)["accuracy"].tolist() == numbers


def test_a_published_value_says_what_measures_it():
    low_res = published.small_table("table2").iloc[0]
    assert low_res["variants"] == ["low_resolution=32"] and low_res["source"] == "L2 eps=3"
    attacked = published.small_table("table1b").iloc[0]
    assert attacked["eps"] == 3 / 32 and attacked["variants"] == [""]


@pytest.mark.parametrize(
    ("checkpoint", "every_block", "name"),
    [
        ("checkpoints/resnet50-19c8e357.pth", False, "natural"),
        ("/a/b/imagenet_l2_3_0.pt", False, "L2 eps=3"),
        ("imagenet_linf_4", False, "Linf eps=4/255"),
        ("converted/imagenet_linf_8/", False, "Linf eps=8/255"),
        ("random", True, "from scratch"),
        ("random", False, None),
        # Other weights under a similar name: Salman et al.'s, and the bundled ones.
        ("hf:madrylab/robust-imagenet-models/resnet50_l2_eps3.ckpt", False, None),
        ("bundled:natural", False, None),
        ("checkpoints/natural", False, None),
    ],
)
def test_sources_of_the_paper(checkpoint: str, every_block: bool, name: str | None):
    assert paper_source(checkpoint, every_block) == name


def test_targets_of_the_paper_are_whole_and_unchanged():
    assert paper_target("tfds:kmnist") == "KMNIST"
    for changed in (("tfds:kmnist_partial",), ("digits",), ("tfds:kmnist", "", "low_pass=9")):
        assert paper_target(*changed) is None
    assert target_name("tfds:mnist", "folder:usps", "low_pass=9") == (
        "MNIST, tested on folder:usps, low_pass=9"
    )


def test_sources_that_are_called_alike_are_told_apart():
    given = [("a/imagenet_l2_3_0.pt", False), ("b/imagenet_l2_3_0.pt", False), ("random", True)]
    assert list(source_names(given).values()) == [
        "L2 eps=3 (a/imagenet_l2_3_0.pt)",
        "L2 eps=3 (b/imagenet_l2_3_0.pt)",
        "from scratch",
    ]


def test_a_source_that_is_trained_in_part_and_as_a_whole_has_one_name():
    for checkpoint, name in (("a/imagenet_l2_3_0.pt", "L2 eps=3"), ("a/mine", "mine")):
        named = source_names([(checkpoint, False), (checkpoint, True), ("random", True)])
        assert list(named.values()) == [name, name, "from scratch"]


def test_the_reference_is_the_natural_source():
    assert reference({"bundled:l2": "l2", "bundled:natural": "n"}) == "n"
    numbered = {"runs/l2_12": "l2", "runs/natural_12": "n"}
    assert reference(numbered) == "n"
    assert reference({**numbered, "bundled:natural": "bundled"}) == "bundled"
    paper = "x/resnet50-19c8e357.pth"
    assert reference({"bundled:natural": "n", paper: "natural"}) == "natural"
    assert reference({"a": "first", "b": "second"}) == "first"
    assert reference({}) is None
