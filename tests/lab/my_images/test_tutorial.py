"""Every command of docs/my_images.md runs, with the results described in the text."""

import re
import shlex
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest

import run
from rtl_jax.lab.config import expected
from rtl_jax.lab.predict.output import schema
from rtl_jax.models.architecture import architecture
from rtl_jax.models.model import initialize
from rtl_jax.models.network import Network

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "my_images.md"
# Of bottlenecks, as the page's script in PyTorch expects of a bundled network.
TINY = architecture("resnet50", stem="small", stage_sizes=(1, 1), stage_widths=(8, 16))
# The same way with less work: one candidate, a tiny random network, hardly trained.
QUICK = {
    "my_images": [
        "--config.transfer.epochs=2",
        "--config.target.folds=2",
        "--config.sweep.sources=tiny",
        "--config.sweep.blocks=0",
        "--config.sweep.head_fits=sgd",
        "--config.sweep.learning_rates=0.1",
        "--config.attack.steps=1",
    ],
    "predict": [],
}


def parts() -> list[tuple[str, str]]:
    """Return the code in the page as (language, text), where commands have no language."""
    return re.findall(r"```(\w*)\n(.*?)```", PAGE.read_text(), re.DOTALL)


def execute(command: str) -> int:
    words = shlex.split(command)
    if words[:2] == ["rtl-jax", "convert"]:
        return run.main(words[1:])
    assert words[:2] == ["rtl-jax", "--config"], command
    return run.main([*words[1:], *QUICK[words[2]]])


def test_the_tutorial_goes_all_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    variables = jax.tree.map(np.asarray, initialize(TINY, jax.random.key(0)))
    Network(TINY, *variables, {"kind": "random"}).save(tmp_path / "tiny")
    names: dict = {}
    for language, text in parts():
        if language == "python":
            exec(text, names)
        else:
            assert execute(text.strip()) == 0, text
    assert len(list(Path("new_digits").iterdir())) == 100
    assert "left out: " in capsys.readouterr().out
    for name in ("survey.csv", "suspects.csv", "report/index.html", "network/manifest.json"):
        assert Path("runs/digits", name).exists()
    page = Path("runs/digits/report/index.html").read_text()
    assert "broken.png" in page and "Robustness" in page
    # The script in PyTorch says what the predictions say.
    table = pd.read_csv("runs/new/predictions.csv")
    images = names["torch"].stack([names["pixels"](path) for path in table["file"]])
    found = names["probabilities"](images).numpy()
    known = names["known"]["class_names"]
    for rank in range(1, 6):
        named = [known.index(str(label)) for label in table[f"class_{rank}"]]
        taken = found[np.arange(100), named]
        np.testing.assert_allclose(taken, table[f"probability_{rank}"], atol=1e-4)
    assert table["error"].isna().all()


@pytest.mark.parametrize("page", ["my_images.md", "predict.md"])
def test_settings_that_the_pages_name_exist(page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    named = re.findall(
        r"\b((?:predict|my_images|target|attack|sweep|source)\.[a-z_]+)\b(?!\.)", text
    )
    kept = [name for name in named if not name.endswith((".md", ".csv", ".py"))]
    assert len(kept) > 5
    for name in kept:
        expected(name)  # raises for a setting that there is not


def test_the_columns_are_documented() -> None:
    text = (ROOT / "docs" / "predict.md").read_text()
    for column in schema(1, 1).names:
        assert f"`{column}`" in text
