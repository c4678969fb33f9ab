"""Being asked to stop: by Ctrl-C, or by SIGTERM before a cluster takes a machine away."""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any


class Stopped(Exception):  # noqa: N818 - not a fault
    """The work ended early because it was asked to, and has been saved."""


@contextlib.contextmanager
def insisting() -> Iterator[None]:
    """Raise KeyboardInterrupt again where it was dropped.

    Python drops what is raised while it collects garbage, and after a long compilation JAX's own
    callback there is what a waiting Ctrl-C meets first: the program would go on as if nobody had
    asked. Outside of the main thread, where no signals arrive, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    main, before = threading.main_thread(), sys.unraisablehook

    def again() -> None:
        if main.ident is not None and not finished.is_set():
            signal.pthread_kill(main.ident, signal.SIGINT)

    def dropped(unraisable: Any) -> None:
        if unraisable.exc_type is KeyboardInterrupt:
            # Later, for here it would be dropped once more.
            threading.Timer(0.05, again).start()
        else:
            before(unraisable)

    finished = threading.Event()
    sys.unraisablehook = dropped
    try:
        yield
    finally:
        finished.set()
        sys.unraisablehook = before


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
