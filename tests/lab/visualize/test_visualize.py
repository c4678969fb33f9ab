"""The whole task `visualize`: two sources, and users' mistakes."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from rtl_jax.attacks.losses import cross_entropy
from rtl_jax.data import draw_test_subset
from rtl_jax.errors import UserError
from rtl_jax.lab.config import Experiment, Target, Visualize
from rtl_jax.lab.inputs import load_target
from rtl_jax.lab.visualize import task as module
from rtl_jax.lab.visualize.saliency import total_variation
from rtl_jax.lab.visualize.table import summarize
from rtl_jax.lab.visualize.task import run_visualize
from rtl_jax.models.model import bind, definition
from tests.lab.visualize.networks import ARCH, tiny

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sources, `natural` and `robust` in name only."""
    directory = tmp_path_factory.mktemp("visualize")
    for index, name in enumerate(("natural", "robust")):
        tiny(index).save(directory / name)
    return directory


def experiment(workdir: Path, **settings) -> Experiment:
    names = tuple(str(workdir / name) for name in ("natural", "robust"))
    target = Target("digits", image_size=8, num_test_images=12, classes=(4, 5, 6))
    chosen = Visualize(sources=names, num_shown=3, steps=5, relative_step=2.5, eps=0.5)
    chosen = dataclasses.replace(chosen, **settings)
    return Experiment(task="visualize", target=target, visualize=chosen)


def archive(workdir: Path, rows: pd.DataFrame, name: str) -> dict[str, np.ndarray]:
    directory = workdir / "runs" / rows["run"].iloc[0]
    assert {path.name for path in directory.iterdir()} == {f"{name}.png", f"{name}.npz"}
    assert (directory / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    with np.load(directory / f"{name}.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def test_features_of_two_sources(workdir: Path, monkeypatch: pytest.MonkeyPatch):
    settings = experiment(workdir)
    rows = run_visualize(settings, workdir)
    assert [Path(name).name for name in rows["source"]] == ["natural", "robust"]
    assert set(rows["method"]) == {"features"} and set(rows["num_test_images"]) == {3}
    assert set(rows["norm"]) == {"l2"} and set(rows["eps"]) == {0.5}
    found = archive(workdir, rows, "features")
    assert found["images"].shape == (2, 2, 3, 8, 8, 3)
    assert sorted(found["labels"]) == [0, 1, 2]
    change = found["images"] - found["originals"]
    assert 0.1 < np.sqrt((change**2).sum((3, 4, 5))).max() <= 0.5
    assert found["images"].min() >= 0 and found["images"].max() <= 1
    for source in range(2):
        values = np.asarray(total_variation(jnp.asarray(change[source].reshape(-1, 8, 8, 3))))
        assert rows["roughness"][source] == pytest.approx(np.nanmean(values), rel=1e-5)
        network = tiny(source)
        whole = bind(definition(ARCH, method="xla"), network.params, network.batch_stats)
        look = jax.jit(lambda images, net=whole: net.prefix(images, ARCH.num_blocks))
        seen = np.asarray(look(found["originals"]))
        np.testing.assert_array_equal(found["units"][source][0], seen.argmax(1))
        np.testing.assert_allclose(found["before"][source][0], seen.max(1), rtol=1e-4)
    table = summarize(rows)
    assert table.count("features") == 2 and f"{rows['roughness'][1]:.2f}" in table

    monkeypatch.setattr(module, "_look", lambda *_: pytest.fail("looked again"))
    pd.testing.assert_frame_equal(run_visualize(settings, workdir), rows)
    with pytest.raises(pytest.fail.Exception):
        run_visualize(dataclasses.replace(settings, seed=1), workdir)


def test_gradients_of_two_sources(workdir: Path):
    settings = experiment(workdir, show="gradients")
    rows = run_visualize(settings, workdir)
    assert set(rows["num_test_images"]) == {12} and rows["eps"].isna().all()
    found = archive(workdir, rows, "gradients")
    assert found["gradients"].shape == (2, 3, 8, 8, 3)
    test = load_target(settings.target).test
    test = test.take(draw_test_subset(test.labels, 12, 3))
    pixels = jnp.broadcast_to(jnp.asarray(test.images, jnp.float32) / 255, (12, 8, 8, 3))
    shown = [
        np.flatnonzero((np.asarray(pixels) == one).all((1, 2, 3)))[0] for one in found["originals"]
    ]
    assert len(set(shown)) == 3
    np.testing.assert_array_equal(found["labels"], test.labels[shown])
    for source in range(2):
        network = tiny(source)
        whole = bind(definition(ARCH, method="xla"), network.params, network.batch_stats)
        total = jax.grad(lambda x, net=whole: cross_entropy(net(x), test.labels).sum())
        slope = jax.jit(total)(pixels)
        wanted = np.asarray(slope)[shown]
        scale = np.abs(wanted).max()
        np.testing.assert_allclose(found["gradients"][source], wanted, atol=1e-4 * scale)
        expected = float(total_variation(slope).mean())
        assert rows["roughness"][source] == pytest.approx(expected, rel=1e-4)


def test_a_feature_that_is_off_everywhere_is_told(workdir: Path, tmp_path: Path, capsys):
    """Its gradient is 0, so the pictures do not change, and there is nothing to measure."""
    network = tiny(0)
    network.params["layer2/0/bn2/scale"][7] = 0
    network.params["layer2/0/bn2/bias"][7] = -1e3
    network.save(tmp_path / "dead")
    settings = experiment(workdir, sources=(str(tmp_path / "dead"),), units=(7,))
    rows = run_visualize(settings, tmp_path)
    assert "3 of 3 images are unchanged, since their feature is 0" in capsys.readouterr().out
    assert rows["roughness"].isna().all()
    found = archive(tmp_path, rows, "features")
    np.testing.assert_array_equal(found["images"][0, 0], found["originals"])


def test_gradients_that_are_zero_are_told_and_left_out(workdir: Path, tmp_path: Path, capsys):
    """Those of images that a network is sure of, whose loss is 0 in float32."""
    network = tiny(0)
    network.params["fc/bias"][:] = (1e4, 0, 0)
    network.save(tmp_path / "sure")
    settings = experiment(workdir, sources=(str(tmp_path / "sure"),), show="gradients")
    rows = run_visualize(settings, tmp_path)
    assert "4 of 12 gradients are 0 in every pixel" in capsys.readouterr().out
    assert np.isfinite(rows["roughness"]).all()
    logit = dataclasses.replace(settings.visualize, loss="logit")
    run_visualize(dataclasses.replace(settings, visualize=logit), tmp_path)
    assert "0 in every pixel" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "target", "message"),
    [
        ({"sources": ("no/such.pt",)}, {}, "source.checkpoint: there is no no/such.pt"),
        ({"units": (16,)}, {}, "visualize.units: expected features from 0 to 15, .*received 16"),
        ({"label": 3}, {}, "visualize.label: expected a class from 0 to 2"),
        ({"num_shown": 13}, {}, "expected 1 to 12 test images.*received 13"),
        ({"show": "gradients"}, {"classes": (1, 2)}, "natural has 3 classes and digits ha"),
    ],
)
def test_what_the_user_can_mend(workdir: Path, settings: dict, target: dict, message: str):
    wrong = experiment(workdir, **settings)
    wrong = dataclasses.replace(wrong, target=dataclasses.replace(wrong.target, **target))
    with pytest.raises(UserError, match=message):
        run_visualize(wrong, workdir)
