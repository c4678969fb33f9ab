"""The end of a program: exit codes, interruption, and failures of standard output.

Printed output only reports on the work, so a closed pipe or a full disk does not stop it. The entry
point reports at its end what could not be written.
"""

import atexit
import errno
import io
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn, TextIO

from rtl_jax.runtime.interruption import Terminated, end_at_once, stoppable

# A reader that closes the pipe early, such as `head`, is not an error.
_GONE = (errno.EPIPE, errno.ECONNRESET)


def run_and_exit(main: Callable[..., int], *arguments: Any) -> NoReturn:
    """Exit with the result of `main`, even if standard output or standard error fail.

    Ctrl-C exits with 130 and SIGTERM with 143, after a message. Once an output stream has failed,
    further output to it is dropped. If standard output failed for any reason other than a closed
    pipe, this is reported, and the exit code is 2 unless it is already non-zero.
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
        if not errors.at_start:  # after a progress bar that was not closed
            print(file=sys.stderr)
        print(
            "interrupted; finished work is kept, no file is half written, and the same command "
            "resumes",
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
    """End a process whose work was interrupted, after running its exit functions.

    Threads of libraries may still be running. They may print complaints about abandoned work, or
    run computations of JAX, which may crash if Python frees what they use. So standard error is
    redirected, and nothing is freed.
    """
    sys.stderr.flush()
    _lead_nowhere(2)
    atexit._run_exitfuncs()
    os._exit(code)


class _Lasting(io.FileIO):
    """A writable file descriptor that, after its first failure, silently drops all output."""

    failure: OSError | None = None
    at_start = True  # whether at the start of a line
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
    """Make a lasting file descriptor, with a text stream like the one that Python made for it.

    Python makes none for a closed descriptor, whose number would go to the next opened file, and
    anything printed would be written there. Such a descriptor is redirected to nowhere.
    """
    if stream is None:
        if not _is_open(number):  # otherwise leave it to its owner
            _lead_nowhere(number)
    else:
        stream.flush()
    raw = _Lasting(number, "w", closefd=False)
    raw.text = io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding if stream else "utf-8",
        errors=stream.errors if stream else "backslashreplace",
        line_buffering=True,  # keeps both streams in chronological order in a log file
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
