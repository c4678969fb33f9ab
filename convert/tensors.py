"""Tensors of a checkpoint as shapes and places in a file, whose values are read on demand.

The optimizer state and the second copy of the weights in a `robustness` file thus cost only a few
numbers each.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from rtl_jax.convert.inert import Global, shown
from rtl_jax.errors import UserError

MAX_DIMENSIONS = 16

# The types of torch's storages, by the class that a pickle names and by `torch.dtype`.
DTYPES: dict[str, Any] = {
    "float64": np.float64,
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "float8_e4m3fn": ml_dtypes.float8_e4m3fn,
    "float8_e5m2": ml_dtypes.float8_e5m2,
    "int64": np.int64,
    "int32": np.int32,
    "int16": np.int16,
    "int8": np.int8,
    "uint8": np.uint8,
    "bool": np.bool_,
    "complex64": np.complex64,
    "complex128": np.complex128,
}
STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "QInt8Storage": "int8",
    "QUInt8Storage": "uint8",
    "QInt32Storage": "int32",
    "UntypedStorage": "uint8",
    "_UntypedStorage": "uint8",
}
STORAGE_MODULES = ("torch", "torch.cuda", "torch.storage")


@dataclasses.dataclass(frozen=True)
class Storage:
    """A range of bytes in the file. `read(start, stop)` returns a part of it."""

    key: str
    dtype: np.dtype
    num_bytes: int
    read: Callable[[int, int], bytes]
    big_endian: bool = False


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor that has not been read yet: shape, dtype, and `load` for its values."""

    shape: tuple[int, ...]
    dtype: np.dtype
    load: Callable[[], np.ndarray]
    stored_bytes: int | None = None  # if it is not stored as it is

    @property
    def num_bytes(self) -> int:
        """The size of its values in the file."""
        if self.stored_bytes is not None:
            return self.stored_bytes
        return math.prod(self.shape) * self.dtype.itemsize


def storage_dtype(kind: Any) -> np.dtype:
    """Return the dtype of the storage class that a pickle names; UserError if it is unknown."""
    if isinstance(kind, Global) and kind.module in STORAGE_MODULES and kind.name in STORAGES:
        return np.dtype(DTYPES[STORAGES[kind.name]])
    raise UserError(f"a tensor's storage is of an unknown kind, {shown(kind)}")


def strided(
    storage: Storage,
    dtype: np.dtype,
    offset: Any,
    shape: Any,
    stride: Any,
) -> Tensor:
    """Return a view of a storage, as torch pickles tensors: offset and strides count elements.

    Raises UserError if the view leaves the storage or repeats its elements: nothing that a file
    declares is trusted before it fits the bytes that are there.
    """
    for numbers in (shape, stride):
        if not isinstance(numbers, tuple | list) or len(numbers) > MAX_DIMENSIONS:
            raise UserError("a tensor's shape or stride is not a short tuple")
        if not all(is_size(n) for n in numbers):
            raise UserError("a tensor's shape or stride is not made of small positive numbers")
    if type(offset) is not int or offset < 0 or len(shape) != len(stride):
        raise UserError(f"a tensor has offset {shown(offset)}, {len(shape)} sizes and "
                        f"{len(stride)} strides")  # fmt: skip
    available = storage.num_bytes // dtype.itemsize
    count = math.prod(shape)
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
    if count and last >= available:
        raise UserError(
            f"a tensor of shape {tuple(shape)} and stride {tuple(stride)} reaches element {last} "
            f"of a storage that has {available}"
        )
    if count > available:
        raise UserError(
            f"a tensor of shape {tuple(shape)} repeats the elements of a storage that has only "
            f"{available}"
        )
    shape, stride = tuple(shape), tuple(stride)

    def load() -> np.ndarray:
        if not count:
            return np.zeros(shape, dtype)
        size = dtype.itemsize
        data = storage.read(offset * size, (last + 1) * size)
        values = _from_bytes(data, dtype, storage.big_endian)
        steps = tuple(step * size for step in stride)
        # Via bytes, since NumPy cannot view every type of ml_dtypes. It checks again that the view
        # lies inside.
        return np.ndarray(shape, dtype, values.view(np.uint8), strides=steps)

    return Tensor(shape, dtype, load)


def is_size(number: Any) -> bool:
    """Whether a number may be a size or a stride: a small, non-negative integer."""
    return type(number) is int and 0 <= number < 1 << 48


def _from_bytes(data: bytes, dtype: np.dtype, big_endian: bool) -> np.ndarray:
    if not big_endian:
        return np.frombuffer(data, dtype)
    # Via integers, since ml_dtypes' types have no other byte order.
    part = {1: 1, 2: 2, 4: 4, 8: 8, 16: 8}[dtype.itemsize]
    if dtype.kind == "c":
        part = dtype.itemsize // 2
    return np.frombuffer(data, f">u{part}").astype(f"<u{part}").view(dtype)
