"""The benchmarks for an accelerator, small, on a CPU and without its optional packages."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.accelerator import __main__ as command

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[1]
# Imported by whatever Python starts, the parts and pytest included.
ABSENT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in (
            "tensorflow_datasets", "grain", "ml_collections", "array_record"
        ):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The results of a tiny run, by part."""
    directory = tmp_path_factory.mktemp("accelerator")
    (directory / "sitecustomize.py").write_text(ABSENT)
    rng = np.random.default_rng(0)
    arrays = {
        f"{what}_{part}": values
        for part, number in (("train", 32), ("test", 16))
        for what, values in (
            ("x", rng.integers(0, 256, (number, 32, 32, 3), dtype=np.uint8)),
            ("y", np.arange(number) % 4),
        )
    }
    np.savez(directory / "images.npz", **arrays)
    paths = os.pathsep.join([str(directory), str(REPOSITORY)])
    arguments = ["--tiny", "--minutes=9", f"--output={directory / 'results'}"]
    subprocess.run(
        [sys.executable, "-m", "benchmarks.accelerator", *arguments,
         f"--data={directory / 'images.npz'}"],
        check=True,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": paths, "JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    files = (directory / "results").glob("*.json")
    return {file.stem: json.loads(file.read_text()) for file in files}


def numbers(content: Any) -> Iterator[float]:
    """Return all numbers in a result, including nested ones."""
    if isinstance(content, dict):
        content = list(content.values())
    if isinstance(content, list):
        for one in content:
            yield from numbers(one)
    elif isinstance(content, int | float) and not isinstance(content, bool):
        yield content


def test_every_part_ends_by_itself(found: dict[str, Any]) -> None:
    assert set(found["summary"]) == set(command.PARTS)
    assert all(said.startswith("done") for said in found["summary"].values()), found["summary"]
    assert "error" not in json.dumps(found)


def test_programs_have_times_beside_the_roofline(found: dict[str, Any]) -> None:
    measured = {name: one for name, one in found["programs"].items() if name != "machine"}
    assert len(measured) == 5
    assert all(math.isfinite(n) and n >= 0 for n in numbers(measured))
    reached = measured.pop("peaks")
    for one in measured.values():
        assert one["least_seconds"] <= one["seconds"] <= one["most_seconds"]
        assert one["images_s"] == pytest.approx(one["images"] / one["seconds"])
        floor = max(one["operations"] / reached["operations_s"], one["bytes"] / reached["bytes_s"])
        assert one["ratio"] == pytest.approx(one["seconds"] / floor) and one["ratio"] > 0


def test_torch_does_the_same_work(found: dict[str, Any]) -> None:
    pairs = {name: one for name, one in found["beside_torch"].items() if "ratio" in one}
    assert set(pairs) == {"PGD(20)", "fine-tuning step", "sweep of 8 seeds"}
    for one in pairs.values():
        assert one["ratio"] == pytest.approx(one["torch_eager_seconds"] / one["jax_seconds"])
        assert 0 < one["ratio"] < math.inf and one["torch_compiled"] == "not tried on a CPU"


def test_the_grid_is_projected_from_measured_steps(found: dict[str, Any]) -> None:
    grid, programs = found["paper_grid"], found["programs"]
    assert grid["grid"]["runs"] == 12_576  # the paper's Table 4
    for mode in ("source", "paper"):
        hours = grid[f"Table 4, {mode}"]["hours by blocks"]
        assert set(hours) == {"0", "1"} and all(0 < one < math.inf for one in hours.values())
        assert not grid[f"Table 4, {mode}"]["whole"]
    # 3,144 trainings with one block alone, on images counted by hand for one target and source.
    step = programs["step on images, batch, augmented, 1 block, 1 seed"]
    images = sum(
        seeds * number * (100 if number <= 1600 else 150)
        for sizes, seeds in (
            ((100, 200, 400, 800, 1600), 20), ((3200, 6400), 10), ((12800, 25600), 5),
        )
        for number in sizes
    )  # fmt: skip
    whole = 4 * (6 * images + 150 * (2 * 50_000 + 73_257 + 3 * 60_000))
    training = whole * step["seconds"] / step["images"] / 3600
    assert grid["Table 4, paper"]["hours by blocks"]["1"] > training


def test_a_source_trains_and_the_tests_are_told(found: dict[str, Any]) -> None:
    assert found["source"]["ended"] == "trained to the end"
    assert all(0 <= row["accuracy"] <= 100 for row in found["source"]["rows"])
    assert found["source"]["rows"]
    assert set(found["tests"]["tests"].values()) == {"skipped"}  # JAX sees no accelerator


def test_a_part_that_takes_too_long_is_stopped_with_what_it_started() -> None:
    inner = "import time; time.sleep(60)"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    assert command.run([sys.executable, "-c", outer], 1.0) == "stopped"
    assert command.run([sys.executable, "-c", "raise SystemExit(3)"], 60.0).endswith("code 3")
