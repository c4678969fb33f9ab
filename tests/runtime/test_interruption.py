"""Ctrl-C ends a program, also where Python would drop it."""

import subprocess
import sys
import threading

import pytest

from rtl_jax.runtime.interruption import asked_to_stop, insisting

# Ctrl-C meets the garbage collector's callback, as it meets JAX's after a long compilation: the
# handler runs in there, and Python drops what it raises.
SCRIPT = """
import contextlib, gc, os, signal, time
from rtl_jax.runtime.interruption import insisting

def callback(phase, info):
    gc.callbacks.remove(callback)
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1000):
        pass

def work():
    gc.callbacks.append(callback)
    gc.collect()
    until = time.monotonic() + 5
    while time.monotonic() < until:
        time.sleep(0.01)

try:
    with {context}:
        work()
    print("went on")
except KeyboardInterrupt:
    print("stopped")
"""


@pytest.mark.parametrize(
    ("context", "expected"),
    [("insisting()", "stopped"), ("contextlib.nullcontext()", "went on")],
    ids=["insisting", "without"],
)
def test_what_the_garbage_collector_drops_is_raised_again(context: str, expected: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(context=context)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == expected


def test_other_dropped_exceptions_are_reported_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[type | None] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda one: seen.append(one.exc_type))

    class Clumsy:
        def __del__(self) -> None:
            raise ZeroDivisionError

    with insisting():
        Clumsy()
    assert seen == [ZeroDivisionError]


def test_a_thread_may_use_both() -> None:
    """Python handles signals in the main thread alone."""
    asked: list[bool] = []

    def inside() -> None:
        with insisting(), asked_to_stop() as stop:
            asked.append(stop())

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert asked == [False]
