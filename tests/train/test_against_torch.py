"""Training in the paper's mode compared with a torch loop: same head, batches and pixels.

The torch side is the authors' loop: `requires_grad=False` on frozen layers, everything in train
mode, SGD with momentum and weight decay, StepLR stepped after every epoch.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from rtl_jax.data import ImageSet
from rtl_jax.data.augmentation import Augmentation
from rtl_jax.models.architecture import ResNetArchitecture
from rtl_jax.models.model import Weights, bind, definition
from rtl_jax.train.feature_cache import cache_images
from rtl_jax.train.feeds import InMemory
from rtl_jax.train.freeze import combine
from rtl_jax.train.placement import SeedsApart
from rtl_jax.train.program import Program
from rtl_jax.train.recipe import Recipe
from rtl_jax.train.split import SplitNetwork
from rtl_jax.train.step import Hyper, Keys, Step, TrainState
from rtl_jax.train.trainer import Training
from tests.torch_networks import nchw, random_torch, variables_of

pytestmark = pytest.mark.slow

# ResNet-50's last two stages, which 0, 1, 3 and 9 blocks reach into, and few channels.
ARCH = ResNetArchitecture(
    "narrow50",
    "bottleneck",
    (1, 1, 6, 3),
    (4, 6, 8, 10),
    stem_width=6,
    stem_kernel=3,
    stem_stride=1,
    stem_pool=False,
    num_classes=5,
)
SMOOTH = dataclasses.replace(ARCH, activation="silu")
BATCHES = (24, 24, 9)  # an epoch with a partial last batch
SIZE = 16


def batches(steps: int, dtype: type, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(seed)
    epoch = [
        (rng.uniform(size=(count, SIZE, SIZE, 3)).astype(dtype), rng.integers(0, 5, count))
        for count in BATCHES
    ]
    return [epoch[step % len(epoch)] for step in range(steps)]


def trains(name: str, blocks: int | None) -> bool:
    if blocks is None or name.startswith("fc."):
        return True
    order = [f"layer{s}.{i}." for s, n in enumerate(ARCH.stage_sizes, 1) for i in range(n)]
    return any(name.startswith(block) for block in order[len(order) - blocks :])


def settings(blocks: int | None) -> Recipe:
    return Recipe(
        blocks=blocks, frozen_batch_norm="batch", batch_size=24, epochs=7, learning_rate=0.1
    )


def torch_training(network, blocks, data) -> list[float]:
    network.train()
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(trains(name, blocks))
    trained = [p for p in network.parameters() if p.requires_grad]
    sgd = torch.optim.SGD(trained, lr=0.1, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.StepLR(sgd, step_size=7 // 3, gamma=0.1)
    losses = []
    for step, (pixels, labels) in enumerate(data, start=1):
        sgd.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(nchw(pixels)), torch.from_numpy(labels))
        loss.backward()
        sgd.step()
        losses.append(loss.item())
        if step % len(BATCHES) == 0:
            schedule.step()
    network.eval()
    return losses


def program_of(
    blocks: int | None, dtype: type = np.float32, arch: ResNetArchitecture = ARCH
) -> Program:
    transfer = settings(blocks)
    network = SplitNetwork.of(arch, transfer, SIZE).replace(dtype=jnp.dtype(dtype))
    return Program(network, transfer, Augmentation(), epochs=7)


def start(program: Program, variables) -> tuple[TrainState, Weights]:
    """Return a network's variables as the state of one seed, and the frozen part."""
    (params, stats), frozen = program.step().divide(*jax.tree.map(jnp.asarray, variables))
    return program.step().start(params, stats), frozen


step = jax.jit(Step.step, static_argnums=0)


def numbers(program: Program, number: int) -> Hyper:
    """Return the hyperparameters of step `number`, counted from 0."""
    every = program.hyper(len(BATCHES))
    return every._replace(learning_rate=every.learning_rate[number])


def our_training(variables, blocks, data, dtype, arch=ARCH):
    program = program_of(blocks, dtype, arch)
    state, frozen = start(program, variables)
    losses = []
    for number, (pixels, labels) in enumerate(data):
        hyper = numbers(program, number)
        state, metrics = step(program.step(), state, frozen, pixels, labels, hyper)
        losses.append(float(metrics.loss) / len(labels))
    params = combine(state.params, frozen.params)
    return losses, (params, {**frozen.batch_stats, **state.batch_stats})


def torch_network(dtype, arch=ARCH):
    network = random_torch(arch, seed=1)
    with torch.no_grad():  # the paper's head
        network.fc.weight.normal_(generator=torch.Generator().manual_seed(2))
        network.fc.bias.zero_()
    network = network.to(torch.float64 if dtype is np.float64 else torch.float32)
    for name in ("mean", "std"):  # casting would keep their float32 rounding
        constant = torch.tensor(getattr(ARCH, name), dtype=network.fc.weight.dtype)
        setattr(network, name, constant.view(3, 1, 1))
    return network


@pytest.mark.parametrize("blocks", [0, 3, None])
def test_twenty_steps_in_float64(blocks: int | None):
    with jax.enable_x64(True):
        network, data = torch_network(np.float64), batches(20, np.float64)
        before = variables_of(network)
        losses, (params, stats) = our_training(before, blocks, data, np.float64)
        expected = torch_training(network, blocks, data)
        np.testing.assert_allclose(losses, expected, rtol=1e-6)
        torch_params, torch_stats = variables_of(network)
        for path, value in stats.items():  # means and unbiased variances, frozen layers' too
            np.testing.assert_allclose(value, torch_stats[path], rtol=1e-6, atol=1e-9, err_msg=path)
            assert not np.array_equal(value, before[1][path]), path
        for path, value in params.items():
            np.testing.assert_allclose(
                value, torch_params[path], rtol=1e-6, atol=1e-9, err_msg=path
            )
            moved = not np.array_equal(value, before[0][path])
            name = path.replace("/", ".")
            assert moved == trains(name if "fc" not in name else "fc.", blocks), path
        pixels = data[0][0]
        graphdef = definition(ARCH, dtype=jnp.float64)
        logits = jax.jit(lambda p, s, x: bind(graphdef, p, s)(x))(params, stats, pixels)
        with torch.no_grad():
            np.testing.assert_allclose(logits, network(nchw(pixels)).numpy(), rtol=1e-6, atol=1e-6)


def test_three_steps_in_float32():
    """Compared with torch in float64, with SiLU in place of ReLU.

    The gradient of ReLU jumps: where float32's rounding, which depends on the processor and the
    number of its cores, puts an input on the other side of 0, the next loss changes by 1 %.
    """
    variables = variables_of(torch_network(np.float32, SMOOTH))
    losses, _ = our_training(variables, 3, batches(3, np.float32), np.float32, SMOOTH)
    network = torch_network(np.float64, SMOOTH)
    expected = torch_training(network, 3, batches(3, np.float64))
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    assert losses[0] > 1  # the paper's head starts far off


def test_an_epoch_is_its_steps_with_the_partial_batch_last():
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (57, SIZE, SIZE, 3), dtype=np.uint8)
    labels = rng.integers(0, 5, 57).astype(np.int32)
    program, variables = program_of(1), variables_of(random_torch(ARCH))
    cache = cache_images(ImageSet(images, labels), np.arange(57))
    state, frozen = start(program, variables)
    keys = jax.random.split(jax.random.key(5), 3)
    alone = SeedsApart(1)
    feed = InMemory(cache, np.arange(57)[None], Keys(*keys[:, None]), 24, alone)
    training = Training.of(program, frozen, feed, alone)
    one_seed = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], state)
    whole, sums = training.epoch(one_seed, 4)
    order = jax.random.permutation(jax.random.fold_in(keys[0], 4), 57)
    loss = 0.0
    for number, part in enumerate((order[:24], order[24:48], order[48:])):
        pixels = images[part] / np.float32(255)
        hyper = numbers(program, 9 + number)  # behind three epochs
        state, metrics = step(program.step(), state, frozen, pixels, labels[part], hyper)
        loss += float(metrics.loss)
    assert sums.number.tolist() == [57]
    np.testing.assert_allclose(sums.loss, [loss], rtol=1e-4)
    for ours, steps in zip(jax.tree.leaves(whole), jax.tree.leaves(state), strict=True):
        np.testing.assert_allclose(ours[0], steps, rtol=2e-3, atol=1e-4)
    assert sorted(np.asarray(order)) == list(range(57))
    other = dataclasses.replace(program, settings=settings(1))
    assert hash(other) == hash(program) and other == program  # so that it compiles once
