"""The whole way from a folder to a network, evaluated on unseen pictures.

    python -m benchmarks.my_images [--flip 0.1] [--directory DIR]

Writes 300 pictures of 20 classes of CIFAR-10 and Fashion-MNIST (`tfds:cifar10_jpeg`,
`tfds:fashion_mnist`) as a user's folder might contain them: PNG, JPEG, WebP, greyscale, palette,
RGBA, 16 bits, rotated by EXIF, in many sizes, with five broken files, an empty class and three
duplicates; and 1,000 other pictures. Runs configs/my_images.py and configs/predict.py on them, and
prints the reported accuracy, the accuracy on the 1,000, and the time; with --flip, also the share
of wrong labels found.
"""

import argparse
import random
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

import run
from rtl_jax.data import load_dataset

SETS = ("tfds:cifar10_jpeg", "tfds:fashion_mnist")
EACH, UNSEEN = 15, 50  # pictures of each of the 20 classes
KINDS = ("png", "jpg", "webp", "grey", "palette", "rgba", "16 bits", "exif")


def main() -> None:
    """Run everything and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flip", type=float, default=0.0, help="a share of labels to make wrong")
    parser.add_argument("--directory", type=Path, help="where to work (default: a temporary one)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = options.directory or Path(temporary)
        write_pictures(root)
        flipped = flip(root / "photos", options.flip) if options.flip else set()
        spoil(root / "photos")
        measure(root, flipped)


def write_pictures(root: Path) -> None:
    """Write `photos` and `unseen`, with a folder per class and files of every kind."""
    draw, number = np.random.default_rng(0), 0
    for name in SETS:
        dataset = load_dataset(name, data_dir=None, image_size=32)
        for label, title in enumerate(dataset.class_names):
            folder = f"{name.split(':')[1]}_{title}".replace("/", "-")
            rows = draw.permutation(np.flatnonzero(dataset.train.labels == label))
            for index, row in enumerate(rows[: EACH + UNSEEN]):
                place = root / ("photos" if index < EACH else "unseen") / folder
                place.mkdir(parents=True, exist_ok=True)
                height = int(draw.integers(28, 160))
                size = (int(height * draw.choice([1.0, 1.2])), height)
                write(place / f"{number:05}", dataset.train.images[row], size, number)
                number += 1


def write(path: Path, pixels: np.ndarray, size: tuple[int, int], number: int) -> None:
    """Write a picture as a file of the kind that `number` selects."""
    kind = KINDS[number % len(KINDS)]
    image = Image.fromarray(pixels.squeeze()).convert("RGB").resize(size, Image.Resampling.BICUBIC)
    exif = Image.Exif()
    if kind == "grey":
        image = image.convert("L")
    elif kind == "palette":
        image = image.quantize(128)
    elif kind == "rgba":
        image.putalpha(230)
    elif kind == "16 bits":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    elif kind == "exif":
        image = image.transpose(Image.Transpose.ROTATE_90)
        exif[0x0112] = 6  # to be rotated clockwise
    ending = {"jpg": ".jpg", "exif": ".jpg", "webp": ".webp"}.get(kind, ".png")
    image.save(path.with_suffix(ending), quality=92, exif=exif)


def flip(photos: Path, share: float) -> set[str]:
    """Move a share of the pictures to other classes; return the names of their files."""
    draw, files = random.Random(0), sorted(photos.glob("*/*"))
    classes = sorted(photos.iterdir())
    chosen = draw.sample(files, round(share * len(files)))
    for file in chosen:
        file.rename(draw.choice([each for each in classes if each != file.parent]) / file.name)
    return {file.name for file in chosen}


def spoil(photos: Path) -> None:
    """Add five broken files, three duplicates and an empty class."""
    classes = sorted(photos.iterdir())
    for place, pattern, keep in zip(classes, ("jpg", "png", "webp"), (2, 2, 3), strict=False):
        whole = next(iter(sorted(photos.glob(f"*/*.{pattern}")))).read_bytes()
        (place / f"cut.{pattern}").write_bytes(whole[: len(whole) // keep])
    (classes[3] / "nothing.png").write_bytes(b"")
    (classes[4] / "text.jpg").write_text("no picture")
    for place in classes[5:8]:
        file = min(place.iterdir())
        shutil.copy(file, place / f"copy{file.suffix}")
    (photos / "empty").mkdir()


def measure(root: Path, flipped: set[str]) -> None:
    """Train on the folder, predict the unseen pictures, and print the results of both."""
    started, used = time.monotonic(), time.process_time()
    words = ["--config", "configs/my_images.py", "--workdir", str(root / "run")]
    assert run.main([*words, f"--config.target.dataset=folder:{root / 'photos'}"]) == 0
    way, way_used = time.monotonic() - started, time.process_time() - used
    started, used = time.monotonic(), time.process_time()
    words = ["--config", "configs/predict.py", "--workdir", str(root / "new")]
    words += [f"--config.source.checkpoint={root / 'run' / 'network'}"]
    assert run.main([*words, f"--config.predict.images={root / 'unseen'}"]) == 0
    print(f"the way: {way:.0f} s by the clock, {way_used:.0f} s of the processor")
    spent, spent_used = time.monotonic() - started, time.process_time() - used
    found = pd.read_csv(root / "new" / "predictions.csv")
    print(
        f"{len(found)} predictions: {spent:.1f} s by the clock, {spent_used:.1f} s of the processor"
    )
    right = [Path(row.file).parent.name == row.class_1 for row in found.itertuples()]
    print(f"accuracy on these, which were never seen: {100 * np.mean(right):.1f} %")
    if flipped:
        suspects = pd.read_csv(root / "run" / "suspects.csv")
        first = suspects["file"][: round(0.2 * len(suspects))]
        share = len({Path(file).name for file in first} & flipped) / len(flipped)
        print(f"of the wrong labels, {share:.0%} are among the first 20 % of the suspects")


if __name__ == "__main__":
    main()
