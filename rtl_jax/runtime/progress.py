"""Progress of a task: a single bar in a terminal, occasional lines in a log file.

A bar opened within another one is not drawn but becomes a note on the outer one. If it stands for
the work itself (`leave`), it advances the outer one by the share set by `Bar.give`.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")
Progress = Callable[[int], None]  # called with the number of further items done

_LINE_SECONDS = 30.0  # between lines of a log file, at first
_LINE_SHARE = 0.05  # and later, as a fraction of the time since the first bar
_NOTE_SECONDS = 0.5  # between redraws for a note alone
_PERCENT = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"

_open: list["Bar"] = []  # from outermost to innermost
_said: set[str] = set()  # lines printed with `once` while bars are open


class Bar:
    """The progress of a task; `n` and `total` may be assigned, and `total` None means unknown."""

    def __init__(self, what: str, total: float | None, done: float, unit: str, leave: bool):
        self.what, self.total, self.n, self.unit, self.leave = what, total, done, unit, leave
        self.share = 0.0

    def update(self, number: float = 1) -> None:
        """Add the amount done since the last call."""
        self.n += number

    def move_to(self, number: float) -> None:
        """Set the total amount done."""
        self.update(number - self.n)

    def give(self, share: float) -> None:
        """Set the share of this bar that the next task within it takes."""
        self.share = share

    def set_postfix(self, values: Mapping[str, str], refresh: bool = True) -> None:
        """Show further values, such as the loss."""
        self.note(", ".join(f"{name} {value}" for name, value in values.items()))

    def note(self, text: str) -> None:
        """Show a text next to the numbers."""

    def close(self) -> None:
        """Close the bar."""

    @property
    def done(self) -> str:
        """Return the amount done, in percent if the total is known."""
        return f"{100 * self.n / self.total:.0f} %" if self.total else f"{self.n:,.0f} {self.unit}"


class _Terminal(Bar):
    """A tqdm bar."""

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
    """A bar shown as a note on the enclosing bar."""

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
    """A bar shown as occasional lines, whose rate all bars share."""

    # Shared by all: when the first bar was opened, and when a line was last printed.
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
    """Open a bar over `total` images or other units, of which `done` are already done.

    Advance it by `update(n)`. With `leave`, it stands for the work itself and stays visible at its
    end; other bars vanish. An empty unit shows only the percentage.
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

    With `once`, the line is not repeated until the outermost bar has ended.
    """
    if once and text in _said:
        return
    if _open:
        _said.add(text)
    with tqdm.external_write_mode(file=sys.stdout):
        print(text)


def each(items: Sequence[T], what: str, unit: str) -> Iterator[T]:
    """Iterate over items with a progress bar."""
    with bar(what, len(items), unit=unit) as progress:
        for item in items:
            yield item
            progress.update()
