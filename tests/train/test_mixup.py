"""Mixup compared with torch and its closed form; support of mixup and RandAugment elsewhere."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from rtl_jax.data.augmentation import PRESETS
from rtl_jax.data.randaugment import RandAugment
from rtl_jax.data.transforms import example_keys, prepare
from rtl_jax.errors import UserError
from rtl_jax.lab.config import Experiment, Pretraining, Source, Target
from rtl_jax.lab.finetune.job import prepare as prepare_job
from rtl_jax.models.model import Weights
from rtl_jax.train.mixup import Mixed
from rtl_jax.train.recipe import Recipe
from rtl_jax.train.step import Hyper, Step
from rtl_jax.train.trainer import begin
from tests.torch_networks import variables_of
from tests.train.test_adversarial_steps import (
    KEY,
    assert_same,
    batches,
    freeze,
    our_training,
    program_of,
    torch_network,
    torch_training,
)

pytestmark = pytest.mark.slow

SETTINGS = Recipe(
    blocks=1, mixup=0.4, label_smoothing=0.1, learning_rate=0.05, weight_decay=1e-3, batch_size=16
)


def test_steps_equal_torchs_with_the_authors_criterion() -> None:
    """lambda * criterion(logits, a) + (1 - lambda) * criterion(logits, b) on mixed images."""
    data = batches(5)

    def loss_of(network, images, labels, number):
        mixed = Mixed.draw(KEY, jnp.asarray(number), 0.4, 16)
        share, order = float(mixed.share), torch.from_numpy(np.array(mixed.order))
        network.train()
        logits = network(share * images + (1 - share) * images[order])
        criterion = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
        loss = share * criterion(logits, labels) + (1 - share) * criterion(logits, labels[order])
        return loss, logits

    with jax.enable_x64(True):
        network = torch_network()
        freeze(network)
        program = program_of(SETTINGS, dtype=np.float64)
        variables = variables_of(network)
        _, state, frozen = our_training(program, variables, data, 2)
        every = program.hyper(2).learning_rate[:5]
        torch_training(network, data, SETTINGS, every, loss_of)
        params, _ = variables_of(network)
        moved = {path: params[path] for path in frozen.params}
        for path, value in moved.items():
            np.testing.assert_array_equal(value, variables[0][path])
        trained = {p: v for p, v in state.params.items() if p not in moved}
        assert_same((trained,), ({p: params[p] for p in trained},))


def test_the_loss_is_that_of_mixed_labels() -> None:
    """Cross-entropy is linear in the label: the two losses equal one loss of a soft label."""
    program = program_of(SETTINGS.replace(label_smoothing=0.0))
    step, network = program.step(), torch_network()
    (params, stats), frozen = step.divide(*variables_of(network))
    images, labels = jnp.asarray(batches(1)[0].images / 255, jnp.float32), batches(1)[0].labels
    mixed = Mixed(jnp.asarray(0.3), jnp.asarray(np.arange(16)[::-1]))
    arguments = (params, stats, frozen, network_inputs(step, params, stats, frozen, images))
    loss, (_, measured) = step.mixup_objective(*arguments, jnp.asarray(labels), mixed=mixed)
    logits, _ = step._logits(Weights(params, stats), frozen, arguments[-1])
    targets = 0.3 * np.eye(5)[labels] + 0.7 * np.eye(5)[labels[::-1]]
    expected = torch.nn.functional.cross_entropy(
        torch.from_numpy(np.array(logits, np.float64)), torch.from_numpy(targets)
    )
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    hits = np.asarray(logits).argmax(1) == labels[::-1]  # whose share is the larger
    assert int(measured.correct) == hits.sum()
    # Classes that weigh differently, as the authors' criterion with weights.
    weights = np.array([1.0, 2.0, 0.5, 1.5, 3.0])
    loss, _ = step.mixup_objective(
        *arguments, jnp.asarray(labels), mixed=mixed, class_weights=jnp.asarray(weights)
    )
    criterion = torch.nn.CrossEntropyLoss(weight=torch.from_numpy(weights))
    of = [torch.from_numpy(one.astype(np.int64)) for one in (labels, labels[::-1])]
    double = torch.from_numpy(np.array(logits, np.float64))
    expected = 0.3 * criterion(double, of[0]) + 0.7 * criterion(double, of[1])
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)


def network_inputs(step: Step, params, stats, frozen, images):
    front = step.network.front(params, stats, frozen)
    return front.prefix(images, step.network.split, train=True)


def test_shares_are_betas_and_orders_are_permutations() -> None:
    for alpha in (0.2, 1.0):
        drawn = jax.vmap(lambda step, a=alpha: Mixed.draw(KEY, step, a, 6))(jnp.arange(4000))
        share = np.asarray(drawn.share)
        assert share.mean() == pytest.approx(0.5, abs=0.03)
        assert share.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.06)
        assert (np.sort(drawn.order, axis=1) == np.arange(6)).all()
        assert len({tuple(order) for order in np.asarray(drawn.order)}) > 600  # of 720
    images = jnp.asarray(np.random.default_rng(0).random((3, 2, 2, 3)), jnp.float32)
    found = Mixed(jnp.asarray(0.25), jnp.asarray([2, 0, 1])).mix(images)
    expected = 0.25 * np.asarray(images) + 0.75 * np.asarray(images)[[2, 0, 1]]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_randaugment_is_what_a_step_trains_on(monkeypatch: pytest.MonkeyPatch) -> None:
    program = program_of(SETTINGS.replace(mixup=None, randaugment=2, randaugment_magnitude=12))
    step, batch, seen = program.step(), batches(1)[0], {}
    monkeypatch.setattr(
        Step, "step", lambda self, state, frozen, inputs, *rest, mixed: seen.update(inputs=inputs)
    )
    keys = type("Keys", (), {"augment": KEY, "perturb": KEY})
    step.step_on(None, None, batch, keys, jnp.asarray(3), Hyper(0, 0, 0, 0))
    each = example_keys(KEY, 3, jnp.asarray(batch.indices))
    each = jax.vmap(lambda key: jax.random.fold_in(key, 5))(each)
    expected = RandAugment(2, 12).batch(each, prepare(jnp.asarray(batch.images), 8))
    np.testing.assert_array_equal(seen["inputs"], expected)
    assert not np.allclose(expected, prepare(jnp.asarray(batch.images), 8))


def experiment(**transfer) -> Experiment:
    settings = {"blocks": 1, "epochs": 2, "batch_size": 20, "learning_rate": 0.01}
    return Experiment(
        source=Source("random", "resnet50", "small", stage_sizes=(1, 1), stage_widths=(4, 6)),
        target=Target("digits", image_size=8, num_images=40, num_test_images=50),
        augmentation=PRESETS["none"],
        transfer=Recipe(**{**settings, "frozen_batch_norm": "source", **transfer}),
        seed=7,
    )


def test_features_that_images_must_be_drawn_for_are_not_kept() -> None:
    """Two seeds in parallel, each the same as alone."""
    settings = experiment(mixup=0.3, randaugment=1)
    assert begin([prepare_job(experiment())])[0].feed._cache.features
    jobs = [prepare_job(dataclasses.replace(settings, seed=seed)) for seed in (7, 9)]
    losses = []
    for group in (jobs, jobs[:1], jobs[1:]):
        training, state = begin(group)
        assert not training.feed._cache.features and training.test.cache.features
        losses.append(np.asarray(training.epoch(state, 1)[1].loss))
    np.testing.assert_allclose(losses[0], np.concatenate(losses[1:]), rtol=1e-4)
    assert losses[0][0] != pytest.approx(losses[0][1], rel=1e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"views": 2}, "transfer.views: expected none with transfer.mixup or transfer.randaug"),
        (
            {"feature_store": "disk"},
            "transfer.feature_store: expected auto or none with",
        ),
        ({"blocks": 0, "head_fit": "ridge"}, "transfer.(mixup|randaugment): expected .* no block"),
    ],
)
@pytest.mark.parametrize("change", [{"mixup": 0.2}, {"randaugment": 2}])
def test_what_keeps_features_is_refused(settings: dict, change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Recipe(**settings, **change)


def test_mixed_images_are_not_attacked() -> None:
    for settings in (Recipe, Pretraining):
        with pytest.raises(UserError, match="mixup: expected none with .*perturbation=pgd"):
            settings(mixup=0.2, perturbation="pgd")
        settings(randaugment=2, perturbation="pgd")


def test_settings_that_do_nothing_are_no_part_of_a_name() -> None:
    usual = experiment()
    name = usual.fingerprint()
    assert experiment(mixup=0.2).fingerprint() != name
    assert experiment(randaugment=1).fingerprint() != name
