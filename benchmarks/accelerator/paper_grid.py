"""Hours of the paper's Table 4 on this accelerator, from measured steps, tests and features."""

import json
from typing import Any

from benchmarks import grid, machine
from benchmarks.accelerator.results import Part
from benchmarks.accelerator.sizes import blocks_of, programs_of
from benchmarks.accelerator.timing import peaks, time_case
from benchmarks.programs import Case
from rtl_jax.runtime import devices


class NoTime(Exception):  # noqa: N818 - not a fault
    """The part has no time left."""


class Seconds:
    """Seconds per image of a program, from the results of `programs` or measured here."""

    def __init__(self, part: Part):
        self.part = part
        before = part.results.path.with_name("programs.json")
        self.known: dict[str, Any] = json.loads(before.read_text()) if before.exists() else {}

    def __call__(self, case: Case) -> float:
        """Return the seconds per image, measuring if necessary; raise NoTime if no time is left."""
        found = self.known.get(case.name, {})
        if "seconds" not in found:
            if self.part.left < 5:
                raise NoTime
            found = time_case(case, self._reached(), quick=self.part.tiny)
            self.part.results.put(case.name, found)
            self.known[case.name] = found
        return found["seconds"] / case.images

    def _reached(self) -> dict[str, Any]:
        if "peaks" not in self.known:
            self.known["peaks"] = peaks(tiny=self.part.tiny)
        return self.known["peaks"]


def main() -> None:
    """Project the hours for both modes, one number of blocks at a time, until time runs out."""
    part = Part.from_arguments(__doc__)
    devices.enable_compilation_cache()
    part.results.put("machine", machine.describe())
    runs, images = grid.counted()
    part.results.put("grid", {"runs": runs, "training images, epochs counted": images})
    programs, seconds = programs_of(tiny=part.tiny), Seconds(part)
    for mode in grid.MODES:
        hours: dict[str, float] = {}
        for blocks in blocks_of(tiny=part.tiny):
            try:
                hours |= {str(blocks): grid.hours(programs, mode, seconds, (blocks,))[blocks]}
            except NoTime:
                break
            said = {"hours by blocks": hours, "hours": sum(hours.values())}
            said["whole"] = len(hours) == len(blocks_of(tiny=False))
            part.results.put(f"Table 4, {mode}", said)


if __name__ == "__main__":
    main()
