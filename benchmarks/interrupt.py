"""Ctrl-C and SIGTERM at random moments of every task: does it stop, and does it go on?

    python -m benchmarks.interrupt [--times 30] [--seed 0] [--tasks finetune,sweep] [--directory D]

Each task runs at its smallest (`tiny_tasks`), once undisturbed. Then, `times` times with each
signal, a new one is interrupted at a random moment, between the program's first lines and its end.
It must stop with one sentence and 130 or 143, and the same command must then end with the same
rows, networks and files as the undisturbed run, and leave nothing else. Prints what does not; exits
with the number of such tries, at most 100.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.tiny_tasks import TASKS, Task, load, prepare, sentences

PATIENCE = 60.0  # seconds to stop in


def main() -> None:
    """Interrupt all of them and print what happened."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--directory", type=Path, help="where to work (default: a temporary one)")
    options = parser.parse_args()
    draw, bad = random.Random(options.seed), 0
    with tempfile.TemporaryDirectory() as temporary:
        tasks = prepare(options.directory or Path(temporary), options.tasks.split(","))
        told = {name: Counter[str]() for name in tasks}
        slowest = dict.fromkeys(tasks, 0.0)
        for turn in range(options.times):
            for name, (task, seconds) in tasks.items():
                for number in (signal.SIGINT, signal.SIGTERM):
                    moment = draw.uniform(0, seconds)
                    outcome, took, faults = attempt(task, number, moment)
                    told[name][f"{outcome} at {number.name}"] += 1
                    slowest[name] = max(slowest[name], took)
                    bad += bool(faults)
                    for fault in faults:
                        print(f"{name}, {number.name} after {moment:.2f} s: {fault}", flush=True)
            print(f"{turn + 1} of {options.times} rounds, {bad} faulty tries (load {load():.1f})")
            for name, counts in told.items():
                each = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
                print(f"  {name}: {each}; within {slowest[name]:.1f} s", flush=True)
    print(f"{bad} tries did not end as they should")
    sys.exit(min(bad, 100))


def attempt(task: Task, number: signal.Signals, moment: float) -> tuple[str, float, list[str]]:
    """Interrupt a new run and go on; what it was, the seconds it took to stop, and all faults."""
    task.clear()
    with task.start() as process:
        _wait_until_it_listens(process)
        time.sleep(moment)
        asked = time.monotonic()
        process.send_signal(number)
        try:
            output, errors = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return "went on", PATIENCE, [f"it went on for {PATIENCE:.0f} s"]
    took = time.monotonic() - asked
    said, code = sentences(errors), process.returncode
    faults = []
    if code in (0, -number):  # nothing was left to do
        outcome = "finished"
        faults += [f"said {said}"] if said else []
        faults += [f"finished, but {one}" for one in task.differences()]
    else:
        outcome = "stopped"
        if code != 128 + number or len(said) != 1 or not said[0].startswith(("interr", "stopped")):
            faults.append(f"exit code {code}, {output[-300:]!r} and {said}")
    with task.start() as process:
        output, errors = process.communicate()
    if process.returncode or sentences(errors):
        faults.append(f"then exit code {process.returncode}: {sentences(errors)}")
    return outcome, took, faults + [f"then {one}" for one in task.differences()]


def _wait_until_it_listens(process: subprocess.Popen[str]) -> None:
    """Until the program has its handler; before, Python itself is starting."""
    while process.poll() is None:
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("SigCgt:") and int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1:
                return
        time.sleep(0.005)


if __name__ == "__main__":
    main()
