"""`--check --attack`: equal robust accuracy from two implementations that share no code."""

import re

import numpy as np
import pytest
import torch
from torch_files import BASIC, BOTTLENECK, robustness, save, state

from rtl_jax.convert import robustness as comparison
from rtl_jax.convert.command import main
from rtl_jax.convert.torch_pgd import pgd
from rtl_jax.convert.torch_resnet import randomize, torch_resnet

pytestmark = pytest.mark.slow


@pytest.fixture
def source(tmp_path):
    return save(robustness(state(BASIC)), tmp_path / "a.pt")


@pytest.fixture
def own_images(tmp_path):
    """An npz dataset of three classes, as many as BASIC has, with 19 test images of 12 px."""
    generator = np.random.default_rng(0)
    arrays = {}
    for half, number in (("train", 6), ("test", 19)):
        arrays[f"x_{half}"] = generator.integers(0, 256, (number, 12, 12, 3), np.uint8)
        arrays[f"y_{half}"] = np.arange(number, dtype=np.int64) % 3
    np.savez(tmp_path / "own.npz", **arrays)
    return f"npz:{tmp_path / 'own.npz'}"


def table(printed: str) -> dict[str, list[float]]:
    """Parse the numbers after an attack's name: clean, clean, robust, robust, difference, norm."""
    rows = re.findall(r"^((?:l2|linf):\S+) +(.*)$", printed, re.MULTILINE)
    return {name: [float(number) for number in numbers.split()] for name, numbers in rows}


def run(source, destination, *arguments: str) -> int:
    return main([str(source), str(destination), "--check", *arguments])


@pytest.mark.parametrize("arch", [BASIC, BOTTLENECK], ids=["small-stem", "imagenet-stem"])
def test_both_are_equally_robust(tmp_path, capsys, arch):
    path = save(robustness(state(arch)), tmp_path / "a.pt")
    attacks = ["--attack", "l2:0.5", "--attack", "linf:4/255", "--attack", "l2:0"]
    assert run(path, tmp_path / "out", *attacks, "--num-images", "18", "--image-size", "24") == 0
    printed = capsys.readouterr().out
    assert "18 test images of digits at 24 px" in printed
    assert "NOT the true ones" in printed and "equally robust" in printed
    rows = table(printed)
    assert list(rows) == ["l2:0.5", "linf:4/255", "l2:0"]
    for name, eps in (("l2:0.5", 0.5), ("linf:4/255", 4 / 255)):
        clean_torch, clean_jax, robust_torch, robust_jax, difference, norm = rows[name]
        assert clean_torch == clean_jax == 100 and robust_torch == robust_jax
        assert 0 < robust_torch < 100, "an attack that breaks none or all would show nothing"
        assert difference <= 2 * eps + 1e-6 and 0.9 * eps < norm <= eps + 1e-6
    assert rows["l2:0"] == [100, 100, 100, 100, 0, 0]


def test_true_labels_if_the_classes_agree(tmp_path, capsys, source, own_images):
    chosen = ["--data", own_images, "--attack", "l2:0.1"]
    assert run(source, tmp_path / "out", *chosen, "--image-size", "12") == 0
    printed = capsys.readouterr().out
    assert "19 test images of npz:" in printed and "labels: the true ones" in printed
    clean_torch, clean_jax, robust_torch, robust_jax, *_ = table(printed)["l2:0.1"]
    assert clean_torch == clean_jax < 100 and robust_torch == robust_jax < clean_torch


def test_predictions_if_the_classes_disagree(tmp_path, capsys, source):
    chosen = ["--data", "digits", "--attack", "linf:1/255", "--num-images", "2"]
    assert run(source, tmp_path / "out", *chosen) == 0
    printed = capsys.readouterr().out
    assert "digits at 32 px" in printed and "NOT the true ones" in printed


def test_a_wrong_normalisation_in_jax_is_seen(tmp_path, capsys, monkeypatch, source):
    logits_fn = comparison.Network.logits_fn

    def wrong_logits(network):
        arch = network.architecture.replace(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
        return logits_fn(network.replace(architecture=arch))

    monkeypatch.setattr(comparison.Network, "logits_fn", wrong_logits)
    attacks = ["--attack", "l2:0.3", "--image-size", "16"]
    assert run(source, tmp_path / "out", *attacks) == 1
    printed = capsys.readouterr()
    assert "equal: every stage" in printed.out  # only the attack's own network is wrong
    assert "accuracies differ" in printed.err and "l2:0.3" in printed.err
    clean_torch, _, robust_torch, robust_jax, difference, _ = table(printed.out)["l2:0.3"]
    assert clean_torch == 100 and robust_torch != robust_jax and difference > 0.01


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_torch_pgd_reaches_the_worst_case_of_a_linear_model(norm):
    """In the ball, the loss of a two-class linear model is maximal along its weights."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(3 * 4 * 4, generator=generator)
    images = torch.rand(5, 3, 4, 4, generator=generator) * 0.2 + 0.4
    labels, eps = torch.tensor([0, 1, 0, 1, 1]), 0.1

    class Linear(torch.nn.Module):
        def forward(self, x):
            score = x.flatten(1) @ weights
            return torch.stack([score, -score], 1) * 0.1

    found = pgd(Linear(), images, labels, norm, eps, steps=20, relative_step=2.5)
    direction = weights.sign() if norm == "linf" else weights / weights.norm()
    signs = (2 * labels - 1)[:, None]
    torch.testing.assert_close(
        (found - images).flatten(1), eps * signs * direction, atol=1e-5, rtol=0
    )


def test_torch_pgd_stays_in_the_pixels_and_leaves_no_gradient():
    module = randomize(torch_resnet(BASIC), 0)
    images = torch.rand(3, 3, 8, 8).round()
    found = pgd(module, images, module(images).argmax(1), "linf", 0.1, steps=3, relative_step=2.5)
    assert found.min() >= 0 and found.max() <= 1 and not found.requires_grad
    assert all(parameter.grad is None for parameter in module.parameters())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--attack", "l2:1"], "add --check"),
        (["--check", "--data", "digits"], "--data needs --attack"),
        (["--check", "--num-images", "3"], "--num-images needs --attack"),
        (["--check", "--attack", "l1:1"], "the norm 'l1' is neither"),
        (["--check", "--attack", "linf"], "'' is not a number"),
        (["--check", "--attack", "l2:much"], "'much' is not a number"),
        (["--check", "--attack", "l2:1/0"], "'1/0' is not a number"),
        (["--check", "--attack", "l2:-1"], "eps must be 0 or more"),
        (["--check", "--attack", "l2:nan"], "eps must be 0 or more"),
        (["--check", "--attack", "linf:4"], "perhaps linf:4/255 was meant"),
        (["--check", "--attack", "l2:1", "--num-images", "0"], "expected 1 or more, received 0"),
        (["--check", "--attack", "l2:1", "--image-size", "0"], "expected 1 or more, received 0"),
        (["--check", "--attack", "l2:1", "--data", "mnist"], "unknown dataset 'mnist'"),
        (["--check", "--attack", "l2:1", "--data", "npz:/no/such.npz"], "/no/such.npz"),
    ],
)
def test_what_cannot_be_attacked(tmp_path, capsys, source, arguments, message):
    assert main([str(source), str(tmp_path / "out"), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()  # refused before anything was converted


def compared(name: str, **changed: float) -> comparison.Compared:
    row = comparison.Compared(comparison.parse_ball(name), 90.0, 90.0, 50.0, 50.0, 0.0, 0.0, 1000)
    return row._replace(**changed)


def test_what_counts_as_a_difference():
    assert compared("l2:1").agrees and compared("l2:1", robust_jax=51.0).agrees
    assert (
        not compared("l2:1", robust_jax=51.1).agrees and not compared("l2:1", clean_jax=88.9).agrees
    )
    assert compared("l2:1", robust_jax=55.0, num_images=20).agrees  # one image of twenty
    assert not compared("l2:1", robust_jax=60.0, num_images=20).agrees
