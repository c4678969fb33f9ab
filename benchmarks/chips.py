"""Makers' figures for accelerators, and a program's minimum time at these peak rates."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Chip:
    """An accelerator's peak dense bfloat16 operations and memory traffic in bytes, per second.

    kind: a part of JAX's device name. topology: the compiler's name for eight of them. memory: the
    bytes that programs may take.
    """

    kind: str
    operations: float
    bytes: float
    topology: str | None = None
    memory: int | None = None

    def seconds(self, operations: float, moved: float) -> float:
        """Return the minimum time of a program: the larger of its compute and memory times."""
        return max(operations / self.operations, moved / self.bytes)


CHIPS = {
    "v5e": Chip("TPU v5 lite", 197e12, 0.82e12, "v5e:2x4", int(15.75 * 2**30)),
    "h100": Chip("H100", 989e12, 3.35e12),
    "h200": Chip("H200", 989e12, 4.8e12),
    "a100": Chip("A100", 312e12, 2.04e12),
}


def chip_of(device_kind: str) -> Chip | None:
    """Return the accelerator that JAX calls by this name, or None if unknown."""
    return next((chip for chip in CHIPS.values() if chip.kind in device_kind), None)
