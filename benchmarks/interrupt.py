"""Ctrl-C and SIGTERM at random moments of every task: does it stop, and does it resume?

    python -m benchmarks.interrupt [--times 30] [--seed 0] [--tasks finetune,sweep] [--directory D]

Each task runs at its smallest (`tiny_tasks`), once undisturbed. Then, `times` times for each
signal, a new run is interrupted at a random moment between the program's first lines and its end.
It must stop with one sentence and exit code 130 or 143. The same command must then end with the
same rows, networks and files as the undisturbed run, and leave nothing else. Prints all violations;
the exit code is the number of failed tries, at most 100.
"""

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

from benchmarks.tiny_tasks import Task, Try, disturb, sentences

PATIENCE = 60.0  # seconds that a run may take to stop


def main() -> None:
    """Interrupt all tasks and print what happened."""
    disturb(__doc__.splitlines()[0], 30, both)


def both(task: Task, seconds: float, draw: Random) -> Iterator[Try]:
    """Make one try with each signal, at different random moments."""
    for number in (signal.SIGINT, signal.SIGTERM):
        yield interrupt(task, number, draw.uniform(0, seconds))


def interrupt(task: Task, number: signal.Signals, moment: float) -> Try:
    """Interrupt a new run after `moment` seconds, then run the same command again."""
    how = f"{number.name} after {moment:.2f} s"
    task.clear()
    with task.start() as process:
        _wait_until_it_listens(process)
        time.sleep(moment)
        process.send_signal(number)
        try:
            output, errors = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)  # to print the stacks of its threads
            stacks = process.communicate()[1][-5000:]
            return Try(how, "went on", [f"it went on for {PATIENCE:.0f} s, in\n{stacks}"])
    said, code = sentences(errors), process.returncode
    faults = []
    if code in (0, -number):  # it had finished already
        outcome = f"finished at {number.name}"
        faults += [f"said {said}"] if said else []
        faults += [f"finished, but {one}" for one in task.differences()]
    else:
        outcome = f"stopped at {number.name}"
        if code != 128 + number or len(said) != 1 or not said[0].startswith(("interr", "stopped")):
            faults.append(f"exit code {code}, {output[-300:]!r} and {said}")
    with task.start() as process:
        output, errors = process.communicate()
    if process.returncode or sentences(errors):
        faults.append(f"then exit code {process.returncode}: {sentences(errors)}")
    return Try(how, outcome, faults + [f"then {one}" for one in task.differences()])


def _wait_until_it_listens(process: subprocess.Popen[str]) -> None:
    """Wait until the program has installed its handler; before that, Python itself is starting."""
    while process.poll() is None:
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("SigCgt:") and int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1:
                return
        time.sleep(0.005)


if __name__ == "__main__":
    main()
