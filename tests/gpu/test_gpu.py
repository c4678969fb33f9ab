"""Tests that need an accelerator: run with `pytest -m gpu`."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from rtl_jax.data.augmentation import PRESETS
from rtl_jax.lab.config import Attack, Experiment, Pretraining, Source, Target
from rtl_jax.lab.finetune.task import run_finetune
from rtl_jax.lab.pretrain.task import run_pretrain
from rtl_jax.models.architecture import architecture
from rtl_jax.models.convolution import choose_convolution
from rtl_jax.models.model import bind, definition, initialize
from rtl_jax.runtime import devices
from rtl_jax.train.recipe import Recipe

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(jax.default_backend() == "cpu", reason="JAX sees no accelerator"),
]

ARCH = architecture("resnet50", num_classes=10)


def test_logits_equal_the_cpus_for_both_convolutions():
    cpu = jax.devices("cpu")[0]
    with jax.default_device(cpu):
        variables = jax.tree.map(np.asarray, initialize(ARCH, jax.random.key(0)))
    pixels = np.random.default_rng(0).uniform(size=(4, 97, 97, 3)).astype(np.float32)

    def logits(method: str, device: jax.Device) -> np.ndarray:
        graphdef = definition(ARCH, method=method)
        apply = jax.jit(lambda p, s, x: bind(graphdef, p, s)(x))
        with devices.matmul_precision("float32"):
            return np.asarray(apply(*jax.device_put((*variables, pixels), device)))

    expected = logits("dot", cpu)
    for method in ("xla", "dot"):
        ours = logits(method, jax.devices()[0])
        assert np.abs(ours - expected).max() < 1e-4 * np.abs(expected).max()


def test_the_convolution_is_cudnns_unless_weights_are_batched():
    assert choose_convolution() == "xla"
    assert choose_convolution(batched_weights=True) == "dot"


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
@pytest.mark.parametrize("mode", ["batch", "source", "adapt"])
def test_a_whole_run(tmp_path: Path, mode: str, precision: str):
    settings = Experiment(
        source=Source("random", "resnet50"),
        target=Target("digits", image_size=64, num_images=100, num_test_images=200),
        augmentation=PRESETS["paper"],
        transfer=Recipe(epochs=5, frozen_batch_norm=mode, precision=precision),
    )
    rows = run_finetune(settings, tmp_path)
    assert set(rows["platform"]) == {jax.default_backend()}
    assert np.isfinite(rows["train_loss"]).all()
    again = run_finetune(dataclasses.replace(settings, seed=1), tmp_path)
    assert again["run"].iloc[0] != rows["run"].iloc[0]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("perturbation", ["none", "pgd", "gaussian"])
def test_a_source_trains(tmp_path: Path, perturbation: str, precision: str):
    settings = Experiment(
        task="pretrain",
        source=Source("random", "resnet18", "small"),
        target=Target("digits", image_size=32, num_test_images=200),
        augmentation=PRESETS["none"],
        pretraining=Pretraining(
            perturbation=perturbation, eps=0.5, steps=3, epochs=3, num_attacked=50,
            schedule="one_cycle", precision=precision,
        ),
        attack=Attack(norm="l2", eps=(0.5,), precision=precision),
    )  # fmt: skip
    rows = run_pretrain(settings, tmp_path)
    assert np.isfinite(rows["train_loss"]).all()
    assert rows[rows["method"] == "pretrain"]["accuracy"].max() > 50
