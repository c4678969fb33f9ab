"""Exact solutions where there are fewer training images than inputs, by Woodbury's identity.

In a basis B [C, K] of class space the matrix is

    H = Delta + 1/N U U^T,   column (a, i) of U [KD, RN] = (B^T r_ia) (x) x~_i,

where r_ia, a = 1 .. R, are the columns of a root of A_i (see `curvature`), and Delta is the
damping. So the matrix to factorise,

    M = I + 1/N U^T Delta^-1 U,   entry (a, i), (b, j) = [a = b, i = j] + r_ia^T r_jb k_ij / N

with k_ij = x~_i^T Delta^-1 x~_j, has RN rows instead of KD: with the Hessian's R = K, N for D. No
array of U's size is formed.
"""

import dataclasses
from typing import Any

import numpy as np
from scipy import linalg

from rtl_jax.influence_functions.curvature import Curvature
from rtl_jax.influence_functions.head import Examples, contrasts
from rtl_jax.influence_functions.memory import require_memory
from rtl_jax.influence_functions.solve import BLOCK, factorize_in_place, singular


@dataclasses.dataclass(eq=False)
class Woodbury:
    """Exact solutions with the damped Hessian, which is not formed.

    Inputs without damping, such as a bias that a penalty leaves out, are solved for by the Schur
    complement of the others, U_0 M^-1 U_0^T / N with the rows U_0 of U for these inputs.

    Attributes:
      factor: M's Cholesky factor, the lower triangle [RN, RN], Fortran order.
      roots: [R, N, K], the roots' columns in the basis.
      inputs: [N, D], of the training examples.
      damping: [D].
      undamped: [RN, F], M^-1 U_0^T; F = K times the number of inputs without damping, or 0.
      complement: the Cholesky factor [F, F] of their Schur complement.
    """

    factor: np.ndarray
    roots: np.ndarray
    inputs: np.ndarray
    damping: np.ndarray
    undamped: np.ndarray
    complement: np.ndarray
    basis: np.ndarray
    chunk: int = 256

    @staticmethod
    def applies(curvature: Curvature, damping: float | np.ndarray) -> bool:
        """Return whether the matrix to factorise is smaller than the Hessian, and there is one."""
        rows = curvature.rank * len(curvature.inputs)
        size = (curvature.num_classes - 1) * curvature.inputs.shape[1]
        return bool(np.max(damping) > 0) and rows < size

    @classmethod
    def of(
        cls,
        curvature: Curvature,
        damping: float | np.ndarray,
        *,
        memory_gib: int | None = None,
    ) -> "Woodbury":
        """Factorise M for H + damping I in the basis of class contrasts.

        damping is positive, or [D], one value for each input, of which some may be 0.

        Raises:
          UserError: there is too little memory, or the Hessian is singular.
        """
        inputs, basis = curvature.inputs, contrasts(curvature.num_classes)
        number, size = inputs.shape
        rows = curvature.rank * number
        # Besides the matrix: a block column, pairs of examples, and a chunk's right-hand sides and
        # solutions.
        chunks = 3 * cls.chunk * (rows + basis.shape[1] * size)
        needed = 8 * (rows * (rows + 2 * BLOCK) + 4 * number**2 + 2 * inputs.size + chunks)
        require_memory(curvature.num_classes * size, needed, memory_gib)
        damping = np.broadcast_to(np.asarray(damping, np.float64), size)
        roots = np.einsum("nca,ck->ank", curvature.roots(), basis)
        factor = _assemble(roots, _weighted(inputs, damping) @ inputs.T / number)
        succeeded = factorize_in_place(factor)
        # M's pivots are 1 at least. The Hessian's smallest is the damping, so that relative to it
        # the largest of both is the same, and so is the limit (`factorize_in_place`).
        largest = np.diagonal(factor).max() ** 2
        if not succeeded or largest * basis.shape[1] * size * np.finfo(float).eps >= 1:
            raise singular(basis.shape[1] * size)
        free = inputs[:, damping == 0]
        columns = np.einsum("ank,nf->ankf", roots, free).reshape(rows, -1)
        undamped = _solve(factor, columns)
        complement = np.asfortranarray(columns.T @ undamped / number)
        if complement.size and not factorize_in_place(complement):
            raise singular(basis.shape[1] * size)
        return cls(factor, roots, inputs, damping, undamped, complement, basis)

    @property
    def record(self) -> dict[str, Any]:
        """Return an empty record: the solution is exact up to rounding."""
        return {}

    def solve(self, examples: Examples) -> np.ndarray:
        """Return the solutions [N, K, D] for the gradients of `examples`.

        With t = U^T Delta^-1 g over the damped inputs and w = M^-1 t, the solution for the inputs
        without damping is s_0 = S^-1 (g_0 - U_0 w / N), with their Schur complement S, and for the
        others Delta^-1 (g - U (w + M^-1 U_0^T s_0) / N).
        """
        number, free = len(self.inputs), self.damping == 0
        errors = examples.errors @ self.basis
        gradients = errors[:, :, None] * examples.inputs[:, None, :]
        pairs = self.inputs @ _weighted(examples.inputs, self.damping).T
        right = ((self.roots @ errors.T) * pairs).reshape(-1, examples.num_examples)
        found = _solve(self.factor, right)
        if free.any():
            # U_0 M^-1 t = (M^-1 U_0^T)^T t
            known = gradients[:, :, free].reshape(len(gradients), -1)
            solved = _solve(self.complement, known.T - self.undamped.T @ right / number)
            found += self.undamped @ solved
        by_example = found.reshape(*self.roots.shape[:2], -1)
        combined = np.einsum("ank,anm->mkn", self.roots, by_example, optimize=True)
        solutions = gradients - combined @ self.inputs / number
        solutions[:, :, ~free] /= self.damping[~free]
        if free.any():
            solutions[:, :, free] = solved.T.reshape(*gradients.shape[:2], -1)
        return solutions


def _weighted(inputs: np.ndarray, damping: np.ndarray) -> np.ndarray:
    """Divide the inputs [N, D] by their damping; those without become 0."""
    return np.divide(inputs, damping, out=np.zeros_like(inputs), where=damping > 0)


def _assemble(roots: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Compute M's lower triangle [RN, RN] from roots [R, N, K] and k_ij / N [N, N]."""
    rank, number, _ = roots.shape
    matrix = np.zeros((rank * number,) * 2, order="F")
    for a in range(rank):
        rows = slice(a * number, (a + 1) * number)
        for b in range(a + 1):
            columns = slice(b * number, (b + 1) * number)
            matrix[rows, columns] = roots[a] @ roots[b].T * pairs
    matrix[np.diag_indices_from(matrix)] += 1
    return matrix


def _solve(factor: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve with a Cholesky factor, the lower triangle [P, P], for columns [P, M]."""
    if not right.size:
        return right
    return linalg.cho_solve((factor, True), right, check_finite=False)
