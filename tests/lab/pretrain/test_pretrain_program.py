"""Steps of an adversarial training against torch; schedules, smoothing and averages."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from convert.torch_pgd import pgd
from rtl_jax.data.augmentation import Augmentation
from rtl_jax.data.batches import Batch
from rtl_jax.lab.config import Pretraining
from rtl_jax.lab.pretrain.program import SourceProgram, smoothed_cross_entropy
from rtl_jax.models.architecture import ResNetArchitecture
from rtl_jax.models.model import Weights
from tests.torch_networks import nchw, random_torch, variables_of

pytestmark = pytest.mark.slow

ARCH = ResNetArchitecture(
    "tiny", "bottleneck", (1, 1), (4, 6), stem_width=6, stem_kernel=3, stem_stride=2,
    stem_pool=False, num_classes=5,
)  # fmt: skip
SETTINGS = Pretraining(
    perturbation="pgd",
    norm="l2",
    eps=0.5,
    steps=2,
    keep="last",
    epochs=3,
    batch_size=16,
    schedule="one_cycle",
    learning_rate=0.2,
    weight_decay=1e-3,
    label_smoothing=0.1,
    average_decay=0.6,
)
PROGRAM = SourceProgram(ARCH, SETTINGS, Augmentation(), image_size=8, steps_per_epoch=2)
KEY = jax.random.key(3)


def batches(count: int) -> list[Batch]:
    rng = np.random.default_rng(0)
    numbers = np.arange(16, dtype=np.int32)
    return [
        Batch(
            rng.integers(0, 256, (16, 8, 8, 3), dtype=np.uint8),
            rng.integers(0, 5, 16).astype(np.int32),
            numbers + 16 * step,
        )
        for step in range(count)
    ]


def torch_training(network, data, rates) -> list[float]:
    """Attack in evaluation mode, descend in train mode: the loop of `robustness`."""
    sgd = torch.optim.SGD(network.parameters(), lr=1, momentum=0.9, weight_decay=1e-3)
    losses = []
    for batch, rate in zip(data, rates, strict=True):
        images = nchw((batch.images / np.float32(255)).astype(np.float64))
        labels = torch.from_numpy(batch.labels).long()
        network.eval()
        images = pgd(network, images, labels, "l2", 0.5, steps=2, relative_step=2.5)
        network.train()
        sgd.param_groups[0]["lr"] = rate
        sgd.zero_grad()
        logits = network(images)
        torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.1).backward()
        sgd.step()
        losses.append(torch.nn.functional.cross_entropy(logits, labels).item())
    return losses


def test_adversarial_steps_equal_torchs():
    data = batches(6)
    with jax.enable_x64(True):
        network = random_torch(ARCH, seed=1).to(torch.float64)
        for name in ("mean", "std"):  # casting would keep their float32 rounding
            constant = torch.tensor(getattr(ARCH, name), dtype=torch.float64)
            setattr(network, name, constant.view(3, 1, 1))
        program = dataclasses.replace(PROGRAM, dtype=jnp.dtype(jnp.float64))
        state = program.start(*jax.tree.map(jnp.asarray, variables_of(network)))
        step = jax.jit(SourceProgram.step, static_argnums=0)
        losses, average = [], state.weights
        for number, batch in enumerate(data):
            state, metrics = step(program, state, batch, KEY)
            losses.append(float(metrics.loss) / 16)
            decay = min(0.6, (1 + number) / (10 + number))
            average = jax.tree.map(
                lambda old, new, d=decay: d * old + (1 - d) * new, average, state.weights
            )
        rates = [float(program.schedule()(number)) for number in range(6)]
        # Images are float32 on both sides, but not what the attack makes of them.
        np.testing.assert_allclose(losses, torch_training(network, data, rates), rtol=1e-5)
        expected = Weights(*variables_of(network))
        for ours, theirs in zip(state.weights, expected, strict=True):
            for path, value in ours.items():
                np.testing.assert_allclose(value, theirs[path], rtol=1e-4, atol=1e-6, err_msg=path)
        assert state.result is state.average
        for ours, theirs in zip(state.result, average, strict=True):
            for path, value in ours.items():
                np.testing.assert_allclose(value, theirs[path], rtol=1e-6, atol=1e-9)


def test_one_cycle_rises_and_falls_along_cosines():
    settings = dataclasses.replace(SETTINGS, epochs=50, warm_up=0.2)
    program = dataclasses.replace(PROGRAM, settings=settings)
    rates = [float(program.schedule()(step)) for step in range(101)]
    np.testing.assert_allclose(rates[0], 0.2 / 25, rtol=1e-5)
    np.testing.assert_allclose(rates[10], (0.2 + 0.2 / 25) / 2, rtol=1e-5)
    np.testing.assert_allclose(rates[20], 0.2, rtol=1e-5)
    np.testing.assert_allclose(rates[60], 0.1, rtol=1e-3)
    assert max(rates) == rates[20] and rates[100] < 1e-6


def test_the_papers_schedule_drops_at_thirds():
    settings = dataclasses.replace(SETTINGS, schedule="step", epochs=9, learning_rate=0.1)
    program = dataclasses.replace(PROGRAM, settings=settings)
    rates = [float(program.schedule()(jnp.asarray(step))) for step in (0, 5, 6, 11, 12, 17)]
    np.testing.assert_allclose(rates, [0.1, 0.1, 0.01, 0.01, 0.001, 0.001], rtol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_label_smoothing_is_torchs(smoothing: float):
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(size=(9, 4)).astype(np.float32), rng.integers(0, 4, 9)
    expected = torch.nn.functional.cross_entropy(
        torch.from_numpy(logits), torch.from_numpy(labels), label_smoothing=smoothing,
        reduction="none",
    )  # fmt: skip
    found = smoothed_cross_entropy(jnp.asarray(logits), jnp.asarray(labels), smoothing)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "lengths"),
    [
        ({"perturbation": "none"}, (0.0, 0.0)),
        ({"perturbation": "gaussian", "sigma": 5.0}, (0.2, 0.5)),  # clamping shortens it
        ({"perturbation": "pgd", "steps": 1, "random_start": True}, (0.2, 0.5)),
    ],
)
def test_perturbed_images_stay_in_the_ball(changes: dict, lengths: tuple[float, float]):
    program = dataclasses.replace(PROGRAM, settings=dataclasses.replace(SETTINGS, **changes))
    weights = Weights(*jax.tree.map(jnp.asarray, variables_of(random_torch(ARCH))))
    images = np.random.default_rng(2).uniform(size=(16, 8, 8, 3)).astype(np.float32)
    keys = jax.random.split(KEY, 16)
    labels = jnp.arange(16) % 5
    found = jax.jit(SourceProgram.perturb, static_argnums=0)(program, weights, images, labels, keys)
    norms = np.linalg.norm((np.asarray(found) - images).reshape(16, -1), axis=1)
    assert found.min() >= 0 and found.max() <= 1
    assert norms.min() >= lengths[0] and norms.max() <= lengths[1] + 1e-6
