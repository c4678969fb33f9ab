"""Complete trainings of a tiny source: stopped or not, streamed or not, on one or more devices."""

import contextlib
import dataclasses
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rtl_jax.attacks.adversarial import robustness_curve
from rtl_jax.data import ImageSet, draw_test_subset, load_dataset
from rtl_jax.data.augmentation import PRESETS, Augmentation
from rtl_jax.data.transforms import prepare
from rtl_jax.errors import UserError
from rtl_jax.lab import results
from rtl_jax.lab.config import Attack, Experiment, Pretraining, Source, Target
from rtl_jax.lab.evaluation import method
from rtl_jax.lab.inputs import in_fold
from rtl_jax.lab.pretrain.job import prepare as prepare_training
from rtl_jax.lab.pretrain.task import run_pretrain
from rtl_jax.models.network import Network
from rtl_jax.runtime import progress
from rtl_jax.train import loop
from rtl_jax.train.checkpoints import TrainingCheckpoints
from tests.processes import on_devices, on_hosts

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
SOURCE = Source("random", "resnet50", "small", stage_sizes=(1, 1), stage_widths=(4, 6))
SETTINGS = Pretraining(
    perturbation="pgd",
    eps=0.5,
    steps=1,
    random_start=True,
    epochs=2,
    batch_size=32,
    schedule="one_cycle",
    average_decay=0.9,
    learning_rate=0.02,  # small, so that rounding does not grow
    num_attacked=20,
    eval_batch_size=50,
)


def experiment(source: Source = SOURCE, **pretraining) -> Experiment:
    return Experiment(
        task="pretrain",
        source=source,
        target=Target("digits", image_size=8, num_images=100, num_test_images=50),
        augmentation=Augmentation(crop_padding=1, flip=True),
        pretraining=dataclasses.replace(SETTINGS, **pretraining),
        attack=Attack(norm="l2", eps=(0.25, 0.5), steps=3, batch_size=20),
        seed=7,
    )


def network_of(workdir: Path):
    (found,) = workdir.glob("runs/*/network")
    return Network.load(found)


def assert_same_weights(one: Path, other: Path, rtol: float = 0) -> None:
    ours, theirs = network_of(one), network_of(other)
    for mine, their in ((ours.params, theirs.params), (ours.batch_stats, theirs.batch_stats)):
        for path in mine | their:
            np.testing.assert_allclose(mine[path], their[path], rtol=rtol, atol=rtol, err_msg=path)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("undisturbed")
    run_pretrain(experiment(), workdir)
    return workdir


def test_rows_are_what_the_network_left_does(undisturbed: Path):
    rows = results.read_rows(undisturbed)
    assert sorted(rows["epoch"]) == [1, 1, 1, 2, 2, 2]
    last = rows[rows["epoch"] == 2].set_index("method")
    network = network_of(undisturbed)
    assert network.provenance["kind"] == "pretrained"
    data = load_dataset("digits", data_dir=None, image_size=8)
    assert len(network.provenance["class_names"]) == data.num_classes == 10
    shown = data.test.take(draw_test_subset(data.test.labels, 50, 10))
    logits_fn = Network(network.architecture, network.params, network.batch_stats).logits_fn()
    images = prepare(shown.images, 8)
    hits = np.asarray(jax.jit(logits_fn)(images)).argmax(1) == shown.labels
    assert last.loc["pretrain", "accuracy"] == pytest.approx(100 * hits.mean())
    few = draw_test_subset(shown.labels, 20, 10)
    found = robustness_curve(
        logits_fn, images[few], shown.labels[few], (0.25, 0.5), method(experiment().attack)
    )
    robust = last.loc["pgd"].sort_values("eps")["accuracy"]
    np.testing.assert_allclose(robust, 100 * np.asarray(found.robust_accuracy), atol=1e-4)


def test_a_finished_run_is_not_repeated(undisturbed: Path, capsys: pytest.CaptureFixture):
    again = run_pretrain(experiment(checkpoint_seconds=1.0, memory_mib=9000), undisturbed)
    assert "is finished" in capsys.readouterr().out and len(again) == 6


class Killed(BaseException):
    """Simulates a kill: no code catches this exception."""


@pytest.mark.parametrize("step", [2, 3, 5])  # in the first epoch, at its end, in the second
def test_a_killed_run_ends_with_the_same_weights(undisturbed, tmp_path, monkeypatch, step):
    save = TrainingCheckpoints.save

    def save_and_die(self, number, arrays, record):
        save(self, number, arrays, record)
        if number == step:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(TrainingCheckpoints, "save", save_and_die)
        with pytest.raises(Killed):
            run_pretrain(experiment(checkpoint_seconds=0.0), tmp_path)
    bars = []

    @contextlib.contextmanager
    def recorded(what, total, *, done=0, leave=False, unit="images"):
        with progress.bar(what, total, done=done, leave=leave, unit=unit) as opened:
            bars.append((done, opened))
            yield opened

    monkeypatch.setattr(loop, "bar", recorded)
    rows = run_pretrain(experiment(), tmp_path).drop(columns=["seconds", "time", "config"])
    ((begun, ended),) = bars
    assert begun == 32 * step and ended.n == ended.total == 2 * 96  # three steps an epoch
    assert_same_weights(undisturbed, tmp_path)
    expected = results.read_rows(undisturbed).drop(columns=["seconds", "time", "config"])
    pd.testing.assert_frame_equal(rows, expected, check_exact=True)


CONFIG = """
import sys
sys.path.insert(0, {tests!r})
from test_pretrain_runs import experiment
def get_config():
    return experiment(epochs={epochs})
"""


def start(tmp_path: Path, epochs: int, environment: dict[str, str]):
    config = tmp_path / "config.py"
    config.write_text(CONFIG.format(tests=str(Path(__file__).parent), epochs=epochs))
    command = [sys.executable, "run.py", "--config", str(config), "--workdir", str(tmp_path / "w")]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_sigterm_saves_and_the_same_command_goes_on(tmp_path: Path):
    checkpoints = tmp_path / "w" / "runs"
    with start(tmp_path, 100_000, on_devices(1)) as process:
        while not list(checkpoints.glob("*/checkpoints")):
            assert process.poll() is None
            time.sleep(0.1)
        time.sleep(2)  # somewhere in its steps, or still compiling the first
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 143, output
    assert "which is saved; the same command resumes" in output
    assert list(checkpoints.glob("*/checkpoints/*/arrays"))
    with start(tmp_path, 100_000, on_devices(1)) as process:
        assert process.stdout is not None
        assert any("resumes after step" in line for line in process.stdout)
        process.kill()


def test_several_devices_and_hosts_end_with_the_same_weights(undisturbed: Path, tmp_path: Path):
    """Two processes with two devices each, compared with one process and one device."""
    hosts = [start(tmp_path, SETTINGS.epochs, each) for each in on_hosts(2, devices=2)]
    for process in hosts:
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
    assert_same_weights(undisturbed, tmp_path / "w", rtol=1e-4)
    assert json.loads(results.read_rows(tmp_path / "w")["config"][0])["task"] == "pretrain"
    assert results.read_rows(tmp_path / "w")["num_devices"].eq(2).all()


def test_all_hosts_stop_after_the_same_step_if_one_gets_sigterm(tmp_path: Path):
    hosts = [start(tmp_path, 100_000, each) for each in on_hosts(2)]
    while not list((tmp_path / "w" / "runs").glob("*/checkpoints")):
        assert hosts[0].poll() is None
        time.sleep(0.1)
    time.sleep(2)  # somewhere in the steps, or still compiling the first
    hosts[1].send_signal(signal.SIGTERM)
    said = []
    try:
        for process in hosts:
            output, _ = process.communicate(timeout=120)
            assert process.returncode == 143, output
            said.append(next(line for line in output.splitlines() if "which is saved" in line))
    finally:
        for process in hosts:
            process.kill()
    assert said[0] == said[1]
    (saved,) = (tmp_path / "w" / "runs").glob("*/checkpoints/*/arrays")
    assert f"stopped after step {saved.parent.name} of" in said[0]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for split, count in (("train", 24), ("test", 4)):
        for name in ("cats", "dogs"):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (20, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{number}.png")
    return folder


def streamed(photos: Path, **pretraining) -> Experiment:
    return dataclasses.replace(
        experiment(
            memory_mib=0,
            batch_size=10,
            perturbation="none",
            average_decay=None,
            num_attacked=0,
            decoding_threads=2,
            **pretraining,
        ),
        target=Target(f"folder:{photos}", image_size=8),
        augmentation=Augmentation(resized_crop=0.5, flip=True),
    )


def test_a_streamed_run_goes_on_at_the_same_image(photos: Path, tmp_path: Path, monkeypatch):
    run_pretrain(streamed(photos), tmp_path / "whole")
    save = TrainingCheckpoints.save

    def save_and_die(self, number, arrays, record):
        save(self, number, arrays, record)
        if number == 6:  # in the second epoch of four steps
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(TrainingCheckpoints, "save", save_and_die)
        with pytest.raises(Killed):
            run_pretrain(streamed(photos, checkpoint_seconds=0.0), tmp_path / "parts")
    # Another number of processes gives the same batches, and the run its old name.
    run_pretrain(streamed(photos, decoding_processes=1), tmp_path / "parts")
    assert_same_weights(tmp_path / "whole", tmp_path / "parts")


def test_a_trained_source_can_be_trained_on(undisturbed: Path, tmp_path: Path):
    start = Source(str(undisturbed))
    still = {"learning_rate": 1e-9, "weight_decay": 0.0, "average_decay": None}
    run_pretrain(experiment(start, **still, perturbation="none", num_attacked=0), tmp_path)
    ours, before = network_of(tmp_path), network_of(undisturbed)
    for path in before.params:
        np.testing.assert_allclose(ours.params[path], before.params[path], atol=1e-6)
    assert ours.provenance["source"]["kind"] == "pretrained"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 101}, "batch_size: expected at most the 100 training images"),
        (
            {"learning_rate": 1e30, "perturbation": "none"},
            r"diverged by epoch 1, step 3: .* Lower pretraining.learning_rate",
        ),
    ],
)
def test_what_the_user_can_mend(tmp_path: Path, changes: dict, message: str):
    with pytest.raises(UserError, match=message):
        run_pretrain(experiment(**changes), tmp_path)


def test_an_attack_that_validation_cannot_use_is_refused_before_any_training(tmp_path: Path):
    settings = dataclasses.replace(experiment(), attack=Attack(method="autoattack"))
    with pytest.raises(UserError, match="expected 'pgd', 'fourier' or 'gaussian' here"):
        run_pretrain(settings, tmp_path)
    assert not (tmp_path / "runs").exists()


def test_cross_validation_trains_on_the_images_outside_the_fold():
    target = Target("digits", image_size=8, folds=5, fold=1)
    job = prepare_training(dataclasses.replace(experiment(), target=target))
    inside = in_fold(target, load_dataset("digits", data_dir=None, image_size=8).train)
    assert isinstance(job.train, ImageSet) and len(job.train) == (~inside).sum()
    assert len(job.validation) == inside.sum()
    trained = {image.tobytes() for image in job.train.images}
    assert not any(image.tobytes() in trained for image in job.validation.images)


def test_a_stream_is_taken_whole(photos: Path, tmp_path: Path):
    wrong = dataclasses.replace(
        streamed(photos), target=Target(f"folder:{photos}", image_size=8, num_images=5)
    )
    with pytest.raises(UserError, match="target.num_images: a streamed data set"):
        run_pretrain(wrong, tmp_path)
    wrong = dataclasses.replace(
        streamed(photos), target=Target(f"folder:{photos}", image_size=8, folds=2, fold=0)
    )
    with pytest.raises(UserError, match="target.folds: a streamed data set"):
        run_pretrain(wrong, tmp_path)
    for given in ({"low_resolution": 4}, {"test_dataset": "digits"}):
        wrong = dataclasses.replace(
            streamed(photos), target=Target(f"folder:{photos}", image_size=8, **given)
        )
        with pytest.raises(UserError, match="is not available for a streamed data set"):
            run_pretrain(wrong, tmp_path)


def test_presets_leave_room_for_the_resized_crop():
    assert PRESETS["paper"].resized_crop == 0
