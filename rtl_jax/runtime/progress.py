"""How far a task has come: one bar in a terminal, a line now and then in a log file.

A bar that is opened within another one is not drawn. It is a note on the outer one, and the work
itself (`leave`) moves the outer one by the share that `Bar.give` gave to it.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")
Progress = Callable[[int], None]  # told how many more are done

_LINE_SECONDS = 30.0  # between lines of a log file, at first
_LINE_SHARE = 0.05  # and later, as a share of the time since the first bar
_NOTE_SECONDS = 0.5  # between drawings for a note alone
_PERCENT = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"

_open: list["Bar"] = []  # from the outermost to the innermost
_said: set[str] = set()  # while they are open


class Bar:
    """What is done of a whole; `n` and `total` may be set, and `total` may be unknown (None)."""

    def __init__(self, what: str, total: float | None, done: float, unit: str, leave: bool):
        self.what, self.total, self.n, self.unit, self.leave = what, total, done, unit, leave
        self.share = 0.0

    def update(self, number: float = 1) -> None:
        """Add what has been done since the last call."""
        self.n += number

    def move_to(self, number: float) -> None:
        """Say how much is done in all."""
        self.update(number - self.n)

    def give(self, share: float) -> None:
        """Say how much of this bar the next work within it is."""
        self.share = share

    def set_postfix(self, values: Mapping[str, str], refresh: bool = True) -> None:
        """Say more, such as the loss."""
        self.note(", ".join(f"{name} {value}" for name, value in values.items()))

    def note(self, text: str) -> None:
        """Say something beside the numbers."""

    def close(self) -> None:
        """End it."""

    @property
    def done(self) -> str:
        """How much is done, in percent where the whole is known."""
        return f"{100 * self.n / self.total:.0f} %" if self.total else f"{self.n:,.0f} {self.unit}"


class _Terminal(Bar):
    """tqdm's bar."""

    def __init__(self, what: str, total: float | None, done: float, unit: str, leave: bool):
        super().__init__(what, total, done, unit, leave)
        scaled = unit == "B"
        self._bar = tqdm(
            desc=what,
            file=sys.stderr,
            total=total,
            initial=done,  # type: ignore[arg-type]  # a float will do
            unit=unit if scaled else f" {unit}",
            unit_scale=scaled,
            leave=leave,
            dynamic_ncols=True,
            bar_format=None if unit else _PERCENT,
        )
        self._drawn = time.monotonic()

    def update(self, number: float = 1) -> None:
        super().update(number)
        self._bar.total = self.total
        self._bar.update(self.n - self._bar.n)

    def note(self, text: str) -> None:
        self._bar.set_postfix_str(text, refresh=False)
        if time.monotonic() - self._drawn > _NOTE_SECONDS:
            self._drawn = time.monotonic()
            self._bar.refresh()

    def close(self) -> None:
        self._bar.close()


class _Inner(Bar):
    """A note on the bar around it."""

    def __init__(self, outer: Bar, *arguments: Any):
        super().__init__(*arguments)
        self._outer = outer
        self._given, outer.share = (outer.share, 0.0) if self.leave else (0.0, outer.share)
        self.note("")
        self._forward(self.n)

    def update(self, number: float = 1) -> None:
        super().update(number)
        self._forward(number)
        if not self._given:
            self._outer.note(f"{self.what} {self.done}")

    def note(self, text: str) -> None:
        self._outer.note(f"{self.what}, {text}" if text else self.what)

    def close(self) -> None:
        self._outer.note("")

    def _forward(self, number: float) -> None:
        if self._given and self.total:
            self._outer.update(self._given * number / self.total)


class _Log(Bar):
    """Lines, of which all bars together print one every so often."""

    # The class's: when the first bar was opened, and when a line was printed last.
    since: float | None = None
    printed_at = 0.0

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self._started, self._from, self._note, self._spoke = time.monotonic(), self.n, "", False
        if _Log.since is None:
            _Log.since = _Log.printed_at = self._started

    def update(self, number: float = 1) -> None:
        super().update(number)
        self._speak()

    def note(self, text: str) -> None:
        self._note = text
        self._speak()

    def close(self) -> None:
        if self._spoke and self.leave:
            self._print(f"{self.what}: {self.done} after {self._time(self._elapsed)}")

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self._started

    def _speak(self) -> None:
        now = time.monotonic()
        pause = max(_LINE_SECONDS, _LINE_SHARE * (now - (_Log.since or now)))
        if now - _Log.printed_at < pause:
            return
        words = [f"{self.what}: {self.done}"]
        if self.unit and self.unit != "B" and self.total:
            words.append(f"{self.n:,.0f} of {self.total:,.0f} {self.unit}")
        if self._note:
            words.append(self._note)
        if self.total and self.n > self._from:
            left = self._elapsed * (self.total - self.n) / (self.n - self._from)
            words.append(f"{self._time(left)} left")
        self._spoke = True
        self._print(", ".join(words))

    def _print(self, line: str) -> None:
        _Log.printed_at = time.monotonic()
        print(line, file=sys.stderr, flush=True)

    @staticmethod
    def _time(seconds: float) -> str:
        return tqdm.format_interval(max(seconds, 0))


@contextlib.contextmanager
def bar(
    what: str, total: float | None, *, done: float = 0, leave: bool = False, unit: str = "images"
) -> Iterator[Bar]:
    """Open a bar over `total` images, or other units, `done` of them already.

    It is told of more by `update(n)`. `leave`: it stands for the work itself, and its end is
    worth keeping; others vanish. An empty unit shows percent alone.
    """
    arguments = (what, total, done, unit, leave)
    opened: Bar
    if _open:
        opened = _Inner(_open[-1], *arguments)
    elif sys.stderr.isatty():
        opened = _Terminal(*arguments)
    else:
        opened = _Log(*arguments)
    _open.append(opened)
    try:
        yield opened
    finally:
        _open.remove(opened)
        opened.close()
        if not _open:
            _said.clear()


def say(text: str, *, once: bool = False) -> None:
    """Print a line on standard output, above the bar if there is one.

    `once`: not again before the outermost bar has ended.
    """
    if once and text in _said:
        return
    if _open:
        _said.add(text)
    with tqdm.external_write_mode(file=sys.stdout):
        print(text)


def each(items: Sequence[T], what: str, unit: str) -> Iterator[T]:
    """Iterate behind a bar."""
    with bar(what, len(items), unit=unit) as progress:
        for item in items:
            yield item
            progress.update()
