"""Bytes that a program compiled for a TPU moves to and from its memory, from the program's text.

The compiler's own count, "bytes accessed", includes what never leaves the chip: it copies
arguments to the on-chip memory ahead of their use, leaves small results there, and counts every
access to them. A roofline takes the bandwidth of the memory outside the chip (HBM), so this counts
only arrays that lie there. In a layout, `S(1)` means that an array lies on the chip.
"""

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping

_ARRAY = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\](?:\{([^}]*)\})?")
_INSTRUCTION = re.compile(r"\s+(?:ROOT )?%?([\w.-]+) = (.*)")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{$")
_OPERAND = re.compile(r"%([\w.-]+)")
_CALLED = re.compile(r"(?:calls|body|to_apply|true_computation|false_computation)=%?([\w.-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
# They rename or group arrays, or end what another instruction has begun.
_FREE = frozenset(
    [
        "parameter",
        "constant",
        "tuple",
        "get-tuple-element",
        "bitcast",
        "copy-done",
        "slice-done",
        "async-done",
        "after-all",
        "custom-call",
        "partition-id",
        "replica-id",
    ]
)
_SLICES = frozenset(["slice", "dynamic-slice", "gather"])


@dataclasses.dataclass(frozen=True)
class _Array:
    size: int  # bytes
    on_chip: bool

    @property
    def in_memory(self) -> int:
        return 0 if self.on_chip else self.size


@dataclasses.dataclass(frozen=True)
class _Instruction:
    name: str
    kind: str
    results: tuple[_Array, ...]
    operands: tuple[str, ...]
    called: tuple[str, ...]
    number: int | None  # of a parameter


Program = Mapping[str, Mapping[str, _Instruction]]


def memory_bytes(text: str) -> int:
    """Return the bytes to and from HBM of a compiled program, as by `compiled.as_text()`.

    Like the compiler, it counts the body of a loop once, and the largest branch of a condition.
    """
    program, entry = _parsed(text)
    return _computation(program, entry)


def _parsed(text: str) -> tuple[Program, str]:
    program: dict[str, dict[str, _Instruction]] = {}
    entry, current = "", ""
    for line in text.splitlines():
        if found := _COMPUTATION.match(line):
            current = found[2]
            program[current] = {}
            entry = current if found[1] else entry
        elif (found := _INSTRUCTION.match(line)) and current:
            instruction = _instruction(found[1], found[2])
            program[current][instruction.name] = instruction
    return program, entry


def _instruction(name: str, rest: str) -> _Instruction:
    """Parse 'f32[8]{0} add(%a, %b), metadata...' or '(f32[8], ...) fusion(...), calls=%c'."""
    end = _closing(rest) if rest.startswith("(") else rest.index(" ")
    results, rest = rest[:end], rest[end:].lstrip()
    start = rest.index("(")
    arguments = rest[start : start + _closing(rest[start:])]
    attributes = rest[start + len(arguments) :]
    branches = _BRANCHES.search(attributes)
    called = _CALLED.findall(attributes) + (_OPERAND.findall(branches[1]) if branches else [])
    kind = rest[:start]
    return _Instruction(
        name,
        kind,
        tuple(_arrays(results)),
        tuple(_OPERAND.findall(arguments)),
        tuple(called),
        int(arguments[1:-1]) if kind == "parameter" else None,
    )


def _closing(text: str) -> int:
    """Return the position after the parenthesis that closes the first."""
    depth = 0
    for position, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return position + 1
    raise ValueError(f"a parenthesis is not closed: {text[:80]}")


def _arrays(text: str) -> Iterator[_Array]:
    for kind, shape, layout in _ARRAY.findall(text):
        size = 1 if kind == "pred" else int(re.sub(r"\D", "", kind) or 0) // 8
        for length in filter(None, shape.split(",")):
            size *= int(length)
        yield _Array(size, "S(1)" in layout)


def _in_memory(arrays: Iterable[_Array]) -> int:
    return sum(array.in_memory for array in arrays)


def _computation(program: Program, name: str) -> int:
    instructions = program[name]
    return sum(_moved(program, instructions, one) for one in instructions.values())


def _moved(program: Program, instructions: Mapping[str, _Instruction], one: _Instruction) -> int:
    if one.kind in _FREE:
        return 0
    if one.kind == "conditional":
        return max(_computation(program, branch) for branch in one.called)
    if one.kind in ("while", "call"):
        return sum(_computation(program, body) for body in one.called)
    if one.kind == "copy-start":  # to, from and a counter
        return _in_memory(one.results[:2])
    if one.kind.endswith("-start"):  # of a slice: from, to and counters
        source, result = one.results[:2]
        return result.in_memory + (0 if source.on_chip else result.size)
    written = _in_memory(one.results)
    if one.kind == "dynamic-update-slice":  # in place
        return 2 * _in_memory(instructions[one.operands[1]].results)
    read = [_in_memory(instructions[operand].results) for operand in one.operands]
    if one.kind in _SLICES and read[0]:
        read[0] = sum(array.size for array in one.results)
    if one.kind == "fusion":
        parts = _sliced(program[one.called[0]])
        read = [min(size, parts.get(index, size)) for index, size in enumerate(read)]
    return written + sum(read)


def _sliced(fused: Mapping[str, _Instruction]) -> dict[int, int]:
    """Return the bytes of each parameter that a fusion reads only slices of, by its number."""
    found: dict[int, int] = {}
    for parameter in fused.values():
        if parameter.number is None:
            continue
        uses = [one for one in fused.values() if parameter.name in one.operands]
        if uses and all(one.kind in _SLICES and one.operands[0] == parameter.name for one in uses):
            found[parameter.number] = sum(array.size for one in uses for array in one.results)
    return found
