"""The command-line options of a part, and its results: a JSON file that is always complete."""

import argparse
import dataclasses
import json
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Results:
    """Named results, written to a file as soon as each is known."""

    def __init__(self, path: Path):
        self.path, self.content = path, {}  # type: Path, dict[str, Any]

    def put(self, name: str, value: Any) -> None:
        """Add or replace a result, and write all of them."""
        self.content[name] = value
        temporary = self.path.with_suffix(".partial")
        temporary.write_text(json.dumps(self.content, indent=1))
        temporary.replace(self.path)

    def measure(self, name: str, function: Callable[[], Any]) -> Any:
        """Store the result of `function`, or the error it raised; the part continues either way."""
        started = time.monotonic()
        try:
            value = function()
        except Exception as error:
            traceback.print_exc()
            value = {"error": f"{type(error).__name__}: {error}"[:2000]}
        self.put(name, value)
        print(f"{name}: {_short(value)} ({time.monotonic() - started:.0f} s)", flush=True)
        return value


def _short(value: Any) -> str:
    if not isinstance(value, dict):
        return str(value)
    numbers = {k: v for k, v in value.items() if not isinstance(v, dict | list)}
    return ", ".join(
        f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in numbers.items()
    )


@dataclasses.dataclass(frozen=True)
class Part:
    """The arguments of a part, and the destination of its results."""

    results: Results
    seconds: float
    tiny: bool
    data: str | None
    started: float = dataclasses.field(default_factory=time.monotonic)

    @classmethod
    def from_arguments(cls, what: str) -> "Part":
        """Parse the command line."""
        parser = argparse.ArgumentParser(description=what.splitlines()[0])
        parser.add_argument("--output", type=Path, required=True, metavar="FILE.json")
        parser.add_argument("--seconds", type=float, default=120.0)
        parser.add_argument("--data", metavar="FILE.npz")
        parser.add_argument("--tiny", action="store_true")
        options = parser.parse_args()
        options.output.parent.mkdir(parents=True, exist_ok=True)
        return cls(Results(options.output), options.seconds, options.tiny, options.data)

    @property
    def left(self) -> float:
        """The seconds until the part is stopped."""
        return self.seconds - (time.monotonic() - self.started)
