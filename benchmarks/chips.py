"""What accelerators can do in a second, by their makers, and the time of a program at that."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Chip:
    """An accelerator: dense bfloat16 operations and bytes of its memory, in a second.

    kind: what JAX's name of the device contains. topology: eight of them, for the compiler.
    """

    kind: str
    operations: float
    bytes: float
    topology: str | None = None

    def seconds(self, operations: float, moved: float) -> float:
        """The least time of a program: what it computes or what it moves takes longer."""
        return max(operations / self.operations, moved / self.bytes)


CHIPS = {
    "v5e": Chip("TPU v5 lite", 197e12, 0.82e12, "v5e:2x4"),
    "h100": Chip("H100", 989e12, 3.35e12),
    "h200": Chip("H200", 989e12, 4.8e12),
    "a100": Chip("A100", 312e12, 2.04e12),
}


def chip_of(device_kind: str) -> Chip | None:
    """The accelerator that JAX calls so; None where it is not known."""
    return next((chip for chip in CHIPS.values() if chip.kind in device_kind), None)
