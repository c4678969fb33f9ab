"""Images/s, TFLOP/s and bytes/s of the programs, compared with the device's measured roofline."""

from collections.abc import Iterator

import jax

from benchmarks import machine
from benchmarks.accelerator.results import Part
from benchmarks.accelerator.sizes import blocks_of, programs_of
from benchmarks.accelerator.timing import peaks, time_case
from benchmarks.grid import SEEDS
from benchmarks.programs import Case, Programs
from rtl_jax.attacks.apgd import APGD
from rtl_jax.attacks.pgd import PGD
from rtl_jax.runtime import devices


def cases(programs: Programs, *, tiny: bool) -> Iterator[Case]:
    """Yield the most informative programs first, since time may run out after any of them."""
    if tiny:
        yield programs.training(1, 2)
        yield programs.paper(1)
        yield programs.features(1)
        yield programs.attack(PGD("l2", steps=2))
        return
    yield programs.training(3, SEEDS)
    yield programs.training(3, 1)
    yield programs.paper(3)
    yield programs.features(3)
    yield programs.attack(PGD("l2", steps=20))
    yield programs.evaluation(3, SEEDS)
    yield programs.evaluation(0, 1, mode="batch")
    for blocks in blocks_of(tiny=tiny):
        if blocks != 3:
            yield programs.training(blocks, SEEDS)
            yield programs.paper(blocks)
    yield programs.training(3, 20)
    yield programs.training(3, 1, perturbation="pgd")
    yield programs.training(None, 1, mode="batch")
    yield programs.attack(APGD("l2", steps=100))


def main() -> None:
    """Measure the programs in sequence until time runs out."""
    part = Part.from_arguments(__doc__)
    devices.enable_compilation_cache()
    part.results.put("machine", machine.describe())
    reached = part.results.measure("peaks", lambda: peaks(tiny=part.tiny))
    if "error" in reached:
        raise SystemExit(1)
    for case in cases(programs_of(tiny=part.tiny), tiny=part.tiny):
        if part.left < 5:
            break
        part.results.measure(case.name, lambda case=case: time_case(case, reached, quick=part.tiny))
        jax.clear_caches()


if __name__ == "__main__":
    main()
