"""Corrupted test images as a setting and as a task: rows, resumption, tables and mistakes."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import rtl_jax as rtl
from rtl_jax.data.augmentation import PRESETS
from rtl_jax.data.corruptions.corrupt import corrupt
from rtl_jax.data.corruptions.errors import corruption_errors, mean_corruption_error
from rtl_jax.data.corruptions.severities import Corruption
from rtl_jax.data.dataset import ImageSet
from rtl_jax.data.variants import at_size, corrupted
from rtl_jax.errors import UserError
from rtl_jax.lab import results
from rtl_jax.lab.attack import corruptions as task
from rtl_jax.lab.attack.task import run_attack
from rtl_jax.lab.config import Attack, Experiment, Source, Target, freeze
from rtl_jax.lab.finetune.job import prepare
from rtl_jax.lab.finetune.task import run_finetune
from rtl_jax.lab.report.chapters import compose
from rtl_jax.lab.report.elements import Table
from rtl_jax.lab.tasks import run
from rtl_jax.models.network import Network
from rtl_jax.train.recipe import Recipe

TARGET = Target("digits", image_size=16, num_images=100, num_test_images=40)
FINETUNING = Experiment(
    source=Source("random", "resnet18", "small", (1,), (8,)),
    target=TARGET,
    augmentation=PRESETS["none"],
    transfer=Recipe(blocks=0, head_fit="ridge", frozen_batch_norm="source"),
)
FOGGED = dataclasses.replace(FINETUNING, target=dataclasses.replace(TARGET, corruption="fog:4"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two fine-tunings, tested on clean images and in fog."""
    workdir = tmp_path_factory.mktemp("trained")
    for experiment in (FINETUNING, FOGGED):
        run_finetune(experiment, workdir)
    return workdir


def experiment(trained: Path, **settings) -> Experiment:
    chosen = {"corruptions": ("contrast", "fog"), "severities": (1, 4), "batch_size": 20}
    return Experiment(
        task="attack",
        target=dataclasses.replace(TARGET, num_test_images=None),
        attack=Attack(method="corruptions", runs=str(trained), **{**chosen, **settings}),
    )


def test_images_are_corrupted_by_their_content() -> None:
    """So a subset, or another order, has the same images."""
    test = at_size(prepare(FINETUNING).dataset.test.take(np.arange(9)), 16)
    assert test.images.shape == (9, 16, 16, 3) and test.images.dtype == np.uint8
    whole = corrupted(test, Corruption("fog", 4))
    rows = np.array([7, 2, 4])
    np.testing.assert_array_equal(
        corrupted(test.take(rows), Corruption("fog", 4)).images, whole.images[rows]
    )
    assert len({image.tobytes() for image in whole.images.astype(int) - test.images}) == 9


def test_training_and_names_stay(trained: Path) -> None:
    """Only test images are corrupted, and the run has another name; clean runs keep theirs."""
    clean, fogged = prepare(FINETUNING), prepare(FOGGED)
    assert clean.run != fogged.run
    assert clean.experiment.fingerprint() == FINETUNING.fingerprint()
    np.testing.assert_array_equal(clean.training_images.images, fogged.training_images.images)
    test = at_size(clean.test_images, 16)
    expected = corrupted(test, Corruption("fog", 4))
    np.testing.assert_array_equal(fogged.test_images.images, expected.images)
    rows = results.last_epochs(results.read_rows(trained)).set_index("run")
    assert rows.loc[fogged.run, "variant"] == "corruption=fog:4"
    assert rows["variant"].isna().tolist() == (rows.index != fogged.run).tolist()
    assert rows.loc[clean.run, "accuracy"] > rows.loc[fogged.run, "accuracy"]


def test_rows_are_the_fine_tunings_and_the_library_s(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = run(experiment(trained), tmp_path)
    said = capsys.readouterr().out
    assert "contrast" in said and "without a corruption" in said and "figures" not in said
    # Both fine-tunings left the same network, whose images are the same: it is measured once.
    assert len(rows) == 5 and rows["eps"].isna().all()
    tuned = results.last_epochs(results.read_rows(trained))
    fogged = rows[rows["variant"] == "corruption=fog:4"]["accuracy"]
    expected = tuned[tuned["variant"].notna()]["accuracy"].item()
    assert fogged.tolist() == pytest.approx([expected])
    (place, _) = sorted(trained.glob("runs/*/network"))
    network, test = Network.load(place), prepare(FINETUNING).test_images
    found = rtl.corruption_accuracy(
        network, test.images, test.labels, names=["contrast", "fog"], severities=[1, 4]
    )
    by_name = rows.set_index(rows["variant"].fillna(""))["accuracy"] / 100
    for name, shares in found.by_corruption.items():
        names = [f"corruption={name}:{severity}" for severity in (1, 4)]
        assert shares == pytest.approx(by_name[names].to_numpy())
    assert found.clean == pytest.approx(by_name[""])
    assert found.mean == pytest.approx(np.mean([*found.by_corruption.values()]))
    assert compose(rows).sections  # the report has a chapter of it


def test_what_is_measured_is_not_measured_again(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    real = task.corrupted

    def once(images: ImageSet, corruption: Corruption) -> ImageSet:
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(str(corruption))
        return real(images, corruption)

    monkeypatch.setattr(task, "corrupted", once)
    with pytest.raises(KeyboardInterrupt):
        run_attack(experiment(trained), tmp_path)
    assert done == ["contrast:1", "contrast:4", "fog:1"]
    again: list[str] = []
    monkeypatch.setattr(
        task,
        "corrupted",
        lambda images, one: again.append(str(one)) or real(images, one),
    )
    rows = run_attack(experiment(trained), tmp_path)
    assert again == ["fog:4"]
    assert len(rows) == 5 and not list(tmp_path.glob("runs/*/batches"))


NATURAL = {"": 99, "fog:1": 60, "fog:2": 60, "snow:1": 80, "snow:2": 80}


def corruption_tables(*measured: dict[str, dict[str, int]]) -> list[Table]:
    """Return a report's tables on corruptions, given accuracies by source and corruption.

    Each of `measured` has a run of each source, later than those before it.
    """
    known = {"method": "corruptions", "num_classes": 10, "num_test_images": 50, "num_devices": 1}
    rows = [
        results.row(
            Experiment(task="attack", source=Source(source), target=TARGET),
            **known,
            run=f"{source} {number}",
            accuracy=accuracy,
            variant=f"corruption={text}" if text else None,
            time=f"2026-01-01T00:00:0{number}+00:00",
        )
        for number, shares in enumerate(measured)
        for source, each in shares.items()
        for text, accuracy in each.items()
    ]
    (chapter,) = (
        one for one in compose(results.frame(rows)).sections if one.title == "Corruptions"
    )
    return [one for one in chapter.elements if isinstance(one, Table)]


def test_a_report_has_the_mean_corruption_error() -> None:
    """Errors of 20 and 40 against 40 and 40, and 10 and 30 against 20 and 20: 75 and 100 %."""
    l2 = {"": 98, "fog:1": 80, "fog:2": 60, "snow:1": 90, "snow:2": 70}
    table, each = corruption_tables({"bundled:natural": NATURAL, "bundled:l2": l2})
    lines = {line[1].text: [cell.text for cell in line] for line in table.rows}
    columns = table.columns
    assert [lines["bundled:natural"][columns.index(name)] for name in ("clean, %", "mCE, %")] == [
        "99.00",
        "100.00",
    ]
    assert lines["bundled:l2"][columns.index("mCE, %")] == "87.50"
    assert lines["bundled:l2"][columns.index("mean, %")] == "75.00"
    assert [cell.text for cell in each.rows[0]][2:4] == ["snow", "80.00"]


def test_a_later_run_adds_to_an_earlier_one() -> None:
    """It counts where both measured the same, here fog at 1."""
    l2 = {"": 98, "fog:1": 80, "fog:2": 60, "snow:1": 90, "snow:2": 70}
    later = {"bundled:natural": {"": 99, "frost:1": 50}, "bundled:l2": {"": 96, "frost:1": 75}}
    later["bundled:l2"]["fog:1"] = 90
    table, each = corruption_tables({"bundled:natural": NATURAL, "bundled:l2": l2}, later)
    lines = {line[1].text: [cell.text for cell in line] for line in table.rows}
    found = [lines["bundled:l2"][table.columns.index(name)] for name in ("clean, %", "mean, %")]
    assert found == ["96.00", "76.67"]  # of 75, 80 and 75
    # Errors of 50 against 80, 40 against 40, and 25 against 50.
    assert lines["bundled:l2"][table.columns.index("mCE, %")] == "70.83"
    assert len(table.rows) == 2 and len(each.rows) == 6


def test_errors_at_other_severities_are_no_reference() -> None:
    l2 = {"": 98, "fog:4": 80, "fog:5": 60, "snow:4": 90, "snow:5": 70}
    table, _ = corruption_tables({"bundled:natural": NATURAL, "bundled:l2": l2})
    lines = {line[1].text: [cell.text for cell in line] for line in table.rows}
    assert lines["bundled:l2"][table.columns.index("mCE, %")] == ""


def test_corruption_errors_are_the_papers() -> None:
    mine, theirs = {"a": [10, 30], "b": [5, 5]}, {"a": [20, 20], "b": [10, 30]}
    assert corruption_errors(mine, theirs) == {"a": 100, "b": 25}
    assert mean_corruption_error(mine, theirs) == 62.5
    assert np.isnan(mean_corruption_error({"a": [1]}, {"a": [0]}))


def test_python_has_it_too() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    found = rtl.corrupt(images, "contrast", severity=5, seed=1)
    np.testing.assert_array_equal(found, corrupt(images, Corruption("contrast", 5), 1))
    with pytest.raises(UserError, match="one of gaussian_noise"):
        rtl.corrupt(images, "mist")
    # Random numbers are those of the command line, in any order and number of images, and seeded.
    fogged = rtl.corrupt(images, "fog")
    drawn = corrupted(ImageSet(images, np.zeros(2, np.int32)), Corruption("fog", 3)).images
    np.testing.assert_array_equal(fogged, drawn)
    np.testing.assert_array_equal(rtl.corrupt(images[1:], "fog"), fogged[1:])
    assert (rtl.corrupt(images, "fog", seed=1) != fogged).any()


def test_mistakes_are_named() -> None:
    for settings, message in (
        ({"target": {"corruption": "mist:1"}}, r"target\.corruption: expected NAME.* 'mist:1'"),
        ({"task": "choose", "target": {"corruption": "fog:1"}}, r"none with task 'choose'"),
        ({"target": {"corruption": "fog:1", "image_size": 8}}, r"image_size: expected 16 pixels"),
        ({"attack": {"corruptions": ("mist",)}}, r"attack\.corruptions: .*different ones of"),
        ({"attack": {"method": "corruptions"}}, r"unless the task is 'attack'"),
    ):
        with pytest.raises(UserError, match=message):
            freeze(settings)
    both = {"target": {"corruption": "fog:1"}, "attack": {"method": "corruptions"}}
    with pytest.raises(UserError, match="which applies them all"):
        freeze({"task": "attack", **both})
