"""Steps of adversarial training compared with torch: a source, the last blocks, and TRADES."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from rtl_jax.convert.torch_pgd import pgd
from rtl_jax.data.augmentation import Augmentation
from rtl_jax.data.batches import Batch
from rtl_jax.data.transforms import example_keys
from rtl_jax.lab.config import Pretraining
from rtl_jax.models.architecture import ResNetArchitecture
from rtl_jax.models.model import Weights
from rtl_jax.models.network import Network
from rtl_jax.train.freeze import combine
from rtl_jax.train.metrics import smoothed_cross_entropy, weighted_mean
from rtl_jax.train.optimizers import rates
from rtl_jax.train.perturb import DivergenceSearch, perturb, perturbation_of
from rtl_jax.train.program import Program
from rtl_jax.train.recipe import Recipe
from rtl_jax.train.settings import TrainingSettings
from rtl_jax.train.split import SplitNetwork
from rtl_jax.train.step import Keys, Step, TrainState
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
KEY = jax.random.key(3)


def program_of(settings: TrainingSettings, epochs: int = 3, dtype: type = np.float32) -> Program:
    blocks, mode = (
        getattr(settings, "blocks", None),
        getattr(settings, "frozen_batch_norm", "batch"),
    )
    network = SplitNetwork(ARCH, blocks, mode, image_size=8, dtype=jnp.dtype(dtype))
    return Program(network, settings, Augmentation(), epochs)


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


def torch_network(seed: int = 1):
    network = random_torch(ARCH, seed=seed).to(torch.float64)
    for name in ("mean", "std"):  # casting would keep their float32 rounding
        constant = torch.tensor(getattr(ARCH, name), dtype=torch.float64)
        setattr(network, name, constant.view(3, 1, 1))
    return network


def torch_training(network, data, settings: TrainingSettings, every, loss_of) -> list[float]:
    """Run `robustness`'s loop: `loss_of` attacks in evaluation mode, descent is in train mode."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    sgd = torch.optim.SGD(trained, lr=1, momentum=0.9, weight_decay=settings.weight_decay)
    losses = []
    for number, (batch, rate) in enumerate(zip(data, every, strict=True)):
        images = nchw((batch.images / np.float32(255)).astype(np.float64))
        labels = torch.from_numpy(batch.labels).long()
        loss, shown = loss_of(network, images, labels, number)
        sgd.param_groups[0]["lr"] = float(rate)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        losses.append(torch.nn.functional.cross_entropy(shown, labels).item())
    return losses


def adversarial(settings: TrainingSettings):
    """Madry et al.: the cross-entropy on the images that PGD finds."""

    def loss_of(network, images, labels, number):
        network.eval()
        search = pgd if settings.keep == "last" else best_of_pgd
        step = {"steps": settings.steps, "relative_step": settings.relative_step}
        found = search(network, images, labels, settings.norm, settings.eps, **step)
        network.train()
        logits = network(found)
        smoothing = settings.label_smoothing
        return torch.nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing), logits

    return loss_of


def best_of_pgd(network, images, labels, norm, eps, *, steps, relative_step):
    """Return PGD's iterate of the highest loss, including the first, as `robustness` does.

    PGD with fewer steps of the same size yields the earlier iterates.
    """
    best, highest = images, torch.full((len(images),), -torch.inf)
    for number in range(steps + 1):
        x = images
        if number:
            shorter = relative_step * number / steps
            x = pgd(network, images, labels, norm, eps, steps=number, relative_step=shorter)
        with torch.no_grad():
            losses = torch.nn.functional.cross_entropy(network(x), labels, reduction="none")
        best = torch.where((losses > highest).view(-1, 1, 1, 1), x, best)
        highest = torch.maximum(losses, highest)
    return best


def our_training(
    program: Program, variables, data: list[Batch], steps_per_epoch: int
) -> tuple[list[float], TrainState, Weights]:
    step = program.step(steps_per_epoch)
    (params, stats), frozen = step.divide(*jax.tree.map(jnp.asarray, variables))
    state, every = step.start(params, stats), program.hyper(steps_per_epoch)
    advance = jax.jit(Step.step_on, static_argnums=0)
    losses = []
    for number, batch in enumerate(data):
        hyper = every._replace(learning_rate=every.learning_rate[number])
        keys = Keys(KEY, KEY, KEY)
        epoch = jnp.asarray(number // steps_per_epoch)
        state, metrics = advance(step, state, frozen, batch, keys, epoch, hyper)
        losses.append(float(metrics.loss) / 16)
    return losses, state, frozen


def assert_same(found: Weights, expected: Weights, rtol: float = 1e-4) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.keys() == theirs.keys()
        for path, value in ours.items():
            np.testing.assert_allclose(value, theirs[path], rtol=rtol, atol=1e-6, err_msg=path)


def test_a_sources_steps_equal_torchs():
    data = batches(6)
    with jax.enable_x64(True):
        network = torch_network()
        program = program_of(SETTINGS, dtype=np.float64)
        losses, state, _ = our_training(program, variables_of(network), data, 2)
        every = rates(SETTINGS, 3, 2)
        expected = torch_training(network, data, SETTINGS, every, adversarial(SETTINGS))
        # Images are float32 on both sides, but not what the attack makes of them.
        np.testing.assert_allclose(losses, expected, rtol=1e-5)
        assert_same(Weights(state.params, state.batch_stats), Weights(*variables_of(network)))
        assert state.result is state.average


def test_the_average_is_of_every_steps_weights():
    program = program_of(SETTINGS)
    variables = variables_of(random_torch(ARCH, seed=1))
    average = Weights(*jax.tree.map(jnp.asarray, variables))
    for number in range(1, 4):
        _, state, _ = our_training(program, variables, batches(number), 2)
        decay = min(0.6, number / (9 + number))
        new = Weights(state.params, state.batch_stats)
        average = jax.tree.map(lambda old, new, d=decay: d * old + (1 - d) * new, average, new)
    assert_same(state.result, average)


FINE_TUNING = Recipe(
    blocks=1,
    frozen_batch_norm="batch",
    perturbation="pgd",
    eps=0.5,
    steps=3,
    keep="loss",
    learning_rate=0.05,
    weight_decay=1e-3,
    batch_size=16,
)


def freeze(network) -> None:
    """Freeze as the paper does: frozen parameters have no gradient, but their statistics move."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith(("layer2.", "fc.")))


@pytest.mark.parametrize(("norm", "eps"), [("l2", 0.5), ("linf", 4 / 255)])
def test_twenty_steps_on_a_target_equal_robustness_loop(norm: str, eps: float):
    """Through the whole network, including its frozen part, in float64."""
    settings, data = FINE_TUNING.replace(norm=norm, eps=eps), batches(20)
    with jax.enable_x64(True):
        network = torch_network()
        program = program_of(settings, epochs=5, dtype=np.float64)
        losses, state, frozen = our_training(program, variables_of(network), data, 4)
        freeze(network)
        every = rates(settings, 5, 4)
        expected = torch_training(network, data, settings, every, adversarial(settings))
        np.testing.assert_allclose(losses, expected, rtol=1e-5)
        params = combine(state.params, frozen.params)
        assert_same(Weights(params, state.batch_stats), Weights(*variables_of(network)))


def test_steps_of_trades_equal_its_authors():
    """Their loop: a search near the image on the divergence, then three passes for training."""
    settings = FINE_TUNING.replace(beta=6.0, keep="last", norm="linf", eps=8 / 255)
    data = batches(5)
    functional = torch.nn.functional

    def loss_of(network, images, labels, number):
        keys = example_keys(KEY, number // 4, jnp.asarray(data[number].indices))
        noise = jax.vmap(lambda key: jax.random.normal(key, (8, 8, 3), jnp.float32))(keys)
        network.eval()
        size = settings.relative_step * settings.eps / settings.steps
        clean = functional.softmax(network(images), 1).detach()
        x = images + 0.001 * nchw(np.asarray(noise, np.float64))
        for _ in range(settings.steps):
            x = x.detach().requires_grad_()
            apart = functional.kl_div(functional.log_softmax(network(x), 1), clean, reduction="sum")
            x = x + size * torch.autograd.grad(apart, x)[0].sign()
            x = torch.min(torch.max(x, images - settings.eps), images + settings.eps).clamp(0, 1)
        network.train()
        logits = network(images)
        other = functional.log_softmax(network(x.detach()), 1)
        apart = functional.kl_div(other, functional.softmax(logits, 1), reduction="batchmean")
        return functional.cross_entropy(logits, labels) + settings.beta * apart, logits

    with jax.enable_x64(True):
        network = torch_network()
        program = program_of(settings, epochs=2, dtype=np.float64)
        losses, state, frozen = our_training(program, variables_of(network), data, 4)
        freeze(network)
        every = rates(settings, 2, 4)[:5]
        expected = torch_training(network, data, settings, every, loss_of)
        np.testing.assert_allclose(losses, expected, rtol=1e-5)
        params = combine(state.params, frozen.params)
        assert_same(Weights(params, state.batch_stats), Weights(*variables_of(network)))


def test_what_trades_trains_on_is_in_the_ball_however_small():
    """Its start is not: at eps 0 it would be the image with noise."""
    logits_fn = Network(ARCH, *variables_of(torch_network())).logits_fn()
    (batch,) = batches(1)
    images, labels = jnp.asarray(batch.images / np.float32(255)), jnp.asarray(batch.labels)
    keys = jax.random.split(KEY, len(labels))
    for norm, eps in (("l2", 0.0), ("l2", 1e-3), ("linf", 1e-4)):
        search = DivergenceSearch(norm, steps=2, keep="loss")
        found = perturb(search, logits_fn, images, labels, jnp.asarray(eps), keys)
        norms = jax.vmap(search.threat.norm)(found - images)
        assert norms.max() <= eps + 1e-6 and 0 <= found.min() <= found.max() <= 1


def test_one_cycle_rises_and_falls_along_cosines():
    every = rates(SETTINGS.replace(warm_up=0.2), 50, 2)
    np.testing.assert_allclose(every[0], 0.2 / 25, rtol=1e-5)
    np.testing.assert_allclose(every[10], (0.2 + 0.2 / 25) / 2, rtol=1e-5)
    np.testing.assert_allclose(every[20], 0.2, rtol=1e-5)
    np.testing.assert_allclose(every[60], 0.1, rtol=1e-3)
    assert max(every) == every[20] and every[99] < 1e-4


def test_the_papers_schedule_drops_at_thirds():
    every = rates(SETTINGS.replace(schedule="step", learning_rate=0.1), 9, 2)
    found = [every[step] for step in (0, 5, 6, 11, 12, 17)]
    np.testing.assert_allclose(found, [0.1, 0.1, 0.01, 0.01, 0.001, 0.001], rtol=1e-5)


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


def test_weighing_classes_is_torchs():
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(size=(9, 4)).astype(np.float32), rng.integers(0, 4, 9)
    weights = rng.uniform(0.1, 3, 4).astype(np.float32)
    expected = torch.nn.functional.cross_entropy(
        torch.from_numpy(logits), torch.from_numpy(labels), weight=torch.from_numpy(weights)
    )
    losses = smoothed_cross_entropy(jnp.asarray(logits), jnp.asarray(labels), 0.0)
    found = weighted_mean(losses, jnp.asarray(labels), jnp.asarray(weights))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "lengths"),
    [
        ({"perturbation": "none"}, (0.0, 0.0)),
        ({"perturbation": "gaussian", "sigma": 5.0}, (0.2, 0.5)),  # clamping shortens it
        ({"perturbation": "pgd", "steps": 1, "random_start": True}, (0.2, 0.5)),
        ({"perturbation": "pgd", "beta": 1.0}, (0.2, 0.5)),
        ({"perturbation": "pgd", "beta": 1.0, "random_start": True}, (0.2, 0.5)),
    ],
)
def test_perturbed_images_stay_in_the_ball(changes: dict, lengths: tuple[float, float]):
    settings = SETTINGS.replace(**changes)
    step = program_of(settings).step()
    (params, stats), frozen = step.divide(
        *jax.tree.map(jnp.asarray, variables_of(random_torch(ARCH)))
    )
    images = np.random.default_rng(2).uniform(size=(16, 8, 8, 3)).astype(np.float32)
    keys = jax.random.split(KEY, 16)

    @jax.jit
    def perturbed(images: jax.Array) -> jax.Array:
        def logits_fn(images: jax.Array) -> jax.Array:
            return step.network.apply(params, stats, frozen, images)

        eps = jnp.asarray(settings.eps)
        return perturb(step.perturb, logits_fn, images, jnp.arange(16) % 5, eps, keys)

    found = np.asarray(perturbed(images))
    norms = np.linalg.norm((found - images).reshape(16, -1), axis=1)
    assert found.min() >= 0 and found.max() <= 1
    assert norms.min() >= lengths[0] and norms.max() <= lengths[1] + 1e-6


def test_settings_name_the_perturbation():
    assert perturbation_of(Recipe()) is None
    assert type(perturbation_of(FINE_TUNING.replace(beta=1.0))) is DivergenceSearch
