"""Tensors of a checkpoint as shapes and places in a file; their values are read when asked for.

The optimizer state and the second copy of the weights in a `robustness` file thus cost
nothing but a few numbers each.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal

import ml_dtypes
import numpy as np

from convert.pickles import Buildable, Global, Opaque, is_plain_key, shown
from rtl_jax.errors import UserError

MAX_DIMENSIONS = 16

# The types of torch's storages, by the class that a pickle names and by `torch.dtype`.
_DTYPES: dict[str, Any] = {
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
_STORAGES = {
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
_STORAGE_MODULES = ("torch", "torch.cuda", "torch.storage")


@dataclasses.dataclass(frozen=True)
class Storage:
    """A run of bytes in the file. `read(start, stop)` gives some of them."""

    key: str
    dtype: np.dtype
    num_bytes: int
    read: Callable[[int, int], bytes]
    big_endian: bool = False


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor that was not read yet: shape, dtype, and `load` for its values."""

    shape: tuple[int, ...]
    dtype: np.dtype
    load: Callable[[], np.ndarray]
    stored_bytes: int | None = None  # where it is not in the file as it is

    @property
    def num_bytes(self) -> int:
        """The size of its values in the file."""
        if self.stored_bytes is not None:
            return self.stored_bytes
        return math.prod(self.shape) * self.dtype.itemsize


def storage_dtype(kind: Any) -> np.dtype:
    """The element type of the storage class that a pickle names; UserError if there is none."""
    if isinstance(kind, Global) and kind.module in _STORAGE_MODULES and kind.name in _STORAGES:
        return np.dtype(_DTYPES[_STORAGES[kind.name]])
    raise UserError(f"a tensor's storage is of an unknown kind, {shown(kind)}")


def strided(
    storage: Storage,
    dtype: np.dtype,
    offset: Any,
    shape: Any,
    stride: Any,
) -> Tensor:
    """A view of a storage, as torch pickles tensors: offset and strides count elements.

    Raises UserError where the view leaves the storage or repeats its elements: nothing that a
    file declares is believed before it fits the bytes that are there.
    """
    for numbers in (shape, stride):
        if not isinstance(numbers, tuple | list) or len(numbers) > MAX_DIMENSIONS:
            raise UserError("a tensor's shape or stride is no short tuple")
        if not all(_is_size(n) for n in numbers):
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
        # By the bytes: NumPy does not take every type of ml_dtypes for a view. It checks again that
        # the view lies inside.
        return np.ndarray(shape, dtype, values.view(np.uint8), strides=steps)

    return Tensor(shape, dtype, load)


def _is_size(number: Any) -> bool:
    return type(number) is int and 0 <= number < 1 << 48


def _from_bytes(data: bytes, dtype: np.dtype, big_endian: bool) -> np.ndarray:
    if not big_endian:
        return np.frombuffer(data, dtype)
    # By way of integers: ml_dtypes' types have no other byte order.
    part = {1: 1, 2: 2, 4: 4, 8: 8, 16: 8}[dtype.itemsize]
    if dtype.kind == "c":
        part = dtype.itemsize // 2
    return np.frombuffer(data, f">u{part}").astype(f"<u{part}").view(dtype)


class _NumpyDtype(Buildable):
    """`numpy.dtype`, of plain numbers only."""

    def __init__(self, code: str) -> None:
        if code[:1] not in tuple("fiub") or code[1:] not in tuple("1248"):
            raise ValueError("a dtype of numpy that weights do not have")
        self.dtype = np.dtype(code)

    def build(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] == ">":
            self.dtype = self.dtype.newbyteorder(">")


class _NumpyArray(Buildable):
    """`numpy.ndarray`; empty until the pickle gives its state."""

    def __init__(self) -> None:
        self.tensor: Tensor | None = None

    def build(self, state: Any) -> None:
        _, shape, kind, fortran, data = state
        if isinstance(data, str):  # Python 2
            data = data.encode("latin1")
        if not isinstance(kind, _NumpyDtype) or not isinstance(data, bytes):
            return  # an array of objects: inert
        if len(shape) > MAX_DIMENSIONS or not all(_is_size(n) for n in shape):
            raise ValueError("an array's shape is not made of a few small sizes")
        shape, dtype = tuple(shape), kind.dtype
        if math.prod(shape) * dtype.itemsize != len(data):
            raise ValueError(f"an array of shape {shape} holds {len(data)} bytes")
        order: Literal["F", "C"] = "F" if fortran is True else "C"

        def load() -> np.ndarray:
            return np.frombuffer(data, dtype).reshape(shape, order=order)

        self.tensor = Tensor(shape, dtype, load)


def _numpy_dtype(code: Any, *_: Any) -> Any:
    try:
        return _NumpyDtype(code)
    except (ValueError, TypeError):
        return Opaque("numpy.dtype")


def _numpy_scalar(kind: Any, data: Any = b"") -> Any:
    if isinstance(data, str):
        data = data.encode("latin1")
    if isinstance(kind, _NumpyDtype) and len(data) == kind.dtype.itemsize:
        return np.frombuffer(data, kind.dtype)[0].item()
    return Opaque("numpy.scalar")


class StateDict(dict[Any, Any], Buildable):
    """An ordered dictionary; `modules` are the names of its network's parts, also of those without
    tensors, where torch's `state_dict` made it."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.modules: tuple[str, ...] = ()

    def build(self, state: Any) -> None:
        """Take what torch notes beside the tensors: the version of every part, by its name."""
        metadata = state.get("_metadata") if isinstance(state, dict) else None
        if isinstance(metadata, dict):
            self.modules = tuple(name for name in metadata if isinstance(name, str))


def _ordered_dict(*arguments: Any) -> Any:
    if not arguments:
        return StateDict()
    pairs = arguments[0]
    if isinstance(pairs, dict):
        return StateDict(pairs)
    return StateDict((k, v) for k, v in pairs if is_plain_key(k))


def _rebuild_tensor(storage: Storage, offset: Any, shape: Any, stride: Any, *_: Any) -> Tensor:
    return strided(_a_storage(storage), storage.dtype, offset, shape, stride)


def _rebuild_tensor_v3(
    storage: Storage,
    offset: Any,
    shape: Any,
    stride: Any,
    grad: Any,
    hooks: Any,
    dtype: Any,
    *_: Any,
) -> Any:
    if not isinstance(dtype, Global) or dtype.module != "torch" or dtype.name not in _DTYPES:
        return Opaque(f"tensor of {shown(dtype)}")
    return strided(_a_storage(storage), np.dtype(_DTYPES[dtype.name]), offset, shape, stride)


def _a_storage(value: Any) -> Storage:
    if not isinstance(value, Storage):
        raise UserError("a tensor in the file is not made of a storage")
    return value


def _rebuild_from_type(function: Any, kind: Any, arguments: Any, *_: Any) -> Any:
    # Only torch's own functions: they copy nothing, so that no call within a call does.
    known = isinstance(function, Global) and function.module == "torch._utils"
    if known and isinstance(arguments, tuple) and allowed(function):
        return construct(function, arguments)
    return NotImplemented


def _first(value: Any = None, *_: Any) -> Any:
    return value


def _encode(text: Any = "", *_: Any) -> bytes:
    return text.encode("latin1")


_CONSTRUCTORS: dict[Global, Callable[..., Any]] = {
    Global("collections", "OrderedDict"): _ordered_dict,
    Global("collections", "defaultdict"): lambda *_: {},
    Global("builtins", "dict"): _ordered_dict,
    Global("__builtin__", "dict"): _ordered_dict,
    Global("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    Global("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    Global("torch._utils", "_rebuild_tensor_v3"): _rebuild_tensor_v3,
    Global("torch._utils", "_rebuild_parameter"): _first,
    Global("torch._utils", "_rebuild_parameter_with_state"): _first,
    Global("torch._tensor", "_rebuild_from_type_v2"): _rebuild_from_type,
    Global("torch", "Size"): _first,
    Global("_codecs", "encode"): _encode,
    Global("numpy", "dtype"): _numpy_dtype,
}
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _CONSTRUCTORS[Global(_module, "_reconstruct")] = lambda *_: _NumpyArray()
    _CONSTRUCTORS[Global(_module, "scalar")] = _numpy_scalar

_INERT_BUILTINS = (
    *("bool", "bytearray", "bytes", "complex", "float", "frozenset", "int", "list"),
    *("object", "range", "set", "slice", "str", "tuple", "type"),
)

# Names that only stand as arguments of the constructors.
_ARGUMENTS = {
    Global("numpy", "ndarray"),
    Global("torch", "device"),
    Global("torch", "Tensor"),
    Global("torch.nn.parameter", "Parameter"),
    *(Global("torch", name) for name in _DTYPES),
    *(Global(module, name) for module in ("builtins", "__builtin__") for name in _INERT_BUILTINS),
    *(Global(module, name) for module in _STORAGE_MODULES for name in _STORAGES),
}


def allowed(name: Global) -> bool:
    """Whether `construct` knows what the name stands for."""
    return name in _CONSTRUCTORS or name in _ARGUMENTS


def construct(name: Global, arguments: tuple) -> Any:
    """What a call of an allowed name gives, by functions of ours; NotImplemented for the rest."""
    if name in _CONSTRUCTORS:
        return _CONSTRUCTORS[name](*arguments)
    return NotImplemented


def as_tensor(value: Any) -> Tensor | None:
    """The tensor that an entry of a state dict is, or None."""
    if isinstance(value, _NumpyArray):
        return value.tensor
    return value if isinstance(value, Tensor) else None
