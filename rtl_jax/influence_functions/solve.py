"""Solvers of (H + damping I) s = g for the head's gradients g that form H.

A solver's `solve` takes examples and returns their solutions [N, K, D] in a basis [C, K] of class
space, `basis`; scores are inner products with other gradients in this basis (see `scores`). All
solvers agree where they apply; `conjugate` and `woodbury` have those that do not form H.
"""

import dataclasses
from typing import Any, Literal, Protocol

import numpy as np
from scipy import linalg

from rtl_jax.errors import UserError
from rtl_jax.influence_functions.curvature import Curvature
from rtl_jax.influence_functions.head import Examples, contrasts
from rtl_jax.influence_functions.memory import require_memory

BLOCK = 1024  # columns per step of a factorisation


class Solver(Protocol):
    """The interface of solvers, as required by `scores`.

    Attributes:
      basis: [C, K], orthonormal, of the subspace of class space that contains solutions.
      chunk: the number of examples to solve for at once.
    """

    basis: np.ndarray
    chunk: int

    @property
    def record(self) -> dict[str, Any]:
        """The solver's entries for the manifest, such as the accuracy of solutions."""

    def solve(self, examples: Examples) -> np.ndarray:
        """Return the solutions [N, K, D] for the gradients of `examples`."""


@dataclasses.dataclass(eq=False)
class Cholesky:
    """Exact solutions with the damped Hessian: one factorisation in place, then triangular solves.

    Attributes:
      factor: lower triangle [KD, KD], Fortran order.
    """

    factor: np.ndarray
    basis: np.ndarray
    chunk: int = 256

    @classmethod
    def of(
        cls,
        curvature: Curvature,
        damping: float | np.ndarray,
        *,
        basis: np.ndarray | None = None,
        memory_gib: int | None = None,
    ) -> "Cholesky":
        """Factorise H + damping I in the basis of class contrasts, or in another.

        An L2 penalty on the weights W, l2/2 ||W||^2, is a damping of l2; damping [D], one value for
        each input, may leave out the bias.

        Raises:
          UserError: there is too little memory, or the matrix is singular, as it is without damping
            if there are fewer examples than features.
        """
        basis = contrasts(curvature.num_classes) if basis is None else basis
        size = basis.shape[1] * curvature.inputs.shape[1]
        # Besides the matrix: a block column, weighted inputs, a chunk's gradients and solutions.
        needed = 8 * (size * (size + 2 * BLOCK + 3 * cls.chunk) + 3 * curvature.inputs.size)
        require_memory(curvature.num_classes * curvature.inputs.shape[1], needed, memory_gib)
        return cls.of_matrix(curvature.assemble(basis, damping), basis)

    @classmethod
    def of_matrix(cls, matrix: np.ndarray, basis: np.ndarray) -> "Cholesky":
        """Factorise a positive definite matrix [KD, KD] in Fortran order, which is overwritten."""
        if not factorize_in_place(matrix):
            raise singular(len(matrix))
        return cls(matrix, basis)

    @property
    def record(self) -> dict[str, Any]:
        """Return an empty record: the solution is exact up to rounding."""
        return {}

    def solve(self, examples: Examples) -> np.ndarray:
        """Return the solutions [N, K, D] for the gradients of `examples`."""
        right, shape = _right_hand_sides(examples, self.basis)
        solved, info = linalg.lapack.dpotrs(self.factor, right, lower=1, overwrite_b=1)
        if info:
            raise ValueError(f"dpotrs refuses its argument {-info}")
        return solved.T.reshape(shape)


def singular(size: int) -> UserError:
    """Return the error for a Hessian of this many rows that has no inverse."""
    return UserError(
        f"the Hessian, {size:,} x {size:,}, is singular: expected a positive influence.damping "
        "(0.001, say), or influence.solver=pseudo_inverse"
    )


def factorize_in_place(matrix: np.ndarray, block: int = BLOCK) -> bool:
    """Overwrite the lower triangle [P, P], in Fortran order, by its Cholesky factor.

    Returns whether this succeeded; a numerically singular matrix has no factor. Works on block
    columns, because OpenBLAS's own dpotrf causes a segmentation fault on two threads beyond some
    16,000 rows.
    """
    size, pivots = len(matrix), []
    for start in range(0, size, block):
        end = min(start + block, size)
        panel = matrix[start:, start:end]
        if start:
            panel -= matrix[start:, :start] @ matrix[start:end, :start].T
        corner, info = linalg.lapack.dpotrf(panel[: end - start], lower=1)
        if info:
            return False
        panel[: end - start] = corner
        pivots.append(np.diagonal(corner) ** 2)
        if end < size:
            below = np.asfortranarray(panel[end - start :])
            panel[end - start :] = linalg.blas.dtrsm(
                1.0, corner, below, side=1, lower=1, trans_a=1, overwrite_b=1
            )
    found = np.concatenate(pivots)
    # Rounding turns a zero pivot into about this value.
    return bool(found.min() > size * np.finfo(float).eps * found.max())


Cutoff = Literal["absolute", "relative"]


@dataclasses.dataclass(eq=False)
class PseudoInverse:
    """The Moore-Penrose inverse, as in the paper, by the eigendecomposition of H.

    Attributes:
      values: [R], the eigenvalues kept.
      vectors: [KD, R].
    """

    values: np.ndarray
    vectors: np.ndarray
    basis: np.ndarray
    chunk: int = 256

    @classmethod
    def of(
        cls,
        curvature: Curvature,
        cutoff: float = 1e-20,
        kind: Cutoff = "absolute",
        *,
        l2: float | np.ndarray = 0.0,
        basis: np.ndarray | None = None,
        memory_gib: int | None = None,
    ) -> "PseudoInverse":
        """Invert the eigenvalues larger in absolute value than `cutoff`; the others become 0.

        With 'relative', the cutoff is `cutoff` times the largest. An absolute 1e-20 also keeps the
        rounding errors of zero eigenvalues, about 1e-17 of the largest.

        Raises:
          UserError: there is too little memory, or no eigenvalue is left.
        """
        basis = np.eye(curvature.num_classes) if basis is None else basis
        size = basis.shape[1] * curvature.inputs.shape[1]
        # LAPACK's divide and conquer uses two more matrices as workspace; then vectors are
        # selected.
        require_memory(curvature.num_classes * curvature.inputs.shape[1], 32 * size**2, memory_gib)
        return cls.of_matrix(curvature.assemble(basis, l2), basis, cutoff, kind)

    @classmethod
    def of_matrix(
        cls, matrix: np.ndarray, basis: np.ndarray, cutoff: float, kind: Cutoff
    ) -> "PseudoInverse":
        """Invert a symmetric matrix [KD, KD], which is overwritten; see `of`."""
        values, vectors = linalg.eigh(matrix, overwrite_a=True, check_finite=False, driver="evd")
        threshold = cutoff * (np.abs(values).max() if kind == "relative" else 1)
        kept = np.abs(values) > threshold
        if not kept.any():
            raise UserError(
                f"influence.cutoff: no singular value is larger than {threshold:g}, the largest "
                f"is {np.abs(values).max():g}: choose a smaller one"
            )
        return cls(values[kept], vectors if kept.all() else vectors[:, kept], basis)

    @property
    def record(self) -> dict[str, Any]:
        """The number of inverted dimensions, and the range of their eigenvalues."""
        sizes = np.abs(self.values)
        return {"rank": len(sizes), "smallest": float(sizes.min()), "largest": float(sizes.max())}

    def solve(self, examples: Examples) -> np.ndarray:
        """Return the solutions [N, K, D] for the gradients of `examples`."""
        right, shape = _right_hand_sides(examples, self.basis)
        coordinates = (self.vectors.T @ right) / self.values[:, None]
        return (self.vectors @ coordinates).T.reshape(shape)


def _right_hand_sides(examples: Examples, basis: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
    """Return the gradients as columns [KD, N] in Fortran order, and the shape (N, K, D)."""
    gradients = (examples.errors @ basis)[:, :, None] * examples.inputs[:, None, :]
    return gradients.reshape(len(gradients), -1).T, gradients.shape
