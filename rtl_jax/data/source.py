"""What a kind of data set must offer, and the kinds that there are.

A new kind is a class in a file of `rtl_jax.data.kinds`, and a name in that package's import:

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

# The split of a folder that has none, where no seed is given.
SPLIT_SEED = 0


class DataSource(abc.ABC):
    """A data set that a spec names. Nothing is looked for before a method needs it.

    A `seed` is of the train/test split of a set that has none; None makes all its images test
    images. All methods raise UserError for what is missing or damaged.
    """

    # Whether training and test images were divided once for everybody, by those who published
    # the set: then it stays as it is, and results compare with other people's.
    published = False

    def __init__(self, spec: str, rest: str, data_dir: Path):
        """`rest` is what follows the kind in `spec`; sets are downloaded to `data_dir`."""
        self.spec, self.rest, self.data_dir = spec, rest, data_dir

    @property
    def order(self) -> Order:
        """The order of its images."""
        return "original"

    @abc.abstractmethod
    def cache_key(self, image_size: int, seed: int | None) -> str | None:
        """The name of the decoded images in the cache, which changes whenever they do.

        It is made by `cache.key`, of all files and settings; None: they are not worth keeping.
        """

    @abc.abstractmethod
    def read(self, image_size: int, seed: int | None) -> Decoded:
        """Decode all images; those of varying size become squares of `image_size` pixels."""

    @abc.abstractmethod
    def decoded_bytes(self, image_size: int) -> int:
        """About how many bytes the images that `read` returns take, without decoding one."""

    def plan(self, seed: int | None) -> FolderPlan | None:
        """Which file is which image, in the order of `read`; None: images are no files."""
        return None

    def records(self) -> Halves:
        """The encoded images one by one. Raises UserError where the set is only read whole."""
        raise UserError(
            f"{self.spec} cannot be streamed, as it is read whole: stream a folder:, a list: or a "
            "tfds: set that TFDS has prepared, or raise the memory that images may take"
        )


class Kind(NamedTuple):
    """A registered class, and what a spec says after its name: PATH, NAME or nothing."""

    source: type[DataSource]
    takes: str


KINDS: dict[str, Kind] = {}

S = TypeVar("S", bound=type[DataSource])


def register(name: str, *, takes: str) -> Callable[[S], S]:
    """Register the decorated class for specs such as NAME:PATH, or NAME where it takes nothing."""

    def decorate(source: S) -> S:
        if name in KINDS:
            raise ValueError(f"a kind of data set named {name!r} exists: {KINDS[name].source}")
        KINDS[name] = Kind(source, takes)
        return source

    return decorate


def usage() -> str:
    """The specs there are, such as `digits, folder:PATH or tfds:NAME`."""
    *most, last = [f"{name}:{kind.takes}" if kind.takes else name for name, kind in KINDS.items()]
    return f"{', '.join(most)} or {last}"


def parse(spec: str) -> tuple[str, str]:
    """The kind of a single set, and the name or path that follows it; raises UserError."""
    if printable(spec) != spec:
        raise UserError(
            f"the data set {printable(spec)!r} has a name that is not UTF-8, and results are "
            "written with it: rename the file or folder"
        )
    kind, colon, rest = spec.partition(":")
    if kind not in KINDS or bool(KINDS[kind].takes) != bool(rest) or bool(colon) != bool(rest):
        raise UserError(f"unknown dataset {spec!r}: expected {usage()}")
    return kind, rest


def parts(spec: str) -> list[str]:
    """The specs that are joined by `+`; a `+` elsewhere, as in a path, divides nothing."""
    heads = (f"{name}:" if kind.takes else rf"{name}(?:\+|$)" for name, kind in KINDS.items())
    return re.split(rf"\+(?={'|'.join(heads)})", spec)


def open_source(spec: str, data_dir: Path) -> DataSource:
    """The source that a single set's spec names; raises UserError for an unknown kind."""
    kind, rest = parse(spec)
    return KINDS[kind].source(spec, rest, data_dir)


def open_sources(spec: str, data_dir: Path) -> list[DataSource]:
    """The sources that a spec names, joined by `+`; raises UserError for an unknown kind."""
    return [open_source(part, data_dir) for part in parts(spec)]


def local(path: str) -> Path:
    """The path in `folder:PATH`, `list:PATH` or `npz:PATH`, from the root."""
    place = Path(path).expanduser().absolute()
    return _MOVED.get(place, place)


# Where files are that runs know by the path at which they were.
_MOVED: dict[Path, Path] = {}


_CALLED: dict[str, str] = {}


@contextlib.contextmanager
def called(spec: str, name: str) -> Iterator[None]:
    """While this lasts, what is printed of a spec says `name`: what the user wrote."""
    _CALLED[spec] = name
    try:
        yield
    finally:
        del _CALLED[spec]


def shown(spec: str) -> str:
    """Return a data set's spec by the name that the user knows."""
    return _CALLED.get(spec, spec)


@contextlib.contextmanager
def moved(old: Path, new: Path) -> Iterator[None]:
    """While this lasts, specs that name the path `old` read what is at `new`, in this process."""
    _MOVED[old] = new
    try:
        yield
    finally:
        del _MOVED[old]
