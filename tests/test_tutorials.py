"""The tutorials run from their first cell to the last, with the results stated in their text."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot

pytestmark = pytest.mark.slow

TUTORIALS = Path(__file__).parents[1] / "docs" / "tutorials"
CELL = re.compile(r"^```\{code-cell\} ipython3\n(?::[^\n]*\n)*(.*?)^```", re.M | re.S)


@pytest.fixture
def cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that runs a tutorial in an empty directory and returns its variables."""
    monkeypatch.chdir(tmp_path)
    pyplot.switch_backend("Agg")

    def execute(name: str) -> dict[str, Any]:
        text = (TUTORIALS / f"{name}.md").read_text()
        found = CELL.findall(text)
        assert len(found) > 4
        names: dict[str, Any] = {}
        for cell in found:
            exec(cell, names)
        pyplot.close("all")
        return names

    return execute


def test_own_images(cells: Any) -> None:
    names = cells("own_images")
    assert names["hits"] / len(names["test"]) > 0.7
    digits, train = names["digits"], names["train"]
    (wrong,) = Path("digits").glob("*/0007.png")
    assert wrong.parent.name == str(digits.target[7] + 1)
    assert len(names["suspects"]) == 6 and len(train) + len(names["test"]) == 120
    assert Path("digits_network/manifest.json").exists() and Path("digits.safetensors").exists()


def test_sweep(cells: Any) -> None:
    rows = cells("sweep")["last"]
    assert len(rows) == 2 * 2 * 2 * 3 and np.isfinite(rows["accuracy"]).all()
    assert Path("sweep/report/index.html").exists()
    assert list(Path("sweep/report/figures").glob("*.png"))


def test_attack_and_explain(cells: Any) -> None:
    names = cells("attack_and_explain")
    robust = {name: found.robust_accuracy for name, found in names["found"].items()}
    assert robust["bundled:l2"] > robust["bundled:natural"] + 0.3
    assert names["scores"].shape == (32, 100)
