"""Every task of run.py at its smallest, run as by a user, and comparisons of the results."""

import argparse
import dataclasses
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import jax
import numpy as np
import pandas as pd
from PIL import Image

from rtl_jax.lab.results import read_rows
from rtl_jax.models.architecture import ResNetArchitecture
from rtl_jax.models.model import initialize
from rtl_jax.models.network import Network

ROOT = Path(__file__).parents[1]

_FINE_TUNING = """target.dataset=digits target.image_size=16 target.num_images=40
    target.num_test_images=40 transfer.blocks=1 transfer.epochs=3 transfer.eval_every=1
    transfer.checkpoint_seconds=0"""

# Two blocks, so that compilation is fast.
NETWORK = ResNetArchitecture(
    "two blocks", "bottleneck", (1, 1), (8, 8), stem_width=8, stem_kernel=3, stem_stride=1,
    stem_pool=False, num_classes=10,
)  # fmt: skip

# The config of each task, and the settings that make it small; {root} contains the inputs.
TASKS = {
    "finetune": ("sweep_digits", "task=finetune source.checkpoint={root}/one " + _FINE_TUNING),
    "sweep": (
        "sweep_digits",
        """sweep.sources={root}/one,{root}/two sweep.blocks=0,1 sweep.seeds=2
        sweep.num_images=20,40 sweep.keep_networks=True """
        + _FINE_TUNING,
    ),
    "attack": (
        "attack_l2",
        """source.checkpoint={root}/finetune/whole target.dataset=digits target.num_test_images=48
        attack.eps=0,0.5 attack.steps=5 attack.batch_size=8""",
    ),
    "pretrain": (
        "sources/tiny_l2",
        """source.checkpoint={root}/one source.arch= target.dataset=digits target.classes=none
        target.image_size=16 target.num_images=640 target.num_test_images=40
        pretraining.epochs=6 pretraining.batch_size=64 pretraining.eval_every=1
        pretraining.num_attacked=8 pretraining.checkpoint_seconds=0.3 pretraining.steps=1
        attack.steps=2""",
    ),
    "influence": (
        "digits_influence",
        """source.checkpoint={root}/one influence.compare={root}/two target.image_size=16
        target.num_images=40 target.num_test_images=40 transfer.epochs=2 transfer.blocks=1""",
    ),
    "visualize": (
        "visualize",
        """visualize.sources={root}/one,{root}/two target.image_size=16 visualize.steps=8
        visualize.num_shown=2""",
    ),
    "predict": (
        "predict",
        "source.checkpoint={root}/finetune/whole predict.images={root}/pictures predict.explain=2",
    ),
    "my_images": (
        "my_images",
        """target.dataset=folder:{root}/photos target.image_size=16 target.folds=2
        sweep.blocks=0,1 transfer.epochs=2 sweep.sources={root}/one my_images.robustness=True
        attack.eps=0,0.5 attack.steps=2""",
    ),
    "report": ("report", ""),
}


@dataclasses.dataclass(frozen=True)
class Task:
    """A task with two work directories: `whole`, undisturbed, and `work`, to be disturbed."""

    name: str
    root: Path

    @property
    def whole(self) -> Path:
        """The work directory of the undisturbed run."""
        return self.root / self.name / "whole"

    @property
    def work(self) -> Path:
        """The work directory of a disturbed run.

        The undisturbed run was made there and moved, so that its settings contain the same path.
        """
        return self.root / self.name / "work"

    def command(self) -> list[str]:
        """Return the command line that a user would type."""
        config, settings = TASKS[self.name]
        flags = [f"--config.{one}" for one in settings.format(root=self.root).split()]
        config = str(ROOT / "configs" / f"{config}.py")
        return [sys.executable, "run.py", "--config", config, *flags, "--workdir", str(self.work)]

    def start(self) -> subprocess.Popen[str]:
        """Start the task, with its output in pipes."""
        return subprocess.Popen(
            self.command(),
            cwd=ROOT,
            env={**os.environ, "PYTHONFAULTHANDLER": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def clear(self) -> None:
        """Make an empty work directory, or one with the rows that the task reads there."""
        subprocess.run(["rm", "-rf", str(self.work)], check=True)
        self.work.mkdir(parents=True)
        if self.name == "report":
            rows = self.root / "sweep" / "whole" / "rows"
            subprocess.run(["cp", "-r", str(rows), str(self.work)], check=True)

    def run_undisturbed(self) -> float:
        """Create `whole` and return the seconds it took."""
        self.clear()
        started = time.monotonic()
        with self.start() as process:
            output, errors = process.communicate()
        assert process.returncode == 0, output + errors
        self.work.rename(self.whole)
        return time.monotonic() - started

    def differences(self) -> list[str]:
        """List the differences between `work` and `whole` in rows, networks and files."""
        ours, theirs = _content(self.work), _content(self.whole)
        found = [f"{name} is missing" for name in theirs.keys() - ours.keys()]
        found += [f"{name} is left over" for name in ours.keys() - theirs.keys()]
        both = ours.keys() & theirs.keys()
        found += [f"{name} differs" for name in both if ours[name] != theirs[name]]
        return sorted(found)


def prepare(root: Path, names: list[str]) -> dict[str, tuple[Task, float]]:
    """Make the inputs and the undisturbed runs of tasks; return each task with its seconds."""
    # Background jobs of a shell ignore Ctrl-C, and so would their child processes.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _write_pictures(root)
    for seed, name in enumerate(("one", "two")):
        network = Network(NETWORK, *initialize(NETWORK, jax.random.key(seed)), {"image_size": 16})
        network.save(root / name)
    needed = ({"finetune"} if {"attack", "predict"} & {*names} else set()) | (
        {"sweep"} if "report" in names else set()
    )
    found = {}
    for name in TASKS:
        if name in {*names} | needed:
            task = Task(name, root)
            found[name] = task, task.run_undisturbed()
            print(f"{name}: {found[name][1]:.1f} s undisturbed", flush=True)
    return {name: found[name] for name in names}


@dataclasses.dataclass(frozen=True)
class Try:
    """A disturbed run: how it was disturbed, its outcome, and all faults found."""

    how: str
    outcome: str
    faults: list[str]


def disturb(
    description: str, times: int, tries: Callable[[Task, float, Random], Iterator[Try]]
) -> None:
    """Disturb every task `times` times, print what happened, and exit.

    `tries` takes a task, the duration of its undisturbed run in seconds, and a random generator.
    The exit code is the number of tries with a fault, at most 100.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--times", type=int, default=times)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--directory", type=Path, help="where to work (default: a temporary one)")
    options = parser.parse_args()
    draw, bad = Random(options.seed), 0
    with tempfile.TemporaryDirectory() as temporary:
        tasks = prepare(options.directory or Path(temporary), options.tasks.split(","))
        told = {name: Counter[str]() for name in tasks}
        for turn in range(options.times):
            for name, (task, seconds) in tasks.items():
                for one in tries(task, seconds, draw):
                    told[name][one.outcome] += 1
                    bad += bool(one.faults)
                    for fault in one.faults:
                        print(f"{name}, {one.how}: {fault}", flush=True)
            print(f"{turn + 1} of {options.times} rounds, {bad} faulty tries")
            for name, counts in told.items():
                each = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
                print(f"  {name}: {each}", flush=True)
    print(f"{bad} tries did not end as they should")
    sys.exit(min(bad, 100))


def sentences(errors: str) -> list[str]:
    """Return the lines of standard error without progress, whether for a terminal or for a log."""
    lines = (line.strip() for line in re.split(r"[\r\n]|\x1b\[A", errors))
    progress = re.compile(r"\d+%\||it/s|: [\d,]+ (%|[a-z]+)(,| after|$)")
    return [line for line in lines if line and not progress.search(line)]


def _write_pictures(root: Path) -> None:
    """Write 60 photographs in two classes, and 1,200 pictures to predict, more than one chunk."""
    draw = np.random.default_rng(0)
    for index in range(60):
        folder = root / "photos" / ("dark" if index % 2 else "light")
        folder.mkdir(parents=True, exist_ok=True)
        pixels = draw.integers(0, 160, (32, 32, 3)) + 90 * (index % 2 == 0)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")
    (root / "pictures").mkdir()
    for index in range(1200):
        pixels = draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "pictures" / f"{index:04}.png")


def _content(workdir: Path) -> dict[str, object]:
    """Return the content to compare, by name; for other files, only that they exist."""
    found: dict[str, object] = {"rows": _rows(workdir)} if (workdir / "rows").exists() else {}
    for path in _walk(workdir):
        name = str(path.relative_to(workdir))
        found[name] = _KINDS.get(path.suffix, lambda path: None)(path)
    return found


def _walk(place: Path) -> Iterator[Path]:
    for path in sorted(place.iterdir()):
        if (path / "variables").is_dir() or not path.is_dir():
            yield path
        elif path.name != "rows":
            yield from _walk(path)


def _rows(workdir: Path) -> str:
    rows = read_rows(workdir).drop(columns=["seconds", "time"])
    order = ["run", "method", "source", "epoch", "eps"]
    return rows.sort_values(order, ignore_index=True).to_csv()


def _archive(path: Path) -> str:
    """Read an archive's arrays, without timings."""
    with np.load(path) as arrays:
        return str({name: arrays[name].tobytes() for name in arrays if name != "seconds"})


_KINDS: dict[str, Callable[[Path], object]] = {
    "": lambda path: Network.load(path).digest if path.is_dir() else None,
    ".csv": lambda path: path.read_text(),
    ".parquet": lambda path: pd.read_parquet(path).to_csv(),
    ".npz": _archive,
}
