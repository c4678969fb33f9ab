"""Read an untrusted checkpoint: its entries by name, with every tensor still in the file.

A file is identified by its content, not its extension. Nothing in a file is executed; whatever is
wrong with it is a UserError of one sentence that begins with the file's name.
"""

import contextlib
import dataclasses
import json
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from rtl_jax.convert import archive
from rtl_jax.convert.archive import DOWNLOAD_AGAIN
from rtl_jax.convert.inert import shown
from rtl_jax.convert.tensors import MAX_DIMENSIONS, Tensor
from rtl_jax.errors import UserError

# Everything that reading a malformed file can raise; any other exception is our bug.
READ_ERRORS = (
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    EOFError,
    RecursionError,
    MemoryError,
    NotImplementedError,
    struct.error,
    zipfile.BadZipFile,
)

# 80,000 tensors; ResNet-152 has 1,000.
_MAX_HEADER = 8 << 20

_OTHER_FORMATS = {
    b"\x1f\x8b": "a gzip archive: unpack it first",
    b"BZh": "a bzip2 archive: unpack it first",
    b"\xfd7zXZ": "an xz archive: unpack it first",
    b"7z\xbc\xaf": "a 7z archive: unpack it first",
    b"Rar!": "a rar archive: unpack it first",
    b"\x28\xb5\x2f\xfd": "a zstd archive: unpack it first",
    b"\x89HDF": "an HDF5 file, as Keras writes: only PyTorch's files and safetensors can be read",
    b"\x93NUMPY": "a NumPy array: only PyTorch's files and safetensors can be read",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"%PDF": "a PDF document",
    b"\x7fELF": "a program",
}


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """An open checkpoint.

    `entries` is the outermost dictionary of the file; `placeholders` are the names of classes that
    were not read; `metadata` is what a safetensors file says about itself.
    """

    path: Path
    format: str
    entries: Mapping[str, Any]
    placeholders: tuple[str, ...] = ()
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)


@contextlib.contextmanager
def open_checkpoint(path: Path) -> Iterator[Checkpoint]:
    """Yield the checkpoint in `path`; its tensors can be loaded until the block ends.

    Raises UserError, also from within the block, if the file is absent, damaged, of another kind,
    or names a way to run code.
    """
    with _opened(path) as file:
        with translated(path):
            checkpoint = _read(path, file)
        yield checkpoint


def _opened(path: Path) -> IO[bytes]:
    try:
        if path.is_dir():
            raise UserError(
                f"{path}: is a directory, expected a .pt, .pth, .ckpt or .safetensors file"
            )
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: is not a regular file")
        return path.open("rb")
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what reading a malformed `path` raises into a UserError that names the file."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except MemoryError as error:
        raise UserError(f"{path}: needs more memory than there is ({_detail(error)})") from error
    except READ_ERRORS as error:
        raise UserError(f"{path}: is damaged ({_detail(error)}): {DOWNLOAD_AGAIN}") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error


def _read(path: Path, file: IO[bytes]) -> Checkpoint:
    head = file.read(1024)
    if not head:
        raise UserError(f"is empty (0 bytes): {DOWNLOAD_AGAIN}")
    # Checked first: its initial header length may look like another format's magic number.
    if _is_safetensors(head, path.stat().st_size):
        return _read_safetensors(path, head)
    if head.startswith(b"PK"):
        contents = archive.read_zip(file)
    elif head[:1] == b"\x80":
        contents = archive.read_legacy(file)
    else:
        raise _unknown(path, head, file)
    if isinstance(contents.value, list | tuple):
        raise UserError(
            f"holds no dictionary of weights but a list of {len(contents.value)}: load it where "
            "it came from and save its state dict alone, for example torch.save(loaded[0], path)"
        )
    if not isinstance(contents.value, dict):
        whole = f", {shown(contents.value)}" if contents.placeholders else ""
        raise UserError(
            f"holds no dictionary of weights but one object{whole}: load it where it came from and "
            "save its state dict, torch.save(model.state_dict(), path)"
        )
    placeholders = tuple(sorted(contents.placeholders))
    return Checkpoint(path, contents.format, contents.value, placeholders)


def _is_safetensors(head: bytes, size: int) -> bool:
    if len(head) < 9 or head[8:9] != b"{":
        return False
    (length,) = struct.unpack_from("<Q", head)
    return length <= max(size, 100 << 20)


def _read_safetensors(path: Path, head: bytes) -> Checkpoint:
    import safetensors

    (length,) = struct.unpack_from("<Q", head)
    if length > _MAX_HEADER:
        raise UserError(
            f"declares a safetensors header of {length:,} bytes, far more than a network needs: "
            "it is damaged or made to exhaust memory"
        )
    try:
        # Not as a context manager: tensors are loaded later, and it holds only a memory map.
        file = safetensors.safe_open(path, framework="numpy").__enter__()
        entries = {}
        for name in file.keys():  # noqa: SIM118 (no mapping)
            part = file.get_slice(name)
            shape = tuple(part.get_shape())
            if len(shape) > MAX_DIMENSIONS:
                raise UserError(f"has a tensor of {len(shape)} dimensions")
            entries[name] = _safetensor(path, file, name, shape, part.get_dtype())
        metadata = file.metadata() or {}
    except safetensors.SafetensorError as error:
        detail = shown(error)
        raise UserError(f"is a damaged safetensors file ({detail}): {DOWNLOAD_AGAIN}") from error
    return Checkpoint(path, "safetensors", entries, metadata=metadata)


def _safetensor(path: Path, file: Any, name: str, shape: tuple[int, ...], code: str) -> Any:
    import ml_dtypes

    float8 = {"F8_E4M3": ml_dtypes.float8_e4m3fn, "F8_E5M2": ml_dtypes.float8_e5m2}
    if code in float8:  # the library asks NumPy for these, which lacks them
        return Tensor(shape, np.dtype(float8[code]), lambda: _raw(path, name, float8[code], shape))

    dtypes = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}
    dtypes |= {"I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8, "U8": np.uint8}
    if code not in dtypes:
        return f"a tensor of {code}"
    return Tensor(shape, np.dtype(dtypes[code]), lambda: file.get_tensor(name))


def _raw(path: Path, name: str, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Read a tensor's bytes, whose place the library checked when it opened the file."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        start, stop = json.loads(file.read(length))[name]["data_offsets"]
        file.seek(8 + length + start)
        return np.frombuffer(file.read(stop - start), dtype).reshape(shape)


def _unknown(path: Path, head: bytes, file: IO[bytes]) -> UserError:
    """Return the error for a file that is no checkpoint: what it is, and what to do about it."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<body")):
        return UserError(
            "is an HTML page, probably the error or consent page of a download: open the address "
            "in a browser and download the file itself"
        )
    if text.startswith(b"version https://git-lfs"):
        return UserError("is a Git LFS pointer and not the file itself: run git lfs pull")
    for magic, name in _OTHER_FORMATS.items():
        if head.startswith(magic):
            return UserError(f"is {name}")
    if head[257:262] == b"ustar":
        return UserError("is a tar archive: unpack it, or save it anew with torch 1.6 or later")
    if _is_text(head):
        file.seek(0)
        archive.names_code(file.read(1 << 20))  # the oldest pickles are text
        if b'"weight_map"' in head or path.name.endswith(".index.json"):
            return UserError(
                "is the index of a network that is saved in shards, the files that it names: put "
                "them together, safetensors.torch.save_file({**load_file(FIRST), "
                "**load_file(SECOND), ...}, PATH), and convert that"
            )
        kind = "a JSON" if text.startswith((b"{", b"[")) else "a text"
        return UserError(f"is {kind} file and not a checkpoint: download the checkpoint itself")
    return UserError(
        f"is not a readable checkpoint (it begins with {head[:8].hex(' ')}): expected a file of "
        "torch.save or safetensors"
    )


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8", errors="strict" if len(head) < 1024 else "ignore")
    except UnicodeDecodeError:
        return False
    printable = sum(c.isprintable() or c.isspace() for c in text)
    return printable >= 0.95 * len(head.decode("utf-8", errors="replace"))


def _detail(error: BaseException) -> str:
    text = shown(error) if str(error) else ""
    return f"{type(error).__name__}{': ' if text else ''}{text}"


def metadata_fields(checkpoint: Checkpoint, key: str) -> dict[str, Any]:
    """Return the JSON object under a key of the metadata, or {} if there is no valid one."""
    try:
        fields = json.loads(checkpoint.metadata.get(key, "{}"))
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}
