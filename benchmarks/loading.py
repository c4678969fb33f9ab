"""Images/s that a streamed data set delivers, and what a source's training on an H100 would take.

    python -m benchmarks.loading [--images 400] [--output FILE.json]

The images are JPEGs of ImageNet's typical size, cut out of scikit-learn's two photographs. They are
read, decoded, randomly cropped and resized as in training (`rtl_jax.data.open_stream`).
"""

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from benchmarks.machine import describe
from rtl_jax.data import open_stream

SIZE, QUALITY = (500, 375), 95  # pixels, and JPEG's quality
WAYS = ((1, 0), (2, 0), (4, 0), (16, 0), (4, 1), (4, 2))  # threads, and further processes
BATCH = 64


def write_images(folder: Path, number: int) -> int:
    """Write `number` JPEGs into two class folders; return their mean size in bytes."""
    photographs = [Image.fromarray(image) for image in load_sample_images().images]
    draws = np.random.default_rng(0)
    total = 0
    for index in range(number):
        photograph = photographs[index % 2]
        left, top = (
            int(draws.integers(0, whole - part + 1))
            for whole, part in zip(photograph.size, SIZE, strict=True)
        )
        path = folder / "train" / str(index % 2) / f"{index:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        box = (left, top, left + SIZE[0], top + SIZE[1])
        photograph.crop(box).save(path, quality=QUALITY)
        total += path.stat().st_size
    for name in "01":
        test = folder / "test" / name
        test.mkdir(parents=True)
        photographs[0].resize((64, 64)).save(test / f"{name}.jpg")
    return total // number


def measure(folder: Path, image_size: int, threads: int, processes: int) -> dict[str, Any]:
    """Measure images/s from the second batch on, and the processor time of each image here."""
    stream = open_stream(f"folder:{folder}", data_dir=None, image_size=image_size)
    batches = stream.batches(
        batch_size=BATCH, seed=0, resized_crop=0.08, threads=threads, workers=processes
    )
    # The first batch starts threads and processes, and what these have read ahead comes with it.
    number = max(1, stream.num_images // BATCH) * (2 + processes)
    for _ in itertools.islice(batches, 1 + 4 * processes):
        pass
    began, used = time.monotonic(), time.process_time()
    for _ in itertools.islice(batches, number):
        pass
    seconds, used = time.monotonic() - began, time.process_time() - used
    batches.close()
    return {
        "image_size": image_size,
        "threads": threads,
        "processes": processes,
        "images_s": round(number * BATCH / seconds),
        "milliseconds of this process": round(1000 * used / (number * BATCH), 2),
    }


def rows(number: int) -> Iterator[dict[str, Any]]:
    """Measure every way at both sizes, printing each as soon as it is known."""
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        print(f"{number} images of {write_images(folder, number):,} bytes on average")
        for image_size, (threads, processes) in itertools.product((64, 224), WAYS):
            row = measure(folder, image_size, threads, processes)
            print(json.dumps(row), flush=True)
            yield row


def main() -> None:
    """Measure, print, and optionally write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    result = {"machine": describe(), "rows": list(rows(options.images))}
    if options.output:
        options.output.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
