"""Read a pickle as data: an interpreter of its opcodes that never calls anything in it.

`pickle.Unpickler` imports and calls what a file names; even a restricted one hands real classes to
a hostile file. Here, a name becomes a `Global`, a call becomes whatever `construct` makes of it (a
tensor, a dictionary, or an inert `Opaque`), and no object has a method that the file could reach.
Memory and time are bounded by the bytes that were read.
"""

# ruff: noqa: SIM905 (a list of words reads best as words)

import pickletools
import warnings
from collections.abc import Callable
from typing import IO, Any, cast

from rtl_jax.convert.denylist import (
    IMPORTERS,
    is_getattr,
    module_refused,
    refused,
    scheduler_attribute,
)
from rtl_jax.convert.inert import (
    Attribute,
    Buildable,
    Global,
    Opaque,
    RefusedError,
    is_plain_key,
    shown,
)
from rtl_jax.errors import UserError

# A checkpoint of ResNet-152 with its optimizer state holds about 0.2 MB and 1e5 opcodes of
# pickle; its weights lie outside the pickle.
MAX_BYTES = 32 << 20
MAX_OPCODES = 1_000_000

_NAMES_KEPT = 100
_NAME_LENGTH = 500


class Bounded:
    """A binary file limited to reading `MAX_BYTES`, so that no declared length is trusted."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._left = MAX_BYTES

    def read(self, count: int) -> bytes:
        self._spend(count)
        return self._file.read(count)

    def readline(self) -> bytes:
        line = self._file.readline(min(self._left + 1, 1 << 20))
        self._spend(len(line))
        return line

    def _spend(self, count: int) -> None:
        self._left -= count
        if count < 0 or self._left < 0:
            raise UserError(
                f"its pickle claims more than {MAX_BYTES >> 20} MiB without the weights: it is "
                "damaged or made to exhaust memory"
            )


class Interpreter:
    """The stack machine of one pickle.

    `allowed` says which names `construct` knows; `construct` returns the value of calling one, or
    NotImplemented. Any other call returns an `Opaque`. `persistent(pid)` returns the value of a
    persistent id. `placeholders` collects the names that were not allowed.
    """

    def __init__(
        self,
        allowed: Callable[[Global], bool],
        construct: Callable[[Global, tuple], Any],
        persistent: Callable[[Any], Any],
        placeholders: set[str],
    ) -> None:
        self._allowed = allowed
        self._construct = construct
        self._persistent = persistent
        self._placeholders = placeholders
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._copied = 0
        self._getattrs = 0  # occurrences of getattr on the stack, minus its inert calls

    def run(self, file: IO[bytes]) -> Any:
        """Read one pickle, leave `file` directly after it, and return its value.

        Raises RefusedError for a name that is a way to run code, UserError for a pickle that is too
        large, and the errors of `READ_ERRORS` for one that is malformed.
        """
        opcodes = pickletools.genops(cast(IO[bytes], Bounded(file)))
        with warnings.catch_warnings():
            # Warnings about backslashes in names, which only damaged files have.
            warnings.simplefilter("ignore", DeprecationWarning)
            for count, (opcode, argument, _) in enumerate(opcodes):
                if count > MAX_OPCODES:
                    raise UserError(f"its pickle has more than {MAX_OPCODES:,} opcodes")
                self._step(opcode.name, argument)
        if self._getattrs:
            raise _refusal("builtins.getattr")
        return self._stack.pop()

    def _step(self, opcode: str, argument: Any) -> None:
        stack = self._stack
        if opcode in _PUSH:
            stack.append(argument)
        elif opcode in _CONSTANT:
            stack.append(_CONSTANT[opcode])
        elif opcode in ("BINPUT", "LONG_BINPUT", "PUT"):
            if argument >> 32:  # as text it can have any size, and be made to collide
                raise ValueError("a place in the memo is too large")
            self._memo[argument] = stack[-1]
        elif opcode == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif opcode in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self._memo[argument])
            self._getattrs += stack[-1] is _GETATTR
        elif opcode == "MARK":
            self._marks.append(stack)
            self._stack = []
        elif opcode == "EMPTY_DICT":
            stack.append({})
        elif opcode == "EMPTY_LIST":
            stack.append([])
        elif opcode == "EMPTY_SET":
            stack.append(Opaque("set"))
        elif opcode in _TUPLE:
            size = _TUPLE[opcode]
            if len(stack) < size:
                raise IndexError("the stack is too short for a tuple")
            stack[-size:] = [tuple(stack[-size:])]
        elif opcode == "TUPLE":
            members = tuple(self._to_mark())
            self._stack.append(members)
        elif opcode in ("SETITEM", "SETITEMS"):
            items = self._to_mark() if opcode == "SETITEMS" else [stack.pop(-2), stack.pop()]
            _set_items(self._stack[-1], items)
        elif opcode in ("APPEND", "APPENDS"):
            items = self._to_mark() if opcode == "APPENDS" else [stack.pop()]
            if isinstance(self._stack[-1], list):
                self._stack[-1].extend(items)
        elif opcode in ("GLOBAL", "STACK_GLOBAL"):
            if opcode == "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
            else:
                module, _, name = argument.partition(" ")
            stack.append(self._named(module, name))
        elif opcode == "REDUCE" or opcode == "NEWOBJ":
            arguments, function = stack.pop(), stack.pop()
            stack.append(self._called(function, arguments))
        elif opcode == "NEWOBJ_EX":
            _, arguments, function = stack.pop(), stack.pop(), stack.pop()
            stack.append(self._called(function, arguments))
        elif opcode == "BUILD":
            state = stack.pop()
            if isinstance(stack[-1], Buildable):
                self._charge(state)
                stack[-1].build(state)
        elif opcode == "BINPERSID":
            stack.append(self._persistent(stack.pop()))
        elif opcode in ("DICT", "LIST", "FROZENSET", "ADDITEMS", "POP_MARK"):
            self._from_mark(opcode)
        elif opcode == "INST":
            module, _, name = argument.partition(" ")
            function = self._named(module, name)
            arguments = tuple(self._to_mark())
            self._stack.append(self._called(function, arguments))
        elif opcode == "OBJ":
            function, *rest = self._to_mark()
            self._stack.append(self._called(function, tuple(rest)))
        elif opcode == "DUP":
            stack.append(stack[-1])
            self._getattrs += stack[-1] is _GETATTR
        elif opcode == "POP":
            stack.pop()
        elif opcode not in ("PROTO", "FRAME", "STOP"):
            raise ValueError(f"a checkpoint has no use for the opcode {opcode}")

    def _charge(self, arguments: Any) -> None:
        """Bound what calls may copy: one large object can be the argument of a million calls."""
        for argument in arguments if isinstance(arguments, tuple) else ():
            if isinstance(argument, str | bytes):
                self._copied += len(argument)
            elif isinstance(argument, list | dict | tuple):
                self._copied += 64 * len(argument)
        if self._copied > 4 * MAX_BYTES:
            raise UserError("its pickle copies its objects without end: made to exhaust memory")

    def _to_mark(self) -> list[Any]:
        items = self._stack
        self._stack = self._marks.pop()
        return items

    def _from_mark(self, opcode: str) -> None:
        items = self._to_mark()
        if opcode == "DICT":
            self._stack.append({})
            _set_items(self._stack[-1], items)
        elif opcode == "LIST":
            self._stack.append(items)
        elif opcode == "FROZENSET":
            self._stack.append(Opaque("frozenset"))

    def _named(self, module: Any, name: Any) -> Any:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise ValueError("a name in the pickle is no string")
        if len(module) + len(name) > _NAME_LENGTH:
            raise ValueError("a name in the pickle is too long")
        if is_getattr(module, name):
            self._getattrs += 1
            return _GETATTR
        if "." in name and scheduler_attribute(module, name):
            self._list(f"{module}.{name}")
            return Attribute(f"{module}.{name}")
        if refused(module, name):
            raise _refusal(f"{module}.{name}")
        found = Global(module, name)
        if not self._allowed(found):
            self._list(found)
        return found

    def _list(self, name: object) -> None:
        if len(self._placeholders) < _NAMES_KEPT:
            self._placeholders.add(shown(name))

    def _called(self, function: Any, arguments: Any) -> Any:
        if isinstance(function, Attribute):
            raise _refusal(f"a call of {function.name}")
        if function is _GETATTR:
            return self._attribute(arguments)
        if not isinstance(function, Global):
            return Opaque("object")
        if function.name in IMPORTERS and isinstance(arguments, tuple) and arguments:
            module = arguments[0]
            known = isinstance(module, str) and len(module) <= _NAME_LENGTH
            if not known or module_refused(module):
                raise _refusal(f"{function} of {shown(module)}")
        if isinstance(arguments, tuple) and self._allowed(function):
            self._charge(arguments)
            value = self._construct(function, arguments)
            if value is not NotImplemented:
                return value
        return Opaque(shown(function))

    def _attribute(self, arguments: Any) -> Attribute:
        """Return getattr's value for a scheduler and one of its functions; refuse all others."""
        if isinstance(arguments, tuple) and len(arguments) == 2:
            owner, name = arguments
            if isinstance(owner, Opaque) and not isinstance(owner, Attribute):
                module, _, kind = owner.name.rpartition(".")
            elif isinstance(owner, Global):
                module, kind = owner
            else:
                module = kind = ""
            if (
                type(name) is str
                and len(name) < 100
                and scheduler_attribute(module, f"{kind}.{name}")
            ):
                self._getattrs -= 1
                return Attribute(f"{module}.{kind}.{name}")
        raise _refusal("builtins.getattr")


# Not a `Global`, so that no constructor mistakes it for one.
_GETATTR = Opaque("builtins.getattr")


def _refusal(what: str) -> RefusedError:
    return RefusedError(
        f"its pickle names {shown(what)}, which is a way to run code: the file is refused, and "
        "nothing in it was run. If you trust its authors, save the weights alone where it came "
        "from, torch.save(model.state_dict(), path) or as .safetensors"
    )


def _set_items(target: Any, items: list[Any]) -> None:
    if len(items) % 2:
        raise ValueError("a dictionary in the pickle has a key without a value")
    if not isinstance(target, dict):
        return
    for key, value in zip(items[::2], items[1::2], strict=True):
        if is_plain_key(key):
            target[key] = value


_CONSTANT = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLE = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PUSH = frozenset(
    """
    INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING
    BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8
    """.split()
)
