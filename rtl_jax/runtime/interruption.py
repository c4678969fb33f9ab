"""Being asked to stop: by Ctrl-C, or by SIGTERM before a cluster takes a machine away."""

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

_IMPORTER = "<frozen importlib._bootstrap>"  # the file of an import's frames
_LONGEST_IMPORT = 10.0  # seconds that an import may take to end


class Stopped(Exception):  # noqa: N818 - not a fault
    """The work ended early because it was asked to, and has been saved."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C came. `dropped` is called where nothing handles this any more, or has handled it."""

    def __init__(self, dropped: Callable[[], None] | None = None):
        super().__init__()
        self._dropped = dropped

    def __del__(self) -> None:
        if self._dropped is not None:
            self._dropped()


class Terminated(Interrupted):
    """SIGTERM came. It ends the work as Ctrl-C does, and cleans up as Ctrl-C does."""


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Raise Interrupted at Ctrl-C and Terminated at SIGTERM, and again where they were dropped.

    Compiled modules drop what is raised where they ask whether an object has an attribute, as JAX
    does at every call, and Python does while it collects garbage, where after a long compilation
    JAX's own callback is what a waiting Ctrl-C meets first: the program would go on as if nobody
    had asked. Such an exception ends while the work goes on, and so it is known. An import is ended
    first, if it does not take too long: where compiled modules call back into Python, what is
    raised aborts the process. Outside of the main thread, where no signals arrive, this does
    nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = sys.unraisablehook
    # What is to be raised once more; its `put` can be called from anywhere. None: nothing will be.
    lost: queue.SimpleQueue[int | None] = queue.SimpleQueue()

    def report(unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, Interrupted):
            before(unraisable)

    since: float | None = None  # when it was asked first

    def stop(number: int, frame: types.FrameType | None) -> None:
        nonlocal since
        since = since or time.monotonic()
        waits = time.monotonic() - since < _LONGEST_IMPORT
        while frame is not None:
            code = frame.f_code
            # Where it would be reported as dropped, or abort.
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
            reminder.join()  # so that no reminder comes later


def _stop(number: int, dropped: Callable[[], None] | None = None) -> NoReturn:
    raise (Terminated if number == signal.SIGTERM else Interrupted)(dropped)


def _remind(lost: queue.SimpleQueue[int | None]) -> None:
    """Send the main thread its lost signals again, a little later."""
    main = threading.main_thread().ident
    while (number := lost.get()) is not None and main is not None:
        time.sleep(0.05)
        if lost.empty():
            signal.pthread_kill(main, number)


@contextlib.contextmanager
def _handling(handler: Callable[..., None], numbers: Sequence[int]) -> Iterator[None]:
    """Have signals handled, but those that are ignored, as jobs in a shell's background do."""
    former = {number: signal.getsignal(number) for number in numbers}
    # None: a handler that is not Python's, and could not be put back.
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
    """Hold Ctrl-C and SIGTERM back until the block ends, as what it writes must be whole.

    Orbax reads and writes from threads of its own, which an exception here would leave at work
    while Python ends: each would print a traceback. Who asks a second time is heard at once.
    Outside of the main thread this does nothing.
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
    """From now on end the process without a word, where it is asked to stop.

    For the end of a program, when its work is done or has stopped already. Timers are cancelled,
    for which Python would wait: JAX has one of 60 seconds while it looks for a TPU.
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
    """Yield a function that says whether SIGTERM has come; until the end it does nothing else.

    Where it has come and the work went on to its end all the same, Terminated is raised there:
    more work may follow. Outside of the main thread, where Python handles no signals, the answer
    stays no.
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
