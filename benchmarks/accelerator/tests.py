"""The tests that need an accelerator, `pytest -m gpu`, recorded one by one as they end."""

import importlib.util
import re
import subprocess
import sys

from benchmarks.accelerator.results import Part

_LINE = re.compile(r"(\S+::\S+.*?) (PASSED|FAILED|SKIPPED|ERROR|XFAIL|XPASS)\b")


def main() -> None:
    """Run the tests and write the outcome that pytest reports for each."""
    part = Part.from_arguments(__doc__)
    if importlib.util.find_spec("pytest") is None:
        part.results.put("skipped", "pytest is not installed here")
        return
    junit = part.results.path.with_suffix(".xml")
    command = [sys.executable, "-u", "-m", "pytest", "tests/gpu", "-m", "gpu", "-v"]
    command += ["-p", "no:cacheprovider", f"--junitxml={junit}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    outcomes: dict[str, str] = {}
    for line in process.stdout:
        print(line, end="", flush=True)
        found = _LINE.match(line)
        if found:
            outcomes[found[1]] = found[2].lower()
            part.results.put("tests", outcomes)
    part.results.put("code", process.wait())
    kinds = sorted(set(outcomes.values()))
    part.results.put("count", {kind: list(outcomes.values()).count(kind) for kind in kinds})


if __name__ == "__main__":
    main()
