"""Progress bars: a single one in a terminal, however many are opened, and few lines in a log."""

import io
import re
import sys
from types import SimpleNamespace

import pytest

from rtl_jax.runtime import progress
from rtl_jax.runtime.progress import bar, each, say


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    stream = Terminal()
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=stream, stdout=sys.stdout))
    monkeypatch.setattr(progress, "_NOTE_SECONDS", -1.0)
    return stream


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that tests move forward."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress._Log, "since", None)
    monkeypatch.setattr(progress._Log, "printed_at", 0.0)
    return now


def test_a_bar_in_a_terminal(terminal: Terminal) -> None:
    with bar("training", 40, leave=True) as one:
        one.update(40)
    shown = terminal.getvalue()
    assert "training: 100%" in shown and "40/40" in shown and shown.endswith("images/s]\n")
    with bar("looking over", 40) as one:
        one.update(40)
    assert terminal.getvalue().endswith(" \r")  # nothing stays


def test_bars_within_a_bar_are_notes_on_it(terminal: Terminal) -> None:
    with bar("sweep", 10.0, leave=True, unit="") as sweep:
        for _ in range(2):
            sweep.give(5.0)
            with bar("l2 -> digits", 200, leave=True) as cell:
                cell.update(100)
                with bar("testing", 50) as testing:
                    testing.update(25)
                cell.update(100)
                cell.set_postfix({"loss": "0.3"})
        assert sweep.n == pytest.approx(10.0)
    shown = terminal.getvalue()
    assert shown.count("\n") == 1  # one bar, which stays
    assert {line.split(":")[0].strip() for line in shown.split("\r") if ":" in line} == {"sweep"}
    assert "l2 -> digits, testing 50 %" in shown and "l2 -> digits, loss 0.3" in shown
    assert re.search(r"\b25%", shown) and "100%" in shown  # moved within a cell, too


def test_a_share_counts_once(terminal: Terminal) -> None:
    with bar("sweep", 3.0, unit="") as sweep:
        sweep.give(1.0)
        with bar("features", 10) as features:  # beside the work: moves nothing
            features.update(10)
        assert sweep.n == 0
        with bar("cell", 10, done=5, leave=True) as cell:
            assert sweep.n == pytest.approx(0.5)
            cell.update(5)
        with bar("another", 10, leave=True) as another:
            another.update(10)
        assert sweep.n == pytest.approx(1.0)
        sweep.move_to(2.0)
        assert sweep.n == 2.0


def test_a_bar_after_an_error_is_the_first_again(terminal: Terminal) -> None:
    with pytest.raises(KeyError), bar("one", 3):
        raise KeyError
    with bar("other", 3):
        pass
    assert "other" in terminal.getvalue()


def test_lines_of_a_log(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    """One line in 30 seconds, from whichever bar is updated then."""
    with bar("training", 1000, leave=True) as training:
        for step in range(100):
            clock[0] += 1.0
            training.update(10)
            if step == 59:
                training.set_postfix({"loss": "0.5"})
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "training: 30 %, 300 of 1,000 images, 01:10 left",
        "training: 60 %, 600 of 1,000 images, 00:40 left",
        "training: 90 %, 900 of 1,000 images, loss 0.5, 00:10 left",
        "training: 100 % after 01:40",
    ]


def test_short_bars_leave_a_log_alone_however_many(
    capsys: pytest.CaptureFixture[str], clock: list[float]
) -> None:
    for _ in range(300):
        with bar("testing", 10, leave=True) as testing:
            clock[0] += 0.3
            testing.update(10)
    lines = capsys.readouterr().err.splitlines()
    assert 1 <= len([line for line in lines if "left" in line]) <= 3
    assert len(lines) <= 6


def test_a_log_without_a_known_whole(
    capsys: pytest.CaptureFixture[str], clock: list[float]
) -> None:
    with bar("a file", None, unit="B") as one:
        clock[0] += 31
        one.update(5_000_000)
    assert capsys.readouterr().err == "a file: 5,000,000 B\n"


def test_each(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    assert [item for item in each((1, 2, 3), "reading", "tensors")] == [1, 2, 3]
    assert not capsys.readouterr().err


def test_what_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    say("diverged", once=True)
    say("diverged", once=True)
    assert capsys.readouterr().out == "diverged\n" * 2
    for _ in range(2):
        with bar("sweep", 2), bar("cell", 1):
            say("diverged", once=True)
            say("diverged", once=True)
            say("other")
            say("other")
        assert capsys.readouterr().out == "diverged\nother\nother\n"


def test_lines_become_rarer(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    with bar("training", 36_000) as training:
        for _ in range(36_000):
            clock[0] += 1.0
            training.update()
    assert 60 < len(capsys.readouterr().err.splitlines()) < 120  # in ten hours
