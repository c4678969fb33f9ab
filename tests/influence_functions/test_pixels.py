"""Influence of pixels compared with retraining the head on the changed image."""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rtl_jax.attacks import PGD, FourierPGD, Gaussian
from rtl_jax.errors import UserError
from rtl_jax.influence_functions import Cholesky, Head, PixelInfluence, hessian_curvature
from rtl_jax.models.architecture import architecture
from rtl_jax.models.model import bind, definition, initialize
from tests.influence_functions.test_retraining import L2, trained

SMALL = architecture("resnet18", stem="small", stage_sizes=(1, 1), stage_widths=(4, 8)).replace(
    stem_width=4
)
TRAIN, TEST = 40, 6
DRAW = np.random.default_rng(0)
IMAGES = DRAW.uniform(0.2, 0.8, (TRAIN + TEST, 8, 8, 3))
LABELS = np.arange(TRAIN + TEST) % 3


@pytest.fixture(scope="module", autouse=True)
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


class Problem:
    """A frozen network of two blocks in float64, and a head at its optimum."""

    def __init__(self) -> None:
        with jax.enable_x64(True):
            variables = initialize(SMALL, jax.random.key(0))
            known = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), variables)
            network = bind(definition(SMALL, dtype=jnp.float64), *known)
            self.features_fn: Callable = jax.jit(lambda x: network.prefix(x, 2))
            self.features = np.asarray(self.features_fn(jnp.asarray(IMAGES)))
        self.optimum = self.retrained(self.features[:TRAIN], np.zeros((3, 9)))
        self.train = self.optimum.examples(self.features[:TRAIN], LABELS[:TRAIN])
        self.test = self.optimum.examples(self.features[TRAIN:], LABELS[TRAIN:])
        solver = Cholesky.of(hessian_curvature(self.train), L2)
        self.pixels = PixelInfluence(self.features_fn, self.optimum, solver, TRAIN, batch_size=4)

    def retrained(self, features: np.ndarray, weights: np.ndarray) -> Head:
        return trained(features, LABELS[:TRAIN], weights, tolerance=1e-14)

    def losses(self, row: int, image: np.ndarray) -> np.ndarray:
        """Return all test losses after exact retraining with another image at `row`."""
        features = self.features[:TRAIN].copy()
        features[row] = np.asarray(self.features_fn(jnp.asarray(image[None])))[0]
        head = self.retrained(features, self.optimum.weights)
        return head.examples(self.features[TRAIN:], LABELS[TRAIN:]).losses


@pytest.fixture(scope="module")
def problem() -> Problem:
    return Problem()


def test_a_small_step_moves_the_loss_as_retraining_does(problem: Problem) -> None:
    """Central differences of the test loss after exact retraining; relative error below 1e-5."""
    rows, tests = np.array([0, 7, 13, 25, 39]), np.array([3, 0, 5, 1, 3])
    found = problem.pixels.gradients(IMAGES[rows], LABELS[rows], problem.test.take(tests))
    for row, test, gradient in zip(rows, tests, found, strict=True):
        other = DRAW.normal(size=gradient.shape)
        for direction in (gradient, other):
            step = 1e-4 * direction / np.linalg.norm(direction)
            there, back = (problem.losses(row, IMAGES[row] + sign * step)[test] for sign in (1, -1))
            predicted = (gradient * step).sum() / TRAIN
            scale = np.linalg.norm(gradient) * 1e-4 / TRAIN
            assert abs((there - back) / 2 - predicted) < 1e-5 * scale
    assert (np.linalg.norm(found.reshape(5, -1), axis=1) > 0).all()


def test_it_is_the_dense_formula(problem: Problem) -> None:
    """-g_test^T H^-1 grad_x grad_theta L, with each factor by autodiff."""
    weights = jnp.asarray(problem.optimum.weights)
    inputs, labels = jnp.asarray(problem.train.inputs), jnp.asarray(LABELS[:TRAIN])

    def loss(flat: jax.Array, x: jax.Array, label: int) -> jax.Array:
        return -jax.nn.log_softmax(flat.reshape(3, 9) @ x)[label]

    def mean(flat: jax.Array) -> jax.Array:
        return jax.vmap(loss, (None, 0, 0))(flat, inputs, labels).mean() + L2 / 2 * flat @ flat

    def of_image(flat: jax.Array, image: jax.Array) -> jax.Array:
        features = problem.features_fn(image[None])[0]
        return loss(flat, jnp.concatenate([features, jnp.ones(1)]), LABELS[5])

    flat = weights.reshape(-1)
    hessian = jax.hessian(mean)(flat)
    mixed = jax.jacrev(jax.grad(of_image), argnums=1)(flat, jnp.asarray(IMAGES[5]))
    of_test = jax.grad(loss)(flat, jnp.asarray(problem.test.inputs[2]), LABELS[TRAIN + 2])
    wanted = -jnp.tensordot(jnp.linalg.solve(hessian, of_test), mixed, 1)
    found = problem.pixels.gradients(IMAGES[[5]], LABELS[[5]], problem.test.take(slice(2, 3)))
    np.testing.assert_allclose(found[0], wanted, rtol=1e-8, atol=1e-9 * abs(wanted).max())


def test_perturbations_raise_the_loss_and_iterating_raises_it_more(problem: Problem) -> None:
    rows, tests, eps = np.array([1, 8, 20]), np.array([0, 4, 2]), 0.3
    arguments = IMAGES[rows], LABELS[rows], problem.test.take(tests), eps
    once = problem.pixels.perturb(*arguments, PGD("l2", steps=1, keep="last"))
    often = problem.pixels.perturb(*arguments)
    gradients = problem.pixels.gradients(*arguments[:3])
    actual = []
    for index, (row, test) in enumerate(zip(rows, tests, strict=True)):
        change = once.images[index] - IMAGES[row]
        unit = gradients[index] / np.linalg.norm(gradients[index])
        np.testing.assert_allclose(change, eps * unit, atol=1e-9)
        before = problem.test.losses[test]
        actual.append(
            [problem.losses(row, found.images[index])[test] - before for found in (once, often)]
        )
    assert (np.array(actual) > 0).all() and (often.changes >= once.changes).all()
    # The features move little here: the Hessian is nearly what it was.
    np.testing.assert_allclose(actual, np.stack([once.changes, often.changes], 1), rtol=0.2)
    assert (np.linalg.norm((often.images - IMAGES[rows]).reshape(3, -1), axis=1) < eps + 1e-9).all()


def test_any_ball_of_pgd(problem: Problem) -> None:
    rows = np.array([2, 3])
    arguments = IMAGES[rows], LABELS[rows], problem.test.take(rows)
    box = problem.pixels.perturb(*arguments, 0.02, PGD("linf", steps=1, keep="last"))
    gradients = problem.pixels.gradients(*arguments)
    np.testing.assert_allclose(box.images - IMAGES[rows], 0.02 * np.sign(gradients), atol=1e-12)
    low = problem.pixels.perturb(*arguments, 0.3, FourierPGD(high_frequency=0.3, steps=2))
    assert (low.changes > 0).all()


def test_what_does_not_match_is_said(problem: Problem) -> None:
    with pytest.raises(UserError, match=r"expected float images .* received float64 \[2, 8, 8, 3"):
        problem.pixels.gradients(IMAGES[:2], LABELS[:3], problem.test.take(slice(0, 2)))
    whole = (255 * IMAGES[:1]).astype(np.uint8)
    with pytest.raises(UserError, match="received uint8"):
        problem.pixels.gradients(whole, LABELS[:1], problem.test.take(slice(0, 1)))
    with pytest.raises(UserError, match="search: expected a PGD with a norm"):
        arguments = IMAGES[:1], LABELS[:1], problem.test.take(slice(0, 1)), 0.1
        problem.pixels.perturb(*arguments, Gaussian("l2"))
    for eps, words in ((-0.1, "eps: expected a radius"), (np.nan, "a radius"), (8, "at most 1")):
        with pytest.raises(UserError, match=words):
            problem.pixels.perturb(*arguments[:3], eps, PGD("linf"))
