"""Speed and memory of predictions by number of pictures.

    python -m benchmarks.predict_memory [--numbers 1000 4000 16000 64000] [--directory DIR]

Fine-tunes `bundled:l2` on a few digits at 64 px, writes 1,000 pictures of every kind (PNG, JPEG,
WebP, greyscale, palette, RGBA, 16 bits, rotated by EXIF) and of many sizes, and runs
configs/predict.py on each number of pictures in a separate process. Prints pictures per second over
the whole process, including imports and compilation, and the peak resident memory. Linux or macOS.
"""

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import machine
from benchmarks.my_images import write
from rtl_jax.data import load_dataset

PIXELS = 64
WRITTEN = 1000
# The unit of `ru_maxrss` in bytes.
RSS_UNIT = 1 if sys.platform == "darwin" else 1024


def main() -> None:
    """Measure each number of pictures and print a line for it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--numbers", type=int, nargs="+", default=[1000, 4000, 16000, 64000])
    parser.add_argument("--directory", type=Path, help="where to work (default: a temporary one)")
    options = parser.parse_args()
    print(", ".join(f"{name} {value}" for name, value in machine.describe().items()), flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        root = (options.directory or Path(temporary)).absolute()
        network, pictures = fine_tuned(root), write_pictures(root / "pictures")
        for number in options.numbers:
            names = root / f"{number}.txt"
            lines = itertools.islice(itertools.cycle(pictures), number)
            names.write_text("".join(f"{path}\n" for path in lines))
            words = ["configs/predict.py", f"--config.source.checkpoint={network}"]
            words += [f"--config.predict.images={names}"]
            seconds, peak = run(words, root / f"predict_{number}")
            print(f"{number:,} pictures: {number / seconds:.0f} a second, {peak / 1e6:.0f} MB")


def fine_tuned(root: Path) -> Path:
    """Fine-tune the network that predicts, for images of 64 px."""
    words = ["configs/paper/cell.py:mnist-l2", "--config.source.checkpoint=bundled:l2"]
    words += ["--config.target.dataset=digits", f"--config.target.image_size={PIXELS}"]
    words += ["--config.target.num_images=100", "--config.target.num_test_images=100"]
    words += ["--config.transfer.blocks=0", "--config.transfer.epochs=1"]
    run(words, root / "finetune")
    (network,) = root.glob("finetune/runs/*/network")
    return network


def write_pictures(folder: Path) -> list[Path]:
    """Write handwritten digits as files of every kind and of many sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(0)
    images = load_dataset("digits", data_dir=None, image_size=32).train.images
    for number in range(WRITTEN):
        height = int(draw.integers(28, 200))
        size = (int(height * draw.choice([1.0, 1.2])), height)
        write(folder / f"{number:05}", images[number % len(images)], size, number)
    return sorted(folder.iterdir())


def run(words: list[str], workdir: Path) -> tuple[float, int]:
    """Run `run.py` in a separate process; return its seconds and its peak memory in bytes."""
    started = time.monotonic()
    command = [sys.executable, "run.py", "--workdir", str(workdir), "--config", *words]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        # The peak of this child alone; `getrusage` would give the largest over all children.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with exit code {process.returncode}")
    return time.monotonic() - started, usage.ru_maxrss * RSS_UNIT


if __name__ == "__main__":
    main()
