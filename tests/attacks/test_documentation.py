"""The code in docs/attacks.md runs and does what the text says."""

import re
from pathlib import Path

import numpy as np

from tests.attacks.models import mlp, pictures

PAGE = Path(__file__).parents[2] / "docs" / "attacks.md"


def test_the_examples_run() -> None:
    first, second, third = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    model = mlp()
    names = {
        "apply": model.func,
        "params": model.args[0],
        "images": pictures(12),
        "labels": np.arange(12) % 4,
    }
    exec(first, names)
    found = names["found"]
    assert found.images.shape == (12, 4, 4, 3) and found.norms.max() <= 8 / 255 + 1e-6
    exec(second, names)
    assert names["curve"].robust_accuracy.shape == (6,)
    exec(third, names)
    change = np.abs(names["red"].images - names["images"])
    assert change[..., 0].max() > 0.2 and not change[..., 1:].any()
    lines = [line for line in first.splitlines() if line.strip()]
    assert len(lines) == 5


def test_every_setting_named_exists() -> None:
    import rtl_jax.attacks

    names = {"PGD": rtl_jax.attacks.PGD, **vars(rtl_jax.attacks)}
    rows = re.findall(r"^\| `((?:PGD|Gaussian)\([^`]*\))`", PAGE.read_text(), re.MULTILINE)
    assert len(rows) >= 6
    for row in rows:
        eval(row, names)
