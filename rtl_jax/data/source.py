"""The interface of dataset kinds, and their registry.

A new kind is a class in a file of `rtl_jax.data.kinds`, imported by that package:

    @register("webdataset", takes="PATH")
    class WebDataset(DataSource):
        ...
"""

import abc
import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

from rtl_jax.data.dataset import Decoded, Order
from rtl_jax.data.folder import FolderPlan
from rtl_jax.data.records import Halves
from rtl_jax.errors import UserError
from rtl_jax.runtime.paths import printable

# The default seed of the split of a folder without one.
SPLIT_SEED = 0


class DataSource(abc.ABC):
    """A dataset that a spec names. Files are not accessed before a method needs them.

    `seed` determines the train/test split of a dataset without one; with None, all its images are
    test images. All methods raise UserError if something is missing or damaged.
    """

    # Whether the train/test split was published with the dataset. It is then never changed, so
    # that results are comparable.
    published = False

    def __init__(self, spec: str, rest: str, data_dir: Path):
        """`rest` is the part of `spec` after the kind; downloads go to `data_dir`."""
        self.spec, self.rest, self.data_dir = spec, rest, data_dir

    @property
    def order(self) -> Order:
        """The order of the images."""
        return "original"

    @abc.abstractmethod
    def cache_key(self, image_size: int, seed: int | None) -> str | None:
        """Return the cache key of the decoded images, which changes whenever they do.

        `cache.key` makes it from all files and settings. None: they are not worth caching.
        """

    @abc.abstractmethod
    def read(self, image_size: int, seed: int | None) -> Decoded:
        """Decode all images; images of varying size become squares of `image_size` pixels."""

    @abc.abstractmethod
    def decoded_bytes(self, image_size: int) -> int:
        """Estimate the size in bytes of the images that `read` returns, without decoding any."""

    def plan(self, seed: int | None) -> FolderPlan | None:
        """Return the files of the images in the order of `read`, or None if they are not files."""
        return None

    def records(self) -> Halves:
        """Return the encoded images. Raises UserError if the dataset can only be read whole."""
        raise UserError(
            f"{self.spec} cannot be streamed, as it is read whole: stream a folder:, a list: or a "
            "tfds: set that TFDS has prepared, or raise the memory that images may take"
        )


class Kind(NamedTuple):
    """A registered class, and what follows its name in a spec: PATH, NAME or nothing."""

    source: type[DataSource]
    takes: str


KINDS: dict[str, Kind] = {}

S = TypeVar("S", bound=type[DataSource])


def register(name: str, *, takes: str) -> Callable[[S], S]:
    """Register the decorated class for specs such as NAME:PATH, or NAME if it takes nothing."""

    def decorate(source: S) -> S:
        if name in KINDS:
            raise ValueError(f"a kind of data set named {name!r} exists: {KINDS[name].source}")
        KINDS[name] = Kind(source, takes)
        return source

    return decorate


def usage() -> str:
    """Return the available specs, such as `digits, folder:PATH or tfds:NAME`."""
    *most, last = [f"{name}:{kind.takes}" if kind.takes else name for name, kind in KINDS.items()]
    return f"{', '.join(most)} or {last}"


def parse(spec: str) -> tuple[str, str]:
    """Split a single spec into kind and name or path. Raises UserError if it is invalid."""
    if printable(spec) != spec:
        raise UserError(
            f"the data set {printable(spec)!r} has a name that is not UTF-8, which results "
            "cannot record: rename the file or folder"
        )
    kind, colon, rest = spec.partition(":")
    if kind not in KINDS or bool(KINDS[kind].takes) != bool(rest) or bool(colon) != bool(rest):
        raise UserError(f"unknown dataset {spec!r}: expected {usage()}")
    return kind, rest


def parts(spec: str) -> list[str]:
    """Split a spec at `+` between datasets; any other `+`, as in a path, is kept."""
    heads = (f"{name}:" if kind.takes else rf"{name}(?:\+|$)" for name, kind in KINDS.items())
    return re.split(rf"\+(?={'|'.join(heads)})", spec)


def open_source(spec: str, data_dir: Path) -> DataSource:
    """Return the source that a single spec names. Raises UserError for an unknown kind."""
    kind, rest = parse(spec)
    return KINDS[kind].source(spec, rest, data_dir)


def open_sources(spec: str, data_dir: Path) -> list[DataSource]:
    """Return the sources in a spec, joined by `+`. Raises UserError for an unknown kind."""
    return [open_source(part, data_dir) for part in parts(spec)]


def local(path: str) -> Path:
    """Return the absolute path for `folder:PATH`, `list:PATH` or `npz:PATH`."""
    place = Path(path).expanduser().absolute()
    return _MOVED.get(place, place)


# The current paths of files that have moved since runs recorded their paths.
_MOVED: dict[Path, Path] = {}


_CALLED: dict[str, str] = {}


@contextlib.contextmanager
def called(spec: str, name: str) -> Iterator[None]:
    """Show `name`, which the user wrote, instead of `spec` in messages within this context."""
    _CALLED[spec] = name
    try:
        yield
    finally:
        del _CALLED[spec]


def shown(spec: str) -> str:
    """Return the user's name for a dataset's spec."""
    return _CALLED.get(spec, spec)


@contextlib.contextmanager
def moved(old: Path, new: Path) -> Iterator[None]:
    """Read specs with the path `old` from `new`, in this process and within this context."""
    _MOVED[old] = new
    try:
        yield
    finally:
        del _MOVED[old]
