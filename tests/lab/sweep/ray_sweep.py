"""A sweep on a local Ray cluster of two workers, each of which announces its start.

python tests/lab/sweep/ray_sweep.py WORKDIR: a separate program, so that a test can kill workers.
"""

import dataclasses
import os
import sys
import time
from pathlib import Path

import numpy as np

from rtl_jax.lab.sweep import executors
from rtl_jax.lab.sweep.cells import run_cells
from rtl_jax.lab.sweep.task import run_sweep
from tests.lab.sweep.test_sweep import experiment


def announced(cells, settings, workdir):
    """Apply `run_cells` after a pause, in which a test can kill it before its first rows."""
    workers = Path(workdir) / "workers"
    workers.mkdir(exist_ok=True)
    (workers / str(os.getpid())).touch()
    time.sleep(3)
    return run_cells(cells, settings, workdir)


def main(workdir: Path) -> None:
    """Run the other tests' grid and a second target, so that both workers have a task."""
    import ray

    rng = np.random.default_rng(0)
    halves = {}
    for half, number in (("train", 60), ("test", 30)):
        halves[f"x_{half}"] = rng.integers(0, 256, (number, 8, 8, 1), dtype=np.uint8)
        halves[f"y_{half}"] = np.arange(number) % 10
    np.savez(workdir / "noise.npz", **halves)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    executors.run_cells = announced
    grid = experiment(targets=("digits", f"npz:{workdir / 'noise.npz'}"))
    rows = run_sweep(dataclasses.replace(grid, executor="ray"), workdir)
    assert rows["dataset"].nunique() == 2


if __name__ == "__main__":
    main(Path(sys.argv[1]))
