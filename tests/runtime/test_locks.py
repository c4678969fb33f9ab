"""One process at a time in a work directory: the other is told the holder, and loses nothing."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from rtl_jax.errors import UserError
from rtl_jax.lab.results import read_rows
from rtl_jax.runtime.locks import NAME, exclusive

pytestmark = pytest.mark.slow

HOLD = "import sys, time; from rtl_jax.runtime.locks import exclusive\n"
HOLD += "with exclusive(sys.argv[1]): print('held', flush=True); time.sleep(60)"


def held(directory: Path) -> subprocess.Popen:
    """Start a process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(directory)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_the_holder_is_named_and_a_kill_frees_the_lock(tmp_path: Path) -> None:
    holder = held(tmp_path / "new")
    try:
        with (
            pytest.raises(UserError, match=rf"in use by process {holder.pid} on .*--workdir"),
            exclusive(tmp_path / "new"),
        ):
            pytest.fail("held twice")
        with exclusive(tmp_path / "other"):
            pass
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    with exclusive(tmp_path / "new"):
        assert str(os.getpid()) in (tmp_path / "new" / NAME).read_text()
    with exclusive(tmp_path / "new"):
        pass


@pytest.mark.parametrize("kind", ["a file", "below a file"])
def test_a_directory_that_cannot_be_made(tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").touch()
    place = tmp_path / "file" if kind == "a file" else tmp_path / "file" / "runs"
    with pytest.raises(UserError, match="cannot be used as a work directory"), exclusive(place):
        pass


TURNS = """
import sys
from rtl_jax.errors import UserError
from rtl_jax.runtime.locks import exclusive
for turn in sys.stdin:
    try:
        with exclusive(f"{sys.argv[1]}/{turn.strip()}"):
            print("worked", flush=True)
            sys.stdin.readline()  # until both have said what became of them
    except UserError as error:
        print(error, flush=True)
        sys.stdin.readline()
"""


def test_of_those_that_start_together_one_works(tmp_path: Path) -> None:
    command = [sys.executable, "-c", TURNS, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, **pipes) for _ in range(2)]
    for turn in range(20):
        for one in both:
            print(turn, file=one.stdin, flush=True)
        said = sorted(one.stdout.readline() for one in both)
        assert " is in use by " in said[0] and said[1] == "worked\n"
        for one in both:
            print("done", file=one.stdin, flush=True)
    for one in both:
        one.communicate()


def test_a_task_is_refused_while_another_runs(tmp_path: Path) -> None:
    """Through run.py: exit code 2 and one sentence; afterwards the same command works."""
    flags = {
        "task": "finetune", "source.checkpoint": "random", "source.arch": "resnet18",
        "source.stem": "small", "source.stage_sizes": "1", "source.stage_widths": "4",
        "target.dataset": "digits", "target.image_size": "8", "target.num_images": "20",
        "target.num_test_images": "10", "transfer.blocks": "0", "transfer.epochs": "1",
    }  # fmt: skip
    command = [sys.executable, "run.py", "--config", "configs/sweep_digits.py"]
    command += [f"--config.{name}={value}" for name, value in flags.items()]
    command += ["--workdir", str(tmp_path)]
    holder = held(tmp_path)
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    finally:
        holder.kill()
        holder.communicate()
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"in use by process {holder.pid}" in done.stderr
    assert not (tmp_path / "rows").exists()
    subprocess.run(command, check=True, capture_output=True)
    rows: pd.DataFrame = read_rows(tmp_path)
    assert rows["epoch"].is_unique
