"""`ensure_converted` converts a file once, and no failure leaves a destination."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from torch_files import BASIC, robustness, save, state

from convert import convert, converter, ensure_converted
from convert.__main__ import main
from rtl_jax.checkpoint import is_network, load_network
from rtl_jax.errors import UserError

ROOT = Path(__file__).parents[2]


def test_a_file_is_converted_once(tmp_path, monkeypatch):
    path, cache = save(state(BASIC), tmp_path / "a.pt"), tmp_path / "cache"
    first = ensure_converted(str(path), cache)
    assert load_network(first).architecture.num_classes == BASIC.num_classes
    monkeypatch.setattr(converter, "convert", None)
    hashed = []
    real = converter.file_sha256
    monkeypatch.setattr(converter, "file_sha256", lambda p: hashed.append(p) or real(p))
    assert ensure_converted(str(path), cache) == first and not hashed
    os.utime(path, (0, 0))
    assert ensure_converted(str(path), cache) == first and len(hashed) == 1
    assert ensure_converted(str(first), cache) == first  # already a network
    monkeypatch.undo()
    save(state(BASIC, seed=1), path)
    assert ensure_converted(str(path), cache) != first
    (cache / "index.json").write_text("broken")
    assert ensure_converted(str(path), cache) != first


def test_at_once(tmp_path):
    path = save(state(BASIC), tmp_path / "a.pt")
    with ThreadPoolExecutor(3) as pool:
        places = set(pool.map(lambda _: ensure_converted(str(path), tmp_path / "c"), range(3)))
    assert len(places) == 1 and is_network(places.pop())


def test_errors(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        ensure_converted(str(tmp_path / "absent.pt"), tmp_path / "cache")
    with pytest.raises(UserError, match="no converted network"):
        ensure_converted(str(tmp_path), tmp_path / "cache")
    bad = tmp_path / "bad.pt"
    bad.write_text("<html>")
    with pytest.raises(UserError, match="HTML"):
        ensure_converted(str(bad), tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("bad*"))


def test_a_full_disk(tmp_path, capsys, monkeypatch):
    path = save(state(BASIC), tmp_path / "a.pt")
    usage = converter.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(converter.shutil, "disk_usage", lambda _: usage._replace(free=10))
    assert main([str(path), str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "the disk has 10 left" in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_kill_leaves_no_destination(tmp_path, sent):
    """Killed while it writes; the same command then succeeds."""
    path = save(robustness(state(BASIC)), tmp_path / "a.pt")
    # Stops where everything but the last rename is done.
    code = (
        "import sys, time, signal; from convert import __main__ as command\n"
        "signal.signal(signal.SIGTERM, command._terminated)\n"
        "import rtl_jax.checkpoint as checkpoint; from etils import epath\n"
        "def slow(*_): print('renaming', flush=True); time.sleep(60)\n"
        "checkpoint.epath.Path('x').__class__.rename = slow\n"
        "sys.exit(command.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, str(path), str(tmp_path / "out")]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout:
            if "renaming" in line:
                break
        time.sleep(0.2)
        process.send_signal(sent)
        error = process.stderr.read()
        code = process.wait(30)
    assert not (tmp_path / "out").exists()
    if sent != signal.SIGKILL:
        assert code == 130 and "interrupted" in error and "Traceback" not in error
        assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]
    convert(path, tmp_path / "out", report=lambda _: None)
