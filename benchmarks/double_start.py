"""Two processes of every task started together in one work directory: is anything lost or double?

    python -m benchmarks.double_start [--times 20] [--tasks finetune,sweep] [--directory DIR]

Each task runs at its smallest (`tiny_tasks`), once alone, then `times` times as two processes that
start within a random part of a second. One must end well, and the other too or with one sentence
that names the holder; rows, networks and files must be those of the run alone. Prints what is not
so; exits with the number of such tries, at most 100.
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.tiny_tasks import TASKS, Task, load, prepare, sentences


def main() -> None:
    """Start all of them twice and print what happened."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--directory", type=Path, help="where to work (default: a temporary one)")
    options = parser.parse_args()
    draw, bad = random.Random(options.seed), 0
    with tempfile.TemporaryDirectory() as temporary:
        tasks = prepare(options.directory or Path(temporary), options.tasks.split(","))
        told = {name: Counter[str]() for name in tasks}
        for turn in range(options.times):
            for name, (task, _) in tasks.items():
                # Half of the tries start at once.
                apart = max(draw.uniform(-1, 1), 0)
                outcome, faults = attempt(task, apart)
                told[name][outcome] += 1
                bad += bool(faults)
                for fault in faults:
                    print(f"{name}, {apart:.2f} s apart: {fault}", flush=True)
            print(f"{turn + 1} of {options.times} rounds, {bad} faulty tries (load {load():.1f})")
            for name, counts in told.items():
                each = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
                print(f"  {name}: {each}", flush=True)
    print(f"{bad} tries did not end as they should")
    sys.exit(min(bad, 100))


def attempt(task: Task, apart: float) -> tuple[str, list[str]]:
    """Start two new runs, so many seconds apart; what became of them, and all faults."""
    task.clear()
    with task.start() as first:
        time.sleep(apart)
        with task.start() as second:
            ends = [(one.communicate()[1], one.returncode) for one in (first, second)]
    faults, refused = [], 0
    for errors, code in ends:
        said = sentences(errors)
        named = len(said) == 1 and " is in use by process " in said[0]
        refused += code == 2 and named
        if not (code == 2 and named) and (code or said):
            faults.append(f"exit code {code}: {said}")
    if refused == 2:
        faults.append("both were refused")
    outcome = "one refused" if refused else "both ended well"
    return outcome, faults + task.differences()


if __name__ == "__main__":
    main()
