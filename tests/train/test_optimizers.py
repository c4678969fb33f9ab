"""The optimizer and its schedule against torch's."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from rtl_jax.train.optimizers import optimizer, step_schedule
from rtl_jax.train.recipe import Recipe


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


@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_sgd_equals_torchs(momentum: float):
    rng = np.random.default_rng(0)
    start = {"a": rng.normal(size=(3, 2)), "b": rng.normal(size=4), "frozen": rng.normal(size=5)}
    gradients = [{k: rng.normal(size=v.shape) for k, v in start.items()} for _ in range(9)]
    torch_params = {k: torch.nn.Parameter(torch.from_numpy(v.copy())) for k, v in start.items()}
    sgd = torch.optim.SGD(
        [torch_params["a"], torch_params["b"]], lr=0.1, momentum=momentum, weight_decay=5e-2
    )
    step_lr = torch.optim.lr_scheduler.StepLR(sgd, step_size=1, gamma=0.1)
    settings = Recipe(momentum=momentum, weight_decay=5e-2)
    mask = {"a": True, "b": True, "frozen": False}
    with jax.enable_x64(True):
        transformation = optimizer(settings, mask, epochs=3, steps_per_epoch=3)
        params = {k: jnp.asarray(v) if mask[k] else optax.MaskedNode() for k, v in start.items()}
        state = transformation.init(params)
        for step, gradient in enumerate(gradients):
            for name in ("a", "b"):
                torch_params[name].grad = torch.from_numpy(gradient[name])
            sgd.step()
            if step % 3 == 2:
                step_lr.step()
            masked = {k: jnp.asarray(v) if mask[k] else params[k] for k, v in gradient.items()}
            updates, state = transformation.update(masked, state, params)
            params = optax.apply_updates(params, updates)
        for name in ("a", "b"):
            expected = torch_params[name].detach().numpy()
            np.testing.assert_allclose(params[name], expected, rtol=1e-6)
    assert isinstance(params["frozen"], optax.MaskedNode)
