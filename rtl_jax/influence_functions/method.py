"""From the name of a method to a solver prepared with the training examples."""

import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from rtl_jax.errors import require, require_choice
from rtl_jax.influence_functions.conjugate import ConjugateGradient
from rtl_jax.influence_functions.curvature import CURVATURES, Curvature
from rtl_jax.influence_functions.head import Examples, Head
from rtl_jax.influence_functions.hessian import autodiff_hessian
from rtl_jax.influence_functions.solve import Cholesky, Cutoff, PseudoInverse, Solver
from rtl_jax.influence_functions.woodbury import Woodbury

Form = Literal["closed_form", "autodiff"]


def _exact(
    curvature: Curvature, damping: float | np.ndarray, memory_gib: int | None
) -> Cholesky | Woodbury:
    """Return whichever of the two exact solvers factorises the smaller matrix."""
    if Woodbury.applies(curvature, damping):
        return Woodbury.of(curvature, damping, memory_gib=memory_gib)
    return Cholesky.of(curvature, damping, memory_gib=memory_gib)


# Called with a curvature and the settings of `solver_for` that apply to the solver.
SOLVERS: Mapping[str, Callable[..., Solver]] = {
    "cholesky": lambda curvature, damping, memory_gib, **_: _exact(curvature, damping, memory_gib),
    "pseudo_inverse": lambda curvature, cutoff, cutoff_kind, memory_gib, **_: PseudoInverse.of(
        curvature, cutoff, cutoff_kind, memory_gib=memory_gib
    ),
    "conjugate_gradient": lambda curvature, damping, tolerance, **_: ConjugateGradient.of(
        curvature, damping, tolerance=tolerance
    ),
}


def solver_for(
    head: Head,
    train: Examples,
    *,
    solver: str = "cholesky",
    curvature: str = "hessian",
    hessian: Form = "closed_form",
    damping: float = 1e-3,
    damp_bias: bool = True,
    cutoff: float = 1e-20,
    cutoff_kind: Cutoff = "absolute",
    tolerance: float = 1e-7,
    batch_size: int = 5,
    memory_gib: int | None = None,
) -> Solver:
    """Prepare a solver of (H + damping I) s = g with the training examples.

    With the penalty of a head's objective as damping, H is that objective's Hessian.

    Args:
      head: the last layer, at whose weights the loss is expanded.
      train: its training examples.
      solver: 'cholesky', of the Hessian or, with fewer images than inputs and some damping, of
        Woodbury's smaller matrix; 'pseudo_inverse', which uses `cutoff` instead of damping; or
        'conjugate_gradient', which iterates to `tolerance`.
      curvature: 'hessian', which is also the expected Fisher, or 'empirical_fisher'.
      hessian: 'closed_form', or 'autodiff' in batches of `batch_size`, as in the paper.
      damping: added to the Hessian of the mean loss.
      damp_bias: whether the bias is damped, too; False for a penalty that leaves it out.
      cutoff: 'pseudo_inverse' drops smaller singular values.
      cutoff_kind: 'absolute', or 'relative' to the largest singular value.
      tolerance: the relative residual at which conjugate gradients stop.
      batch_size: the batch size of 'autodiff'.
      memory_gib: the memory limit for a Hessian and its solver; None: the free memory.

    Returns:
      A solver, for `influence_scores`, `score` and `self_influence`.

    Raises:
      UserError: an unknown name, 'autodiff' with conjugate gradients or the empirical Fisher, too
        little memory, or a singular Hessian.
    """
    require_choice(curvature, CURVATURES, "curvature")
    require_choice(solver, SOLVERS, "solver")
    require_choice(hessian, typing.get_args(Form), "hessian")
    require_choice(cutoff_kind, typing.get_args(Cutoff), "cutoff_kind")
    added = damping if damp_bias or head.bias is None else _without_bias(head, damping)
    if hessian == "autodiff":
        known = solver != "conjugate_gradient" and curvature == "hessian"
        expected = "'closed_form' with conjugate gradients or the empirical Fisher"
        require(known, "hessian", expected, hessian)
        damped = solver == "cholesky"
        matrix = autodiff_hessian(
            head,
            train,
            l2=added if damped else 0.0,
            batch_size=batch_size,
            memory_gib=memory_gib,
        )
        basis = np.eye(train.num_classes)
        if damped:
            return Cholesky.of_matrix(matrix, basis)
        return PseudoInverse.of_matrix(matrix, basis, cutoff, cutoff_kind)
    settings: dict[str, Any] = {
        "damping": added,
        "cutoff": cutoff,
        "cutoff_kind": cutoff_kind,
        "tolerance": tolerance,
        "memory_gib": memory_gib,
    }
    return SOLVERS[solver](CURVATURES[curvature](train), **settings)


def _without_bias(head: Head, damping: float) -> np.ndarray:
    return np.append(np.full(len(head.kernel), damping), 0.0)
