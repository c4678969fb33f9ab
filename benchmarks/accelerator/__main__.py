"""Benchmark an accelerator that is available only for minutes, keeping all finished results.

    python -m benchmarks.accelerator [--minutes 10] [--output DIR] [--data FILE.npz] [--tiny]

The parts run in this order, each in its own process with a share of the remaining time, and each
writes DIR/PART.json as it proceeds: `tests` (pytest -m gpu), `programs` (images/s, TFLOP/s and
bytes/s, compared with the roofline), `beside_torch`, `paper_grid` (Table 4's hours from measured
steps) and `source` (a better source from FILE.npz). DIR/summary.json says how each part ended. DIR
defaults to $OUT if set, else runs/accelerator. --tiny runs a small version of every part, also on a
CPU.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.accelerator.results import Results

# The maximum share of the time remaining at its start that each part may take.
PARTS = {"tests": 0.25, "programs": 0.45, "beside_torch": 0.55, "paper_grid": 0.5, "source": 1.0}
# Seconds that a part has to write its results after it is asked to stop.
GRACE = 10.0


def main() -> None:
    """Run the parts in sequence until time runs out."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accelerator", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    usual = Path(os.environ.get("OUT") or "runs/accelerator")
    parser.add_argument("--minutes", type=float, default=10.0, help="of the whole run, at most")
    parser.add_argument("--output", type=Path, default=usual, metavar="DIR")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--data", metavar="FILE.npz", help="the images that `source` trains on")
    parser.add_argument("--tiny", action="store_true", help="everything in small")
    options = parser.parse_args()
    if not 0 < options.minutes < float("inf"):
        parser.error(f"--minutes: expected a positive number, received {options.minutes}")
    ends = time.monotonic() + 60 * options.minutes - GRACE
    options.output.mkdir(parents=True, exist_ok=True)
    summary = Results(options.output / "summary.json")
    for part in options.parts:
        path = options.output / f"{part}.json"
        path.unlink(missing_ok=True)  # from an earlier run
        seconds = PARTS[part] * (ends - time.monotonic())
        if seconds < 1:
            summary.put(part, "not begun: no time was left")
            continue
        command = [sys.executable, "-m", f"benchmarks.accelerator.{part}", f"--output={path}"]
        command += [f"--seconds={seconds:.0f}", *(["--tiny"] if options.tiny else [])]
        command += [f"--data={options.data}"] if options.data else []
        started = time.monotonic()
        ended = run(command, seconds)
        summary.put(part, f"{ended} after {time.monotonic() - started:.0f} s")
        print(f"{part}: {summary.content[part]}", flush=True)


def run(command: list[str], seconds: float) -> str:
    """Run a part, stop its process group when its time is up, and return how it ended."""
    # The environment chooses the platform; later parts reuse programs compiled by earlier ones.
    process = subprocess.Popen(command, start_new_session=True)
    try:
        code = process.wait(seconds)
        return "done" if code == 0 else f"failed with code {code}"
    except subprocess.TimeoutExpired:
        return "stopped"
    finally:
        _end(process)


def _end(process: subprocess.Popen) -> None:
    """End a part's process group: first with SIGTERM, then with SIGKILL."""
    for number, patience in ((signal.SIGTERM, GRACE), (signal.SIGKILL, None)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            continue


if __name__ == "__main__":
    main()
