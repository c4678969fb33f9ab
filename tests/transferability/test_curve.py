"""Learning curves of closed-form heads: each point equals the result of the subset alone."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, t

from rtl_jax.data.dataset import ImageSet
from rtl_jax.errors import UserError
from rtl_jax.lab.choose.task import run_choose
from rtl_jax.lab.config import Experiment, Source, Sweep, Target
from rtl_jax.models.architecture import architecture
from rtl_jax.models.model import initialize
from rtl_jax.models.network import Network
from rtl_jax.runtime.intervals import wilson_interval
from rtl_jax.transferability.choose import CurvePoint, choose, draw_subsets
from rtl_jax.transferability.ridge import gram, subset_gram

ARCH = architecture("resnet18", stem="small", stage_sizes=(1, 1), stage_widths=(8, 16)).replace(
    stem_width=8, num_classes=3
)
DRAW = np.random.default_rng(0)
LABELS = np.arange(60, dtype=np.int32) % 3
IMAGES = ImageSet(
    (60 * LABELS[:, None, None, None] + DRAW.integers(0, 120, (60, 8, 8, 3))).astype(np.uint8),
    LABELS,
)


@pytest.fixture(scope="module")
def sources() -> dict[str, Network]:
    variables = jax.tree.map(np.asarray, initialize(ARCH, jax.random.key(0)))
    return {"one": Network(ARCH, *variables, {"kind": "random", "image_size": 8})}


@pytest.mark.parametrize("width", [4, 90])
def test_the_gram_matrix_of_a_subset(width: int) -> None:
    features, rows = DRAW.normal(1, 2, (30, width)), DRAW.permutation(30)[:11]
    np.testing.assert_allclose(subset_gram(gram(features), rows), gram(features[rows]), atol=1e-13)


def test_a_point_is_the_mean_over_its_subsets(sources: dict[str, Network]) -> None:
    (found,) = choose(sources, IMAGES, 3, (1,), num_images=(60, 21), draws=3, seed=5)
    few, all_of_them = found.curve
    alone = [
        choose(sources, IMAGES.take(rows), 3, (1,))[0]
        for rows in draw_subsets(LABELS, 3, 21, 3, seed=5)
    ]
    accuracies = [one.accuracy for one in alone]
    assert (few.num_images, few.draws) == (21, 3)
    assert few.accuracy == pytest.approx(np.mean(accuracies))
    assert few.loss == pytest.approx(np.mean([one.loss for one in alone]), rel=1e-4)
    seen = len(np.unique(draw_subsets(LABELS, 3, 21, 3, seed=5)))
    half = t.ppf(0.975, 2) * np.std(accuracies, ddof=1) / np.sqrt(3)
    wilson = np.divide(wilson_interval(100 * few.accuracy, seen), 100)
    assert few.low == pytest.approx(max(0, min(few.accuracy - half, wilson[0])))
    assert few.high == pytest.approx(min(1, max(few.accuracy + half, wilson[1])))
    whole = np.divide(wilson_interval(100 * found.accuracy, 60), 100)
    wanted = CurvePoint(60, 1, found.loss, found.accuracy, *whole)
    np.testing.assert_allclose(all_of_them, wanted, rtol=1e-6)


def test_subsets_have_two_of_every_class_and_no_copies() -> None:
    labels = np.repeat([0, 1, 2], [40, 15, 2])
    subsets = draw_subsets(labels, 3, 8, 20, seed=0)
    for rows in subsets:
        assert len(np.unique(rows)) == 8 and (np.bincount(labels[rows]) >= 2).all()
    assert len({tuple(rows) for rows in subsets}) > 10
    np.testing.assert_array_equal(subsets, draw_subsets(labels, 3, 8, 20, seed=0))
    assert not np.array_equal(subsets, draw_subsets(labels, 3, 8, 20, seed=1))
    assert len(draw_subsets(labels, 3, 57, 20, seed=0)) == 1


@pytest.mark.parametrize(("hits", "number"), [(0, 7), (7, 7), (13, 40), (399, 400)])
def test_wilson_is_scipys(hits: int, number: int) -> None:
    ends = binomtest(hits, number).proportion_ci(method="wilson")
    found = wilson_interval(100 * hits / number, number)
    np.testing.assert_allclose(found, [100 * ends.low, 100 * ends.high], atol=1e-10)


def test_sizes_that_do_not_fit(sources: dict[str, Network]) -> None:
    for size in (5, 61):
        with pytest.raises(UserError, match=r"num_images: expected sizes from 6, .* to 60, all"):
            choose(sources, IMAGES, 3, (0,), num_images=(size,))
    with pytest.raises(UserError, match="draws: expected a positive number"):
        choose(sources, IMAGES, 3, (0,), num_images=(6,), draws=0)


def test_the_task_writes_and_draws_them(
    sources: dict[str, Network], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources["one"].save(tmp_path / "one")
    experiment = Experiment(
        task="choose",
        source=Source(str(tmp_path / "one")),
        target=Target("digits", image_size=8, num_images=60, classes=(0, 1, 2)),
        sweep=Sweep(blocks=(0, 1), num_images=(20, 0), seeds=2),
    )
    rows = run_choose(experiment, tmp_path)
    table = pd.read_csv(tmp_path / "learning_curves.csv")
    assert list(table["num_images"]) == [20, 60] * 2 and list(table["draws"]) == [2, 1] * 2
    whole = table[table["num_images"] == 60].set_index("blocks")["accuracy"]
    np.testing.assert_allclose(whole.loc[rows["blocks"]], rows["accuracy"], rtol=1e-5)
    hits = rows["accuracy"] / 100 * 60  # files are in percent
    assert hits.max() > 1
    np.testing.assert_allclose(hits, hits.round(), atol=1e-9)
    assert (table["low"] <= table["accuracy"]).all() and (table["accuracy"] <= table["high"]).all()
    assert (tmp_path / "learning_curves.png").read_bytes().startswith(b"\x89PNG")
    said = capsys.readouterr().out
    assert "20 images" in said and "on random subsets, with 95 % intervals" in said


def test_more_images_than_there_are_means_all(
    sources: dict[str, Network], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in the packaged config with a folder of fewer images than it asks for."""
    sources["one"].save(tmp_path / "one")
    target = Target("digits", image_size=8, classes=(0, 1))
    every = Experiment(
        task="choose",
        source=Source(str(tmp_path / "one")),
        target=target,
        sweep=Sweep(blocks=(0,)),
    )
    (expected,) = run_choose(every, tmp_path / "all").itertuples()
    many = dataclasses.replace(every, target=dataclasses.replace(target, num_images=1000))
    capsys.readouterr()
    (found,) = run_choose(many, tmp_path / "many").itertuples()
    said = capsys.readouterr().out
    assert f"has {found.num_images} training images, not 1000: all are used" in said
    assert (found.num_images, found.loss) == (expected.num_images, expected.loss)
