"""Survey of a folder of photographs: what is in it, and what cannot be used.

Every picture is decoded once. Two are duplicates if their pixels are the same at the network's
size, whatever their names and formats.
"""

import dataclasses
import hashlib
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from etils import epath
from PIL import Image

from rtl_jax.data import depth, exif, folder, listing, pictures
from rtl_jax.errors import UserError
from rtl_jax.runtime.paths import complete_or_absent, printable
from rtl_jax.runtime.progress import bar


@dataclasses.dataclass(frozen=True)
class Picture:
    """A file, its header's data, the digest of its pixels, and why it is left out, if it is."""

    file: Path
    label: str
    split: str  # train or test
    format: str = ""
    mode: str = ""
    width: int = 0
    height: int = 0
    rotated: bool = False
    digest: str = ""
    problem: str = ""

    @property
    def used(self) -> bool:
        """Whether the picture has no problem."""
        return not self.problem

    @property
    def kinds(self) -> Iterator[str]:
        """Yield the picture's special properties."""
        if self.mode in ("1", "L", "LA"):
            yield "greyscale"
        if self.mode in ("P", "PA"):
            yield "palette"
        if self.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
            yield "with transparency"
        if self.mode.startswith("I"):
            yield "16-bit"
        if self.rotated:
            yield "rotated by EXIF"


@dataclasses.dataclass(frozen=True)
class Survey:
    """The contents of a folder: pictures, empty class folders, and files that are not pictures."""

    path: Path
    pictures: tuple[Picture, ...]
    empty: tuple[str, ...]
    others: tuple[Path, ...]
    divided: bool  # into train/ and test/
    folds: int

    @property
    def used(self) -> list[Picture]:
        """The pictures without problems."""
        return [picture for picture in self.pictures if picture.used]

    @property
    def left_out(self) -> list[Picture]:
        """The pictures with problems."""
        return [picture for picture in self.pictures if not picture.used]

    def counts(self, split: str = "train") -> dict[str, int]:
        """Return the number of used pictures in a split, for each class with any used picture."""
        found = Counter(picture.label for picture in self.used if picture.split == split)
        known = sorted({picture.label for picture in self.used})
        return {label: found[label] for label in known}

    @property
    def tiny(self) -> list[str]:
        """Classes with fewer training pictures than there are folds."""
        return [label for label, count in self.counts().items() if count < self.folds]

    def describe(self) -> str:
        """Describe the survey, with a line for each file that is left out."""
        counts, tested = self.counts(), sum(self.counts("test").values())
        lines = [
            f"{self.path}: {len(self.pictures)} images, {len(self.used)} of them used"
            + (f" ({tested} in test/)" if self.divided else "")
            + f", in {len(counts)} classes"
        ]
        lines += [f"  {label}: {count}" for label, count in counts.items()]
        lines += [f"  {line}" for line in self.remarks()]
        lines += [f"  left out: {one.file} ({one.problem})" for one in self.left_out]
        lines += [f"  not an image in a class folder: {file}" for file in self.others]
        return printable("\n".join(lines))

    def remarks(self) -> list[str]:
        """Return further remarks, such as formats and sizes."""
        used = self.used
        formats = Counter(picture.format for picture in used)
        kinds = Counter(kind for picture in used for kind in picture.kinds)
        shorter = np.array([min(picture.width, picture.height) for picture in used])
        found = [
            "formats: " + _listed(formats),
            f"sizes: {_sizes(shorter)}",
        ]
        if kinds:
            found.append("among them: " + _listed(kinds))
        found += [f"class without images, left out: {label}" for label in self.empty]
        if self.tiny:
            found.append(
                f"fewer than {self.folds} images, so the accuracy of these classes is poorly "
                f"known: {', '.join(self.tiny)}"
            )
        return found

    def write(self, directory: epath.Path) -> Path:
        """Write survey.csv, of all pictures, and images.csv, of those used; return its path."""
        table = pd.DataFrame([dataclasses.asdict(picture) for picture in self.pictures])
        with complete_or_absent(directory / "survey.csv", replace=True) as temporary:
            temporary.write_text(printable(table.to_csv(index=False)), encoding="utf-8")
        path = Path(directory / "images.csv")
        listing.write_list(path, ((one.file, one.label, one.split) for one in self.used))
        return path


def look_over(path: Path, image_size: int, folds: int) -> Survey:
    """Survey a folder with a subfolder for each class, or with train/ and test/ of that kind.

    This leaves out pictures that cannot be decoded, all but one of duplicates (the one in test/ is
    kept), all duplicates that lie in different classes, and classes with a single picture to train
    on. Raises UserError if fewer than two classes are left, or if pictures of 16 bits use only a
    part of their range.
    """
    train_dir, test_dir = folder.halves(path)
    halves = {"train": train_dir} | ({"test": test_dir} if test_dir else {})
    waiting: list[Picture] = []
    empty, others = [], []
    for split, place in halves.items():
        for one in folder.folders(place):
            files, name = folder.files_in(one), printable(one.name)
            others += files.others
            if not files.pictures + files.unreadable:
                empty.append(name if split == "train" else f"test/{name}")
            waiting += [Picture(file, name, split) for file in files.pictures]
            waiting += [
                Picture(file, name, split, problem=f"broken: {file.suffix} cannot be read")
                for file in files.unreadable
            ]
    others += [file for place in halves.values() for file in sorted(place.iterdir())
               if file.is_file() and not file.name.startswith(".")]  # fmt: skip
    examined, tops = _examined(waiting, image_size)
    depth.check_range(tops, printable(path))
    found = _without_lone(_without_duplicates(examined))
    survey = Survey(path, tuple(found), tuple(empty), tuple(others), test_dir is not None, folds)
    if len(survey.counts()) < 2:
        raise UserError(
            f"{path} must have a folder for each class, and at least two classes with two valid "
            f"images each; it has {survey.counts() or 'none'}, and {len(survey.left_out)} "
            f"images are left out{_reasons(survey.left_out)}"
        )
    return survey


def _reasons(left_out: Sequence[Picture]) -> str:
    """List the reasons, the most frequent first, each with its count and an example."""
    groups: dict[str, list[Picture]] = {}
    for one in left_out:
        kind = "duplicate of another" if one.problem.startswith("duplicate of") else one.problem
        groups.setdefault(kind, []).append(one)
    ordered = sorted(groups.items(), key=lambda group: -len(group[1]))
    lines = [f"{len(ones)}, such as {ones[0].file}: {why}" for why, ones in ordered]
    return f":\n{pictures.list_broken(lines)}" if lines else ""


def _examined(waiting: Sequence[Picture], image_size: int) -> tuple[list[Picture], list[int]]:
    """Decode pictures in threads; also return the largest values of those with 16 bits."""
    found: list[Picture] = []
    tops: list[int] = []
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        warnings.simplefilter("ignore")  # about metadata; set once, as threads share the filters
        with bar("checking images", len(waiting)) as progress:
            for one, top in pool.map(lambda picture: _examine(picture, image_size), waiting):
                found.append(one)
                tops += () if top is None else (top,)
                progress.update()
    return found, tops


def _examine(picture: Picture, image_size: int) -> tuple[Picture, int | None]:
    if not picture.used:
        return picture, None
    try:
        with Image.open(picture.file) as image:
            width, height = image.size
            kind, mode = str(image.format), image.mode
            rotated = exif.orientation(image) != 1
        pixels, top = pictures.decode_with_range(picture.file, image_size)
    except pictures.BROKEN as error:
        return dataclasses.replace(picture, problem=f"broken: {pictures.reason(error)}"), None
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    seen = dataclasses.replace(
        picture, format=kind, mode=mode, width=width, height=height, rotated=rotated, digest=digest
    )
    return seen, top


def _without_duplicates(found: Sequence[Picture]) -> list[Picture]:
    groups: dict[str, list[Picture]] = {}
    for picture in sorted(found, key=lambda one: one.split != "test"):  # test/ keeps its own
        if picture.used:
            groups.setdefault(picture.digest, []).append(picture)
    problems: dict[Path, str] = {}
    for first, *copies in groups.values():
        labels = sorted({first.label, *(copy.label for copy in copies)})
        if len(labels) > 1:
            problem = f"the same image is in {' and '.join(labels)}"
            problems |= {one.file: problem for one in (first, *copies)}
        else:
            problems |= {copy.file: f"duplicate of {first.file}" for copy in copies}
    return _with_problems(found, problems)


def _without_lone(found: Sequence[Picture]) -> list[Picture]:
    counts = Counter(one.label for one in found if one.used and one.split == "train")
    problems = {}
    for one in found:
        if one.used and counts[one.label] < 2:
            problems[one.file] = f"the class {one.label} has fewer than two valid training images"
    return _with_problems(found, problems)


def _with_problems(found: Sequence[Picture], problems: dict[Path, str]) -> list[Picture]:
    return [dataclasses.replace(one, problem=problems.get(one.file, one.problem)) for one in found]


def _sizes(shorter: np.ndarray) -> str:
    """Describe the range of the pictures' shorter sides, in pixels."""
    least, most = shorter.min(), shorter.max()
    if least == most:
        return f"the shorter side of every image has {least} pixels"
    return f"shorter sides of {least} to {most} pixels, median {np.median(shorter):.0f}"


def _listed(counts: Counter) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())
