"""Readers of the two containers of `torch.save`: the zip archive, and the older stream.

Both return the pickled object with every tensor still in the file. No length or offset that the
file declares is used before it has been checked against the size of the file.
"""

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import IO, Any, NamedTuple, cast

import numpy as np

from rtl_jax.convert import constructors, pickles, tensors
from rtl_jax.convert.tensors import Storage
from rtl_jax.errors import UserError

DOWNLOAD_AGAIN = "the download is incomplete or damaged, download it again"

# 50,000 members; ResNet-152 with its optimizer state and a second copy has 3,000.
_MAX_DIRECTORY = 5 << 20

_LOCAL_HEADER = struct.Struct("<4s5H3I2H")

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001


class Contents(NamedTuple):
    """The object given to `torch.save`, and the names in it that became placeholders."""

    value: Any
    placeholders: set[str]
    format: str


class _Member(NamedTuple):
    start: int
    size: int
    crc: int


def read_zip(file: IO[bytes]) -> Contents:
    """Read the format of torch 1.6 and later: data.pkl, and a member for each storage."""
    members = _members(file)
    roots = [name[: -len("data.pkl")] for name in members if name.split("/")[1:] == ["data.pkl"]]
    if len(roots) != 1:
        raise UserError(
            "is a zip archive, but not one that torch.save wrote: expected NAME/data.pkl in it"
        )
    root = roots[0]
    pickle = members[root + "data.pkl"]
    if pickle.size > pickles.MAX_BYTES:
        raise UserError(f"its data.pkl has {pickle.size:,} bytes, too many for a checkpoint")
    big_endian = False
    if f"{root}byteorder" in members:
        big_endian = _read(file, members[f"{root}byteorder"], 0, 3) == b"big"
    storages: dict[str, Storage] = {}

    def persistent(pid: Any) -> Storage:
        _, kind, key, _, count = _storage_id(pid, 5)
        dtype = tensors.storage_dtype(kind)
        name = f"{root}data/{key}"
        if name not in members:
            raise UserError(f"lacks the member {pickles.shown(name)}: {DOWNLOAD_AGAIN}")
        member = members[name]
        if count * dtype.itemsize != member.size:
            raise UserError(
                f"declares {count} elements of {dtype} for {pickles.shown(name)}, which has "
                f"{member.size:,} bytes"
            )
        if key not in storages or storages[key].dtype != dtype:
            storages[key] = Storage(
                key, dtype, member.size, _checked_reader(file, name, member), big_endian
            )
        return storages[key]

    data = io.BytesIO(_checked_reader(file, root + "data.pkl", pickle)(0, pickle.size))
    placeholders: set[str] = set()
    value = _unpickle(data, persistent, placeholders)
    if data.read(1):
        raise UserError("has bytes after the end of its pickle: it is damaged or was tampered with")
    return Contents(value, placeholders, "torch zip")


def read_legacy(file: IO[bytes]) -> Contents:
    """Read the format before torch 1.6: five pickles, then every storage in turn."""
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    placeholders: set[str] = set()
    magic = _unpickle(file, _no_storage, placeholders)
    if magic != _MAGIC:
        raise UserError(
            "is a pickle, but not one that torch.save wrote: load it where it came from and save "
            "the state dict with torch.save"
        )
    protocol = _unpickle(file, _no_storage, placeholders)
    if protocol != _PROTOCOL:
        raise UserError(f"has torch's protocol {pickles.shown(protocol)}, expected {_PROTOCOL}")
    system = _unpickle(file, _no_storage, placeholders)
    big_endian = isinstance(system, dict) and system.get("little_endian") is False
    places: dict[str, int] = {}
    storages: dict[str, tuple[np.dtype, int]] = {}

    def persistent(pid: Any) -> Any:
        if isinstance(pid, tuple) and len(pid) == 4 and pid[0] == "module":
            return pid[1]  # a class with its source text: an inert name
        _, kind, key, _, count, view = _storage_id(pid, 6)
        dtype = tensors.storage_dtype(kind)
        if storages.setdefault(key, (dtype, count)) != (dtype, count):
            raise UserError(f"declares the storage {pickles.shown(key)} twice, differently")
        first = 0
        if view is not None:
            _, first, count_of_view = view
            if not (0 <= first <= first + count_of_view <= count):
                raise UserError("a view of a storage leaves it")
            count = count_of_view
        itemsize = dtype.itemsize

        def read(start: int, stop: int) -> bytes:
            place = places[key] + first * itemsize
            return _exactly(file, place + start, stop - start)

        return Storage(key, dtype, count * itemsize, read, big_endian)

    value = _unpickle(file, persistent, placeholders)
    keys = _unpickle(file, _no_storage, placeholders)
    if not isinstance(keys, list) or not all(type(key) is str for key in keys):
        raise UserError("lists no storages behind its pickles")
    place = file.tell()
    for key in keys:
        if key not in storages or key in places:
            raise UserError(f"lists the storage {pickles.shown(key)}, which its pickle lacks")
        dtype, count = storages[key]
        (found,) = struct.unpack(">q" if big_endian else "<q", _exactly(file, place, 8))
        if found != count:
            raise UserError(f"declares {count} elements of a storage and holds {found}")
        places[key] = place + 8
        place += 8 + count * dtype.itemsize
    if place > size:
        raise UserError(f"ends after {size:,} of {place:,} bytes: {DOWNLOAD_AGAIN}")
    if missing := storages.keys() - places.keys():
        raise UserError(f"lacks {len(missing)} of its storages: {DOWNLOAD_AGAIN}")
    return Contents(value, placeholders, "torch legacy")


def names_code(data: bytes) -> None:
    """Raise RefusedError if the bytes are a pickle that names a way to run code."""
    try:
        _unpickle(io.BytesIO(data), lambda _: pickles.Opaque("object"), set())
    except pickles.RefusedError:
        raise
    except Exception:  # any other error is for the caller to report
        return


def _unpickle(file: IO[bytes], persistent: Callable[[Any], Any], placeholders: set[str]) -> Any:
    interpreter = pickles.Interpreter(
        constructors.allowed, constructors.construct, persistent, placeholders
    )
    return interpreter.run(file)


def _no_storage(pid: Any) -> Any:
    raise UserError("names a storage where none belongs")


def _storage_id(pid: Any, length: int) -> tuple:
    if not isinstance(pid, tuple) or len(pid) != length or pid[0] != "storage":
        raise UserError("has a persistent id that names no storage")
    if type(pid[2]) is not str or type(pid[4]) is not int or not 0 <= pid[4] < 1 << 48:
        raise UserError("has a storage without a key or a size")
    return pid


def _exactly(file: IO[bytes], start: int, count: int) -> bytes:
    file.seek(start)
    data = file.read(count)
    if len(data) != count:
        raise UserError(f"ends where {count:,} more bytes are expected: {DOWNLOAD_AGAIN}")
    return data


def _members(file: IO[bytes]) -> dict[str, _Member]:
    """Return a zip archive's members as places in the file. Raises UserError if malicious."""
    size = os.fstat(file.fileno()).st_size
    _check_end(file, size)
    members: dict[str, _Member] = {}
    folded: set[str] = set()
    with zipfile.ZipFile(cast(IO[bytes], _ShortReads(file))) as archive:
        infos = archive.infolist()
    inner = {info.orig_filename.split("/", 1)[-1] for info in infos}
    if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
        raise UserError(
            "is a TorchScript archive, which holds code: save the state dict of the model instead, "
            "torch.save(model.state_dict(), path)"
        )
    for info in infos:
        name = info.orig_filename
        if name.endswith("/") and info.file_size == 0:
            continue
        parts = name.replace("\\", "/").split("/")
        drive = parts[0][1:2] == ":" and len(parts[0]) == 2
        if parts[0] == "" or ".." in parts or drive or "\0" in name:
            raise UserError(f"has a member with the unsafe name {pickles.shown(name)}")
        # torch looks up members case-insensitively.
        if name.casefold() in folded:
            raise UserError(f"has two members named {pickles.shown(name)}")
        folded.add(name.casefold())
        if info.flag_bits & 0x1:
            raise UserError(f"has the encrypted member {pickles.shown(name)}")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise UserError(
                f"has the compressed member {pickles.shown(name)}, {info.compress_size:,} bytes "
                f"that claim to unfold to {info.file_size:,}: torch.save compresses nothing, and "
                "this may be a zip bomb"
            )
        header = _LOCAL_HEADER.unpack(_exactly(file, info.header_offset, _LOCAL_HEADER.size))
        if header[0] != b"PK\3\4":
            raise UserError(f"has no header for {pickles.shown(name)}: {DOWNLOAD_AGAIN}")
        start = info.header_offset + _LOCAL_HEADER.size + header[-2] + header[-1]
        if start + info.file_size > size:
            raise UserError(
                f"declares {info.file_size:,} bytes for {pickles.shown(name)} and has only "
                f"{max(size - start, 0):,} left: {DOWNLOAD_AGAIN}"
            )
        members[name] = _Member(start, info.file_size, info.CRC)
    end = 0
    for member in sorted(members.values()):
        if member.size and member.start < end:
            raise UserError("has members that overlap: it may be a zip bomb")
        end = max(end, member.start + member.size)
    return members


def _check_end(file: IO[bytes], size: int) -> None:
    """Raise UserError for a truncated archive, which `zipfile` would call no archive at all."""
    tail = _exactly(file, max(0, size - (1 << 16) - 22), min(size, (1 << 16) + 22))
    place = tail.rfind(b"PK\5\6")
    if place < 0 or len(tail) - place < 22:
        raise UserError(f"is a zip archive without its end ({size:,} bytes): {DOWNLOAD_AGAIN}")


class _ShortReads:
    """A file that limits `zipfile`'s reads of the directory, whose declared size is not trusted."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, count: int = -1) -> bytes:
        data = self._file.read(count if 0 <= count <= _MAX_DIRECTORY else _MAX_DIRECTORY + 1)
        if len(data) > _MAX_DIRECTORY or count > _MAX_DIRECTORY:
            raise UserError("lists far more members than a checkpoint has: it may be a zip bomb")
        return data


def _read(file: IO[bytes], member: _Member, start: int, stop: int) -> bytes:
    return _exactly(file, member.start + start, min(stop, member.size) - start)


def _checked_reader(file: IO[bytes], name: str, member: _Member) -> Callable[[int, int], bytes]:
    """Return a reader of parts of a member that verifies the member's checksum once."""
    checked = False

    def read(start: int, stop: int) -> bytes:
        nonlocal checked
        data = _read(file, member, start, stop)
        if not checked:
            whole = len(data) == member.size
            crc = zlib.crc32(data) if whole else _checksum(file, member)
            if member.crc not in (0, crc):  # 0: torch was told not to write it
                raise UserError(f"has a wrong checksum for {pickles.shown(name)}: {DOWNLOAD_AGAIN}")
            checked = True
        return data

    return read


def _checksum(file: IO[bytes], member: _Member) -> int:
    crc = 0
    for start in range(0, member.size, 1 << 20):
        crc = zlib.crc32(_read(file, member, start, start + (1 << 20)), crc)
    return crc
