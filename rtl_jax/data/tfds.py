"""`tfds:NAME` from a directory prepared by TensorFlow Datasets, without TensorFlow.

    DATA_DIR/NAME/VERSION/           or     DATA_DIR/NAME/CONFIG/VERSION/

By default the newest version is used; `tfds:NAME/CONFIG` and `tfds:NAME:VERSION` select others.
TFDS stores records in its own order (by a hash), not in that of the original files.
"""

import contextlib
import dataclasses
import importlib.util
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from rtl_jax.data import pictures
from rtl_jax.data.dataset import Decoded, ImageSet, three_channels
from rtl_jax.errors import UserError
from rtl_jax.runtime.download import check_reachable

PREPARE_EXTRA = "pip install 'rtl-jax[prepare]'"
READ_PACKAGES = "pip install tensorflow-datasets array_record importlib_resources"

_SPEC = re.compile(r"(?P<name>\w+)(/(?P<config>[\w.+-]+))?(:(?P<version>\d+\.\d+\.\d+))?", re.ASCII)
_VERSION = re.compile(r"\d+\.\d+\.\d+")
_BATCH = 1024

logger = logging.getLogger(__name__)


def find_prepared(spec: str, data_dir: Path) -> Path | None:
    """Find the prepared directory of NAME[/CONFIG][:VERSION], by default the newest, or None.

    Raises UserError for a malformed name, or if there are several configurations and none is named.
    """
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise UserError(f"tfds:{spec} is no dataset's name: expected tfds:NAME[/CONFIG][:VERSION]")
    root = data_dir / match["name"]
    if match["config"]:
        roots = [root / match["config"]]
    elif _versions(root):
        roots = [root]
    else:
        roots = [entry for entry in _folders(root) if _versions(entry)]
    if len(roots) > 1:
        names = ", ".join(f"tfds:{match['name']}/{entry.name}" for entry in roots)
        raise UserError(f"{root} holds several configurations: choose one of {names}")
    found = [v for r in roots for v in _versions(r) if match["version"] in (None, v.name)]
    return max(found, key=lambda path: tuple(map(int, path.name.split("."))), default=None)


def files_of(prepared: Path) -> list[Path]:
    """List all files of a prepared directory, sorted."""
    return sorted(path for path in prepared.iterdir() if path.is_file())


@dataclasses.dataclass(frozen=True)
class Prepared:
    """An open prepared directory of an image classification dataset.

    `train` and `test` are the names of its splits, `image` and `label` those of its features.
    """

    path: Path
    builder: Any
    image: str
    label: str
    train: str
    test: str

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes."""
        return tuple(self.builder.info.features[self.label].names)

    @property
    def shape(self) -> tuple[int | None, int | None, int | None]:
        """Height, width and channels of the images; None if varying."""
        height, width, channels = self.builder.info.features[self.image].shape
        return height, width, channels

    def num_images(self, split: str) -> int:
        """Return the number of images in a split, from the metadata."""
        return self.builder.info.splits[split].num_examples

    def source(self, split: str) -> Any:
        """Return the records of a split by index, with encoded images."""
        return _source(self.builder, split, self.image)

    def rows(self, split: str) -> Iterator[tuple[bytes, int]]:
        """Yield the encoded images and labels of a split, in order."""
        source = self.source(split)
        for start in range(0, len(source), _BATCH):
            for row in source.__getitems__(range(start, min(start + _BATCH, len(source)))):
                yield row[self.image], int(row[self.label])


def open_prepared(path: Path) -> Prepared:
    """Open a prepared directory and find its features and its splits `train` and `test`.

    `validation` replaces a `test` split that is missing or has no labels. The image and the label
    are found by their feature type, not by name.

    Raises UserError for a dataset that is not image classification, was written as TFRecord, or is
    damaged, and if TFDS is not installed.
    """
    builder = _open(path)
    image, label = _keys(builder.info, path)
    dtype = np.dtype(builder.info.features[image].np_dtype)
    if dtype != np.uint8:
        raise UserError(f"{path}: expected uint8 images, received {dtype}")
    labelled = []
    for split in ("train", "test", "validation"):
        with reading(path, split):
            # Some test splits are published without labels, as -1.
            if split in builder.info.splits and _first_label(builder, split, image, label) >= 0:
                labelled.append(split)
    if "train" not in labelled or len(labelled) < 2:
        raise UserError(
            f"{path} needs labelled splits `train` and `test` (or `validation`), and has "
            f"{', '.join(builder.info.splits) or 'none'}"
        )
    if unused := [split for split in builder.info.splits if split not in labelled[:2]]:
        logger.warning(
            "%s: training images are those of the split %s, test images those of %s; not used: %s",
            path, *labelled[:2], ", ".join(unused),
        )  # fmt: skip
    return Prepared(path, builder, image, label, labelled[0], labelled[1])


def read_prepared(path: Path, image_size: int) -> Decoded:
    """Decode the two splits of a prepared directory.

    Images of one fixed size keep it; others become squares of `image_size`. Raises UserError as
    `open_prepared`, and for images that cannot be decoded.
    """
    prepared = open_prepared(path)
    train, test = (
        _read_split(prepared, split, image_size) for split in (prepared.train, prepared.test)
    )
    if train.images.shape[-1] != test.images.shape[-1]:  # By chance, one split is all grey.
        train, test = three_channels(train), three_channels(test)
    return Decoded(train, test, prepared.class_names)


def prepare(spec: str, data_dir: Path) -> Path:
    """Let TFDS download and prepare a dataset in `data_dir`; return the prepared directory.

    Needs TensorFlow (the extra `prepare`) and network access. Raises UserError, within 10 seconds,
    if either is missing.
    """
    if importlib.util.find_spec("tensorflow") is None:
        prepared = [folder.name for folder in _folders(data_dir) if _is_prepared(folder)]
        place = data_dir / re.split("[/:]", spec)[0]
        raise UserError(
            f"tfds:{spec} is not prepared in {data_dir} (there: {', '.join(prepared) or 'nothing'})"
            f". Put a directory that TFDS prepared elsewhere at {place}/VERSION, or name another "
            "data directory in RTL_JAX_DATA_DIR, or install TensorFlow to prepare it here: "
            f"{PREPARE_EXTRA}. For images of your own use folder:PATH"
        )
    tfds = _import()
    try:
        builder = tfds.builder(spec, data_dir=data_dir, file_format="array_record")
    except (ValueError, AssertionError, ImportError) as error:
        raise UserError(f"TFDS has no data set {spec}: {_first_line(error)}") from error
    # Without a network, TFDS itself waits for minutes, and it tries Google's storage first.
    check_reachable(_first_url(builder), what=f"preparing tfds:{spec}")
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    try:
        builder.download_and_prepare(download_config=config)
    except Exception as error:  # Builders raise many kinds of errors; TFDS keeps what it has.
        raise UserError(f"TFDS could not prepare {spec} in {data_dir}: {error}") from error
    return Path(builder.data_dir)


@contextlib.contextmanager
def reading(path: Path, split: str) -> Iterator[None]:
    """Convert errors from reading damaged files to UserError."""
    try:
        yield
    except (RuntimeError, ValueError, TypeError, IndexError, OSError, SystemError) as error:
        raise UserError(
            f"{path}: the split {split} cannot be read ({_first_line(error)}): a file is "
            "missing or damaged; prepare or copy the directory again"
        ) from error


def _source(builder: Any, split: str, image: str) -> Any:
    # PIL decodes instead of TFDS, which uses OpenCV if installed, with different pixels.
    decoders = {image: _import().decode.SkipDecoding()}
    return builder.as_data_source(split, decoders=decoders)


def _first_label(builder: Any, split: str, image: str, label: str) -> int:
    """Return the label of a split's first image, or -1 if there is none."""
    source = _source(builder, split, image)
    return int(source[0][label]) if len(source) else -1


def _read_split(prepared: Prepared, split: str, image_size: int) -> ImageSet:
    height, width, _ = prepared.shape
    native = height is not None and width is not None
    size = (height, width) if height is not None and width is not None else (image_size, image_size)
    labels: list[int] = []

    def encoded() -> Iterator[bytes]:
        for content, label in prepared.rows(split):
            labels.append(label)
            yield content

    count = prepared.num_images(split)
    with reading(prepared.path, split):
        images, broken = pictures.decode_all(
            encoded(), count, size, native=native, name=f"{prepared.builder.name} {split}"
        )
    if broken or len(labels) != len(images):
        listed = pictures.list_broken([f"record {row}: {reason}" for row, reason in broken])
        raise UserError(
            f"{prepared.path}: {len(broken)} of {len(images)} images of the split {split} cannot "
            f"be decoded; prepare or copy the directory again\n{listed}"
        )
    return ImageSet(images, np.array(labels, np.int32))


def _keys(info: Any, prepared: Path) -> tuple[str, str]:
    tfds = _import()
    kinds = {name: type(feature) for name, feature in dict(info.features).items()}
    images = [name for name, kind in kinds.items() if issubclass(kind, tfds.features.Image)]
    labels = [name for name, kind in kinds.items() if issubclass(kind, tfds.features.ClassLabel)]
    supervised = info.supervised_keys
    if supervised and supervised[0] in images and supervised[1] in labels:
        return supervised[0], supervised[1]
    if len(images) != 1 or len(labels) != 1:
        listed = ", ".join(f"{name} ({kind.__name__})" for name, kind in kinds.items())
        raise UserError(
            f"{prepared} is not an image classification data set: expected one Image and one "
            f"ClassLabel, found {listed}"
        )
    return images[0], labels[0]


def _open(prepared: Path) -> Any:
    tfds = _import()
    try:
        builder = tfds.builder_from_directory(prepared)
        file_format = builder.info.file_format
    except Exception as error:  # Metadata of any TFDS version, possibly with custom classes.
        raise UserError(
            f"{prepared} cannot be opened as a prepared TFDS set ({_first_line(error)}): prepare "
            "or copy it again, its dataset_info.json and features.json included"
        ) from error
    name = getattr(file_format, "value", file_format)
    if name != "array_record":
        raise UserError(
            f"{prepared} was written as {name}, which only TensorFlow reads: prepare it again with "
            f"`tfds build {builder.name} --file_format=array_record` and the same data directory"
        )
    return builder


def _import() -> Any:
    try:
        import array_record.python.array_record_data_source  # noqa: F401
        import tensorflow_datasets  # Here, because only this kind of source needs it.
    except ImportError as error:
        raise UserError(
            f"reading a prepared TFDS set needs a package that is not installed ({error}): "
            f"{READ_PACKAGES}"
        ) from error
    return tensorflow_datasets


def _first_url(builder: Any) -> str:
    infos = getattr(builder, "url_infos", None) or {}
    for url in infos:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https"):
            return f"{parts.scheme}://{parts.netloc}/"
    return "https://storage.googleapis.com/"


def _versions(root: Path) -> list[Path]:
    return [
        entry
        for entry in _folders(root)
        if _VERSION.fullmatch(entry.name) and (entry / "dataset_info.json").is_file()
    ]


def _folders(root: Path) -> list[Path]:
    try:
        return sorted(entry for entry in root.iterdir() if entry.is_dir())
    except OSError:
        return []


def _is_prepared(root: Path) -> bool:
    return any(_versions(folder) for folder in [root, *_folders(root)])


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
