"""`ensure_converted` converts a file once, and no failure leaves a destination."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from torch_files import BASIC, robustness, save, state

from rtl_jax.convert import convert, converter, ensure_converted
from rtl_jax.convert.command import main
from rtl_jax.errors import UserError
from rtl_jax.models.network import Network
from rtl_jax.models.storage import is_network

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def test_a_file_is_converted_once(tmp_path, monkeypatch):
    path, cache = save(state(BASIC), tmp_path / "a.pt"), tmp_path / "cache"
    first = ensure_converted(str(path), cache)
    assert Network.load(first).architecture.num_classes == BASIC.num_classes
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


def test_a_config_beside_the_file_is_part_of_its_identity(tmp_path):
    path, cache = save(state(BASIC), tmp_path / "a.pt"), tmp_path / "cache"
    bare = ensure_converted(str(path), cache)
    assert bare.name == f"a-{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}-v2"
    for mean in (0.5, 0.25):
        config = {"architecture": "resnet18", "mean": [mean] * 3, "std": [mean] * 3}
        (tmp_path / "config.json").write_text(json.dumps(config))
        network = Network.load(ensure_converted(str(path), cache))
        assert network.architecture.mean == (mean,) * 3
    (tmp_path / "config.json").unlink()
    assert ensure_converted(str(path), cache) == bare


def test_what_needs_an_option_names_the_command(tmp_path):
    weights = {name: value for name, value in state(BASIC).items() if not name.startswith("fc.")}
    path = save(weights, tmp_path / "a.pt")
    with pytest.raises(UserError, match=f"--head zeros(.|\n)*rtl-jax convert {path}"):
        ensure_converted(str(path), tmp_path / "cache")


def test_at_once(tmp_path):
    path = save(state(BASIC), tmp_path / "a.pt")
    with ThreadPoolExecutor(3) as pool:
        places = set(pool.map(lambda _: ensure_converted(str(path), tmp_path / "c"), range(3)))
    assert len(places) == 1 and is_network(places.pop())


def test_a_damaged_entry_and_remains_of_a_kill_are_replaced(tmp_path, capsys):
    path, cache = save(state(BASIC), tmp_path / ("a" * 240 + ".pt")), tmp_path / "cache"
    place = ensure_converted(str(path), cache)
    remains = cache / f".{place.name}.1.0.tmp"
    shutil.rmtree(place / "variables")
    (remains / "variables").mkdir(parents=True)
    assert ensure_converted(str(path), cache) == place
    assert "converting again" in capsys.readouterr().out
    Network.load(place)
    assert not remains.exists()
    shutil.rmtree(place)
    place.mkdir()
    assert is_network(ensure_converted(str(path), cache))


def test_a_source_that_changes_while_it_is_read(tmp_path):
    path = save(state(BASIC), tmp_path / "a.pt")

    def replace(_):
        save(state(BASIC, seed=1), tmp_path / "b.pt").replace(path)

    with pytest.raises(UserError, match="changed while it was read"):
        convert(path, tmp_path / "out", report=replace)
    assert not (tmp_path / "out").exists()


def test_errors(tmp_path):
    path = save(state(BASIC), tmp_path / "a.pt")
    for source in ("/dev/zero", "a\0b", "a" * 300, "~no-such-user/a.pt"):
        with pytest.raises(UserError):
            ensure_converted(source, tmp_path / "cache")
    (tmp_path / "taken" / ".lock").mkdir(parents=True)
    with pytest.raises(UserError, match="cannot be used"):
        ensure_converted(str(path), tmp_path / "taken")
    with pytest.raises(UserError, match="cannot be used"):
        ensure_converted(str(path), path)
    with pytest.raises(UserError, match="no such file"):
        ensure_converted(str(tmp_path / "absent.pt"), tmp_path / "cache")
    with pytest.raises(UserError, match="no converted network"):
        ensure_converted(str(tmp_path), tmp_path / "cache")
    bad = tmp_path / "bad.pt"
    bad.write_text("<html>")
    with pytest.raises(UserError, match="HTML"):
        ensure_converted(str(bad), tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("bad*"))


def test_no_room(tmp_path):
    """A limit on the file size acts like a full disk or a quota."""
    arch = BASIC.replace(stage_widths=(64, 128))
    path = save(state(arch), tmp_path / "a.pt")
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)); "
        "from rtl_jax.convert.command import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, str(path), str(tmp_path / "out")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 2, result.stderr
    assert "make room" in result.stderr and result.stderr.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]
    convert(path, tmp_path / "net", report=lambda _: None)
    for ending in ("safetensors", "pth"):
        command[3:] = ["export", str(tmp_path / "net"), str(tmp_path / f"b.{ending}")]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert result.returncode == 2 and result.stderr.count("\n") == 1, result.stderr
        assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pt", "net"]


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_place_that_may_not_be_written(tmp_path, capsys):
    path = save(state(BASIC), tmp_path / "a.pt")
    (tmp_path / "closed").mkdir(mode=0o500)
    assert main([str(path), str(tmp_path / "closed" / "out")]) == 2
    assert "Permission denied" in capsys.readouterr().err


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_kill_leaves_no_destination(tmp_path, sent):
    """Killed while writing; the same command then succeeds."""
    path = save(robustness(state(BASIC)), tmp_path / "a.pt")
    # Stops where everything but the last rename is done.
    code = (
        "import signal, sys, time; from rtl_jax.convert import __main__ as command\n"
        # A shell's background jobs ignore it, and their children do too.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from etils import epath\n"
        "kind = type(epath.Path('x')); rename = kind.rename\n"
        "def slow(self, target):\n"
        "  if epath.Path(target).name != 'out': return rename(self, target)\n"
        "  print('renaming', flush=True); time.sleep(60)\n"
        "kind.rename = slow\n"
        "command.run_and_exit(command.main, sys.argv[1:])"
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
        assert code == 128 + sent and "interrupted" in error and "Traceback" not in error
        assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]
    convert(path, tmp_path / "out", report=lambda _: None)
