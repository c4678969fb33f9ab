"""Complete runs on a tiny network: interrupted or not, cached or not, in every mode."""

import dataclasses
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
import torch

from rtl_jax.data.augmentation import PRESETS
from rtl_jax.data.variants import at_size
from rtl_jax.errors import UserError
from rtl_jax.lab import cli, results
from rtl_jax.lab.config import Experiment, Source, Target
from rtl_jax.lab.finetune import task as module
from rtl_jax.lab.finetune.job import Inputs, prepare
from rtl_jax.lab.finetune.table import summarize
from rtl_jax.lab.finetune.task import run_finetune
from rtl_jax.models.network import Network
from rtl_jax.train import loop
from rtl_jax.train.checkpoints import TrainingCheckpoints
from rtl_jax.train.features import adapt_statistics
from rtl_jax.train.recipe import Recipe
from tests.torch_networks import nchw, random_torch, variables_of

pytestmark = pytest.mark.slow

SOURCE = Source("random", "resnet50", "small", stage_sizes=(1, 1), stage_widths=(4, 6))


def experiment(**transfer) -> Experiment:
    settings = {"blocks": 1, "epochs": 4, "batch_size": 20, "eval_every": 2, "learning_rate": 0.01}
    return Experiment(
        source=SOURCE,
        target=Target("digits", image_size=8, num_images=40, num_test_images=50),
        augmentation=PRESETS["none"],
        transfer=Recipe(**{**settings, **transfer}),
        seed=7,
    )


def measured(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the columns that must be equal for two runs of the same experiment."""
    return rows.drop(columns=["seconds", "time"])


def network_of(workdir: Path):
    (found,) = workdir.glob("runs/*/network")
    return Network.load(found)


def assert_same_end(one: Path, other: Path) -> None:
    pd.testing.assert_frame_equal(
        measured(results.read_rows(one)), measured(results.read_rows(other)), check_exact=True
    )
    ours, theirs = network_of(one), network_of(other)
    for mine, their in ((ours.params, theirs.params), (ours.batch_stats, theirs.batch_stats)):
        assert mine.keys() == their.keys()
        for path in mine:
            np.testing.assert_array_equal(mine[path], their[path], err_msg=path)


class Killed(BaseException):
    """Simulates a kill: no code catches this exception."""


def kill_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Die right after the checkpoint of a step."""
    save = TrainingCheckpoints.save

    def save_and_die(self, number, arrays, record):
        save(self, number, arrays, record)
        if number == step:
            raise Killed

    monkeypatch.setattr(TrainingCheckpoints, "save", save_and_die)


@pytest.mark.parametrize(
    ("mode", "augmentation"), [("batch", "paper"), ("source", "none"), ("adapt", "paper")]
)
def test_resuming_equals_an_uninterrupted_run_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, augmentation: str
):
    settings = dataclasses.replace(
        experiment(frozen_batch_norm=mode, checkpoint_seconds=0.0, batch_size=16),
        augmentation=PRESETS[augmentation],
    )
    run_finetune(settings, tmp_path / "whole")
    for step in (2, 9):  # within an epoch of three, and at the end of one
        with monkeypatch.context() as patch:
            kill_after(patch, step)
            with pytest.raises(Killed):
                run_finetune(settings, tmp_path / "resumed")
        assert not list((tmp_path / "resumed").glob("rows/*"))
    run_finetune(settings, tmp_path / "resumed")
    assert_same_end(tmp_path / "whole", tmp_path / "resumed")


CONFIG = """
from rtl_jax.lab.config import defaults, preset

def get_config():
    config = defaults()
    config.source.arch = "resnet50"
    config.source.stem = "small"
    config.source.stage_sizes = (1, 1)
    config.source.stage_widths = (4, 6)
    config.target.image_size = 8
    config.target.num_images = 40
    config.target.num_test_images = 50
    config.transfer.epochs = 10
    config.transfer.blocks = 1
    config.transfer.batch_size = 16
    config.transfer.checkpoint_seconds = 0.0
    return config
"""


def test_kill_minus_nine_at_an_odd_moment_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """A separate process is killed; this process resumes it and makes the run to compare with."""
    config = tmp_path / "config.py"
    config.write_text(CONFIG)
    root = Path(__file__).parents[3]

    def start(workdir: str) -> subprocess.Popen:
        command = [sys.executable, str(root / "run.py"), "--config", str(config)]
        return subprocess.Popen(
            [*command, "--workdir", str(tmp_path / workdir)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    settings, _ = cli.parse(["--config", str(config)])
    run_finetune(settings, tmp_path / "whole")
    process = start("killed")
    while not newest(tmp_path / "killed") and process.poll() is None:
        time.sleep(0.02)
    time.sleep(0.3)  # behind its first checkpoint
    assert process.poll() is None, "the run ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    capsys.readouterr()
    run_finetune(settings, tmp_path / "killed")
    assert "resumes after step" in capsys.readouterr().out
    assert_same_end(tmp_path / "whole", tmp_path / "killed")


def newest(workdir: Path) -> int:
    steps = [int(p.name) for p in workdir.glob("runs/*/checkpoints/*") if p.name.isdigit()]
    return max(steps, default=0)


def test_a_finished_run_is_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rows = run_finetune(experiment(), tmp_path)
    monkeypatch.setattr(module, "_train", lambda *_: pytest.fail("trained again"))
    again = run_finetune(experiment(), tmp_path)
    pd.testing.assert_frame_equal(rows, again)
    assert rows["epoch"].tolist() == [1, 3, 4]
    assert not list(tmp_path.glob("runs/*/checkpoints"))


def test_another_setting_is_another_run_beside_it(tmp_path: Path):
    run_finetune(experiment(), tmp_path)
    run_finetune(experiment(learning_rate=0.02), tmp_path)
    assert results.read_rows(tmp_path)["run"].nunique() == 2


@pytest.mark.parametrize("mode", ["source", "adapt"])
@pytest.mark.parametrize("blocks", [0, 1])
def test_kept_features_change_nothing(tmp_path: Path, mode: str, blocks: int):
    kept = experiment(frozen_batch_norm=mode, blocks=blocks)
    cold = experiment(frozen_batch_norm=mode, blocks=blocks, feature_store="none")
    one, other = run_finetune(kept, tmp_path / "kept"), run_finetune(cold, tmp_path / "cold")
    # The same numbers from other programs: equal up to rounding, which training amplifies.
    np.testing.assert_allclose(one["train_loss"], other["train_loss"], rtol=2e-3)
    np.testing.assert_allclose(one["loss"], other["loss"], rtol=2e-3)


@pytest.mark.parametrize("mode", ["source", "adapt", "batch"])
def test_frozen_values_stay_and_frozen_statistics_follow_the_mode(tmp_path: Path, mode: str):
    settings = experiment(frozen_batch_norm=mode)
    source = prepare(settings).network
    run_finetune(settings, tmp_path)
    tuned = network_of(tmp_path)
    for path, value in source.params.items():
        frozen = path.startswith(("conv1", "bn1", "layer1"))
        assert np.array_equal(value, tuned.params[path]) == frozen, path
    for path, value in source.batch_stats.items():
        frozen = path.startswith(("bn1", "layer1"))
        assert np.array_equal(value, tuned.batch_stats[path]) == (frozen and mode == "source"), path


def test_adapted_statistics_are_the_training_images_own():
    """Compared with torch and momentum None, which averages the statistics of the batches."""
    job = prepare(experiment(frozen_batch_norm="adapt", batch_size=20))
    network = random_torch(job.network.architecture)
    params, stats = variables_of(network)
    adapted = adapt_statistics(job.program.network, params, stats, job.training_images.images, 20)
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.reset_running_stats()
            part.momentum = None
    network.train()
    pixels = np.repeat(job.training_images.images, 3, axis=-1).astype(np.float32) / 255
    with torch.no_grad():
        for start in (0, 20):
            network(nchw(pixels[start : start + 20]))
    _, expected = variables_of(network)
    for path, value in adapted.items():
        if path.startswith(("bn1", "layer1")):
            np.testing.assert_allclose(value, expected[path], rtol=1e-4, atol=1e-5, err_msg=path)
        else:  # behind the split point nothing is adapted
            np.testing.assert_array_equal(value, stats[path])


def test_from_scratch_everything_trains(tmp_path: Path):
    rows = run_finetune(experiment(blocks=None, head="uniform", epochs=12), tmp_path)
    tuned, source = network_of(tmp_path), prepare(experiment(blocks=None, head="uniform")).network
    assert all(not np.array_equal(tuned.params[p], source.params[p]) for p in source.params)
    assert rows["blocks"].isna().all()
    assert rows["train_loss"].iloc[-1] < rows["train_loss"].iloc[0]


def test_accuracy_and_loss_are_the_saved_networks(tmp_path: Path):
    """The last row compared with torch on the saved weights; 50 is not a multiple of 16."""
    settings = experiment(eval_batch_size=16)
    rows = run_finetune(settings, tmp_path)
    job, tuned = prepare(settings), network_of(tmp_path)
    network = random_torch(tuned.architecture)
    state = network.state_dict()
    from rtl_jax.convert.layouts import entries

    for entry in entries(tuned.architecture):
        ours = getattr(tuned, entry.collection)[entry.path]
        state[entry.torch_name] = torch.from_numpy(entry.to_torch(ours))
    network.load_state_dict(state)
    pixels = np.repeat(job.test_images.images, 3, axis=-1).astype(np.float32) / 255
    labels = torch.from_numpy(job.test_images.labels.astype(np.int64))
    with torch.no_grad():
        logits = network.eval()(nchw(pixels))
    loss = torch.nn.functional.cross_entropy(logits, labels).item()
    accuracy = 100 * (logits.argmax(1) == labels).float().mean().item()
    assert rows["loss"].iloc[-1] == pytest.approx(loss, rel=1e-4)
    assert rows["accuracy"].iloc[-1] == pytest.approx(accuracy, abs=1e-4)
    assert rows["num_test_images"].iloc[-1] == 50


def test_the_papers_head_and_torchs():
    normal, uniform = prepare(experiment()), prepare(experiment(head="uniform"))
    kernel = np.concatenate(
        [
            prepare(dataclasses.replace(experiment(), seed=seed))
            .network.params["fc/kernel"]
            .ravel()
            for seed in range(8)
        ]
    )
    assert abs(kernel.std() - 1) < 0.05 and abs(kernel.mean()) < 0.05
    assert (normal.network.params["fc/bias"] == 0).all()
    bound = 1 / np.sqrt(normal.network.architecture.num_features)
    drawn = np.abs(uniform.network.params["fc/kernel"])
    assert 0.9 * bound < drawn.max() <= bound and uniform.network.params["fc/bias"].any()


def test_the_seed_draws_the_subset_the_head_and_the_batches():
    one, same, other = (prepare(dataclasses.replace(experiment(), seed=seed)) for seed in (7, 7, 8))
    assert one.run == same.run != other.run
    np.testing.assert_array_equal(one.training_images.labels, same.training_images.labels)
    assert not np.array_equal(one.training_images.images, other.training_images.images)
    np.testing.assert_array_equal(one.test_images.images, other.test_images.images)
    assert not np.array_equal(jax.random.key_data(one.key), jax.random.key_data(other.key))


def test_a_run_is_named_by_content():
    job = prepare(experiment())
    pair, dataset = job.inputs, job.dataset
    params = {**pair.source.params, "conv1/kernel": pair.source.params["conv1/kernel"] + 1e-3}
    other_network = Inputs(pair.source.replace(params=params), dataset)
    fewer = dataclasses.replace(dataset, test=dataset.test.take(range(599)))
    for changed in (other_network, Inputs(pair.source, fewer)):
        assert dataclasses.replace(job, inputs=changed).run != job.run
    assert dataclasses.replace(job, inputs=Inputs(pair.source, dataset)).run == job.run


def test_divergence_stops_the_run_and_keeps_what_was_good(tmp_path: Path):
    settings = experiment(checkpoint_seconds=0.0, learning_rate=1e30, epochs=8)
    with pytest.raises(UserError, match=r"diverged by epoch 1, step \d.*learning_rate"):
        run_finetune(settings, tmp_path)
    assert not list(tmp_path.glob("rows/*")) and not list(tmp_path.glob("runs/*/network"))


def test_divergence_names_the_last_good_checkpoint(tmp_path: Path, monkeypatch):
    """Checked before saving the first step, at the end of its epoch, and before the second."""
    real, calls = loop.all_finite, iter([True, True, False])
    monkeypatch.setattr(loop, "all_finite", lambda state: next(calls) & real(state))
    with pytest.raises(UserError, match=r"step 2: .*last good checkpoint is step 1.*checkpoints"):
        run_finetune(experiment(checkpoint_seconds=0.0), tmp_path)
    assert newest(tmp_path) == 1


def test_a_large_finite_loss_is_no_divergence(tmp_path: Path):
    rows = run_finetune(experiment(learning_rate=0.5), tmp_path)
    assert len(rows) == 3 and np.isfinite(rows["train_loss"]).all()


def test_a_full_disk_keeps_the_earlier_checkpoint(tmp_path: Path, monkeypatch):
    import orbax.checkpoint as ocp

    real, calls = ocp.CheckpointManager.save, iter([True, False])

    def save(self, *arguments, **options):
        if not next(calls):
            raise OSError(28, "No space left on device")
        return real(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(ocp.CheckpointManager, "save", save)
        with pytest.raises(UserError, match=r"No space left.*make room"):
            run_finetune(experiment(checkpoint_seconds=0.0), tmp_path / "full")
    assert newest(tmp_path / "full") == 1
    run_finetune(experiment(checkpoint_seconds=0.0), tmp_path / "full")
    run_finetune(experiment(checkpoint_seconds=0.0), tmp_path / "whole")
    assert_same_end(tmp_path / "full", tmp_path / "whole")


def test_classifiers_on_raw_pixels_have_rows_of_their_own(tmp_path: Path):
    settings = experiment(baseline=True)
    rows = run_finetune(settings, tmp_path)
    job = prepare(settings)
    train, test = (
        (half.images.reshape(len(half), -1).astype(float), half.labels)
        for half in (job.training_images, job.test_images)
    )
    distances = ((test[0][:, None] - train[0][None]) ** 2).sum(-1)
    expected = 100 * (train[1][distances.argmin(1)] == test[1]).mean()
    by_method = rows.set_index("method")
    assert by_method.loc["nearest_pixels", "accuracy"] == pytest.approx(expected)
    assert np.isnan(by_method.loc["nearest_pixels", "loss"])
    for method in ("linear_pixels", "ridge_pixels", "nearest_pixels"):
        line = by_method.loc[method]
        assert line.train_accuracy > 95  # 40 images in 64 dimensions are separable
        assert 50 < line.accuracy < 95
    assert (rows["method"] == "transfer").sum() == 3
    assert "1-NN on pixels" in summarize(rows)


def test_pixel_baselines_can_be_asked_for_later(tmp_path: Path):
    together = run_finetune(experiment(baseline=True), tmp_path / "together")
    run_finetune(experiment(), tmp_path / "later")
    rows = run_finetune(experiment(baseline=True), tmp_path / "later")
    said = ["run", "method", "epoch", "accuracy", "loss", "train_accuracy", "train_loss"]
    pd.testing.assert_frame_equal(rows[said], together[said])
    assert "1-NN on pixels" in summarize(rows)
    before = sorted((tmp_path / "later/rows").iterdir())
    run_finetune(experiment(baseline=True), tmp_path / "later")
    assert sorted((tmp_path / "later/rows").iterdir()) == before


def test_pixel_baselines_see_corrupted_test_images_at_one_size(tmp_path: Path):
    settings = experiment(baseline=True)
    target = dataclasses.replace(settings.target, image_size=16, corruption="contrast:3")
    settings = dataclasses.replace(settings, target=target)
    rows = run_finetune(settings, tmp_path).set_index("method")
    job = prepare(settings)
    train = at_size(job.training_images, 16)
    ours, theirs = (half.images.reshape(len(half), -1) / 255 for half in (train, job.test_images))
    nearest = ((theirs[:, None] - ours[None]) ** 2).sum(-1).argmin(1)
    expected = 100 * (train.labels[nearest] == job.test_images.labels).mean()
    assert rows.loc["nearest_pixels", "accuracy"] == pytest.approx(expected)


def test_too_many_blocks_is_the_users_mistake(tmp_path: Path):
    with pytest.raises(UserError, match="has 2 blocks, received 3"):
        run_finetune(experiment(blocks=3), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_lower_precision_stays_close_and_keeps_float32_variables(tmp_path: Path, precision: str):
    full = run_finetune(experiment(), tmp_path / "full")
    low = run_finetune(experiment(precision=precision), tmp_path / "low")
    np.testing.assert_allclose(low["train_loss"], full["train_loss"], rtol=0.01)
    tuned = network_of(tmp_path / "low")
    assert {value.dtype for value in tuned.params.values()} == {np.dtype(np.float32)}
