"""Export of rows to trackers: in their own formats if installed, else to a substitute module.

TensorBoard's event file is decoded here; MLflow's own client reads its store.
"""

import contextlib
import importlib.util
import json
import struct
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace

import pytest

from rtl_jax.errors import UserError
from rtl_jax.lab import results, tasks, trackers
from rtl_jax.lab.config import Experiment, Source
from rtl_jax.lab.run import open_run
from rtl_jax.lab.trackers import require_trackers, track
from rtl_jax.lab.trackers.measures import measures


def rows(*names: str, run: str = "ab12", method: str = "transfer") -> list[dict]:
    filled = {"run": run, "method": method, "architecture": "tiny", "platform": "cpu"}
    numbers = dict.fromkeys(("num_classes", "num_test_images", "num_devices"), 1)
    experiment = Experiment(trackers=names, source=Source("a/b.pt"))
    return [
        results.row(
            experiment, **filled, **numbers, epoch=epoch, accuracy=50 + epoch / 8, loss=1e30
        )
        for epoch in (1, 300)
    ]


# ---- What is sent --------------------------------------------------------------------------------


def test_measures_have_names_that_tell_rows_apart():
    assert list(measures(rows())) == [
        (1, {"accuracy": 50.125, "loss": 1e30}),
        (300, {"accuracy": 87.5, "loss": 1e30}),
    ]
    attacked = [
        dict(row, method="pgd", eps=eps, epoch=None)
        for row, eps in zip(rows(), (0.25, 2.0), strict=True)
    ]
    assert [(step, next(iter(found))) for step, found in measures(attacked)] == [
        (0, "pgd/eps_0.25/accuracy"),
        (0, "pgd/eps_2/accuracy"),
    ]
    corrupted = [
        dict(rows()[0], method="corruptions", variant=name)
        for name in (None, "corruption=fog:1", "corruption=fog:2")
    ]
    assert [next(iter(found)) for _, found in measures(corrupted)] == [
        "corruptions/accuracy",
        "corruptions/corruption=fog:1/accuracy",
        "corruptions/corruption=fog:2/accuracy",
    ]
    for sources in (("a", "b"), ("/runs/a", "../b"), ("./a/", "/runs/b/")):
        several = [dict(rows()[0], method="gradient", source=name) for name in sources]
        assert list(measures(several))[1][1]["gradient/b/accuracy"] == 50.125


def test_a_run_tells_its_trackers_after_its_rows(tmp_path, monkeypatch):
    received = []

    def log_run(workdir, run, settings, members):
        assert len(results.read_rows(workdir)) == 2
        received.append((run, settings["source"]["checkpoint"], len(members)))

    monkeypatch.setattr(trackers, "_tracker", lambda name: log_run)
    with open_run(tmp_path, "ab12") as run:
        run.finish(iter(rows("mine")))
    track(tmp_path, rows())  # whose settings name none
    assert received == [("ab12", "a/b.pt", 2)]
    track(tmp_path, [*rows("mine", "mine2"), *rows("mine", run="cd")])
    assert [run for run, _, _ in received[1:]] == ["ab12", "ab12", "cd"]


def test_a_tracker_that_fails_ends_nothing(tmp_path, monkeypatch, capsys):
    def log_run(*_):
        raise ConnectionError("refused\nand much more")

    monkeypatch.setattr(trackers, "_tracker", lambda name: log_run)
    with open_run(tmp_path, "ab12") as run:
        run.finish(rows("wandb"))
    assert len(run.rows()) == 2
    said = capsys.readouterr().out
    assert "tracker wandb did not accept run ab12 (ConnectionError: refused)" in said
    assert str(tmp_path) in said and said.count("\n") == 1


# ---- Which trackers there are --------------------------------------------------------------------


def test_a_package_that_is_not_installed_is_named_before_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"trackers: 'wandb' needs .*: pip install wandb"):
        tasks.run(Experiment(trackers=("wandb",)), tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match=r"some of 'mlflow', 'tensorboard', 'wandb', received 'x'"):
        require_trackers(["x"])


def test_an_installed_package_may_add_one(monkeypatch):
    entry = EntryPoint("mine", "json:dumps", "rtl_jax.trackers")
    monkeypatch.setattr(trackers, "entry_points", lambda group: [entry])
    assert trackers._tracker("mine") is json.dumps


def test_none_is_imported_until_it_is_named():
    code = (
        "import sys, rtl_jax.lab.tasks; "
        "sys.exit(bool({'wandb', 'mlflow', 'tensorboardX'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---- Each of them --------------------------------------------------------------------------------


def test_tensorboard_reads_the_event_file(tmp_path: Path):
    """The format: length, its checksum, an Event message, its checksum."""
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    for _ in range(2):  # the second time in place of the first
        track(tmp_path, rows("tensorboard"))
    (path,) = (tmp_path / "tensorboard" / "ab12").iterdir()
    data, found = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        event = Event.FromString(data[12 : 12 + length])
        found += [(event.step, each.tag, each.simple_value) for each in event.summary.value]
        data = data[16 + length :]
    wanted = [
        (epoch, name, value)
        for epoch in (1, 300)
        for name, value in (("accuracy", 50 + epoch / 8), ("loss", 1e30))
    ]
    assert found == [(step, name, pytest.approx(value)) for step, name, value in wanted]


@pytest.mark.filterwarnings("ignore")  # its dependencies' own
def test_mlflow_has_the_run(tmp_path: Path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri(f"file:{tmp_path}/mlruns")
    track(tmp_path, rows("mlflow", method="pgd/x?"))
    client = mlflow.MlflowClient()
    (one,) = client.search_runs([client.get_experiment_by_name("Default").experiment_id])
    assert one.info.run_name == "ab12" and one.info.status == "FINISHED"
    assert one.data.params["source.checkpoint"] == "a/b.pt"
    assert one.data.params["transfer.epochs"] == str(Experiment().transfer.epochs)
    history = client.get_metric_history(one.info.run_id, "pgd/x_/accuracy")
    assert [(each.step, each.value) for each in history] == [(1, 50.125), (300, 87.5)]


def test_mlflow_gets_names_that_all_its_versions_take(tmp_path: Path, monkeypatch):
    logged: dict = {}
    module = SimpleNamespace(
        start_run=lambda **_: contextlib.nullcontext(),
        log_params=lambda _: None,
        log_metrics=lambda found, step: logged.update(found),
        __spec__=object(),
    )
    monkeypatch.setitem(sys.modules, "mlflow", module)
    names = (None, "corruption=fog:1", "corruption=fog:2")
    track(tmp_path, [dict(rows("mlflow")[0], method="corruptions", variant=name) for name in names])
    assert [name for name in logged if name.endswith("accuracy")] == [
        "corruptions/accuracy",
        "corruptions/corruption_fog_1/accuracy",
        "corruptions/corruption_fog_2/accuracy",
    ]


def test_wandb_gets_the_run(tmp_path: Path, monkeypatch):
    calls: list = []

    @contextlib.contextmanager
    def init(**options):
        calls.append(options)
        yield SimpleNamespace(log=lambda values, step: calls.append((step, values)))
        calls.append("finished")

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init, __spec__=object()))
    descending = rows("wandb")[::-1]
    track(tmp_path, descending)
    opened, *logged, finished = calls
    assert opened["id"] == "ab12" and opened["resume"] == "allow"
    assert opened["config"]["source.checkpoint"] == "a/b.pt" and finished == "finished"
    assert logged == [
        (epoch, {"epoch": epoch, "accuracy": 50 + epoch / 8, "loss": 1e30}) for epoch in (1, 300)
    ]
