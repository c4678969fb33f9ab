"""The optimizer and its schedule compared with torch's."""

import inspect
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from rtl_jax.data.augmentation import Augmentation
from rtl_jax.errors import UserError
from rtl_jax.models.architecture import architecture
from rtl_jax.models.model import Weights
from rtl_jax.train.optimizers import Optimizer, at, rates, step_schedule
from rtl_jax.train.program import Program
from rtl_jax.train.recipe import Recipe
from rtl_jax.train.split import SplitNetwork
from rtl_jax.train.step import Average


@pytest.mark.parametrize(("epochs", "steps_per_epoch"), [(100, 1), (150, 3), (2, 2)])
def test_the_schedule_is_torchs_step_lr(epochs: int, steps_per_epoch: int):
    drop_every = max(epochs // 3, 1)
    schedule = step_schedule(0.1, 0.1, drop_every, steps_per_epoch)
    parameter = torch.nn.Parameter(torch.zeros(1))
    sgd = torch.optim.SGD([parameter], lr=0.1)
    torchs = torch.optim.lr_scheduler.StepLR(sgd, step_size=drop_every, gamma=0.1)
    for epoch in range(epochs):
        for step in range(steps_per_epoch):
            ours = float(schedule(jnp.asarray(epoch * steps_per_epoch + step)))
            assert ours == pytest.approx(torchs.get_last_lr()[0], rel=1e-5)
        sgd.step()
        torchs.step()


def test_the_papers_drops():
    schedule = step_schedule(0.1, 0.1, 100 // 3, 1)
    rates = [float(schedule(jnp.asarray(epoch))) for epoch in range(100)]
    assert [i for i in range(1, 100) if rates[i] < rates[i - 1]] == [33, 66, 99]


def test_a_schedule_may_span_more_epochs_than_train():
    """The rates are the first ones of the longer training; a shorter span is rejected."""
    whole = Recipe(blocks=1, epochs=30, learning_rate=0.2)
    early = whole.replace(epochs=11, schedule_epochs=30)
    network = SplitNetwork.of(architecture("resnet18"), whole, 32)
    programs = [Program(network, one, Augmentation(), one.epochs) for one in (whole, early)]
    every, first = (one.hyper(3).learning_rate for one in programs)
    np.testing.assert_array_equal(every[: 11 * 3], first)
    assert set(np.unique(first.round(4))) == {np.float32(0.2), np.float32(0.02)}  # dropped at 10
    with pytest.raises(UserError, match="transfer.schedule_epochs: expected 11 or more"):
        programs[1].replace(settings=early.replace(schedule_epochs=10)).check()
    for name, words in (("average_from", "at most 11"), ("warm_up_epochs", "at most 30")):
        with pytest.raises(UserError, match=f"transfer.{name}: expected {words}, the number of"):
            programs[1].replace(settings=early.replace(**{name: 31})).check()


ARCH = architecture("resnet18")
PATHS = ("conv1/kernel", "layer4/1/conv2/kernel", "fc/kernel", "fc/bias")
FROZEN = "conv1/kernel"


def descend(
    settings: Recipe, gradients: Sequence[Mapping[str, np.ndarray]], start: Mapping[str, np.ndarray]
) -> dict[str, jax.Array]:
    """Return the parameters after a step along each gradient; one block and the head train."""
    transformation = Optimizer.of(settings).transformation(ARCH, PATHS, 1)
    every = rates(settings, 1, len(gradients))
    params = {
        path: optax.MaskedNode() if path == FROZEN else jnp.asarray(start[path]) for path in PATHS
    }
    state = transformation.init(params)
    for gradient, rate in zip(gradients, every, strict=True):
        masked = {path: params[path] if path == FROZEN else gradient[path] for path in PATHS}
        state = at(state, jnp.asarray(rate), jnp.asarray(settings.weight_decay))
        updates, state = transformation.update(masked, state, params)
        params = optax.apply_updates(params, updates)
    return params


def drawn(number: int) -> tuple[dict[str, np.ndarray], list[dict[str, np.ndarray]]]:
    rng = np.random.default_rng(0)
    shapes = dict(zip(PATHS, ((2, 2), (3, 2), (4,), (1,)), strict=True))
    start, *gradients = (
        {path: rng.normal(size=shape) for path, shape in shapes.items()} for _ in range(1 + number)
    )
    return start, gradients


@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_sgd_equals_torchs(momentum: float):
    start, gradients = drawn(9)
    torch_params = {
        k: torch.nn.Parameter(torch.from_numpy(v.copy())) for k, v in start.items() if k != FROZEN
    }
    sgd = torch.optim.SGD(torch_params.values(), lr=0.1, momentum=momentum, weight_decay=5e-2)
    for gradient in gradients:
        for name, parameter in torch_params.items():
            parameter.grad = torch.from_numpy(gradient[name])
        sgd.step()
    settings = Recipe(momentum=momentum, weight_decay=5e-2, schedule="constant")
    with jax.enable_x64(True):
        params = descend(settings, gradients, start)
        for name, parameter in torch_params.items():
            np.testing.assert_allclose(params[name], parameter.detach().numpy(), rtol=1e-6)
    assert isinstance(params[FROZEN], optax.MaskedNode)


NAMED = ["adabelief", "adadelta", "adafactor", "adagrad", "adam", "adamax", "adamaxw", "adamw",
         "adan", "amsgrad", "fromage", "lamb", "lars", "lion", "nadam", "nadamw", "novograd",
         "optimistic_adam_v2", "optimistic_gradient_descent", "radam", "rmsprop",
         "sign_sgd", "signum", "sm3", "yogi"]  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
def test_a_named_optimizer_is_optaxs_alone(name: str):
    """With a schedule, and weight decay of its own or added to the gradient."""
    start, gradients = drawn(5)
    settings = Recipe(
        optimizer=name, schedule="cosine", learning_rate=0.03, weight_decay=0.02, warm_up_epochs=0.4
    )
    factory = getattr(optax, name)
    if name == "sm3":  # which takes no schedule
        settings, schedule = settings.replace(schedule="constant", warm_up_epochs=0.0), 0.03
    else:
        schedule = optax.join_schedules(
            [optax.linear_schedule(0.015, 0.03, 1), optax.cosine_decay_schedule(0.03, 3)], [2]
        )
    if "weight_decay" in inspect.signature(factory).parameters:
        alone = factory(schedule, weight_decay=0.02)
    else:
        alone = optax.chain(optax.add_decayed_weights(0.02), factory(schedule))
    with jax.enable_x64(True):
        found = descend(settings, gradients, start)
        params = {path: jnp.asarray(start[path]) for path in PATHS if path != FROZEN}
        state = alone.init(params)
        for gradient in gradients:
            seen = {path: jnp.asarray(gradient[path]) for path in params}
            updates, state = alone.update(seen, state, params)
            params = optax.apply_updates(params, updates)
    for path, value in params.items():
        np.testing.assert_allclose(found[path], value, rtol=1e-5, err_msg=path)
        assert not np.array_equal(value, start[path])


def test_options_reach_the_optimizer():
    start, gradients = drawn(3)
    usual = descend(Recipe(optimizer="adamw"), gradients, start)
    other = descend(Recipe(optimizer="adamw", optimizer_options=("b1=0.5",)), gradients, start)
    assert not np.allclose(usual["fc/kernel"], other["fc/kernel"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "adamq"}, r"transfer.optimizer: expected sgd, .* received 'adamq'"),
        ({"optimizer": "scale_by_learning_rate"}, "expected sgd"),
        ({"optimizer": "rprop"}, "a constant rate, not a schedule"),
        ({"optimizer": "lbfgs"}, "cannot make a step from a gradient alone"),
        ({"optimizer": "adamw", "optimizer_options": ("beta=1",)}, r"adamw\(beta=1\)"),
        ({"optimizer": "adamw", "optimizer_options": ("b1=x",)}, "NAME=NUMBER"),
    ],
)
def test_what_optax_has_not_is_refused(settings: dict, message: str):
    with pytest.raises(UserError, match=message):
        Optimizer.of(Recipe(**settings))


def test_clipping_and_layers_rates():
    """A global norm of 1, and half the rate for the block before the head."""
    start, (gradient,) = drawn(1)
    whole = np.sqrt(sum((gradient[path] ** 2).sum() for path in PATHS if path != FROZEN))
    settings = Recipe(
        schedule="constant", weight_decay=0.0, clip_norm=1.0, layer_decay=0.5, learning_rate=0.1
    )
    with jax.enable_x64(True):
        found = descend(settings, [gradient], start)
    for path, factor in (("layer4/1/conv2/kernel", 0.5), ("fc/kernel", 1.0), ("fc/bias", 1.0)):
        expected = start[path] - 0.1 * factor * gradient[path] / whole
        np.testing.assert_allclose(found[path], expected, rtol=1e-6)


def test_named_schedules():
    def of(schedule: str, **settings) -> np.ndarray:
        return rates(Recipe(schedule=schedule, learning_rate=0.2, **settings), 5, 4)

    np.testing.assert_allclose(of("constant"), np.full(20, 0.2))
    np.testing.assert_allclose(of("linear"), 0.2 * (1 - np.arange(20) / 20), rtol=1e-5)
    cosine = 0.1 * (1 + np.cos(np.pi * np.arange(20) / 20))
    np.testing.assert_allclose(of("cosine"), cosine, rtol=1e-5)
    warm = of("cosine", warm_up_epochs=1.25)
    np.testing.assert_allclose(warm[:6], [0.04, 0.08, 0.12, 0.16, 0.2, 0.2], rtol=1e-5)
    np.testing.assert_allclose(of("step", warm_up_epochs=0.5)[:4], [0.1, 0.2, 0.2, 0.2], rtol=1e-5)
    decayed = of("exponential_decay", schedule_options=("decay_rate=0.5",))
    np.testing.assert_allclose(decayed, 0.2 * 0.5 ** (np.arange(20) / 20), rtol=1e-5)
    # Those without a warm-up of their own get one, and then the rest of the steps.
    half = of("exponential_decay", schedule_options=("decay_rate=0.5",), warm_up_epochs=1)
    expected = np.append(0.2 * np.arange(1, 5) / 4, 0.2 * 0.5 ** (np.arange(16) / 16))
    np.testing.assert_allclose(half, expected, rtol=1e-6)
    flat = of("constant_schedule", warm_up_epochs=1)
    np.testing.assert_allclose(flat, np.append(0.2 * np.arange(1, 5) / 4, [0.2] * 16), rtol=1e-6)
    cycle = optax.linear_onecycle_schedule(20, 0.2)
    alone = [float(cycle(jnp.asarray(step))) for step in range(20)]
    np.testing.assert_allclose(of("linear_onecycle_schedule"), alone, rtol=1e-5)
    for itself in ("one_cycle", "linear_onecycle_schedule"):
        with pytest.raises(UserError, match=f"warm_up_epochs: expected 0 with {itself}"):
            of(itself, warm_up_epochs=1)
    risen = of("warmup_cosine_decay_schedule", warm_up_epochs=2.5)
    assert risen[0] == 0 and risen.argmax() == 10
    with pytest.raises(UserError, match=r"transfer.schedule: expected step, .*'cosin'"):
        of("cosin")
    with pytest.raises(UserError, match="optax refuses"):
        of("exponential_decay", schedule_options=("rate=0.5",))
    with pytest.raises(UserError, match="optax refuses"):
        of("piecewise_interpolate_schedule")


def test_an_average_is_exponential_or_the_mean_since_an_epoch():
    states = [np.float32(value) for value in (3.0, 5.0, 1.0, 7.0)]

    def averaged(average: Average) -> list[float]:
        found, every = Weights({"a": jnp.asarray(9.0)}, {}), []
        for step, value in enumerate(states):
            found = average.add(found, Weights({"a": jnp.asarray(value)}, {}), jnp.asarray(step))
            every.append(float(found.params["a"]))
        return every

    np.testing.assert_allclose(averaged(Average(start=1)), [3, 5, 3, 13 / 3], rtol=1e-6)
    first = 3 + 0.1 * (9 - 3)
    second = 5 + 2 / 11 * (first - 5)
    np.testing.assert_allclose(averaged(Average(0.6))[:2], [first, second], rtol=1e-6)
