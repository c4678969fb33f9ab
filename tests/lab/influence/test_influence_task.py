"""The task `influence`: both questions, two networks, interruption, and users' mistakes."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import rtl_jax as rtl
from rtl_jax.data.augmentation import PRESETS
from rtl_jax.data.transforms import prepare as transform
from rtl_jax.errors import UserError
from rtl_jax.influence_functions.head import Head
from rtl_jax.influence_functions.scores import read_scores
from rtl_jax.lab.config import Experiment, Influence, Source, Target
from rtl_jax.lab.finetune.job import prepare
from rtl_jax.lab.influence import explain, finetuned
from rtl_jax.lab.influence.table import summarize
from rtl_jax.lab.influence.task import run_influence
from rtl_jax.lab.influence.wrong_labels import image_files
from rtl_jax.lab.results import read_rows
from rtl_jax.models.architecture import architecture
from rtl_jax.models.model import bind, definition, initialize
from rtl_jax.models.network import Network
from rtl_jax.train.recipe import Recipe
from tests.influence_functions.problems import gradients, hessian

pytestmark = pytest.mark.slow

ARCH = architecture("resnet18", stem="small", stage_sizes=(1, 1), stage_widths=(8, 16)).replace(
    stem_width=8, num_classes=3
)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sources, `natural` and `robust` in name only, and images of three digits."""
    directory = tmp_path_factory.mktemp("influence")
    for index, name in enumerate(("robust", "natural")):
        variables = jax.tree.map(np.asarray, initialize(ARCH, jax.random.key(index)))
        Network(ARCH, *variables, {"kind": "random"}).save(directory / name)
    return directory


def experiment(workdir: Path, **settings) -> Experiment:
    return Experiment(
        task="influence",
        source=Source(str(workdir / "robust")),
        target=Target("digits", image_size=8, num_images=60, num_test_images=30, classes=(0, 1, 2)),
        augmentation=PRESETS["none"],
        transfer=Recipe(
            blocks=1, frozen_batch_norm="source", head="uniform", epochs=6, batch_size=20
        ),
        influence=Influence(**settings),
    )


def both(workdir: Path) -> Experiment:
    other = str(workdir / "natural")
    return experiment(
        workdir, compare=other, parameters="trainable", rank=3, damping=0.5, perturb=2
    )


@pytest.fixture(scope="module")
def compared(workdir: Path) -> tuple[pd.DataFrame, Path]:
    """The rows and directory of an explanation of both sources."""
    settings = both(workdir)
    rows = run_influence(settings, workdir)
    return rows, workdir / "runs" / rows["run"].iloc[0]


@pytest.mark.parametrize("head_fit", ["sgd", "logistic"])
def test_damping_is_what_the_head_needs(workdir: Path, head_fit: str) -> None:
    """That of `rtl.influence`: the penalty of a head that was solved for, else 0.001."""
    settings = experiment(workdir)
    chosen = Recipe(blocks=0, frozen_batch_norm="source", head_fit=head_fit, epochs=2)
    settings = dataclasses.replace(settings, transfer=chosen)
    rows = run_influence(settings, workdir)
    (manifest,) = (workdir / "runs" / rows["run"].iloc[0]).glob("*/head/manifest.json")
    job = prepare(dataclasses.replace(settings, task="finetune"))
    network = Network.load(workdir / "runs" / job.run / "network")
    fitted = network.provenance.get("head_fit", {})
    needed = fitted["l2"] if head_fit == "logistic" else 1e-3
    assert json.loads(manifest.read_text())["damping"] == needed
    assert json.loads(rows["config"].iloc[0])["influence"]["damping"] == needed
    images = [job.training_images, job.test_images]
    expected = rtl.influence(network, *((one.images, one.labels) for one in images))
    found = read_scores(manifest.parent).values
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_scores_are_those_of_the_network_on_its_own_images(workdir: Path, compared):
    rows, directory = compared
    job = prepare(dataclasses.replace(experiment(workdir), task="finetune"))
    network = Network.load(workdir / "runs" / job.run / "network")
    graphdef = definition(network.architecture)
    whole = bind(graphdef, network.params, network.batch_stats)
    head = Head(network.params["fc/kernel"], network.params["fc/bias"])
    train, test = (
        head.examples(whole.prefix(transform(jnp.asarray(half.images), 8), 2), half.labels)
        for half in (job.training_images, job.test_images)
    )
    wanted = gradients(test) @ np.linalg.solve(hessian(train, 0.5), gradients(train).T)
    found = read_scores(directory / "robust" / "head")
    np.testing.assert_allclose(found.values, wanted, rtol=1e-3, atol=1e-4 * abs(wanted).max())
    row = rows[(rows["method"] == "influence") & rows["source"].str.endswith("robust")].iloc[0]
    best = np.argsort(-found.values, axis=1, kind="stable")
    matching = job.training_images.labels[best] == job.test_images.labels[:, None]
    assert row.top1_match == pytest.approx(100 * matching[:, 0].mean())
    assert row.top5_match == pytest.approx(100 * (matching[:, :5].sum(1) > 2).mean())
    tuned = read_rows(workdir)
    last = tuned[(tuned["run"] == job.run) & (tuned["epoch"] == 6)].iloc[0]
    assert row.accuracy == pytest.approx(last.accuracy)
    assert row.loss == pytest.approx(last.loss, rel=1e-4)
    assert row.num_images == 60 and row.num_test_images == 30


def test_sources_stand_side_by_side(compared):
    rows, directory = compared
    ways = sorted((Path(row.source).name, row.method) for row in rows.itertuples())
    methods = ["gradient", "influence", "influence_trainable"]
    assert ways == [(name, method) for name in ("natural", "robust") for method in methods]
    left = {path.name for path in directory.iterdir()}
    figures = {"figure6.png", "figure7a.png", "figure7b.png", "perturbed.png"}
    assert left == {"natural", "robust", "perturbed.csv"} | figures
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in directory.glob("*.png"))
    values = read_scores(directory / "natural" / "head").values
    assert not np.allclose(values, read_scores(directory / "robust" / "head").values)
    whole = read_scores(directory / "robust" / "trainable")
    assert whole.values.shape == (30, 60) and len(whole.record["eigenvalues"]) <= 3
    table = summarize(rows)
    assert table.count("%") == 12 and "influence_trainable" in table


def test_the_most_influential_training_images_are_changed(workdir: Path, compared):
    """Those of one test image in each of two classes, so that the losses of these rise."""
    table = pd.read_csv(compared[1] / "perturbed.csv")
    assert list(table["source"]) == ["robust", "robust", "natural", "natural"]
    assert list(table["test_label"]) == [0, 1, 0, 1]
    assert (table["predicted_change"] > 0).all() and (table["norm"] <= 0.05 + 1e-6).all()
    job = prepare(dataclasses.replace(experiment(workdir), task="finetune"))
    values = read_scores(compared[1] / "natural" / "head").values
    for line in table[table["source"] == "natural"].itertuples():
        (test,) = np.flatnonzero(job.test_indices == line.test_image)
        assert line.training_image == job.train_indices[values[test].argmax()]
        assert line.training_label == job.dataset.train.labels[line.training_image]


def test_a_finished_explanation_is_not_repeated(workdir: Path, compared, monkeypatch):
    def fail(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(explain, "_rank", fail)
    monkeypatch.setattr(finetuned, "finetune_job", fail)
    settings = both(workdir)
    pd.testing.assert_frame_equal(run_influence(settings, workdir), compared[0])


def test_a_finished_run_is_explained_by_its_own_settings(workdir: Path, compared, tmp_path: Path):
    job = prepare(dataclasses.replace(experiment(workdir), task="finetune"))
    run = str(workdir / "runs" / job.run / "network")
    settings = dataclasses.replace(
        Experiment(task="influence"), influence=Influence(run=run, damping=0.5)
    )
    rows = run_influence(settings, tmp_path)
    assert set(rows["dataset"]) == {"digits"} and set(rows["num_images"]) == {60}
    values = read_scores(tmp_path / "runs" / rows["run"][0] / "robust" / "head").values
    np.testing.assert_array_equal(
        values, read_scores(compared[1] / "robust" / "head").values
    )  # to the last bit
    assert not list(tmp_path.glob("runs/*/network"))
    wrong = dataclasses.replace(settings, influence=Influence(run=str(workdir / "robust")))
    with pytest.raises(UserError, match=r"expected a network that rtl_jax fine-tuned.*'random'"):
        run_influence(wrong, tmp_path)


def test_data_that_changed_since_are_an_error(workdir: Path, tmp_path: Path):
    draw = np.random.default_rng(0)
    labels = np.arange(30) % 3
    images = draw.integers(0, 256, (30, 8, 8), dtype=np.uint8)

    def write() -> None:
        np.savez(tmp_path / "set.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)

    write()
    target = Target(f"npz:{tmp_path / 'set.npz'}", image_size=8)
    settings = dataclasses.replace(experiment(workdir), target=target)
    run_influence(settings, tmp_path)
    images[3, 2, 2] ^= 1
    write()
    with pytest.raises(UserError, match=r"fine-tuned with these settings, but npz:.*has changed"):
        run_influence(settings, tmp_path)
    run = dataclasses.replace(settings, influence=Influence(run=str(tmp_path)))
    with pytest.raises(UserError, match=r"fine-tuned as run .*changed since.*Restore what changed"):
        run_influence(run, tmp_path)
    images[3, 2, 2] ^= 1
    write()
    assert len(run_influence(run, tmp_path)) == 2


def test_the_same_source_twice_is_no_comparison(workdir: Path):
    with pytest.raises(UserError, match=r"influence.compare: expected a source of another name"):
        run_influence(experiment(workdir, compare=str(workdir / "robust")), workdir)


def test_flipped_labels_are_found(workdir: Path):
    settings = experiment(workdir, question="wrong_labels", flip_labels=0.1, damping=0.01)
    settings = dataclasses.replace(
        settings,
        target=dataclasses.replace(settings.target, num_images=None),
        transfer=dataclasses.replace(settings.transfer, epochs=8),
    )
    rows = run_influence(settings, workdir)
    assert set(rows["method"]) == {"influence", "gradient", "loss"}
    found = rows[rows["method"] == "influence"].set_index("inspected")["recall"]
    assert found[20.0] >= 90 and found.is_monotonic_increasing
    directory = workdir / "runs" / rows["run"][0]
    assert {path.name for path in directory.iterdir()} == {
        "training_images.csv", "suspects.png", "recall.png"
    }  # fmt: skip
    table = pd.read_csv(directory / "training_images.csv")
    job = prepare(dataclasses.replace(settings, task="finetune"))
    original = job.dataset.train.labels[table["image"]]
    np.testing.assert_array_equal(table["label"] != original, table["flipped"])
    assert table["influence"].is_monotonic_decreasing
    first = round(0.2 * len(table))
    share = table["flipped"][:first].sum() / table["flipped"].sum()
    assert found[20.0] == pytest.approx(100 * share)
    assert "of the flipped labels found" in summarize(rows)
    refused = dataclasses.replace(settings.influence, run="runs/x")
    with pytest.raises(UserError, match=r"influence.run: expected none with influence.flip_labels"):
        run_influence(dataclasses.replace(settings, influence=refused), workdir)


def test_files_of_a_folder_are_named(workdir: Path, tmp_path: Path):
    draw = np.random.default_rng(0)
    for name in ("cat", "dog", "eel"):
        (tmp_path / name).mkdir()
        for index in range(6):
            pixels = draw.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{index}.png")
    target = Target(f"folder:{tmp_path}", image_size=8, num_images=7, classes=(2, 0))
    job = prepare(dataclasses.replace(experiment(workdir), task="finetune", target=target))
    files = image_files(job)
    assert files is not None and len(files) == 7
    for file, image, label in zip(
        files, job.training_images.images, job.training_images.labels, strict=True
    ):
        np.testing.assert_array_equal(np.asarray(Image.open(file)), image[..., 0])
        assert Path(file).parent.name == ("eel", "cat")[label]
