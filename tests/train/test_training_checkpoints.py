"""Checkpoints of trainings: bit for bit, complete or absent, and never corrupted."""

import gc
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from etils import epath

from rtl_jax.errors import UserError
from rtl_jax.train.checkpoints import TrainingCheckpoints
from tests.damage import (
    DAMAGE,
    REFUSED,
    contents,
    equal_bits,
    fill_disk,
    interrupt_when_called,
    largest_file,
)

pytestmark = pytest.mark.slow


def state(epoch: int, width: int = 4) -> dict[str, Any]:
    """Make the state of a training: many arrays of several types, which differ in every epoch."""
    random = np.random.default_rng(epoch)
    arrays: dict[str, Any] = {
        f"{index:02d}/kernel": jnp.asarray(random.normal(size=(3, 3, width, width)), jnp.float32)
        for index in range(12)
    }
    arrays["count"] = jnp.asarray(epoch, jnp.int32)
    arrays["half"] = jnp.asarray(random.normal(size=5), jnp.bfloat16)
    arrays["minus zero"] = jnp.full((200,), -0.0)
    return {"state": arrays, "key": jax.random.key_data(jax.random.key(epoch))}


def record(epoch: int) -> dict[str, Any]:
    rows = [{"accuracy": 100 / 3, "blocks": None, "run": "é"}] * epoch
    return {"epoch": epoch, "rows": rows, "seconds": 0.1 * epoch}


def save_epochs(directory: Path, *epochs: int, width: int = 4) -> None:
    with TrainingCheckpoints(directory) as checkpoints:
        for epoch in epochs:
            checkpoints.save(epoch, state(epoch, width), record(epoch))


def is_restored(checkpoints: TrainingCheckpoints, epoch: int, width: int = 4) -> bool:
    expected = state(epoch, width)
    arrays, found = checkpoints.restore(epoch, state(99, width))
    return (
        found == record(epoch)
        and equal_bits(arrays["state"], expected["state"])
        and equal_bits({"key": arrays["key"]}, {"key": expected["key"]})
        and list(arrays["state"]) == sorted(expected["state"])
    )


def test_trainings_round_trip(tmp_path: Path) -> None:
    with TrainingCheckpoints(tmp_path / "a" / "b") as checkpoints:
        assert checkpoints.latest() is None
        checkpoints.save(1, state(1), record(1))
        assert checkpoints.latest() == 1
        assert is_restored(checkpoints, 1)
    with TrainingCheckpoints(epath.Path(tmp_path / "a" / "b")) as checkpoints:
        assert checkpoints.latest() == 1
        assert is_restored(checkpoints, 1)


@pytest.mark.parametrize("name", ["restore", "close"])
def test_ctrl_c_waits_for_what_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    save_epochs(tmp_path, 1)
    with pytest.raises(KeyboardInterrupt), TrainingCheckpoints(tmp_path) as checkpoints:
        ended = interrupt_when_called(monkeypatch, ocp.CheckpointManager, name)
        is_restored(checkpoints, 1)
    assert ended == [name]


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    save_epochs(tmp_path, 1, 5, 7, 20)
    with TrainingCheckpoints(tmp_path) as checkpoints:
        assert checkpoints.latest() == 20
        assert is_restored(checkpoints, 20) and is_restored(checkpoints, 7)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["20", "7"]


@pytest.mark.parametrize("width", [4, 32], ids=["small", "large"])
def test_an_unreadable_epoch_is_named_and_the_one_before_goes_on(
    tmp_path: Path, width: int, capfd: pytest.CaptureFixture[str]
) -> None:
    save_epochs(tmp_path / "c", 3, 4, width=width)
    newest = tmp_path / "c" / "4"
    largest = max(contents(newest / "arrays"), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    for path in (newest / "arrays" / "d").iterdir():
        path.write_bytes(path.read_bytes()[:-7])
    with TrainingCheckpoints(tmp_path / "c") as checkpoints:
        assert checkpoints.latest() == 4
        with pytest.raises(UserError, match=rf"checkpoint {newest} cannot .* remove that direct"):
            checkpoints.restore(4, state(99, width))
    assert "Traceback" not in capfd.readouterr().err
    shutil.rmtree(newest)
    with TrainingCheckpoints(tmp_path / "c") as checkpoints:
        assert checkpoints.latest() == 3
        assert is_restored(checkpoints, 3, width)
        checkpoints.save(4, state(4, width), record(4))
        assert is_restored(checkpoints, 4, width)


# So it does where an index file of its own is damaged.
@REFUSED
@pytest.mark.parametrize("damage", ["halved", "deleted", "flipped"])
def test_a_damaged_epoch_never_gives_other_values(tmp_path: Path, damage: str) -> None:
    width = 32
    save_epochs(tmp_path / "c", 3, width=width)
    refused = 0
    for name in [path.relative_to(tmp_path / "c") for path in contents(tmp_path / "c" / "3")]:
        copy = tmp_path / "copy"
        shutil.copytree(tmp_path / "c", copy)
        DAMAGE[damage](copy / name)
        with TrainingCheckpoints(copy) as checkpoints:
            try:
                assert is_restored(checkpoints, 3, width)
            except UserError as error:
                assert str(copy / "3") in str(error)
                refused += 1
        shutil.rmtree(copy)
    gc.collect()
    assert refused >= 3


def test_another_structure_is_refused(tmp_path: Path) -> None:
    save_epochs(tmp_path, 1)
    other = state(1)
    other["state"]["another"] = jnp.zeros(3)
    with TrainingCheckpoints(tmp_path) as checkpoints, pytest.raises(UserError, match="remove"):
        checkpoints.restore(1, other)


def test_half_written_epochs_are_ignored(tmp_path: Path) -> None:
    save_epochs(tmp_path, 1)
    shutil.copytree(tmp_path / "1", tmp_path / "2.orbax-checkpoint-tmp-0")
    shutil.rmtree(tmp_path / "2.orbax-checkpoint-tmp-0" / "arrays")
    with TrainingCheckpoints(tmp_path) as checkpoints:
        assert checkpoints.latest() == 1
        assert is_restored(checkpoints, 1)
        checkpoints.save(2, state(2), record(2))
        assert is_restored(checkpoints, 2)


def test_a_kill_while_saving_keeps_the_epoch_before(tmp_path: Path) -> None:
    """The process dies when Orbax is about to rename the second epoch."""
    script = """
import os, sys
from pathlib import Path
from tests.train.test_training_checkpoints import record, state
from rtl_jax.train.checkpoints import TrainingCheckpoints
checkpoints = TrainingCheckpoints(sys.argv[1])
checkpoints.save(1, state(1), record(1))
def die(event, arguments):
    if event == "os.rename" and str(arguments[1]).endswith("/2"):
        os._exit(9)
sys.addaudithook(die)
checkpoints.save(2, state(2), record(2))
"""
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": root, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], env=environment)
    assert done.returncode == 9
    assert len(list(tmp_path.iterdir())) == 2
    with TrainingCheckpoints(tmp_path) as checkpoints:
        assert checkpoints.latest() == 1
        assert is_restored(checkpoints, 1)


def test_a_full_disk_is_seen_before_an_epoch_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    save_epochs(tmp_path, 1)
    with TrainingCheckpoints(tmp_path) as checkpoints:
        fill_disk(monkeypatch)
        with pytest.raises(UserError, match=r"epoch 2 .*the disk has 1,000 left.*make room"):
            checkpoints.save(2, state(2), record(2))
        assert checkpoints.latest() == 1
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    assert capfd.readouterr().err == ""


@REFUSED
def test_a_full_disk_keeps_the_epoch_before(tmp_path: Path) -> None:
    save_epochs(tmp_path, 1, width=32)
    with (
        TrainingCheckpoints(tmp_path) as checkpoints,
        pytest.raises(UserError, match=r"cannot write the checkpoint of epoch 2 .*again"),
        largest_file(32 << 10),
    ):
        checkpoints.save(2, state(2, 32), record(2))
    with TrainingCheckpoints(tmp_path) as checkpoints:
        assert checkpoints.latest() == 1
        assert is_restored(checkpoints, 1, 32)
        checkpoints.save(2, state(2, 32), record(2))
        assert is_restored(checkpoints, 2, 32)
    gc.collect()
