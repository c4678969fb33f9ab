"""What stands in for the Hessian: a matrix of class space for each example.

With one [C, C] matrix A_i per example, the head's matrix is

    H = 1/N sum_i A_i (x) x~_i x~_i^T + l2 I.

A_i = diag(p_i) - p_i p_i^T makes it the Hessian of the mean loss and, at any parameters, the
expected Fisher information too; A_i = e_i e_i^T makes it the empirical Fisher, in which the
label that was given takes the place of those that the model expects (Kunstner et al., 2019, on
how far the two lie apart). Both are a diagonal and one outer product.
"""

from typing import NamedTuple

import numpy as np

from rtl_jax.influence_functions.head import Examples


class Curvature(NamedTuple):
    """A_i = diag(diagonal_i) + sign * factor_i factor_i^T, and the inputs it goes with.

    inputs: [N, D]; diagonal and factor: [N, C]; sign: 1 or -1.
    """

    inputs: np.ndarray
    diagonal: np.ndarray
    factor: np.ndarray
    sign: int

    @property
    def num_classes(self) -> int:
        """C."""
        return self.factor.shape[1]

    def mean(self) -> np.ndarray:
        """The mean A_i, [C, C]."""
        outer = self.factor.T @ self.factor
        return np.diag(self.diagonal.mean(0)) + self.sign * outer / len(self.inputs)

    def traces(self) -> np.ndarray:
        """The trace of every A_i, [N]."""
        return self.diagonal.sum(1) + self.sign * (self.factor**2).sum(1)

    def assemble(self, basis: np.ndarray | None = None, l2: float = 0.0) -> np.ndarray:
        """H [KD, KD], in an orthonormal basis [C, K] of class space or, by default, in C itself.

        Made by pairs of basis vectors, as products X^T diag(w) X: no autodiff, and no other
        array of H's size. Only the lower triangle is computed; the upper is its mirror image.
        Fortran order, as LAPACK wants it to work in place.
        """
        basis = np.eye(self.num_classes) if basis is None else basis
        (number, inputs), vectors = self.inputs.shape, basis.shape[1]
        factor = self.factor @ basis
        result = np.empty((vectors * inputs,) * 2, order="F")
        for a in range(vectors):
            rows = slice(a * inputs, (a + 1) * inputs)
            for b in range(a + 1):
                columns = slice(b * inputs, (b + 1) * inputs)
                weights = self.diagonal @ (basis[:, a] * basis[:, b])
                weights += self.sign * factor[:, a] * factor[:, b]
                block = (self.inputs * (weights / number)[:, None]).T @ self.inputs
                result[rows, columns] = block
                if a != b:  # the block is symmetric itself, so it is its own mirror image
                    result[columns, rows] = block
        result[np.diag_indices_from(result)] += l2
        return result


def hessian_curvature(examples: Examples) -> Curvature:
    """Return the Hessian of the mean cross-entropy, also its expected Fisher information (A.9)."""
    return Curvature(examples.inputs, examples.probabilities, examples.probabilities, -1)


def empirical_fisher_curvature(examples: Examples) -> Curvature:
    """Return the mean outer product of the gradients, sum_i g_i g_i^T / N."""
    return Curvature(examples.inputs, np.zeros_like(examples.errors), examples.errors, 1)


CURVATURES = {"hessian": hessian_curvature, "empirical_fisher": empirical_fisher_curvature}
