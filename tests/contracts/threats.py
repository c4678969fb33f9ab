"""The contract of threat models: `check_threat`, for present and future ones."""

import dataclasses
import pickle

import jax
import jax.numpy as jnp
import numpy as np

from rtl_jax.attacks.threats import NormBall, Threat

SHAPE = (6, 6, 3)
TIGHT = 1e-6


def check_threat(threat: Threat) -> None:
    """Raise AssertionError unless a threat model keeps the contract on random images."""
    check_identity(threat)
    jitted = Jitted(threat)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        original = jnp.asarray(rng.uniform(size=SHAPE), jnp.float32)
        change = jnp.asarray(rng.normal(size=SHAPE), jnp.float32)
        # Half as far as a change that takes many pixels out of [0, 1].
        eps = 0.5 * threat.norm(change)
        check_projection(jitted, original, original + change, eps)
        check_projection(jitted, jnp.round(original), original + change, eps)
        check_random_start(jitted, original, eps, seed)
        check_step(jitted, change)
        if isinstance(threat, NormBall):
            check_dual(jitted, original, change)


class Jitted:
    """A threat model whose methods are compiled once."""

    def __init__(self, threat: Threat) -> None:
        self.has_radius = threat.has_radius
        self.norm, self.step = jax.jit(threat.norm), jax.jit(threat.step)
        self.project, self.random_start = jax.jit(threat.project), jax.jit(threat.random_start)
        self.project_batch = jax.jit(jax.vmap(threat.project))
        if isinstance(threat, NormBall):
            self.dual_norm = jax.jit(threat.dual_norm)
            self.to_hyperplane = jax.jit(threat.to_hyperplane)


def check_identity(threat: Threat) -> None:
    """It is a hashable, comparable, immutable constant with names."""
    assert dataclasses.is_dataclass(threat)
    same = dataclasses.replace(threat)
    assert threat == same and hash(threat) == hash(same) and str(threat) == str(same)
    assert pickle.loads(pickle.dumps(threat)) == threat
    assert isinstance(threat.name, str) and threat.name in str(threat)
    assert isinstance(threat.display_name, str) and threat.display_name
    for field in dataclasses.fields(threat):
        assert repr(getattr(threat, field.name)) in str(threat)


def check_projection(threat: Jitted, original, far, eps) -> None:
    """Projects onto ball and box; is idempotent; keeps inner points; radius 0 is the original."""
    project = threat.project
    near = project(far, original, eps)
    assert near.shape == original.shape and near.dtype == original.dtype
    inside_both(threat, near, original, eps)
    np.testing.assert_allclose(project(near, original, eps), near, atol=TIGHT)
    between = original + 0.5 * (near - original)
    np.testing.assert_allclose(project(between, original, eps), between, atol=TIGHT)
    np.testing.assert_allclose(project(original, original, eps), original, atol=TIGHT)
    if threat.has_radius:
        np.testing.assert_array_equal(project(far, original, jnp.zeros_like(eps)), original)
    pair = jnp.stack([near, far]), jnp.stack([original] * 2)
    batch = threat.project_batch(*pair, eps * jnp.ones(2))
    np.testing.assert_allclose(batch, [near, near], atol=TIGHT)


def check_random_start(threat: Jitted, original, eps, seed: int) -> None:
    """The start is in ball and box, and differs for every key."""
    start = threat.random_start
    starts = [start(jax.random.key(2 * seed + number), original, eps) for number in range(2)]
    for one in starts:
        inside_both(threat, one, original, eps)
        assert threat.norm(one - original) > 0
    assert np.abs(starts[0] - starts[1]).max() > 0
    np.testing.assert_array_equal(starts[0], start(jax.random.key(2 * seed), original, eps))


def check_step(threat: Jitted, gradient) -> None:
    """The step has the requested size and increases a linear function with this gradient."""
    for size in (0.01, 0.7):
        for scale in (1e-3, 1e3):
            step = threat.step(scale * gradient, jnp.asarray(size, jnp.float32))
            assert (step * gradient).sum() > 0
            if threat.has_radius:
                np.testing.assert_allclose(threat.norm(step), size, rtol=1e-4)
    nothing = threat.step(jnp.zeros_like(gradient), jnp.asarray(0.1, jnp.float32))
    np.testing.assert_array_equal(nothing, np.zeros(gradient.shape))


def check_dual(threat: Jitted, original, gradient) -> None:
    """The dual norm bounds linear functions, and gives the distance to a hyperplane."""
    bound = float(threat.dual_norm(gradient))
    rng, steepest = np.random.default_rng(0), 0.0
    for _ in range(50):
        change = jnp.asarray(rng.normal(size=SHAPE), jnp.float32)
        rise = float((gradient * change / threat.norm(change)).sum())
        assert rise <= bound * (1 + 1e-5)
        steepest = max(steepest, rise)
    assert steepest > 0
    gap = jnp.asarray(1e-3 * bound)
    middle = 0.1 + 0.8 * original  # so that no pixel meets its bound
    change = threat.to_hyperplane(middle, gradient, gap)
    np.testing.assert_allclose((gradient * change).sum(), -gap, rtol=1e-3)
    np.testing.assert_allclose(threat.norm(change), gap / bound, rtol=1e-3)


def inside_both(threat: Jitted, image, original, eps) -> None:
    """Assert that images are in [0, 1] and in the ball, if there is one."""
    assert image.min() >= 0 and image.max() <= 1
    if threat.has_radius:
        assert threat.norm(image - original) <= eps * (1 + 1e-5)
