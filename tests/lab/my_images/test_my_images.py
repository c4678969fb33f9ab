"""The whole task on a tiny network: comparison, choice, training, reports and resumption."""

import dataclasses
import shutil
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
from etils import epath
from PIL import Image
from scipy import stats
from scipy.special import softmax

from rtl_jax.data.augmentation import PRESETS
from rtl_jax.errors import UserError
from rtl_jax.lab.config import (
    Attack,
    Experiment,
    Influence,
    MyImages,
    Predict,
    Source,
    Sweep,
    Target,
)
from rtl_jax.lab.finetune.task import run_finetune
from rtl_jax.lab.influence.finetuned import explained
from rtl_jax.lab.my_images import forecast as forecasts
from rtl_jax.lab.my_images.comparison import grids, of_choice
from rtl_jax.lab.my_images.held_out import candidates_of, gather
from rtl_jax.lab.my_images.survey import look_over
from rtl_jax.lab.my_images.table import summarize
from rtl_jax.lab.my_images.task import run_my_images
from rtl_jax.lab.predict.explain import Explainer
from rtl_jax.lab.predict.output import read
from rtl_jax.lab.predict.predictor import Predictor
from rtl_jax.lab.predict.task import _identity, run_predict
from rtl_jax.lab.results import SCHEMA, last_epochs
from rtl_jax.lab.sweep.estimate import Costs
from rtl_jax.lab.sweep.grid import cells
from rtl_jax.lab.sweep.kept import logits_path
from rtl_jax.lab.sweep.task import run_sweep
from rtl_jax.models.architecture import architecture
from rtl_jax.models.model import initialize
from rtl_jax.models.network import Network
from rtl_jax.models.sources import load_source
from rtl_jax.train.recipe import Recipe
from tests.influence_functions.problems import gradients, hessian
from tests.lab.my_images.pictures import photos, picture

pytestmark = pytest.mark.slow

ARCH = architecture("resnet18", stem="small", stage_sizes=(1, 1), stage_widths=(8, 16)).replace(
    stem_width=8
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sources and a folder of 48 pictures, plus a broken one."""
    directory = tmp_path_factory.mktemp("images")
    for index, name in enumerate(("one", "other")):
        variables = jax.tree.map(np.asarray, initialize(ARCH, jax.random.key(index)))
        Network(ARCH, *variables, {"kind": "random"}).save(directory / name)
    photos(directory / "photos", {"red": 17, "blue": 16, "green": 15})
    (directory / "photos/red/broken.png").write_bytes(b"")
    picture("red", 70).save(directory / "photos/blue/003.png")  # the wrong label
    return directory


def experiment(root: Path, **changes) -> Experiment:
    settings = Experiment(
        task="my_images",
        target=Target(f"folder:{root / 'photos'}", image_size=8, folds=3),
        augmentation=PRESETS["none"],
        transfer=Recipe(
            frozen_batch_norm="source", head="uniform", epochs=5, eval_every=5, batch_size=16,
            eval_batch_size=16,
        ),
        sweep=Sweep(
            sources=(str(root / "one"), str(root / "other")), blocks=(0,), seeds=2,
            head_fits=("logistic", "sgd"), learning_rates=(0.1,),
        ),
        attack=Attack(norm="l2", eps=(0.0, 4.0), steps=2, batch_size=16, num_shown=0),
    )  # fmt: skip
    return dataclasses.replace(settings, **changes)


@pytest.fixture(scope="module")
def done(root: Path) -> tuple[epath.Path, pd.DataFrame]:
    """The work directory and the rows of the comparison."""
    workdir = epath.Path(root / "run")
    return workdir, run_my_images(experiment(root, my_images=MyImages(robustness=True)), workdir)


def test_kept_logits_are_what_rows_measure(done) -> None:
    workdir, rows = done
    last = last_epochs(rows)
    assert len(last) == 2 * 3 * 2 * 2  # sources, folds, seeds, heads
    for row in last.itertuples():
        with np.load(logits_path(workdir, row.run)) as arrays:
            hits = arrays["logits"].argmax(1) == arrays["labels"]
            losses = -np.log(softmax(arrays["logits"], axis=1))[
                np.arange(len(hits)), arrays["labels"]
            ]
        assert len(hits) == 16 and row.accuracy == pytest.approx(100 * hits.mean())
        assert row.loss == pytest.approx(losses.mean(), rel=1e-4)


def test_a_fold_is_a_fine_tuning_like_any_other(root: Path, done, tmp_path: Path) -> None:
    """The same run alone computes its own features."""
    rows = last_epochs(done[1])
    row = rows[rows["head_fit"] == "sgd"].iloc[3]
    target = Target(
        f"list:{done[0] / 'images.csv'}", image_size=8, folds=3, fold=int(row.fold), num_images=32
    )
    alone = dataclasses.replace(
        experiment(root),
        task="finetune",
        source=Source(row.source),
        target=target,
        seed=int(row.seed),
        transfer=dataclasses.replace(
            experiment(root).transfer,
            blocks=0,
            batch_size=8,
            learning_rate=float(row.learning_rate),
        ),
        sweep=Sweep(),
    )
    (found,) = last_epochs(run_finetune(alone, tmp_path)).itertuples()
    assert found.num_images == row.num_images == 32 and found.num_test_images == 16
    assert found.accuracy == row.accuracy and found.loss == pytest.approx(row.loss, rel=1e-4)
    assert found.train_loss == pytest.approx(row.train_loss, rel=1e-4)


def test_every_image_is_held_out_once(done) -> None:
    workdir, rows = done
    candidates = gather(last_epochs(rows), workdir)
    assert len(candidates) == 2 * (1 + 2)  # sources; a fitted head, and two epochs
    # Runs are named by hashes: of equal candidates, the first must not be these names' choice.
    last = last_epochs(rows)
    again = gather(last.sort_values("run", ascending=False, kind="stable"), workdir)
    kinds = [(one.candidate.head_fit, one.candidate.epochs) for one in candidates]
    assert kinds == [(one.candidate.head_fit, one.candidate.epochs) for one in again]
    assert kinds == [("logistic", 0), ("sgd", 1), ("sgd", 5)] * 2
    listed = pd.read_csv(workdir / "images.csv")
    names = sorted(set(listed["label"]))
    for each in candidates:
        assert [names[label] for label in each.labels] == list(listed["label"])
        assert np.bincount(each.folds).tolist() == [16, 16, 16]
        assert each.logits.shape == (2, 48, 3)
        assert each.accuracy > 60 or each.candidate.epochs == 1
        accuracies = [
            row.accuracy
            for row, one in zip(rows.itertuples(), candidates_of(rows), strict=True)
            if one == each.candidate
        ]
        assert len(accuracies) == 6 and each.accuracy == pytest.approx(np.mean(accuracies))


def test_the_network_carries_what_its_use_takes(root: Path, done) -> None:
    workdir, _ = done
    network = Network.load(workdir / "network")
    known = network.provenance
    assert known["class_names"] == ["blue", "green", "red"]
    assert known["settings"]["target"]["image_size"] == 8
    assert known["settings"]["target"]["num_images"] is None  # all of them
    assert known["calibration"]["temperature"] > 0 and known["calibration"]["images"] == 96
    kept = network.guarantees
    assert kept is not None and kept.images == 48 and kept.folds == 3 and kept.split == 2
    assert network.predict_sets(np.zeros((2, 8, 8, 3), np.uint8)).any(1).all()
    found = load_source(str(workdir))
    assert found.provenance == known
    final = Network.load(next((workdir / "final" / "runs").glob("*/network")))
    assert final.params.keys() == network.params.keys()
    for name, value in final.params.items():
        np.testing.assert_array_equal(value, network.params[name])


def test_the_page_tells_it(root: Path, done) -> None:
    workdir, _ = done
    page = (workdir / "report" / "index.html").read_text()
    for words in (
        "Expect ", "broken.png", "Confusion matrix", "Suspicious labels", "Candidates",
        "Learning curve", "temperature of", "Robustness", "was selected",
        "Prediction sets",
    ):  # fmt: skip
        assert words in page, words
    table = pd.read_csv(workdir / "report" / "tables" / "confusion.csv", index_col=0)
    assert table.to_numpy().sum() == 48
    classes = pd.read_csv(workdir / "report" / "tables" / "by_class.csv")
    assert classes["images"].tolist() == [16, 15, 17]
    suspects = pd.read_csv(workdir / "suspects.csv")
    assert len(suspects) == 48 and suspects["held_out_probability"].is_monotonic_increasing
    assert (
        suspects["held_out_probability"].between(0, 1).all() and (suspects["influence"] > 0).all()
    )


def test_the_page_tells_what_removing_suspects_brings(done) -> None:
    """One of 48 labels is wrong; it is held out once, and cannot be named right by a good head."""
    tables = done[0] / "report" / "tables"
    found = pd.read_csv(tables / "cleaning.csv")
    # The folds train on 24 pictures or more: a quarter, half and all, then other shares of all.
    sizes = found["training images"].to_numpy()
    assert len(found) == 5 and (sizes[2:] == sizes[2]).all() and sizes[2] >= 24
    np.testing.assert_array_equal(sizes[:2], [sizes[2] // 4, sizes[2] // 2])
    left_out = [max(1, round(share * sizes[2])) for share in (0.05, 0.02, 0.1)]
    assert found["left out"].tolist()[2:] == left_out
    accuracies = found["accuracy with all, %"]
    assert accuracies[2:].nunique() == 1 and accuracies.iloc[-1] == round(100 * 47 / 48, 1)


def test_a_wrong_label_is_the_first_suspect(root: Path, done) -> None:
    """A red picture among the blue ones, with the prediction of the network that did not see it."""
    workdir, rows = done
    suspects, page = pd.read_csv(workdir / "suspects.csv"), workdir / "report" / "tables"
    first, shown = suspects.iloc[0], pd.read_csv(page / "suspects.csv").iloc[0]
    assert first["file"] == str(root / "photos/blue/003.png")
    assert (first["label"], first["held_out_prediction"]) == ("blue", "red")
    assert (shown["label"], shown["predicted"]) == ("blue", "red")
    assert str(shown["file"]).endswith("blue/003.png")
    image, temperature = first["image"], Network.load(workdir / "network").temperature
    said = []
    for row in last_epochs(rows).itertuples():
        with np.load(logits_path(workdir, row.run)) as arrays:
            of_image = arrays["logits"][arrays["rows"] == image]
            said += [softmax(each / temperature)[0] for each in of_image]  # 0: blue
    assert len(said) == 8  # sources, heads and seeds
    assert min(abs(first["held_out_probability"] - each) for each in said) < 1e-6


def test_the_table_has_what_accuracy_is_judged_by(done) -> None:
    workdir, rows = done
    table = pd.read_csv(workdir / "report" / "tables" / "candidates.csv")
    lines = summarize(rows).splitlines()
    best: dict = {}
    for each in gather(last_epochs(rows), workdir):
        named = each.logits.argmax(-1)
        recall = [(named[:, each.labels == c] == c).mean() for c in range(3)]
        kind = each.candidate[:3]
        if 100 * np.mean(recall) > best.get(kind, (0, ""))[0]:
            best[kind] = 100 * np.mean(recall), each.candidate.training
    assert len(best) == len(table) == 4 and len(lines) == 6
    assert "largest class would score 35.4 %" in lines[-1]  # 17 of 48
    assert "(6 candidates in all)" in lines[-1]
    for (source, *_), (expected, training) in best.items():
        (line,) = [one for one in lines if one.startswith(source) and f"  {training} " in one]
        assert f" {expected:.2f} (" in line
    assert sorted(table["balanced accuracy, %"]) == pytest.approx(
        sorted(expected for expected, _ in best.values()), abs=0.006
    )
    assert summarize(rows[list(SCHEMA)]).startswith("target")  # rows as they are read from files
    pixels = rows.assign(method="nearest_pixels", accuracy=0.0)
    assert summarize(pd.concat([rows, pixels])).splitlines() == lines  # of transfer.baseline


def test_the_table_s_intervals_count_folds_and_not_their_seeds(done) -> None:
    _, rows = done
    solved = rows[(rows["head_fit"] == "logistic") & (rows["source"] == rows["source"].iloc[0])]
    by_fold = solved.groupby("fold")["accuracy"].mean()
    assert len(solved) == 6 and len(by_fold) == 3
    half = stats.t.ppf(0.975, 2) * by_fold.std() / np.sqrt(3)
    (line,) = [one for one in summarize(solved).splitlines() if "logistic head" in one]
    assert f"{by_fold.mean():.2f} +- {half:.2f}" in line


def test_fewer_epochs_are_the_same_training_stopped(root: Path, done, tmp_path: Path) -> None:
    """An intermediate result equals the result of a run with that many epochs, bit for bit."""
    workdir, rows = done
    early = gather(last_epochs(rows), workdir)
    one = next(each for each in early if each.candidate.epochs == 1)
    assert one.spanned == 5
    dataset = f"list:{workdir / 'images.csv'}"
    survey = look_over(root / "photos", 8, folds=3)
    settings, _ = grids(experiment(root), survey, dataset)
    chosen = of_choice(settings[-1], one)
    assert (chosen.transfer.epochs, chosen.transfer.schedule_epochs) == (1, 5)
    alone = last_epochs(run_sweep(chosen, tmp_path))
    same = rows[[candidate == one.candidate for candidate in candidates_of(rows)]]
    keys = ["seed", "fold"]
    pd.testing.assert_series_equal(
        alone.set_index(keys)["loss"].sort_index(), same.set_index(keys)["loss"].sort_index()
    )
    whole = next(each for each in early if each.candidate.epochs == 5)
    assert of_choice(settings[-1], whole).transfer.schedule_epochs is None
    # Without the epochs from which weights would be averaged, there is nothing to average.
    mean = dataclasses.replace(settings[-1], transfer=settings[-1].transfer.replace(average_from=3))
    assert of_choice(mean, one).transfer.average_from is None
    assert of_choice(mean, whole).transfer.average_from == 3
    # A schedule that is longer than the comparison's training stays as long.
    longer = dataclasses.replace(
        settings[-1], transfer=settings[-1].transfer.replace(schedule_epochs=60)
    )
    for each in (one, whole):
        transfer = of_choice(longer, each).transfer
        assert (transfer.epochs, transfer.schedule_epochs) == (each.candidate.epochs, 60)


def test_a_ridge_head_that_is_chosen_goes_all_the_way(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Influence is not defined for it: the page and the table contain the alternative."""
    settings = experiment(root)
    sweep = dataclasses.replace(
        settings.sweep, sources=(str(root / "one"),), head_fits=("ridge",), learning_rates=()
    )
    rows = run_my_images(dataclasses.replace(settings, sweep=sweep), tmp_path)
    printed = capsys.readouterr().out
    assert rows["head_fit"].eq("ridge").all() and rows["epoch"].eq(0).all()
    assert f"selected among 1 candidates: {root / 'one'}, 0 blocks, ridge head" in printed
    suspects = pd.read_csv(tmp_path / "suspects.csv")
    assert "influence" not in suspects and suspects["held_out_probability"].is_monotonic_increasing
    page = (tmp_path / "report/index.html").read_text()
    assert "Self-influence is not defined for a ridge head" in page
    network = Network.load(tmp_path / "network")
    assert network.provenance["head_fit"]["method"] == "ridge"


@pytest.mark.parametrize("axis", ["weight_decays", "num_images", "epochs", "folds", "targets"])
def test_axes_that_no_candidate_has_are_refused(root: Path, axis: str) -> None:
    values = {"targets": ("digits",), "epochs": (3,)}.get(axis, (1,))
    more = {"num_images": (5,)} if axis == "epochs" else {}
    with pytest.raises(UserError, match=f"sweep.{axis}|sweep.num_images: expected none with my_im"):
        experiment(root, sweep=Sweep(**{axis: values, **more}))


def test_what_is_compared_where_nothing_is_said(root: Path) -> None:
    """Fitted heads, several rates for a head alone, and a block."""
    survey = look_over(root / "photos", 8, folds=3)
    usual = experiment(root, sweep=Sweep(sources=(str(root / "one"),), seeds=1))
    found = [
        (member.transfer.blocks, member.transfer.head_fit, member.transfer.learning_rate)
        for one in grids(usual, survey, "list:x")[0]
        for cell in cells(one)
        for member in [cell.experiment]
        if member.target.fold == 0
    ]
    rates = [pytest.approx(factor * 0.1) for factor in (1, 3, 10)]
    assert found == [
        (0, "ridge", 0.1), (0, "logistic", 0.1), *((0, "sgd", rate) for rate in rates),
        (1, "sgd", 0.1),
    ]  # fmt: skip
    named = dataclasses.replace(usual.sweep, head_fits=("sgd", "ridge"), learning_rates=(0.2,))
    found = [
        (member.transfer.blocks, member.transfer.head_fit, member.transfer.learning_rate)
        for one in grids(dataclasses.replace(usual, sweep=named), survey, "list:x")[0]
        for member in [cell.experiment for cell in cells(one)]
        if member.target.fold == 0
    ]
    assert found == [
        (0, "ridge", 0.1), (0, "sgd", 0.2), (1, "sgd", 0.2), (1, "ridge", 0.2)
    ]  # fmt: skip
    # Epochs by the number of images are the same for the learning curve and the final network.
    by_size = dataclasses.replace(usual, transfer=usual.transfer.replace(epochs=None))
    assert {one.transfer.epochs for one in grids(by_size, survey, "list:x")[0]} == {100}
    # A head alone that is solved for has no weights of classes.
    weighed = dataclasses.replace(usual, transfer=usual.transfer.replace(class_weights="balanced"))
    heads = {cell.experiment.transfer.head_fit for one in grids(weighed, survey, "list:x")[0]
             for cell in cells(one) if cell.experiment.transfer.blocks == 0}  # fmt: skip
    assert heads == {"sgd"}


def test_nothing_better_than_guessing_is_said_so(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Noise, most of it in one class, in train/ and test/."""
    draw = np.random.default_rng(0)
    counts = {"train/healthy": 28, "train/ill": 4, "test/healthy": 6, "test/ill": 2}
    for place, number in counts.items():
        (tmp_path / "noise" / place).mkdir(parents=True)
        for index in range(number):
            pixels = draw.integers(0, 255, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "noise" / place / f"{index}.png")
    settings = experiment(root)
    settings = dataclasses.replace(
        settings,
        target=Target(f"folder:{tmp_path / 'noise'}", image_size=8, folds=2),
        sweep=dataclasses.replace(
            settings.sweep, sources=(str(root / "one"),), seeds=1, head_fits=("sgd",)
        ),
    )
    run_my_images(settings, tmp_path / "run")
    printed = capsys.readouterr().out
    page = (tmp_path / "run" / "report" / "index.html").read_text()
    verdict = "Nothing better than guessing has been shown"
    assert f"\n{verdict}" in printed and page.count(verdict) >= 3  # the headline, folds, test/
    for text in (printed, page):
        assert "always predicting the largest class, healthy, would score 87.5 %" in text
        assert "balanced accuracy, the mean over classes: " in text
    assert "largest class, healthy, would score 75.0 %" in page  # of test/


def test_robustness_is_that_of_held_out_images(done) -> None:
    workdir, rows = done
    table = pd.read_csv(workdir / "report" / "tables" / "robustness.csv").set_index("eps")
    chosen = pd.read_csv(workdir / "report" / "tables" / "candidates.csv")
    (one,) = chosen[chosen.iloc[:, -1] == "selected"].to_dict("records")
    same = [
        (each.source, each.training) == (one["source"], one["training"])
        for each in candidates_of(rows)
    ]
    first = rows[np.array(same) & (rows["seed"] == rows["seed"].min())]
    assert len(first) == 3
    assert table.loc[0.0, "accuracy, %"] == pytest.approx(first["accuracy"].mean(), abs=0.06)
    assert table.loc[4.0, "accuracy, %"] <= table.loc[0.0, "accuracy, %"]


def test_the_same_command_finds_it_all_and_a_changed_folder_does_not(
    root: Path, done, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workdir, rows = done
    before = (workdir / "network" / "manifest.json").stat().mtime
    again = run_my_images(experiment(root, my_images=MyImages(robustness=True)), workdir)
    assert set(again["run"]) == set(rows["run"])
    assert set(again["time"]) == set(rows["time"])  # nothing was trained again
    assert (workdir / "network" / "manifest.json").stat().mtime == before
    shutil.copytree(root / "photos", tmp_path / "photos")
    picture("red", 90).save(tmp_path / "photos/red/more.png")
    capsys.readouterr()
    settings = experiment(root, dry_run=True)
    target = dataclasses.replace(settings.target, dataset=f"folder:{tmp_path / 'photos'}")
    assert run_my_images(dataclasses.replace(settings, target=target), tmp_path / "dry").empty
    out = capsys.readouterr().out
    assert "50 images, 49 of them used" in out and "this takes about 1 minute here" in out
    assert not (tmp_path / "dry" / "network").exists()


def test_a_work_directory_that_was_moved_is_the_same(
    root: Path, done, capsys: pytest.CaptureFixture[str]
) -> None:
    """Runs are named by the path of the list, and are found in another place."""
    workdir, rows = done
    settings = experiment(root, my_images=MyImages(robustness=True))
    elsewhere = epath.Path(root / "elsewhere" / "run")
    elsewhere.parent.mkdir()
    files = {path.relative_to(workdir) for path in Path(workdir).rglob("*.parquet")}
    assert len(files) > 2
    workdir.rename(elsewhere)
    try:
        again = run_my_images(settings, elsewhere)
        assert not workdir.exists()
        assert f"was {workdir} when its runs were made" in capsys.readouterr().out
        assert set(again["run"]) == set(rows["run"]) and set(again["time"]) == set(rows["time"])
        found = {path.relative_to(elsewhere) for path in Path(elsewhere).rglob("*.parquet")}
        assert found == files
    finally:
        elsewhere.rename(workdir)


def test_predictions_are_explained_by_training_images(root: Path, done, tmp_path: Path) -> None:
    """Compared with the inverse of the whole Hessian: g_test^T (H + damping)^-1 g_train.

    The head is a logistic one, whose bias is not damped.
    """
    workdir, _ = done
    source, damping = Source(str(workdir / "network")), 0.01
    asked = Experiment(
        task="predict",
        source=source,
        influence=Influence(damping=damping),
        predict=Predict(
            images=str(root / "photos/blue"), explain=4, output=str(tmp_path / "p.csv")
        ),
    )
    run_predict(asked, tmp_path)
    found = read(tmp_path / "p.csv")
    run = Influence(run=source.checkpoint)
    (one,) = explained(Experiment(task="influence", influence=run), epath.Path(tmp_path))
    train = one.examples(one.job.training_images, "training images")
    files = list(pd.read_csv(workdir / "images.csv")["file"])
    added = np.append(np.full(train.inputs.shape[1] - 1, damping), 0)
    inverse = np.linalg.pinv(hessian(train) + np.diag(np.tile(added, 3)), rcond=1e-12)
    for row in found.itertuples():
        image = files.index(row.file)
        predicted = one.job.dataset.class_names.index(row.class_1)
        inputs = train.inputs[[image], : one.head.kernel.shape[0]]
        test = one.head.examples(inputs, np.array([predicted]))
        scores = (gradients(test) @ inverse @ gradients(train).T)[0]
        best = np.argsort(-scores, kind="stable")[:4]
        assert [getattr(row, f"training_image_{rank}") for rank in range(1, 5)] == [
            files[each] for each in best
        ]
        assert row.influence_1 == pytest.approx(scores[best[0]], rel=1e-3)
        assert row.training_label_1 == Path(row.training_image_1).parent.name
    # An interrupted prediction goes on only with the same solver.
    predictor = Predictor.load(asked)
    names = {
        _identity(predictor, "files", 3, Explainer.load(one, predictor, epath.Path(tmp_path)), None)
        for one in (asked, dataclasses.replace(asked, influence=Influence(damping=1.0)))
    }
    assert len(names) == 2
    elsewhere = dataclasses.replace(asked, source=Source(str(root / "one")))
    with pytest.raises(UserError, match=r"predict.explain: the network's training images are"):
        run_predict(elsewhere, tmp_path)


def test_the_forecast_adds_up(root: Path, done, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sources, three folds, two seeds, 32 of 48 images, five epochs and a fitted head.

    Networks are evaluated after epochs 1 and 5.
    """
    monkeypatch.setattr(forecasts, "measure", lambda program, seeds: Costs(1.0, 0.1, 0.01))
    survey = look_over(root / "photos", 8, folds=3)
    settings, divided = grids(experiment(root), survey, f"list:{done[0] / 'images.csv'}")
    assert divided == (32, 8, (8, 16)) and settings[0].sweep.folds == (0, 1, 2)
    every = [cell for one in settings for cell in cells(one)]
    found = forecasts.forecast(every, divided.smaller)
    run, features = 5 * 32 * 1.0 + 2 * 16 * 0.1, 2 * 48 * 0.01
    solved = 16 * 0.1  # it is tested once
    assert found.comparison == pytest.approx(2 * (features + 3 * 2 * (run + solved)))
    assert found.curve == pytest.approx(features + 3 * 2 * run * 24 / 32)
    assert found.final == pytest.approx(features + run * 48 / 32)
    assert "this takes about 49 minutes here" in found.describe()


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (Target("digits", folds=3), r"target.dataset: expected folder:PATH"),
        (Target("folder:x"), r"target.folds: expected 2 or more"),
    ],
)
def test_what_is_no_folder_is_refused(root: Path, tmp_path: Path, target, message) -> None:
    with pytest.raises(UserError, match=message):
        run_my_images(experiment(root, target=target), tmp_path)
