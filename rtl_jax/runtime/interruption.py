"""Interruption by Ctrl-C, or by SIGTERM before a cluster preempts a machine."""

import contextlib
import queue
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NoReturn

_IMPORTER = "<frozen importlib._bootstrap>"  # the file name in the frames of an import
_LONGEST_IMPORT = 10.0  # seconds to wait for an import to finish


class Stopped(Exception):  # noqa: N818 - not a fault
    """The work was stopped early on request, after saving its state."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C was pressed. `dropped` is called when the exception is deleted, handled or not."""

    def __init__(self, dropped: Callable[[], None] | None = None):
        super().__init__()
        self._dropped = dropped

    def __del__(self) -> None:
        if self._dropped is not None:
            self._dropped()


class Terminated(Interrupted):
    """SIGTERM was received. It ends the work and cleans up like Ctrl-C."""


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Raise Interrupted at Ctrl-C and Terminated at SIGTERM, and again if they were dropped.

    Compiled modules drop exceptions raised while they test whether an object has an attribute, as
    JAX does in every call. Python drops them during garbage collection, where after a long
    compilation a pending Ctrl-C first meets JAX's own callback. The program would then continue as
    if nothing had happened. A dropped exception is recognised because it is deleted while the work
    goes on. An import is finished first, unless it takes too long, because an exception aborts the
    process where compiled modules call back into Python. Outside the main thread, where no signals
    arrive, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = sys.unraisablehook
    # Signals to raise again; `put` can be called from anywhere. None: no more will come.
    lost: queue.SimpleQueue[int | None] = queue.SimpleQueue()

    def report(unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, Interrupted):
            before(unraisable)

    since: float | None = None  # the time of the first request

    def stop(number: int, frame: types.FrameType | None) -> None:
        nonlocal since
        since = since or time.monotonic()
        waits = time.monotonic() - since < _LONGEST_IMPORT
        while frame is not None:
            code = frame.f_code
            # Here an exception would be dropped, or abort the process.
            if code is report.__code__ or (waits and code.co_filename == _IMPORTER):
                lost.put(number)
                return
            frame = frame.f_back
        since = None
        _stop(number, partial(lost.put, number))

    reminder = threading.Thread(target=_remind, args=(lost,), daemon=True)
    with _handling(stop, (signal.SIGINT, signal.SIGTERM)):
        sys.unraisablehook = report
        reminder.start()
        try:
            yield
        finally:
            sys.unraisablehook = before
            lost.put(None)
            reminder.join()  # so that no signal is sent later


def _stop(number: int, dropped: Callable[[], None] | None = None) -> NoReturn:
    raise (Terminated if number == signal.SIGTERM else Interrupted)(dropped)


def _remind(lost: queue.SimpleQueue[int | None]) -> None:
    """Send lost signals to the main thread again, after a short delay."""
    main = threading.main_thread().ident
    while (number := lost.get()) is not None and main is not None:
        time.sleep(0.05)
        if lost.empty():
            signal.pthread_kill(main, number)


@contextlib.contextmanager
def _handling(handler: Callable[..., None], numbers: Sequence[int]) -> Iterator[None]:
    """Handle signals, except those that are ignored, as by background jobs of a shell."""
    former = {number: signal.getsignal(number) for number in numbers}
    # None: a handler that was not installed from Python and could not be restored.
    taken = [one for one in numbers if former[one] not in (None, signal.SIG_IGN)]
    try:
        for number in taken:
            signal.signal(number, handler)
        yield
    finally:
        for number in taken:
            signal.signal(number, former[number])


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Defer Ctrl-C and SIGTERM to the end of the block, so that writes are complete.

    Orbax reads and writes in its own threads. An exception here would leave them running while
    Python exits, and each would print a traceback. A second request takes effect immediately.
    Outside the main thread, this does nothing.
    """
    asked: list[int] = []

    def note(number: int, frame: types.FrameType | None) -> None:
        asked.append(number)
        if len(asked) > 1:
            _stop(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    try:
        with _handling(note, (signal.SIGINT, signal.SIGTERM)):
            yield
    finally:
        if len(asked) == 1:
            signal.raise_signal(asked[0])


def end_at_once() -> None:
    """From now on, let Ctrl-C and SIGTERM end the process silently.

    For the end of a program, when its work is finished or stopped. Timers are cancelled, since
    Python would wait for them: JAX has one of 60 seconds while it looks for a TPU.
    """
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.cancel()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            # Jobs in a shell's background ignore SIGINT.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether SIGTERM has been received, which has no other effect.

    If it was received but the block ran to its end, Terminated is raised there, as more work may
    follow. Outside the main thread, where Python handles no signals, the function returns False.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def note(number: int, frame: Any) -> None:
        asked.set()

    with _handling(note, (signal.SIGTERM,)):
        yield asked.is_set
    if asked.is_set():
        raise Terminated
