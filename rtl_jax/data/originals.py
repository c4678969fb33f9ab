"""The paper's six targets from their original files, in the order of these files.

Files are searched for in the data directory, in this order:

    NAME/original/FILE      where a download puts it
    NAME/FILE
    FILE                    (not for names that several datasets share, such as MNIST's)
    TORCHVISION/raw/FILE    where torchvision keeps MNIST, FashionMNIST and KMNIST

URLs, sizes and sha256 are those registered by TensorFlow Datasets 4.9.10; all files of a dataset
are checked against them before the first decoding.
"""

import dataclasses
import gzip
import logging
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rtl_jax.data.dataset import Decoded, ImageSet
from rtl_jax.errors import UserError
from rtl_jax.runtime import download

Files = dict[str, Path]

logger = logging.getLogger(__name__)


class DamagedError(ValueError):
    """The content of a file does not have the expected format."""


@dataclasses.dataclass(frozen=True)
class RemoteFile:
    """A file of `size` bytes, available at `url`."""

    name: str
    url: str
    size: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class PaperTarget:
    """One of the six datasets: its files, other folders to search, and how to parse them.

    `parse` receives the paths of the files by name. Training and test images together take `nbytes`
    bytes when decoded.
    """

    name: str
    files: tuple[RemoteFile, ...]
    folders: tuple[str, ...]
    parse: Callable[[Files], Decoded]
    nbytes: int


class Found(NamedTuple):
    """A target and the paths of its files."""

    target: PaperTarget
    files: Files


def find(target: PaperTarget, data_dir: Path) -> Files | None:
    """Return the target's files if all are under `data_dir`, else None."""
    found = {file.name: _locate(target, file, data_dir) for file in target.files}
    files = {name: path for name, path in found.items() if path is not None}
    return files if len(files) == len(target.files) else None


def fetch(target: PaperTarget, data_dir: Path) -> Files:
    """Return the target's files, downloading missing ones. Raises UserError if that fails."""
    files = {}
    missing = [f.name for f in target.files if _locate(target, f, data_dir) is None]
    for file in target.files:
        path = _locate(target, file, data_dir)
        if path is None:
            path = data_dir / target.name / "original" / file.name
            try:
                download.download(file.url, path, sha256=file.sha256, size=file.size)
            except UserError as error:
                raise UserError(
                    f"tfds:{target.name} is not in {data_dir} (missing: {', '.join(missing)}), and "
                    f"downloading it failed. {error}. A set prepared by TFDS in "
                    f"{data_dir / target.name} is read too (pip install 'rtl-jax[prepare]' to "
                    "prepare one)."
                ) from error
        files[file.name] = path
    return files


def read(target: PaperTarget, files: Files) -> Decoded:
    """Check the files' sha256 and decode them. Raises UserError for other or damaged content."""
    for file in target.files:
        path = files[file.name]
        actual = download.sha256_of(path)
        if actual != file.sha256:
            raise UserError(
                f"{path} is not the file that {file.url} serves (sha256 {actual}, {_size(path)} "
                f"bytes; expected {file.sha256}, {file.size} bytes): it may be cut off. Move it "
                "away, and it will be downloaded at the next run, or put the right one there"
            )
    logger.info("decoding %s", target.name)
    try:
        return target.parse(files)
    except (OSError, EOFError, ValueError, KeyError, tarfile.TarError, zlib.error) as error:
        places = ", ".join(str(path) for path in files.values())
        raise UserError(f"{target.name} cannot be decoded from {places}: {error}") from error


def read_idx(path: Path) -> np.ndarray:
    """Read a gzipped idx file of unsigned bytes as uint8 of the stored shape."""
    with gzip.open(path) as stream:
        data = stream.read()
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise DamagedError(f"{path} is not an idx file of unsigned bytes")
    rank = data[3]
    shape = tuple(int(n) for n in np.frombuffer(data, ">u4", rank, 4))
    start = 4 + 4 * rank
    if len(data) - start != int(np.prod(shape, dtype=np.int64)):
        raise DamagedError(f"{path} promises {shape} bytes and has {len(data) - start}")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def read_mat(path: Path) -> ImageSet:
    """Read SVHN's cropped digits: X, uint8 [32, 32, 3, N], and y, [N, 1], where 10 means 0."""
    from scipy.io import loadmat, matlab  # Here, because importing it takes half a second.

    try:
        content = loadmat(path)
    except matlab.MatReadError as error:
        raise DamagedError(f"{path}: {error}") from error
    images = np.ascontiguousarray(np.moveaxis(content["X"], -1, 0))
    labels = content["y"].reshape(-1).astype(np.int32)
    return ImageSet(images, labels % 10)


def read_cifar(
    path: Path, train: tuple[str, ...], test: tuple[str, ...], names: str, label_bytes: int
) -> Decoded:
    """Read CIFAR's binary archive: records of `label_bytes` labels, of which the last is used, and
    an image, 3072 bytes, channels first."""
    wanted = {*train, *test, names}
    content: dict[str, bytes] = {}
    with tarfile.open(path, "r:gz") as archive:
        # In the archive's own order, since seeking in a compressed file means reading it again.
        for member in archive:
            name = member.name.rpartition("/")[2]
            stream = archive.extractfile(member) if name in wanted else None
            if stream is not None:
                content[name] = stream.read()
    if missing := sorted(wanted - content.keys()):
        raise DamagedError(f"{path} holds no {', '.join(missing)}")

    def half(members: tuple[str, ...]) -> ImageSet:
        records = np.frombuffer(b"".join(content[name] for name in members), np.uint8)
        records = records.reshape(-1, label_bytes + 3072)
        images = records[:, label_bytes:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        labels = records[:, label_bytes - 1].astype(np.int32)
        return ImageSet(np.ascontiguousarray(images), labels)

    class_names = content[names].decode("ascii").split()
    return Decoded(half(train), half(test), tuple(class_names))


_DIGITS = tuple("0123456789")
_CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker",
            "Bag", "Ankle boot")  # fmt: skip
_KANA = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")


def _parse_idx(files: Files, class_names: tuple[str, ...]) -> Decoded:
    halves = []
    for part in ("train", "t10k"):
        images = read_idx(files[f"{part}-images-idx3-ubyte.gz"])
        labels = read_idx(files[f"{part}-labels-idx1-ubyte.gz"])
        halves.append(ImageSet(images[..., None], labels.astype(np.int32)))
    return Decoded(halves[0], halves[1], class_names)


def _parse_svhn(files: Files) -> Decoded:
    return Decoded(read_mat(files["train_32x32.mat"]), read_mat(files["test_32x32.mat"]), _DIGITS)


def _parse_cifar10(files: Files) -> Decoded:
    train = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
    path = files["cifar-10-binary.tar.gz"]
    return read_cifar(path, train, ("test_batch.bin",), "batches.meta.txt", 1)


def _parse_cifar100(files: Files) -> Decoded:
    path = files["cifar-100-binary.tar.gz"]
    return read_cifar(path, ("train.bin",), ("test.bin",), "fine_label_names.txt", 2)


def _locate(target: PaperTarget, file: RemoteFile, data_dir: Path) -> Path | None:
    folders = (f"{target.name}/original", target.name, *target.folders)
    places = [data_dir / folder / file.name for folder in folders]
    return next((path for path in places if path.is_file()), None)


def _size(path: Path) -> int:
    return path.stat().st_size


def _idx_files(base: str, *facts: tuple[int, str]) -> tuple[RemoteFile, ...]:
    names = [
        f"{part}-{kind}-ubyte.gz"
        for part in ("train", "t10k")
        for kind in ("images-idx3", "labels-idx1")
    ]
    return tuple(
        RemoteFile(name, base + name, size, sha256)
        for name, (size, sha256) in zip(names, facts, strict=True)
    )


def _files(base: str, *facts: tuple[str, int, str]) -> tuple[RemoteFile, ...]:
    return tuple(RemoteFile(name, base + name, size, sha256) for name, size, sha256 in facts)


TARGETS: dict[str, PaperTarget] = {
    target.name: target
    for target in (
        PaperTarget(
            "mnist",
            _idx_files(
                "https://storage.googleapis.com/cvdf-datasets/mnist/",
                (9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
                (28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
                (1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
                (4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
            ),
            ("MNIST/raw",),
            lambda files: _parse_idx(files, _DIGITS),
            70_000 * 28 * 28,
        ),
        PaperTarget(
            "fashion_mnist",
            _idx_files(
                "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
                (26421880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
                (29515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
                (4422102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
                (5148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
            ),
            ("FashionMNIST/raw",),
            lambda files: _parse_idx(files, _CLOTHES),
            70_000 * 28 * 28,
        ),
        PaperTarget(
            "kmnist",
            _idx_files(
                "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
                (18165135, "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4"),
                (29497, "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17"),
                (3041136, "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5"),
                (5120, "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c"),
            ),
            ("KMNIST/raw",),
            lambda files: _parse_idx(files, _KANA),
            70_000 * 28 * 28,
        ),
        PaperTarget(
            "svhn_cropped",
            _files(
                "http://ufldl.stanford.edu/housenumbers/",
                (
                    "train_32x32.mat",
                    182040794,
                    "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
                ),
                (
                    "test_32x32.mat",
                    64275384,
                    "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
                ),
            ),
            ("",),
            _parse_svhn,
            (73_257 + 26_032) * 32 * 32 * 3,
        ),
        PaperTarget(
            "cifar10",
            _files(
                "https://www.cs.toronto.edu/~kriz/",
                (
                    "cifar-10-binary.tar.gz",
                    170052171,
                    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
                ),
            ),
            ("",),
            _parse_cifar10,
            60_000 * 32 * 32 * 3,
        ),
        PaperTarget(
            "cifar100",
            _files(
                "https://www.cs.toronto.edu/~kriz/",
                (
                    "cifar-100-binary.tar.gz",
                    168513733,
                    "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
                ),
            ),
            ("",),
            _parse_cifar100,
            60_000 * 32 * 32 * 3,
        ),
    )
}
