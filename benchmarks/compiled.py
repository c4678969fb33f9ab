"""Cross-compilation for accelerators that are not present: operations, bytes and memory.

    python -m benchmarks.compiled [--programs REGEX] [--output FILE.json]
    python -m benchmarks.compiled --read FILE.json
    python -m benchmarks.compiled --seeds 20

Compiles the programs of a fine-tuning, a sweep, an attack and a source's training for a TPU v5e,
with ResNet-50 on batches of 128 images of 224 px in bfloat16. Prints for each what the compiler
says: operations, bytes moved (all of them, and those to and from the device's memory), memory
beyond arguments and results, and the roofline time at the accelerator's peak. Nothing is executed.
Needs the package libtpu (extra `tpu`), and takes minutes on two cores. A program that does not fit
into the device's memory is reported, and the others follow. With --output, each result is added to
FILE.json as soon as it is compiled; --read prints the results in that file, with the resulting
hours for Table 4's grid. --seeds prints, for each number of trained blocks, how many of N seeds fit
into one program; to find out, it compiles training steps and a test batch.
"""

import argparse
import dataclasses
import importlib.util
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

# Set before importing JAX, so that it does not look for a TPU, locally or in the cloud.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-8")
os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
# libtpu's lock protects a TPU, and there is none; another process may compile or have been killed.
os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "true")

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from benchmarks import machine, traffic
from benchmarks.chips import CHIPS, Chip
from benchmarks.grid import MODES, hours
from benchmarks.programs import Case, Programs
from rtl_jax.models.architecture import architecture
from rtl_jax.runtime.devices import mapped_over_devices
from rtl_jax.train.abstract import Stored
from rtl_jax.train.parallel import Needs, most_seeds, needed


@dataclasses.dataclass(frozen=True)
class Compiled:
    """The compiler's estimates for a program, on one device."""

    name: str
    operations: float
    bytes: float  # all accesses, including those to memory on the chip
    memory_bytes: float  # to and from the device's memory (`benchmarks.traffic`)
    temporaries: int
    seconds: float  # of compilation

    def row(self, chip: Chip) -> list[str]:
        """Return the cells of a table row."""
        longest = chip.seconds(self.operations, self.memory_bytes)
        return [
            self.name,
            f"{self.operations / 1e12:.2f} T",
            f"{self.bytes / 2**30:.2f} GiB",
            f"{self.memory_bytes / 2**30:.2f} GiB",
            f"{self.temporaries / 2**30:.2f} GiB",
            f"{1e3 * longest:.1f} ms",
            f"{self.operations / chip.operations / longest:.0%}",
        ]


PROGRAMS = Programs(architecture("resnet50", num_classes=10), 224, batch=128, stored=1600)
HEADER = [
    "program",
    "operations",
    "bytes",
    "of memory",
    "temporaries",
    "roofline",
    "compute's share",
]


def main() -> None:
    """Compile all programs and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--programs", default="", help="a regular expression of their names")
    parser.add_argument("--output", type=Path, metavar="FILE", help="JSON that results join")
    parser.add_argument("--read", type=Path, metavar="FILE", help="print what such a file has")
    parser.add_argument("--seeds", type=int, metavar="N", help="how many of N run in one program")
    options = parser.parse_args()
    chip = CHIPS["v5e"]
    if options.read:
        for line in table(list(read(options.read).values()), chip):
            print(line)
        return
    devices = devices_of(chip)
    print(devices[0].device_kind, machine.describe())
    if options.seeds:
        for line in seeds_by_blocks(devices[0], chip, options.seeds):
            print(line, flush=True)
        return
    print(" | ".join(HEADER))
    for case in PROGRAMS.every():
        if not re.search(options.programs, case.name):
            continue
        try:
            found = compile_for(devices, case)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            print(f"{case.name} | does not fit: {str(error).splitlines()[0]}", flush=True)
            continue
        print(" | ".join(found.row(chip)), f"| {found.seconds:.0f} s to compile", flush=True)
        if options.output:
            keep(options.output, found)


def seeds_by_blocks(device: jax.Device, chip: Chip, seeds: int) -> Iterator[str]:
    """Yield lines of Markdown: how many seeds of a sweep run in one program, and what they take."""
    yield "| blocks | seeds in one program | programs | memory | programs compiled to find them |"
    yield "|---|---|---|---|---|"
    for blocks in (0, 1, 3, 9, None):
        program = PROGRAMS.finetuning(blocks)
        stored = Stored.expected(program, PROGRAMS.stored)
        taken: dict[int, float] = {}

        def needs(*arguments: Any, taken: dict[int, float] = taken) -> Needs:
            found = needed(*arguments, device)
            taken[arguments[1]] = found.total
            return found

        with jax.default_matmul_precision("default"):
            number = most_seeds(program, seeds, stored, free=lambda: chip.memory or 0, needs=needs)
        name = "all" if blocks is None else blocks
        yield (
            f"| {name} | {number} | {-(-seeds // number)} | {taken[number] / 2**30:.1f} GiB | "
            f"{2 * len(taken)} (seeds: {', '.join(map(str, taken))}) |"
        )


def read(path: Path) -> dict[str, Compiled]:
    """Read a file of results into a dictionary by program name."""
    every = json.loads(path.read_text())["programs"] if path.exists() else []
    return {one["name"]: Compiled(**one) for one in every}


def keep(path: Path, found: Compiled) -> None:
    """Add a program's result to a file, replacing an earlier one."""
    every = {**read(path), found.name: found}
    content = {
        "machine": machine.describe(),
        "programs": [dataclasses.asdict(one) for one in every.values()],
    }
    path.write_text(json.dumps(content, indent=1))


def table(found: Sequence[Compiled], chip: Chip) -> Iterator[str]:
    """Yield lines of Markdown with the programs and the hours of Table 4."""
    yield "| " + " | ".join(HEADER) + " |"
    yield "|" + "---|" * len(HEADER)
    for one in found:
        yield "| " + " | ".join(one.row(chip)) + " |"
    for mode in MODES:
        for name in ("v5e", "h100"):
            for count, moved in COUNTS.items():
                by_blocks = projected({one.name: one for one in found}, mode, CHIPS[name], moved)
                said = "not all of its programs are here"
                if by_blocks is not None:
                    said = f"{sum(by_blocks.values()):,.1f} h ("
                    said += ", ".join(f"{one:,.1f}" for one in by_blocks.values()) + ")"
                yield f"Table 4's grid, {mode}, on the roofline of {name}, {count}: {said}"


# The bytes of which a projection takes the time.
COUNTS: Mapping[str, Callable[[Compiled], float]] = {
    "bytes of memory": lambda one: one.memory_bytes,
    "all bytes": lambda one: one.bytes,
    "operations only": lambda one: 0.0,
}


def projected(
    found: Mapping[str, Compiled], mode: str, chip: Chip, moved: Callable[[Compiled], float]
) -> dict[int, float] | None:
    """Project the hours of Table 4's grid on a chip's roofline, by number of trained blocks.

    `moved` gives a program's bytes. Returns None if a program is missing.
    """

    def an_image(case: Case) -> float:
        one = found[case.name]
        return chip.seconds(one.operations, moved(one)) / case.images

    try:
        return hours(PROGRAMS, mode, an_image)
    except KeyError:
        return None


def devices_of(chip: Chip) -> Sequence[jax.Device]:
    """Return eight target devices, which need not exist. Raises SystemExit without libtpu."""
    try:
        return topologies.get_topology_desc(topology_name=chip.topology, platform="tpu").devices
    except Exception as error:
        if importlib.util.find_spec("libtpu") is None:
            raise SystemExit("the compiler for TPUs is missing: pip install -e '.[tpu]'") from error
        raise


def lower(devices: Sequence[jax.Device], case: Case) -> Any:
    """Lower a program for one of the devices or, if its case is divided, for all of them."""
    mesh = Mesh(np.array(devices), ("batch",))
    alone = NamedSharding(mesh, PartitionSpec()) if case.divided else None
    whole = alone or SingleDeviceSharding(devices[0])

    def on_device(leaf: Any, place: Any = whole) -> Any:
        if not isinstance(leaf, jax.ShapeDtypeStruct):
            return leaf
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)

    def part(leaf: Any) -> Any:
        spec = PartitionSpec(*[None] * (leaf.ndim - 1), "batch")
        return on_device(leaf, NamedSharding(mesh, spec))

    arguments, keywords = jax.tree.map(on_device, (case.arguments, case.keywords))
    if case.divided:
        keywords[case.divided] = jax.tree.map(part, case.keywords[case.divided])
    # Code that depends on the platform must choose the form for this one.
    with (
        jax.default_device(devices[0]),
        jax.default_matmul_precision("default"),
        jax.enable_x64(case.float64),
    ):
        if case.mapped:
            return mapped_over_devices(case.function, devices).lower(*case.arguments)
        return case.function.lower(*arguments, **keywords)


def compile_for(devices: Sequence[jax.Device], case: Case) -> Compiled:
    """Compile a program, and the body of its loop, for devices that need not exist."""
    started = time.monotonic()
    compiled = lower(devices, case).compile()
    costs: Any = compiled.cost_analysis()
    memory: Any = compiled.memory_analysis()
    operations, moved = costs["flops"], costs["bytes accessed"]
    memory_bytes = traffic.memory_bytes(compiled.as_text())
    if case.body is not None and case.extra:
        body = compile_for(devices, case.body)
        operations += case.extra * body.operations
        moved += case.extra * body.bytes
        memory_bytes += case.extra * body.memory_bytes
    temporaries = memory.temp_size_in_bytes
    seconds = time.monotonic() - started
    return Compiled(case.name, operations, moved, memory_bytes, temporaries, seconds)


if __name__ == "__main__":
    main()
