"""The grid, its plan, and complete sweeps on a tiny network: interrupted or not, here or on Ray."""

import dataclasses
import itertools
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from rtl_jax.data import seed_for
from rtl_jax.data.augmentation import PRESETS
from rtl_jax.data.subset import draw_subset
from rtl_jax.errors import UserError
from rtl_jax.lab import results
from rtl_jax.lab.config import FIRST_SEED, Experiment, Source, Sweep, Target
from rtl_jax.lab.finetune.job import prepare
from rtl_jax.lab.inputs import load_network, load_target
from rtl_jax.lab.statistics import mean_interval, sizes
from rtl_jax.lab.sweep import cells as cells_module
from rtl_jax.lab.sweep import plots, task
from rtl_jax.lab.sweep.estimate import flops
from rtl_jax.lab.sweep.grid import cells, groups
from rtl_jax.lab.sweep.kept import logits_path
from rtl_jax.lab.sweep.plan import plan
from rtl_jax.lab.sweep.table import summarize
from rtl_jax.lab.sweep.task import in_order, run_sweep
from rtl_jax.lab.tasks import run
from rtl_jax.runtime import devices, progress, resources
from rtl_jax.runtime.paths import short_names
from rtl_jax.train import parallel
from rtl_jax.train.recipe import Recipe

pytestmark = pytest.mark.slow

SOURCE = Source("random", "resnet50", "small", stage_sizes=(1, 1), stage_widths=(4, 6))
ROOT = Path(__file__).parents[3]


def experiment(**grid) -> Experiment:
    """Make settings that train only heads, so that compilation is fast."""
    return Experiment(
        task="sweep",
        source=SOURCE,
        target=Target("digits", image_size=8, num_images=20, num_test_images=30),
        augmentation=PRESETS["none"],
        transfer=Recipe(
            blocks=0,
            frozen_batch_norm="source",
            epochs=3,
            eval_every=2,
            batch_size=20,
            eval_batch_size=30,
        ),
        sweep=Sweep(**{"num_images": (20, 40), "seeds": 3, "seeds_at_once": 3, **grid}),
    )


def measured(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the columns that must be equal for two sweeps of the same grid."""
    order = ["run", "epoch"]
    return rows.drop(columns=["seconds", "time"]).sort_values(order, ignore_index=True)


# ---- The grid ------------------------------------------------------------------------------------


def test_the_grid_is_the_product_of_what_it_names():
    grid = experiment(
        sources=("a", "b"), targets=("digits", "npz:x"), blocks=(0, 1), num_images=(20, 0), seeds=2
    )
    found = cells(grid)
    wanted = itertools.product((0, 1), ("digits", "npz:x"), ("a", "b"), (20, None))
    for cell, (blocks, target, source, size) in zip(found, wanted, strict=True):
        one = cell.member(cell.seeds[1])
        assert (one.transfer.blocks, one.target.dataset) == (blocks, target)
        assert (one.source.checkpoint, one.target.num_images) == (source, size)
        assert cell.seeds == (FIRST_SEED, FIRST_SEED + 100_000) and one.seed == cell.seeds[1]
    assert [len(group) for group in groups(found)] == [2] * 8


def test_folds_are_an_axis_that_shares_features():
    grid = experiment(folds=(0, 2), blocks=(0, 1), num_images=(20,), seeds=2)
    target = dataclasses.replace(grid.target, folds=3, num_test_images=None)
    found = cells(dataclasses.replace(grid, target=target))
    kinds = [(cell.experiment.transfer.blocks, cell.experiment.target.fold) for cell in found]
    assert kinds == [(0, 0), (0, 2), (1, 0), (1, 2)]
    assert [len(group) for group in groups(found)] == [2, 2]
    assert len({cell.member(seed).fingerprint() for cell in found for seed in cell.seeds}) == 8


def test_a_run_is_the_same_whatever_the_grid_around_it():
    small, large = experiment(seeds=2), experiment(seeds=20, targets=("digits", "npz:x"))
    (one, *_), (other, *_) = cells(small), cells(dataclasses.replace(large, executor="ray"))
    assert one.experiment == other.experiment and other.seeds[:2] == one.seeds


def test_sizes_can_have_epochs_of_their_own():
    grid = experiment(blocks=(0, 1), num_images=(20, 40, 0), epochs=(8, 4, 2), seeds=1)
    found = [(c.num_images, c.experiment.transfer.epochs) for c in cells(grid)]
    assert found == [(20, 8), (40, 4), (None, 2)] * 2
    # A run is the same as with transfer.epochs, whatever the other sizes have.
    alone = dataclasses.replace(grid.transfer, epochs=4)
    (one,) = cells(dataclasses.replace(experiment(num_images=(40,), seeds=1), transfer=alone))
    assert one.member(FIRST_SEED) == cells(grid)[1].member(FIRST_SEED)


@pytest.mark.parametrize("epochs", [(8, 4), (8, 4, 0)])
def test_epochs_that_do_not_fit_the_sizes_are_refused(epochs: tuple[int, ...]):
    with pytest.raises(UserError, match=r"sweep\.epochs: expected (one for each|positive)"):
        Sweep(num_images=(20, 40, 0), epochs=epochs)


def test_equal_sizes_may_have_epochs_of_their_own(tmp_path: Path):
    """All images by 0 and by their number: they cannot train in one program."""
    whole = {"num_images": None, "num_test_images": None, "classes": (0, 1)}
    base = experiment()
    base = dataclasses.replace(base, target=dataclasses.replace(base.target, **whole))
    number = len(prepare(dataclasses.replace(base, task="finetune", sweep=Sweep())).train_indices)
    sweep = Sweep(num_images=(0, number), epochs=(1, 2), seeds=1, seeds_at_once=2)
    rows = run_sweep(dataclasses.replace(base, sweep=sweep), tmp_path)
    assert set(rows["num_images"]) == {number} and sorted(set(rows["epochs"])) == [1, 2]


def test_what_is_empty_has_the_settings_own_value():
    (cell,) = cells(experiment(num_images=(), seeds=1))
    assert dataclasses.replace(cell.experiment, sweep=Sweep()) == cell.member(FIRST_SEED)
    assert cell.num_images == 20 and cell.group == ("random", "digits", 0)


# ---- The plan ------------------------------------------------------------------------------------


def test_a_dry_run_needs_neither_data_nor_checkpoints(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setattr(
        cells_module, "load_inputs", lambda *_: pytest.fail("a dry run loads nothing")
    )
    monkeypatch.setenv("RTL_JAX_DATA_DIR", str(tmp_path / "nothing"))
    grid = experiment(
        sources=("checkpoints/a.pt", "random"), targets=("tfds:svhn_cropped", "digits")
    )
    table = run(dataclasses.replace(grid, dry_run=True), tmp_path)
    out = capsys.readouterr().out
    assert "8 cells, 24 runs, 0 done, 24 to do" in out
    assert "missing: source checkpoints/a.pt" in out and "source random" not in out
    assert "missing: target tfds:svhn_cropped" in out and "target digits" not in out
    assert table.empty and not list(tmp_path.iterdir())


def test_a_plan_says_what_memory_and_time_it_takes(tmp_path: Path):
    grid = dataclasses.replace(experiment(blocks=(0, 1), measure=True, seeds=4), dry_run=True)
    planned = plan(grid, tmp_path).planned
    by_kind = {(one.cell.experiment.transfer.blocks, one.cell.num_images): one for one in planned}
    assert by_kind[1, 20].memory > by_kind[0, 20].memory > 0
    assert {one.parallel for one in planned} == {3}
    small, large = by_kind[1, 20].seconds, by_kind[1, 40].seconds
    assert 0 < small < large < 2 * small


def test_work_counts_the_products_of_convolutions():
    """A network of two blocks, counted by hand: each kernel's weights times its positions."""
    architecture = load_network(SOURCE).architecture.replace(num_classes=10)
    before, behind = flops(architecture, 8, 2)
    stem = 2 * 8 * 8 * 27 * 4
    # Bottlenecks of widths 4 and 6 (the second of stride 2 in its middle), with projections.
    first = 2 * 64 * (4 * 4 + 9 * 4 * 4 + 4 * 16 + 4 * 16)
    second = 2 * (64 * 16 * 6 + 16 * (9 * 6 * 6 + 6 * 24 + 16 * 24))
    head = 2 * 24 * 10
    assert stem + first + second < before < 1.3 * (stem + first + second)  # and BatchNorm, ReLU
    assert head <= behind < 2 * head


def test_work_is_that_of_the_runs_that_are_missing(whole, tmp_path: Path):
    """Twice the images take twice the steps; cells with rows count as no work."""
    small, large = plan(experiment(blocks=(1,)), tmp_path).works().values()
    assert small < large < 2 * small  # the test images are the same
    assert set(plan(experiment(), whole[0]).works().values()) == {0.0}
    missing = plan(experiment(seeds=4), whole[0]).works()
    everything = plan(experiment(seeds=4), tmp_path).works()
    assert all(4 * missing[cell] == pytest.approx(everything[cell]) for cell in missing)


def test_work_counts_the_features_that_cells_share_once(tmp_path: Path):
    """Four rates and two sizes need the features of the larger size's images alone."""

    def work(*rates: float, sizes: tuple[int, ...] = (100,)) -> float:
        target = Target("digits", image_size=32, num_test_images=50)
        grid = Sweep(num_images=sizes, seeds=5, learning_rates=rates)
        settings = dataclasses.replace(experiment(), source=Source("bundled:natural"))
        settings = dataclasses.replace(settings, target=target, sweep=grid)
        return sum(plan(settings, tmp_path).works().values())

    training = work(0.1, 0.2) - work(0.1)  # one rate, without the features
    assert work(0.1, 0.2, 0.3, 0.4) == pytest.approx(work(0.1) + 3 * training)
    network = load_network(Source("bundled:natural")).architecture
    before, _ = flops(network.replace(num_classes=10), 32, network.num_blocks)
    labels = load_target(Target("digits")).train.labels
    drawn = {*np.concatenate([draw_subset(labels, 100, seed_for(seed), 10) for seed in range(5)])}
    assert work(0.1) - training == pytest.approx(before * (len(drawn) + 50), rel=0.03)
    smaller = work(0.1, 0.2, sizes=(60,)) - work(0.1, sizes=(60,))
    assert work(0.1, sizes=(60, 100)) == pytest.approx(work(0.1) + smaller)


def test_a_sweep_is_one_bar_of_its_work(tmp_path: Path, capsys, monkeypatch):
    """A log has a line from time to time; here one at every update."""

    def execute(parts, sweep, workdir):
        for index, _ in enumerate(parts):
            with progress.bar(f"group {index}", 4, leave=True) as cell:
                for _ in range(4):
                    cell.update(1)
            yield index, [f"run {index}"]

    monkeypatch.setattr(progress, "_LINE_SECONDS", -1.0)
    monkeypatch.setattr(progress, "_LINE_SHARE", 0.0)
    monkeypatch.setattr(task, "EXECUTORS", {"local": execute})
    settings = experiment(blocks=(0, 1), seeds=1, num_images=(20,))
    planned = plan(settings, tmp_path)
    parts = groups(cells(settings))
    assert task._execute(parts, planned, settings, tmp_path) == {"run 0", "run 1"}
    lines = capsys.readouterr().err.splitlines()
    begin = re.compile(r"sweep: (\d+) %")
    shares = [int(found[1]) for line in lines if (found := begin.match(line))]
    assert len(shares) == len(lines) > 8
    assert shares == sorted(shares) and shares[-1] == 100 and len({*shares}) >= 8
    assert any(", group 1, " in line and line.endswith(" left") for line in lines)


# ---- Running -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    """An undisturbed sweep and its rows."""
    workdir = tmp_path_factory.mktemp("whole")
    return workdir, run_sweep(experiment(), workdir)


def test_a_sweep_leaves_the_rows_of_all_its_runs(whole):
    workdir, rows = whole
    assert set(rows["task"]) == {"sweep"} and rows["run"].nunique() == 6
    epochs = rows.groupby(["num_images", "seed"])["epoch"].apply(list)
    assert epochs.tolist() == [[1, 3]] * 6
    assert sorted(set(rows["num_images"])) == [20, 40]
    files = [path.name for path in (workdir / "rows").iterdir()]
    assert len(files) == 2 and not (workdir / "runs").exists()


def test_a_finished_sweep_is_not_repeated(whole, monkeypatch: pytest.MonkeyPatch, capsys):
    workdir, rows = whole
    monkeypatch.setattr(cells_module, "_train", lambda *_: pytest.fail("trained again"))
    pd.testing.assert_frame_equal(run_sweep(experiment(), workdir), rows)
    assert "6 runs, 6 done, 0 to do" in capsys.readouterr().out
    fewer = run_sweep(experiment(seeds=2, num_images=(40,)), workdir)
    assert sorted(set(fewer["seed"])) == [FIRST_SEED, FIRST_SEED + 100_000]


def test_more_seeds_run_only_what_is_missing(whole, tmp_path: Path, monkeypatch):
    trained = []
    real = cells_module._train
    monkeypatch.setattr(
        cells_module, "_train", lambda jobs, *rest: (trained.extend(jobs), real(jobs, *rest))[1]
    )
    run_sweep(experiment(seeds=2, num_images=(20,), seeds_at_once=1), tmp_path)
    rows = run_sweep(experiment(num_images=(20,), seeds_at_once=1), tmp_path)
    assert [job.experiment.seed - FIRST_SEED for job in trained] == [0, 100_000, 200_000]
    # One after the other instead of side by side: the same runs.
    _, side_by_side = whole
    alike = side_by_side[side_by_side["num_images"] == 20].sort_values(["run", "epoch"])
    assert rows["run"].tolist() == alike["run"].tolist()
    np.testing.assert_allclose(rows["train_loss"], alike["train_loss"], rtol=1e-4)


def test_an_accelerator_gets_as_many_seeds_as_it_has_room_for(tmp_path: Path, monkeypatch, capsys):
    """In the plan and in the run, by what the compiled program takes; without room, an error."""
    grid = experiment(seeds=5, num_images=(20,), seeds_at_once=None)
    alone = run_sweep(dataclasses.replace(grid, sweep=Sweep(num_images=(20,), seeds=5)), tmp_path)
    capsys.readouterr()
    monkeypatch.setattr(devices, "platform", lambda: "gpu")
    free = [2**34]
    monkeypatch.setattr(resources, "device_free", lambda: free[0])
    calls, needed = [], parallel.needed

    def recorded(*arguments) -> parallel.Needs:
        calls.append(arguments)
        return needed(*arguments)

    monkeypatch.setattr(parallel, "needed", recorded)
    run_sweep(dataclasses.replace(grid, dry_run=True), tmp_path / "planned")
    *_, at_once, memory, unit, hours = capsys.readouterr().out.splitlines()[1].split()
    program, seeds, stored, steps = calls[0]
    takes = {n: needed(program, n, stored, steps).total for n in (1, 2, 3, 5)}
    assert (int(at_once), seeds, unit, hours) == (5, 5, "GiB", "?")
    assert float(memory) == pytest.approx(takes[5] / 2**30, abs=0.006)

    # The features, before, take more than these steps.
    monkeypatch.setattr("rtl_jax.lab.finetune.job.require_memory", lambda *_, **__: None)
    sizes, real = [], cells_module._train
    monkeypatch.setattr(
        cells_module, "_train", lambda jobs, *rest: (sizes.append(len(jobs)), real(jobs, *rest))[1]
    )
    free[0] = int((takes[2] + takes[3]) / 2 / 0.9)
    rows = run_sweep(grid, tmp_path / "narrow")
    assert sizes == [2, 2, 1]
    assert rows["accuracy"].tolist() == pytest.approx(alone["accuracy"].tolist(), abs=4)
    free[0] = int(takes[1]) - 1
    with pytest.raises(UserError, match=r"the compiled program for one seed takes .* lower"):
        run_sweep(grid, tmp_path / "none")


class Killed(BaseException):
    """Simulates a kill: no code catches this exception."""


def test_a_sweep_killed_anywhere_ends_with_the_same_rows(whole, tmp_path: Path, monkeypatch):
    """Killed between steps, before writing rows, and right after it."""
    real_advance, real_write = cells_module.Training.advance, results.write_rows
    for place, count in (("step", 2), ("before", 1), ("after", 1), ("step", 3)):
        calls = itertools.count(1)

        def advance(self, *arguments, place=place, count=count, calls=calls):
            if place == "step" and next(calls) == count:
                raise Killed
            return real_advance(self, *arguments)

        def write(*arguments, place=place):
            if place == "before":
                raise Killed
            real_write(*arguments)
            if place == "after":
                raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(cells_module.Training, "advance", advance)
            patch.setattr(results, "write_rows", write)
            with pytest.raises(Killed):
                run_sweep(experiment(), tmp_path)
    rows = run_sweep(experiment(), tmp_path)
    pd.testing.assert_frame_equal(measured(rows), measured(whole[1]), check_exact=True)


def test_another_source_under_the_same_name_is_another_run(whole, monkeypatch):
    """Names of runs include the content: a plan may take them for done, a sweep does not."""
    workdir, rows = whole
    real = cells_module.load_inputs

    def changed(*arguments):
        pair = real(*arguments)
        labels = pair.dataset.test.labels[::-1].copy()
        test = dataclasses.replace(pair.dataset.test, labels=labels)
        return dataclasses.replace(pair, dataset=dataclasses.replace(pair.dataset, test=test))

    monkeypatch.setattr(cells_module, "load_inputs", changed)
    other = run_sweep(experiment(), workdir)
    assert not set(other["run"]) & set(rows["run"]) and len(other) == len(rows)


def test_a_diverging_run_leaves_rows_and_does_not_stop_the_others(tmp_path: Path, capsys):
    grid = experiment(seeds=2, num_images=(20,))
    wild = dataclasses.replace(
        grid, transfer=dataclasses.replace(grid.transfer, learning_rate=1e30)
    )
    rows = run_sweep(wild, tmp_path)
    assert rows["run"].nunique() == 2 and not np.isfinite(rows["train_loss"]).all()
    assert "diverged on 20 images" in capsys.readouterr().out
    assert "2 runs diverged" in summarize(rows)


def test_networks_are_kept_if_asked_for(tmp_path: Path):
    rows = run_sweep(experiment(seeds=1, num_images=(20,), keep_networks=True), tmp_path)
    (network,) = tmp_path.glob("runs/*/network")
    assert network.parent.name == rows["run"].iloc[0]


def test_networks_that_are_asked_for_later_leave_the_other_runs_rows(tmp_path: Path):
    once = experiment(seeds=1, num_images=(20,), learning_rates=(0.1, 0.3), seeds_at_once=2)
    both = run_sweep(once, tmp_path)
    grid = {"num_images": (20,), "learning_rates": (0.1,), "seeds_at_once": 2}
    run_sweep(experiment(seeds=2, keep_networks=True, **grid), tmp_path)
    assert set(both["run"]) < set(results.read_rows(tmp_path)["run"])


def test_a_plan_counts_runs_without_what_is_to_be_kept_as_missing(tmp_path: Path):
    grid = {"seeds": 2, "num_images": (20,)}
    run_sweep(experiment(**grid), tmp_path)
    assert "2 runs, 2 done, 0 to do" in plan(experiment(**grid), tmp_path).describe()
    keeping = experiment(**grid, keep_networks=True)
    assert "2 runs, 0 done, 2 to do" in plan(keeping, tmp_path).describe()
    run_sweep(keeping, tmp_path)
    assert "2 runs, 2 done, 0 to do" in plan(keeping, tmp_path).describe()


def test_repeating_a_run_for_its_network_keeps_the_logits_of_every_epoch(tmp_path: Path):
    grid = {"seeds": 1, "num_images": (20,)}
    rows = run_sweep(experiment(**grid, keep_every_logits=True), tmp_path)
    before = logits_path(tmp_path, rows["run"].iloc[0]).read_bytes()
    run_sweep(experiment(**grid, keep_logits=True, keep_networks=True), tmp_path)
    assert list(tmp_path.glob("runs/*/network"))
    assert logits_path(tmp_path, rows["run"].iloc[0]).read_bytes() == before


def test_pixel_baselines_that_are_asked_for_later_leave_the_other_rows(tmp_path: Path):
    def grid(baseline: bool, seeds: int) -> Experiment:
        once = experiment(seeds=seeds, num_images=(20,))
        return dataclasses.replace(
            once, transfer=dataclasses.replace(once.transfer, baseline=baseline)
        )

    first = run_sweep(grid(False, 2), tmp_path)
    every = run_sweep(grid(True, 3), tmp_path)
    kept = every[(every["method"] == "transfer") & every["run"].isin(first["run"])]
    pd.testing.assert_frame_equal(measured(kept), measured(first), check_exact=True)
    assert every.groupby("method")["run"].nunique().to_dict() == dict.fromkeys(
        ("transfer", *results.PIXEL_BASELINES), 3
    )
    assert "1-NN on pixels" in summarize(every)


def test_what_is_missing_is_the_users_to_mend(tmp_path: Path):
    with pytest.raises(UserError, match="source.checkpoint: there is no"):
        run_sweep(experiment(sources=("nothing.pt",)), tmp_path)


def test_what_is_missing_is_named_and_skipped_if_asked_for(
    tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RTL_JAX_DATA_DIR", str(tmp_path / "nothing"))
    some = {"seeds": 1, "num_images": (20,), "skip_missing": True}
    rows = run_sweep(
        experiment(
            sources=("nothing.pt", "random"), targets=("tfds:svhn_cropped", "digits"), **some
        ),
        tmp_path,
    )
    out = capsys.readouterr().out
    assert "missing: source nothing.pt" in out and "missing: target tfds:svhn_cropped" in out
    assert set(rows["source"]) == {"random"} and set(rows["dataset"]) == {"digits"}
    assert rows["run"].nunique() == 1
    with pytest.raises(UserError, match="nothing in this sweep can run, .*: source nothing.pt"):
        run_sweep(experiment(sources=("nothing.pt",), **some), tmp_path)


# ---- The table -----------------------------------------------------------------------------------


def test_intervals_are_students():
    values = [1.0, 2.0, 4.0, 9.0]
    mean, half = mean_interval(values)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (mean - half, mean + half) == pytest.approx((low, high))
    assert np.isnan(mean_interval([3.0])[1])


def test_sources_are_compared_seed_by_seed():
    """Differences between equal seeds are 1 and 3, whatever the spread between seeds."""
    rows = pd.DataFrame(
        {
            "method": "transfer",
            "source": ["a/x", "a/x", "b/x", "b/x"],
            "dataset": "digits",
            "blocks": 1,
            "num_images": 20,
            "seed": [1, 2, 2, 1],
            "fold": pd.array([None] * 4, "Int64"),
            "epoch": 3,
            "epochs": 3,
            "accuracy": [10.0, 90.0, 93.0, 11.0],
            "train_loss": 0.5,
        }
    )
    table = summarize(rows)
    low, high = stats.ttest_rel([11, 93], [10, 90]).confidence_interval(0.95)
    assert f"2.00 +- {(high - low) / 2:.2f}" in table and "b/x - a/x" in table
    config = '{"target": {"folds": 3, "num_images": 20}}'
    folds = rows.assign(seed=1, fold=pd.array([1, 2, 2, 1], "Int64"), config=config)
    assert summarize(folds).splitlines()[1].split()[4:] == table.splitlines()[1].split()[4:]
    twice = summarize(pd.concat([folds, folds.assign(seed=2)]))
    assert twice.splitlines()[1].split()[4:] == table.splitlines()[1].split()[4:]
    assert summarize(rows.iloc[:0]) == "no run of this sweep has finished"
    assert short_names(["runs/a/net", "runs/b/net"]) == ["a/net", "b/net"]


def test_whole_folds_of_unequal_size_are_one_size(monkeypatch: pytest.MonkeyPatch):
    """Of 11 images, one of three folds leaves 8 to train on and the others 7."""
    settings = '{{"target": {{"folds": 3, "fold": {}, "num_images": null}}}}'
    known = {"method": "transfer", "source": "a", "dataset": "digits", "blocks": 1, "seed": 1}
    known |= {"epoch": 3, "epochs": 3, "train_loss": 0.5}
    accuracies = {(0, 7): 10.0, (1, 7): 20.0, (2, 8): 60.0}
    rows = pd.DataFrame(
        {**known, "fold": fold, "num_images": size, "accuracy": accuracy}
        | {"config": settings.format(fold)}
        for (fold, size), accuracy in accuracies.items()
    )
    line, *rest = summarize(rows).splitlines()[1:]
    low, high = stats.ttest_1samp([10, 20, 60], 0).confidence_interval(0.95)
    assert line.split() == ["digits", "1", "7", "1", "30.00", "+-", f"{(high - low) / 2:.2f}"]
    assert rest[0].startswith("test accuracy")
    assert not plots.draw_sweep(Path("sweep.png"), rows)
    asked = rows.assign(config=rows["config"].str.replace("null", "7"))
    assert list(sizes(asked)) == [7, 7, 8]  # as recorded


def test_the_figure_has_a_line_for_each_setting_that_varies(monkeypatch: pytest.MonkeyPatch):
    known = {"method": "transfer", "source": "a", "dataset": "digits", "blocks": 1, "seed": 1}
    known |= {"fold": pd.NA, "epoch": 3, "epochs": 3}
    accuracies = {(0.1, 20): 50.0, (0.1, 40): 60.0, (0.3, 20): 10.0, (0.3, 40): 20.0}
    rows = pd.DataFrame(
        {**known, "learning_rate": rate, "num_images": size, "accuracy": accuracy}
        for (rate, size), accuracy in accuracies.items()
    )
    drawn = []
    monkeypatch.setattr(plots, "save", lambda figure, path: drawn.append(figure))
    assert plots.draw_sweep(Path("sweep.png"), rows)
    (axes,) = drawn[0].axes
    lines = {bars.get_label(): list(bars[0].get_ydata()) for bars in axes.containers}
    assert lines == {"a, learning_rate=0.1": [50, 60], "a, learning_rate=0.3": [10, 20]}


def test_sources_come_in_the_order_of_the_config():
    """Not in the order of their runs' names, which would determine the comparisons."""
    rows = pd.DataFrame({"source": ["b", "a", "b", "a"], "epoch": [1, 2, 3, 4]})
    assert list(in_order(rows, ("a", "b"))["epoch"]) == [2, 4, 1, 3]
    assert list(in_order(rows, ("b", "a"))["epoch"]) == [1, 3, 2, 4]
    assert list(in_order(rows[:1], ())["epoch"]) == [1]


def test_a_dry_run_compares_with_the_first_source_too(monkeypatch: pytest.MonkeyPatch, tmp_path):
    rows = pd.DataFrame({"source": ["b", "a"], "epoch": [1, 2]})
    monkeypatch.setattr(task, "plan", lambda *_: SimpleNamespace(describe=str))
    monkeypatch.setattr(task, "member_of", lambda *_: rows)
    asked = dataclasses.replace(experiment(sources=("a", "b")), dry_run=True)
    assert list(run_sweep(asked, tmp_path)["source"]) == ["a", "b"]


# ---- Ray -----------------------------------------------------------------------------------------


def test_ray_survives_the_loss_of_a_worker(whole, tmp_path: Path):
    """A real local cluster of two workers, one of which is killed during its work."""
    ray = pytest.importorskip("ray")
    script = ROOT / "tests" / "lab" / "sweep" / "ray_sweep.py"
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert ray is not None
    try:
        victim = _first_worker(tmp_path, process)
        os.kill(victim, signal.SIGKILL)
        out, _ = process.communicate(timeout=500)
    finally:
        process.kill()
    assert process.returncode == 0, out
    pids = {int(path.name) for path in (tmp_path / "workers").iterdir()}
    assert len(pids) >= 2 and victim in pids
    rows = results.read_rows(tmp_path)
    assert rows["run"].nunique() == 12  # of them 6 on noise, the other worker's task
    rows = rows[rows["dataset"] == "digits"]
    pd.testing.assert_frame_equal(measured(rows), measured(whole[1]), check_exact=True)


def _first_worker(workdir: Path, process: subprocess.Popen) -> int:
    """Return the process of the first task that has begun to train."""
    for _ in range(3000):
        found = list((workdir / "workers").glob("*")) if (workdir / "workers").exists() else []
        if found:
            return int(found[0].name)
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)
    raise AssertionError("no worker began")
