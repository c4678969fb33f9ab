"""Construction of the tensors, arrays and dictionaries of a pickle by our own functions only."""

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from rtl_jax.convert.inert import Buildable, Global, Opaque, is_plain_key, shown
from rtl_jax.convert.tensors import (
    DTYPES,
    MAX_DIMENSIONS,
    STORAGE_MODULES,
    STORAGES,
    Storage,
    Tensor,
    is_size,
    strided,
)
from rtl_jax.errors import UserError


class _NumpyDtype(Buildable):
    """`numpy.dtype`, for plain numbers only."""

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
        if len(shape) > MAX_DIMENSIONS or not all(is_size(n) for n in shape):
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
    """An ordered dictionary.

    If torch's `state_dict` made it, `modules` are the names of all modules of its network,
    including those without tensors.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.modules: tuple[str, ...] = ()

    def build(self, state: Any) -> None:
        """Take torch's metadata, which has the version of every module by its name."""
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
    if not isinstance(dtype, Global) or dtype.module != "torch" or dtype.name not in DTYPES:
        return Opaque(f"tensor of {shown(dtype)}")
    return strided(_a_storage(storage), np.dtype(DTYPES[dtype.name]), offset, shape, stride)


def _a_storage(value: Any) -> Storage:
    if not isinstance(value, Storage):
        raise UserError("a tensor in the file is not made of a storage")
    return value


def _rebuild_from_type(function: Any, kind: Any, arguments: Any, *_: Any) -> Any:
    # Only torch's own functions: they copy nothing, so no nested call does.
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

# Names that occur only as arguments of the constructors.
_ARGUMENTS = {
    Global("numpy", "ndarray"),
    Global("torch", "device"),
    Global("torch", "Tensor"),
    Global("torch.nn.parameter", "Parameter"),
    *(Global("torch", name) for name in DTYPES),
    *(Global(module, name) for module in ("builtins", "__builtin__") for name in _INERT_BUILTINS),
    *(Global(module, name) for module in STORAGE_MODULES for name in STORAGES),
}


def allowed(name: Global) -> bool:
    """Whether `construct` knows the name."""
    return name in _CONSTRUCTORS or name in _ARGUMENTS


def construct(name: Global, arguments: tuple) -> Any:
    """Return the result of calling an allowed name, by our own functions, or NotImplemented."""
    if name in _CONSTRUCTORS:
        return _CONSTRUCTORS[name](*arguments)
    return NotImplemented


def as_tensor(value: Any) -> Tensor | None:
    """Return the tensor in a state dict's entry, or None if it is not one."""
    if isinstance(value, _NumpyArray):
        return value.tensor
    return value if isinstance(value, Tensor) else None
