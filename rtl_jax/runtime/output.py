"""The end of a program: its exit code, when it is interrupted, and where output ends earlier.

What is printed tells of the work and is not its result, so a reader who has gone, or a disk that
is full, ends nothing. The end of an entry point says what could not be written.
"""

import atexit
import errno
import io
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn, TextIO

from rtl_jax.runtime.interruption import Terminated, end_at_once, stoppable

# A reader who has read enough, as `head` has, is no fault.
_GONE = (errno.EPIPE, errno.ECONNRESET)


def run_and_exit(main: Callable[..., int], *arguments: Any) -> NoReturn:
    """Exit with what `main` returns, whatever becomes of standard output and standard error.

    Ctrl-C ends it with 130 and SIGTERM with 143, after a sentence. Once an output has failed, what
    is printed there is dropped. Where standard output failed for another reason than that its
    reader is gone, that is said, and the exit code is 2 unless it tells of something else.
    """
    raw = _lasting(1, sys.stdout)
    sys.stdout, errors = raw.text, _lasting(2, sys.stderr)
    sys.stderr = errors.text
    code: Any
    interrupted = False
    try:
        with stoppable():
            code = main(*arguments)
    except SystemExit as end:  # argparse's
        code = end.code
    except KeyboardInterrupt as stop:
        interrupted = True
        end_at_once()
        sys.stderr.flush()
        if not errors.at_start:  # behind a progress bar that nobody has closed
            print(file=sys.stderr)
        print(
            "interrupted; what is finished is kept, nothing is half written, and the same command "
            "does the rest",
            file=sys.stderr,
        )
        code = 143 if isinstance(stop, Terminated) else 130
    end_at_once()
    sys.stdout.flush()
    if raw.failure is not None and raw.failure.errno not in _GONE:
        print(
            f"error: standard output could not be written ({raw.failure.strerror}), and what was "
            "printed is lost; all files are as they should be",
            file=sys.stderr,
        )
        code = code or 2
    if interrupted:
        _leave(code)
    sys.exit(code)


def _leave(code: int) -> NoReturn:
    """End a process whose work was interrupted, after what is registered for its end.

    Threads of libraries may be at work still: on what nobody awaits any more, of which they would
    complain, or on computations of JAX, which may crash where Python frees what they use. So
    standard error is closed to them, and nothing is freed.
    """
    sys.stderr.flush()
    _lead_nowhere(2)
    atexit._run_exitfuncs()
    os._exit(code)


class _Lasting(io.FileIO):
    """A file descriptor to write to; from its first failure on it takes everything and drops it."""

    failure: OSError | None = None
    at_start = True  # of a line
    text: TextIO

    def write(self, data: Any) -> int | None:  # type: ignore[override]
        if len(data):
            self.at_start = bytes(data)[-1:] in (b"\n", b"\r")
        if self.failure is None:
            try:
                return super().write(data)
            except OSError as error:
                self.failure = error
        return memoryview(data).nbytes


def _lasting(number: int, stream: TextIO | None) -> _Lasting:
    """A file descriptor that lasts, with a text stream like the one that Python made of it.

    Python makes none of one that is closed. That number would then go to the next file that is
    opened, and whatever prints to it would write there: it leads nowhere instead.
    """
    if stream is None:
        if not _is_open(number):  # else leave it to whoever has it
            _lead_nowhere(number)
    else:
        stream.flush()
    raw = _Lasting(number, "w", closefd=False)
    raw.text = io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding if stream else "utf-8",
        errors=stream.errors if stream else "backslashreplace",
        line_buffering=True,  # in a log file both are in the order in which they were said
    )
    return raw


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _lead_nowhere(number: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    if nowhere != number:
        os.dup2(nowhere, number)
        os.close(nowhere)
