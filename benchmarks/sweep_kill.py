"""Kill a sweep of 40 cells ten times with SIGKILL at random moments, and check its final rows.

    python -m benchmarks.sweep_kill [--kills 10] [--seed 0]

They must equal those of an undisturbed sweep, except for seconds and times.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from rtl_jax.lab.results import finished, read_rows

ROOT = Path(__file__).parents[1]

CONFIG = """
from rtl_jax.lab.config import defaults, preset

def get_config():
    config = defaults()
    config.task = "sweep"
    config.source.arch = "resnet50"
    config.source.stem = "small"
    config.source.stage_sizes = (1, 1)
    config.source.stage_widths = (4, 6)
    config.target.image_size = 8
    config.target.num_test_images = 50
    config.augmentation = preset("none")
    config.transfer.epochs = 30
    config.transfer.batch_size = 10
    config.transfer.frozen_batch_norm = "source"
    config.sweep.blocks = (0, 1)
    config.sweep.num_images = tuple(range(10, 210, 10))
    config.sweep.seeds = 2
    config.sweep.seeds_at_once = 2
    return config
"""


def start(config: Path, workdir: Path) -> subprocess.Popen:
    """Start the sweep as a user would."""
    command = [sys.executable, str(ROOT / "run.py"), "--config", str(config)]
    with (workdir.parent / f"{workdir.name}.log").open("a") as log:
        return subprocess.Popen(
            [*command, "--workdir", str(workdir)], cwd=ROOT, stdout=log, stderr=log
        )


def rows_of(workdir: Path) -> pd.DataFrame:
    """Return the rows without the columns that may differ."""
    rows = read_rows(workdir).drop(columns=["seconds", "time"])
    return rows.sort_values(["run", "epoch"], ignore_index=True)


def main() -> None:
    """Run both sweeps and print what happened."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    moments = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        config, whole, killed = (Path(name) / part for part in ("config.py", "whole", "killed"))
        config.write_text(CONFIG)
        started = time.monotonic()
        assert start(config, whole).wait() == 0, (Path(name) / "whole.log").read_text()
        seconds = time.monotonic() - started
        kills = 0
        while kills < arguments.kills:
            process = start(config, killed)
            # Any moment from the imports to well into the sweep.
            time.sleep(moments.uniform(0.02, 0.3) * seconds)
            if process.poll() is not None:
                break
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            print(f"kill {kills}: {len(finished(killed))} of 80 runs had finished", flush=True)
        assert start(config, killed).wait() == 0, (Path(name) / "killed.log").read_text()
        pd.testing.assert_frame_equal(rows_of(whole), rows_of(killed), check_exact=True)
        print(f"killed {kills} times: the rows of {len(finished(killed))} runs are the same")


if __name__ == "__main__":
    main()
