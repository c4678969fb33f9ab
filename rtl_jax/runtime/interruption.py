"""Being asked to stop: by Ctrl-C, or by SIGTERM before a cluster takes a machine away."""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any


class Stopped(Exception):  # noqa: N818 - not a fault
    """The work ended early because it was asked to, and has been saved."""


class Terminated(KeyboardInterrupt):
    """SIGTERM came. It ends the work as Ctrl-C does, and cleans up as Ctrl-C does."""


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Raise Terminated at SIGTERM; raise it, or KeyboardInterrupt, again where it was dropped.

    Python drops what is raised while it collects garbage, and after a long compilation JAX's own
    callback there is what a waiting Ctrl-C meets first: the program would go on as if nobody had
    asked. Outside of the main thread, where no signals arrive, this does nothing.
    """
    main = threading.main_thread()
    if threading.current_thread() is not main:
        yield
        return
    before, finished = sys.unraisablehook, threading.Event()

    def again(number: int) -> None:
        if main.ident is not None and not finished.is_set():
            signal.pthread_kill(main.ident, number)

    def dropped(unraisable: Any) -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            terminated = issubclass(unraisable.exc_type, Terminated)
            # Later, for here it would be dropped once more.
            number = signal.SIGTERM if terminated else signal.SIGINT
            threading.Timer(0.05, again, [number]).start()
        else:
            before(unraisable)

    def terminate(number: int, frame: Any) -> None:
        raise Terminated

    handler = signal.getsignal(signal.SIGTERM)
    if handler is not signal.SIG_IGN:
        signal.signal(signal.SIGTERM, terminate)
    sys.unraisablehook = dropped
    try:
        yield
    finally:
        finished.set()
        sys.unraisablehook = before
        signal.signal(signal.SIGTERM, handler)


def end_at_once() -> None:
    """From now on end the process without a word, where it is asked to stop.

    For the end of a program, when its work is done or has stopped already.
    """
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            # Jobs in a shell's background ignore SIGINT.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether SIGTERM has come; until the end it does nothing else.

    Outside of the main thread, where Python handles no signals, the answer stays no.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def note(number: int, frame: Any) -> None:
        asked.set()

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGTERM, before)
