"""Arrays in a .npz archive, read by their headers and not beyond the sizes stated there."""

import io
import lzma
import math
import struct
import tokenize
import zipfile
import zlib
from typing import IO, NamedTuple

import numpy as np

# Exceptions of zipfile, its decompressors and NumPy for files that are damaged, encrypted
# (RuntimeError), compressed by an unknown method (NotImplementedError) or not archives. From Python
# 3.12 on, NumPy's reader of headers raises TokenError for some of those that are not Python.
UNREADABLE = (OSError, ValueError, EOFError, KeyError, TypeError, IndexError, SyntaxError,
              OverflowError, RecursionError, MemoryError, RuntimeError, struct.error,
              tokenize.TokenError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)  # fmt: skip

# NumPy's headers take 128 bytes for arrays like these.
_LONGEST_HEADER = 4096
_LENGTHS = {(1, 0): "<H", (2, 0): "<I", (3, 0): "<I"}
_BLOCK = 2**20


class Header(NamedTuple):
    """A member of an archive, with the shape and dtype of its array."""

    member: str
    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool

    @property
    def nbytes(self) -> int:
        """The size of the array in bytes, without overflow."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(archive: zipfile.ZipFile, member: str) -> Header:
    """Read the header of an array, a few hundred bytes. Raises one of `UNREADABLE`."""
    with archive.open(member) as stream:
        header = _header(stream, member)
        start = stream.tell()
    size = archive.getinfo(member).file_size
    if size != start + header.nbytes:
        raise ValueError(
            f"the header of {member} promises {header.nbytes} bytes, and there are {size - start}"
        )
    return header


def read_array(archive: zipfile.ZipFile, header: Header) -> np.ndarray:
    """Read the array of a header. Raises one of `UNREADABLE`, also if it is truncated."""
    with archive.open(header.member) as stream:
        if _header(stream, header.member) != header:
            raise ValueError(f"{header.member} has changed")
        content = bytearray(header.nbytes)
        view, filled = memoryview(content), 0
        while filled < len(view):
            block = stream.read(min(_BLOCK, len(view) - filled))
            if not block:
                raise EOFError(f"{header.member} ends after {filled} of {len(view)} bytes")
            view[filled : filled + len(block)] = block
            filled += len(block)
        if stream.read(1):  # the end, where the checksum is compared
            raise ValueError(f"{header.member} has more bytes than its header promises")
    array = np.frombuffer(content, header.dtype)
    if header.fortran:  # the first axis varies fastest
        return np.ascontiguousarray(array.reshape(header.shape[::-1]).T)
    return array.reshape(header.shape)


def _header(stream: IO[bytes], member: str) -> Header:
    version = np.lib.format.read_magic(stream)
    if version not in _LENGTHS:
        raise ValueError(f"{member} has the .npy version {version}")
    packed = stream.read(struct.calcsize(_LENGTHS[version]))
    (length,) = struct.unpack(_LENGTHS[version], packed)
    if length > _LONGEST_HEADER:
        raise ValueError(f"the header of {member} has {length} bytes")
    # Version 3 differs from 2 in the encoding of field names, which plain arrays do not have.
    formats = np.lib.format
    read = formats.read_array_header_1_0 if version == (1, 0) else formats.read_array_header_2_0
    shape, fortran, dtype = read(io.BytesIO(packed + stream.read(length)))
    if dtype.hasobject:
        raise ValueError(f"{member} holds Python objects, which are not loaded")
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"{member} has the shape {shape}")
    return Header(member, shape, dtype, fortran)
