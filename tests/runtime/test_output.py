"""Output that ends early: one sentence or silence, and the work is completed nevertheless."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Prints before and after its reader goes, more than any buffer holds, and then leaves a file.
SCRIPT = """
import pathlib, subprocess, sys, time
from rtl_jax.runtime.output import run_and_exit
def main(place, code):
    print("first", flush=True)
    time.sleep(0.3)
    for _ in range(20):
        print("x" * 10_000, flush=True)
        print("y" * 10_000, file=sys.stderr) if place.endswith("both") else None
    with open(place, "w") as file:
        file.write("rows")
    print("to", sys.stdout.encoding)
    if code == 5:
        raise SystemExit(5)
    return code
run_and_exit(main, sys.argv[1], int(sys.argv[2]))
"""


def shell(command: str, **options: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        capture_output=True, text=True, cwd=ROOT, env=environment, timeout=120, **options,
    )  # fmt: skip


@pytest.fixture
def script(tmp_path: Path) -> str:
    (tmp_path / "script.py").write_text(SCRIPT)
    return f"{sys.executable} {tmp_path / 'script.py'} {tmp_path / 'rows'}"


@pytest.mark.parametrize("code", [0, 3, 5])
@pytest.mark.parametrize("where", ["| head -1", ">&-", "| cat"])
def test_a_reader_who_goes_ends_nothing(tmp_path: Path, script: str, code: int, where: str) -> None:
    done = shell(f"{script} {code} {where}")
    assert (done.returncode, done.stderr) == (code, "")
    assert (tmp_path / "rows").read_text() == "rows"
    assert {"| head -1": done.stdout == "first\n", ">&-": done.stdout == "",
            "| cat": len(done.stdout) > 200_000}[where]  # fmt: skip


@pytest.mark.parametrize(("code", "expected"), [(0, 2), (3, 3)])
def test_a_full_output_is_said(tmp_path: Path, script: str, code: int, expected: int) -> None:
    done = shell(f"{script} {code} > /dev/full")
    assert done.returncode == expected
    assert done.stderr.startswith("error: standard output could not be written (No space left")
    assert done.stderr.count("\n") == 1
    assert (tmp_path / "rows").read_text() == "rows"


@pytest.mark.parametrize(
    "where", ["> /dev/full 2>&1", "2>&- >&-", "2> /dev/full", "2>&1 | head -1"]
)
def test_errors_that_nobody_reads(tmp_path: Path, script: str, where: str) -> None:
    done = shell(script.replace("/rows", "/both") + f" 0 {where}")
    assert done.returncode == (2 if where.startswith("> /dev/full") else 0)
    assert "Traceback" not in done.stdout + done.stderr
    assert (tmp_path / "both").read_text() == "rows"


@pytest.mark.parametrize(("shown", "before"), [("30%|###", "30%|###\\n"), ("gone \\r", "gone \\r")])
def test_an_interruption_has_a_line_of_its_own(tmp_path: Path, shown: str, before: str) -> None:
    """Both after an open progress bar and after an erased one."""
    (tmp_path / "script.py").write_text(
        "import sys\nfrom rtl_jax.runtime.output import run_and_exit\n"
        f"def main():\n    sys.stderr.write('{shown}')\n    raise KeyboardInterrupt\n"
        "run_and_exit(main)\n"
    )
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py")],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    start = before.encode().decode("unicode_escape").encode() + b"interrupted; "
    assert done.returncode == 130 and done.stderr.startswith(start), done.stderr


def test_no_timer_is_waited_for(tmp_path: Path) -> None:
    """Such as that of an interrupted search for a TPU."""
    (tmp_path / "script.py").write_text(
        "import threading\nfrom rtl_jax.runtime.output import run_and_exit\n"
        "def main():\n    threading.Timer(100, print).start()\n    raise KeyboardInterrupt\n"
        "run_and_exit(main)\n"
    )
    done = shell(f"timeout 60 {sys.executable} {tmp_path / 'script.py'}")
    assert done.returncode == 130 and done.stderr.startswith("interrupted; ")


ENTRIES = {
    "run.py": "run.py --help",
    "rtl_jax": "-m rtl_jax --help",
    "convert": "-m convert --help",
    "importer": "-m rtl_jax.lab.report.importer --help",
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_every_entry_point_keeps_to_it(entry: str) -> None:
    command = f"{sys.executable} {ENTRIES[entry]}"
    full = shell(f"{command} > /dev/full")
    assert full.returncode == 2 and full.stderr.count("\n") == 1, full.stderr
    closed = shell(f"{command} >&-")
    assert (closed.returncode, closed.stderr) == (0, "")


def test_no_entry_point_is_left_out() -> None:
    """Each module that is run as a program ends with the function that handles this."""
    modules = [
        ROOT / "run.py",
        *(ROOT / "rtl_jax").rglob("*.py"),
        *(ROOT / "convert").rglob("*.py"),
    ]
    programs = [path for path in modules if '\nif __name__ == "__main__":' in path.read_text()]
    assert len(programs) >= 5
    for path in programs:
        assert "run_and_exit(" in path.read_text().split('\nif __name__ == "__main__":')[1], path
