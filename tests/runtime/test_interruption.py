"""Ctrl-C and SIGTERM end a program with a sentence, even where Python would drop them."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from rtl_jax.runtime.interruption import Terminated, asked_to_stop, stoppable, undisturbed

ROOT = Path(__file__).parents[2]
BOTH = [signal.SIGINT, signal.SIGTERM]

# The signal meets the garbage collector's callback, as it meets JAX's after a long compilation: the
# handler runs in there, and Python drops what it raises.
DROPPED = """
    def callback(phase, info):
        gc.callbacks.remove(callback)
        os.kill(os.getpid(), int(sys.argv[1]))
        for _ in range(1000):
            pass
    gc.callbacks.append(callback)
    gc.collect()
"""
# The signal arrives while a compiled module asks whether an object has an attribute.
CLEARED = """
    import ctypes
    class Asked:
        def __getattr__(self, name):
            os.kill(os.getpid(), int(sys.argv[1]))
            for _ in range(1000):
                pass
            return 1
    has = ctypes.pythonapi.PyObject_HasAttrString
    has.argtypes = [ctypes.py_object, ctypes.c_char_p]
    has(Asked(), b"attribute")
"""
RAISED = """
    os.kill(os.getpid(), int(sys.argv[1]))
"""
# Asked once more while it cleans up: it stops all the same.
TWICE = """
    try:
        os.kill(os.getpid(), int(sys.argv[1]))
        time.sleep(5)
    finally:
        os.kill(os.getpid(), int(sys.argv[1]))
"""
# On a busy machine the next signal arrives while Python is reporting what it dropped.
REPORTING = f"""
    def trace(frame, event, argument):
        if frame.f_code.co_name == "report":
            sys.settrace(None)
            os.kill(os.getpid(), int(sys.argv[1]))
            for _ in range(1000):
                pass
    sys.settrace(trace)
{DROPPED}
"""
SCRIPT = """
import gc, os, signal, sys, time
from rtl_jax.runtime.output import run_and_exit
signal.signal(signal.SIGINT, signal.default_int_handler)  # which background jobs ignore
def main():
{work}
    until = time.monotonic() + 5
    while time.monotonic() < until:
        time.sleep(0.01)
    return 0
run_and_exit(main)
"""


@pytest.mark.parametrize(
    "work",
    [RAISED, DROPPED, CLEARED, REPORTING, TWICE],
    ids=["raised", "dropped", "cleared", "reporting", "twice"],
)
@pytest.mark.parametrize("number", BOTH)
def test_a_program_ends_with_a_sentence(number: signal.Signals, work: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(work=work), str(int(number))],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, done.stdout) == (128 + number, "")
    assert done.stderr.startswith("interrupted; ") and done.stderr.count("\n") == 1


IMPORTED = """
import os, sys, time
os.kill(os.getpid(), int(sys.argv[1]))
time.sleep(0.2)
print("whole", flush=True)
"""


@pytest.mark.parametrize("number", BOTH)
def test_an_import_is_ended_first(number: signal.Signals, tmp_path: Path) -> None:
    """An exception while a compiled module is imported and calls back into Python would abort."""
    (tmp_path / "imported.py").write_text(IMPORTED)
    script = SCRIPT.format(work="    import imported")
    done = subprocess.run(
        [sys.executable, "-c", script, str(int(number))],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"},
    )
    assert (done.returncode, done.stdout) == (128 + number, "whole\n")
    assert done.stderr.startswith("interrupted; ") and done.stderr.count("\n") == 1


AT_WORK = """
    import atexit, threading
    def busy():
        for count in range(100):
            time.sleep(0.5)
            print("a thread that lost its work", file=sys.stderr)
    threading.Thread(target=busy).start()
    atexit.register(lambda: print("registered", flush=True))
    os.kill(os.getpid(), int(sys.argv[1]))
"""


@pytest.mark.parametrize("number", BOTH)
def test_threads_that_are_at_work_say_nothing_and_are_not_awaited(number: signal.Signals) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(work=AT_WORK), str(int(number))],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, done.stdout) == (128 + number, "registered\n")
    assert done.stderr.startswith("interrupted; ") and done.stderr.count("\n") == 1


# Without `stoppable`, so that the test above says something.
@pytest.mark.parametrize("work", [DROPPED, CLEARED], ids=["dropped", "cleared"])
def test_it_would_be_lost(work: str) -> None:
    alone = SCRIPT.format(work=work).replace("+ 5", "+ 0.1").replace("run_and_exit(main)", "")
    done = subprocess.run(
        [sys.executable, "-c", f"{alone}\nmain()\nprint('went on')", str(int(signal.SIGINT))],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout == "went on\n"


def test_a_program_that_has_finished_is_ended_without_a_word() -> None:
    """A signal at the very end has the system's default action."""
    script = (
        "import atexit, os, signal, time\n"
        "from rtl_jax.runtime.output import run_and_exit\n"
        "atexit.register(lambda: (os.kill(os.getpid(), signal.SIGTERM), time.sleep(5)))\n"
        "run_and_exit(lambda: 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, done.stderr) == (-signal.SIGTERM, "")


def test_sigterm_is_not_lost_where_the_work_that_could_stop_ends() -> None:
    before, ended = signal.getsignal(signal.SIGTERM), []
    with pytest.raises(Terminated), asked_to_stop() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        ended.append(stop())
    assert ended == [True] and signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("number", BOTH)
def test_what_must_be_whole_is_finished_first(number: signal.Signals) -> None:
    written: list[str] = []
    with pytest.raises(KeyboardInterrupt) as raised, stoppable(), undisturbed():
        os.kill(os.getpid(), number)
        written.append("whole")
    assert written == ["whole"] and (raised.type is Terminated) == (number == signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), stoppable(), undisturbed():
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
        written.append("asked twice")
    assert written == ["whole"]


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in BOTH], sys.unraisablehook
    with pytest.raises(Terminated), stoppable():
        os.kill(os.getpid(), signal.SIGTERM)
    assert ([signal.getsignal(number) for number in BOTH], sys.unraisablehook) == before


def test_other_dropped_exceptions_are_reported_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[type | None] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda one: seen.append(one.exc_type))

    class Clumsy:
        def __del__(self) -> None:
            raise ZeroDivisionError

    with stoppable():
        Clumsy()
    assert seen == [ZeroDivisionError]


def test_a_thread_may_use_all_of_them() -> None:
    """Python handles signals only in the main thread."""
    asked: list[bool] = []

    def inside() -> None:
        with stoppable(), asked_to_stop() as stop, undisturbed():
            asked.append(stop())

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert asked == [False]
