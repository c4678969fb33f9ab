"""Bundling a finished source: the settings that it was trained with, and what its card says."""

from pathlib import Path

import numpy as np
import pytest

from rtl_jax.attacks.adversarial import attack
from rtl_jax.attacks.pgd import PGD
from rtl_jax.data import draw_test_subset, load_dataset
from rtl_jax.data.transforms import prepare
from rtl_jax.lab import results
from rtl_jax.lab.cli import parse
from rtl_jax.lab.pretrain import bundle
from rtl_jax.lab.pretrain.task import run_pretrain
from rtl_jax.models import bundled

CONFIG = '''"""A tiny natural source on the digits."""

from rtl_jax.lab.config import defaults


def get_config():
    """Return one epoch."""
    config = defaults()
    config.task = "pretrain"
    config.source.checkpoint = "random"
    config.source.arch = "resnet50"
    config.source.stem = "small"
    config.source.stage_sizes = (1, 1)
    config.source.stage_widths = (4, 6)
    config.target.dataset = "digits"
    config.target.image_size = 8
    config.target.num_images = 100
    config.target.num_test_images = 50
    config.pretraining.perturbation = "none"
    config.pretraining.epochs = 1
    config.pretraining.batch_size = 50
    config.attack.norm = "l2"
    config.attack.eps = (0.5,)
    config.attack.steps = 2
    return config
'''
EPOCHS = "--config.pretraining.epochs=30"


def test_a_source_is_bundled_with_the_settings_of_its_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    config, workdir = tmp_path / "tiny.py", str(tmp_path / "trained")
    config.write_text(CONFIG)
    (tmp_path / "bundled").mkdir()
    monkeypatch.setattr(bundled, "DIRECTORY", tmp_path / "bundled")
    for name, number in (("NUM_ATTACKED", 50), ("NUM_GRADIENTS", 20)):  # of 50 test images
        monkeypatch.setattr(bundle, name, number)
    run_pretrain(parse(["--config", str(config), EPOCHS])[0], Path(workdir))
    trained = ["tiny_30", "--config", str(config), "--workdir", workdir, "--machine", "a laptop"]

    assert bundle.main(trained) == 2
    assert "pretraining.epochs differs" in capsys.readouterr().err and not bundled.names()
    assert bundle.main([*trained, EPOCHS]) == 0
    card, network = bundled.card("tiny_30"), bundled.load("tiny_30")
    assert card["command"] == f"python run.py --config {config} {EPOCHS}"
    assert (card["epochs"], card["perturbation"], card["machine"]) == (30, "nothing", "a laptop")

    data = load_dataset("digits", data_dir=None, image_size=8)
    shown = data.test.take(draw_test_subset(data.test.labels, 50, 10))
    images = np.asarray(prepare(shown.images, 8))
    held = attack(network.logits_fn(), images, shown.labels, 0.5, PGD("l2", steps=20))
    clean = np.asarray(network.logits_fn()(images)).argmax(1) == shown.labels
    assert card["clean_accuracy"] == pytest.approx(100 * float(clean.mean()), abs=0.01)
    assert card["robust_accuracy"] == pytest.approx(100 * float(held.robust_accuracy), abs=0.01)
    rows = results.read_rows(workdir)
    assert card["hours"] == pytest.approx(rows["seconds"].iloc[-1] / 3600, abs=1e-3)


def test_settings_without_a_name_are_refused(capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit):
        bundle.main(["--figure", "nowhere.png", EPOCHS])
    assert "unrecognized arguments: --config.pretraining.epochs=30" in capsys.readouterr().err
