"""Every solver compared with a dense solve in NumPy, and invalid arguments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg

from rtl_jax.errors import UserError
from rtl_jax.influence_functions.conjugate import ConjugateGradient
from rtl_jax.influence_functions.curvature import (
    Curvature,
    empirical_fisher_curvature,
    hessian_curvature,
)
from rtl_jax.influence_functions.head import contrasts
from rtl_jax.influence_functions.method import solver_for
from rtl_jax.influence_functions.precondition import Classwise, Kronecker, preconditioner_for
from rtl_jax.influence_functions.scores import influence_kernel, self_influence
from rtl_jax.influence_functions.solve import Cholesky, PseudoInverse, factorize_in_place
from rtl_jax.influence_functions.woodbury import Woodbury
from tests.influence_functions.problems import gradients, hessian, problem

DAMPING = 1e-3


def by(kind: type[Classwise | Kronecker], curvature: Curvature) -> ConjugateGradient:
    with jax.enable_x64(True):
        divisor = kind.of(curvature, DAMPING)
    return ConjugateGradient.of(curvature, DAMPING, tolerance=1e-12, preconditioner=divisor)


SOLVERS = {
    "cholesky": lambda c: Cholesky.of(c, DAMPING),
    "cholesky, all classes": lambda c: Cholesky.of(c, DAMPING, basis=np.eye(4)),
    "woodbury": lambda c: Woodbury.of(c, DAMPING),
    "pseudo-inverse": lambda c: PseudoInverse.of(c, l2=DAMPING),
    "pseudo-inverse, contrasts": lambda c: PseudoInverse.of(c, l2=DAMPING, basis=contrasts(4)),
    "conjugate gradients, class by class": lambda c: by(Classwise, c),
    "conjugate gradients, Kronecker": lambda c: by(Kronecker, c),
}


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(abs(found - wanted).max() / abs(wanted).max())


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", SOLVERS)
def test_scores_are_those_of_a_dense_solve(name: str, bias: bool):
    _, train, test = problem(bias)
    g_test, g_train = gradients(test), gradients(train)
    wanted = g_test @ np.linalg.solve(hessian(train, DAMPING), g_train.T)
    solver = SOLVERS[name](hessian_curvature(train))
    assert relative(influence_kernel(solver)(test, train), wanted) < 1e-8
    own = np.einsum("ni,in->n", g_test, np.linalg.solve(hessian(train, DAMPING), g_test.T))
    solver.chunk = 5  # 17 examples: the last chunk is partial
    assert relative(self_influence(solver, test), own) < 1e-8


@pytest.mark.parametrize("name", SOLVERS)
def test_the_empirical_fisher_goes_the_same_way(name: str):
    _, train, test = problem()
    g_test, g_train = gradients(test), gradients(train)
    fisher = g_train.T @ g_train / len(g_train) + DAMPING * np.eye(28)
    solver = SOLVERS[name](empirical_fisher_curvature(train))
    wanted = g_test @ np.linalg.solve(fisher, g_train.T)
    assert relative(influence_kernel(solver)(test, train), wanted) < 1e-8


@pytest.mark.parametrize("kind", ["absolute", "relative"])
@pytest.mark.parametrize("basis", [None, contrasts(4)])
def test_pseudo_inverses_are_numpys(kind: str, basis: np.ndarray | None):
    # Fewer examples than features: most of the Hessian is null space.
    _, train, test = problem(features=12, train=9)
    matrix = hessian(train)
    largest = np.linalg.eigvalsh(matrix).max()
    cutoff = 1e-2 if kind == "relative" else 1e-2 * largest
    solver = PseudoInverse.of(hessian_curvature(train), cutoff, kind, basis=basis)
    wanted = gradients(test) @ np.linalg.pinv(matrix, rcond=1e-2, hermitian=True)
    assert relative(influence_kernel(solver)(test, train), wanted @ gradients(train).T) < 1e-8
    assert 0 < solver.record["rank"] < 27 and solver.record["smallest"] > 1e-2 * largest


def test_without_damping_where_there_is_an_inverse():
    """With enough examples, the contrasts leave no null space, and all three agree."""
    _, train, test = problem(train=80)
    curvature = hessian_curvature(train)
    wanted = gradients(test) @ np.linalg.pinv(hessian(train), rcond=1e-12, hermitian=True)
    wanted = wanted @ gradients(train).T
    for solver in (Cholesky.of(curvature, 0), PseudoInverse.of(curvature, 1e-12, "relative")):
        assert relative(influence_kernel(solver)(test, train), wanted) < 1e-8


def test_a_singular_hessian_is_named():
    _, train, _ = problem(features=12, train=9)
    curvature = hessian_curvature(train)
    with pytest.raises(UserError, match=r"39 x 39, is singular.*damping.*pseudo_inverse"):
        Cholesky.of(curvature, 0.0)
    _, enough, _ = problem(train=80)
    with pytest.raises(UserError, match="singular"):  # in all classes it always is
        Cholesky.of(hessian_curvature(enough), 0.0, basis=np.eye(4))
    with pytest.raises(UserError, match=r"damping: expected a positive number.*received 0"):
        ConjugateGradient.of(curvature, 0.0)


@pytest.mark.parametrize("curvature", [hessian_curvature, empirical_fisher_curvature])
@pytest.mark.parametrize("train", [9, 43])
def test_woodburys_identity_leaves_out_the_damping_of_the_bias(curvature, train: int):
    _, train, test = problem(features=12, train=train)
    damping = np.append(np.full(12, DAMPING), 0.0)
    small, whole = (kind.of(curvature(train), damping) for kind in (Woodbury, Cholesky))
    wanted = influence_kernel(whole)(test, train)
    assert relative(influence_kernel(small)(test, train), wanted) < 1e-8
    small.chunk = 5
    assert relative(self_influence(small, test), self_influence(whole, test)) < 1e-8
    damped = Woodbury.of(curvature(train), DAMPING)  # which is something else
    assert relative(influence_kernel(damped)(test, train), wanted) > 1e-3


def test_roots_are_roots_also_of_certain_predictions():
    probabilities = np.array([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [0.0, 1e-300, 1.0]])
    curvature = Curvature(np.zeros((3, 2)), probabilities, probabilities, -1)
    roots = curvature.roots()
    assert roots.shape == (3, 3, curvature.rank) and curvature.rank == 2
    wanted = [np.diag(p) - np.outer(p, p) for p in probabilities]
    np.testing.assert_allclose(roots @ roots.transpose(0, 2, 1), wanted, atol=1e-15)


def test_the_smaller_matrix_is_factorised():
    few, many = (problem(features=12, train=number)[:2] for number in (12, 13))
    kinds = {
        kind: [type(solver_for(head, train, **settings)) for head, train in (few, many)]
        for kind, settings in {
            "hessian": {},
            "empirical Fisher": {"curvature": "empirical_fisher"},  # one column for each example
            "autodiff": {"hessian": "autodiff"},
        }.items()
    }
    assert kinds["hessian"] == [Woodbury, Cholesky]  # 13 inputs
    assert kinds["empirical Fisher"] == [Woodbury] * 2
    assert kinds["autodiff"] == [Cholesky] * 2
    with pytest.raises(UserError, match="39 x 39, is singular"):
        solver_for(*few, damping=0.0)
    with pytest.raises(UserError, match="39 x 39, is singular"):
        Woodbury.of(hessian_curvature(few[1]), 1e-300)


def test_a_cutoff_that_leaves_nothing():
    _, train, _ = problem()
    with pytest.raises(UserError, match=r"no singular value is larger than 100, the largest is"):
        PseudoInverse.of(hessian_curvature(train), 100.0)


def test_too_little_memory_names_the_way_without_a_hessian():
    _, train, _ = problem(features=2000, classes=20, train=3, test=1)
    curvature = hessian_curvature(train)
    for solver in (Cholesky.of, PseudoInverse.of):  # Woodbury's needs 0.3 GiB
        with pytest.raises(UserError, match=r"40,020 parameters.*solver=conjugate_gradient"):
            solver(curvature, 1e-3, memory_gib=1)


def test_blocks_factorise_as_the_whole():
    draw = np.random.default_rng(0).normal(size=(50, 40))
    matrix = np.asfortranarray(draw.T @ draw)
    factor = matrix.copy(order="F")
    assert factorize_in_place(factor, block=16)
    np.testing.assert_allclose(np.tril(factor), linalg.cholesky(matrix, lower=True), rtol=1e-10)
    assert not factorize_in_place(np.asfortranarray(-matrix), block=16)
    low = np.asfortranarray(draw[:20].T @ draw[:20])
    assert not factorize_in_place(low, block=16)


def test_conjugate_gradients_say_how_exact_they_are():
    _, train, test = problem()
    solver = ConjugateGradient.of(hessian_curvature(train), DAMPING, tolerance=1e-6)
    solved = solver.solve(test).reshape(len(test.labels), -1)
    left = solved @ hessian(train, DAMPING) - gradients(test)
    worst = (np.linalg.norm(left, axis=1) / np.linalg.norm(gradients(test), axis=1)).max()
    assert worst <= 1e-6
    assert solver.record["relative_residual"] == pytest.approx(worst, rel=1e-6)
    assert 0 < solver.record["iterations"] < 60
    hopeless = ConjugateGradient.of(
        hessian_curvature(train), DAMPING, tolerance=1e-12, max_iterations=2
    )
    with pytest.raises(UserError, match=r"residual of .* after 2 iterations.*damping"):
        hopeless.solve(test)


def test_a_preconditioner_is_the_inverse_of_what_it_approximates():
    _, train, test = problem(classes=4)
    curvature, zero_sum = hessian_curvature(train), gradients(test)
    dense = hessian(train, DAMPING)
    size = len(dense) // 4
    blocks = np.zeros_like(dense)
    for index in range(4):
        own = slice(index * size, (index + 1) * size)
        blocks[own, own] = dense[own, own]
    project = np.kron(np.eye(4) - 1 / 4, np.eye(size))
    wanted = zero_sum @ np.linalg.inv(blocks) @ project
    residuals = zero_sum.reshape(-1, 4, size).transpose(2, 0, 1)
    with jax.enable_x64(True):
        found = Classwise.of(curvature, DAMPING).apply(jnp.asarray(residuals))
    found = np.asarray(found).transpose(1, 2, 0).reshape(wanted.shape)
    assert relative(found, wanted) < 1e-5


def test_the_preconditioner_is_the_best_that_memory_has_room_for():
    _, train, test = problem(features=30, classes=6, train=40)
    curvature = hessian_curvature(train)
    iterations = {}
    for kind, free in ((Classwise, 10**6), (Kronecker, 10**4)):
        with jax.enable_x64(True):
            chosen = preconditioner_for(curvature, DAMPING, free)
        assert isinstance(chosen, kind)
        solver = ConjugateGradient.of(curvature, DAMPING, preconditioner=chosen)
        solver.solve(test)
        assert solver.record["preconditioner"] == kind.__name__.lower()
        iterations[kind] = solver.iterations
    assert iterations[Classwise] < iterations[Kronecker]


def test_an_image_without_a_gradient_has_no_influence():
    _, train, test = problem()
    test.errors[3] = 0
    solver = ConjugateGradient.of(hessian_curvature(train), DAMPING)
    assert (solver.solve(test)[3] == 0).all() and solver.residual < 1e-8
