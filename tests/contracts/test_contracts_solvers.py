"""Every registered solver keeps its contract with every curvature that it supports."""

import typing

import numpy as np
import pytest

from rtl_jax.errors import UserError
from rtl_jax.influence_functions.curvature import CURVATURES
from rtl_jax.influence_functions.method import SOLVERS, solver_for
from rtl_jax.lab.config import Influence
from tests.contracts.solvers import check_solver
from tests.influence_functions.problems import gradients, hessian, problem

DAMPING, CUTOFF = 1e-2, 1e-9


def dense(train: typing.Any, curvature: str) -> np.ndarray:
    """Compute the curvature [CD, CD] of the mean loss by one Kronecker product per example."""
    if curvature == "hessian":
        return hessian(train)
    return gradients(train).T @ gradients(train) / train.num_examples


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("curvature", CURVATURES)
@pytest.mark.parametrize("number", [43, 5], ids=["many images", "few images"])
@pytest.mark.parametrize("name", SOLVERS)
def test_solvers(name: str, number: int, curvature: str, bias: bool) -> None:
    head, train, test = problem(bias, train=number)
    settings = {"damping": DAMPING, "cutoff": CUTOFF, "cutoff_kind": "relative", "tolerance": 1e-11}
    solver = solver_for(head, train, solver=name, curvature=curvature, **settings)
    matrix = dense(train, curvature)
    inverse = (
        np.linalg.pinv(matrix, rcond=CUTOFF, hermitian=True)
        if name == "pseudo_inverse"
        else np.linalg.inv(matrix + DAMPING * np.eye(len(matrix)))
    )
    check_solver(solver, inverse, train, test, rtol=1e-6 if name == "pseudo_inverse" else 1e-9)


def test_the_settings_name_all_of_them() -> None:
    hints = typing.get_type_hints(Influence)
    assert set(typing.get_args(hints["solver"])) == set(SOLVERS)
    assert set(typing.get_args(hints["curvature"])) == set(CURVATURES)
    head, train, _ = problem()
    names = ("solver", "curvature", "hessian", "cutoff_kind")
    for wrong in ({name: "other"} for name in names):
        with pytest.raises(UserError, match=r"expected one of '.*received"):
            solver_for(head, train, **wrong)
    for unfit in ({"solver": "conjugate_gradient"}, {"curvature": "empirical_fisher"}):
        with pytest.raises(UserError, match="hessian: expected 'closed_form'"):
            solver_for(head, train, hessian="autodiff", **unfit)
