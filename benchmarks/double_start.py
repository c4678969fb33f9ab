"""Two processes of every task started in the same work directory: is anything lost or duplicated?

    python -m benchmarks.double_start [--times 20] [--tasks finetune,sweep] [--directory DIR]

Each task runs at its smallest (`tiny_tasks`), once alone and then `times` times as two processes
that start within a random fraction of a second. One must succeed, and the other must succeed too or
print one sentence that names the lock holder; rows, networks and files must equal those of the
single run. Prints all violations; the exit code is the number of failed tries, at most 100.
"""

import time
from collections.abc import Iterator
from random import Random

from benchmarks.tiny_tasks import Task, Try, disturb, sentences


def main() -> None:
    """Start each task twice and print what happened."""
    disturb(__doc__.splitlines()[0], 20, together)


def together(task: Task, seconds: float, draw: Random) -> Iterator[Try]:
    """Make one try; in half of them both processes start at once."""
    yield start_two(task, max(draw.uniform(-1, 1), 0))


def start_two(task: Task, delay: float) -> Try:
    """Start two new runs, the second one `delay` seconds after the first."""
    task.clear()
    with task.start() as first:
        time.sleep(delay)
        with task.start() as second:
            ends = [(one.communicate()[1], one.returncode) for one in (first, second)]
    faults, refused = [], 0
    for errors, code in ends:
        said = sentences(errors)
        named = len(said) == 1 and " is in use by " in said[0]
        refused += code == 2 and named
        if not (code == 2 and named) and (code or said):
            faults.append(f"exit code {code}: {said}")
    if refused == 2:
        faults.append("both were refused")
    outcome = "one refused" if refused else "both ended well"
    return Try(f"{delay:.2f} s apart", outcome, faults + task.differences())


if __name__ == "__main__":
    main()
