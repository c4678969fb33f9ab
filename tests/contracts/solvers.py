"""The contract of influence solvers: `check_solver`, for present and future ones."""

import json

import numpy as np

from rtl_jax.influence_functions.head import Examples
from rtl_jax.influence_functions.scores import influence_kernel, self_influence
from rtl_jax.influence_functions.solve import Solver
from tests.influence_functions.problems import gradients


def check_solver(
    solver: Solver, inverse: np.ndarray, train: Examples, test: Examples, rtol: float
) -> None:
    """Raise AssertionError unless it solves with `inverse` [CD, CD], to `rtol` of the largest."""
    classes, rank = solver.basis.shape
    assert classes == train.num_classes and rank <= classes
    np.testing.assert_allclose(solver.basis.T @ solver.basis, np.eye(rank), atol=1e-12)
    # In the gradients' space: each class's errors sum to 0, which a basis may make use of.
    wanted = gradients(test) @ inverse @ gradients(train).T
    scale = rtol * np.abs(wanted).max()
    solved = solver.solve(test)
    assert solved.shape == (test.num_examples, rank, test.inputs.shape[1])
    assert solved.dtype == np.float64
    by_class = np.einsum("ck,nkd->ncd", solver.basis, solved).reshape(test.num_examples, -1)
    np.testing.assert_allclose(by_class @ gradients(train).T, wanted, rtol=0, atol=scale)
    kernel = influence_kernel(solver)
    np.testing.assert_allclose(kernel(test, train), wanted, rtol=0, atol=scale)
    # Symmetric, and one by one as all at once.
    np.testing.assert_allclose(kernel(train, test), wanted.T, rtol=0, atol=scale)
    own = np.einsum("nd,de,ne->n", gradients(test), inverse, gradients(test))
    for chunk in (1, 5, test.num_examples):
        solver.chunk = chunk
        np.testing.assert_allclose(
            self_influence(solver, test), own, rtol=0, atol=rtol * np.abs(own).max()
        )
    again = solver.solve(test)
    np.testing.assert_allclose(again, solved, rtol=0, atol=rtol * np.abs(solved).max())
    assert json.loads(json.dumps(solver.record)) == solver.record
