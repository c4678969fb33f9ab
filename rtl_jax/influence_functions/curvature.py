"""Approximations of the Hessian, given by a class-space matrix for each example.

With one [C, C] matrix A_i per example, the head's matrix is

    H = 1/N sum_i A_i (x) x~_i x~_i^T + l2 I.

A_i = diag(p_i) - p_i p_i^T yields the Hessian of the mean loss and, at any parameters, also the
expected Fisher information. A_i = e_i e_i^T yields the empirical Fisher, which uses the given
label instead of labels drawn from the model (Kunstner et al., 2019, discuss how much the two
differ). Both are a diagonal matrix plus or minus one outer product.
"""

from typing import NamedTuple

import numpy as np

from rtl_jax.influence_functions.head import Examples


class Curvature(NamedTuple):
    """A_i = diag(diagonal_i) + sign * factor_i factor_i^T, and the corresponding inputs.

    inputs: [N, D]; diagonal and factor: [N, C]; sign: 1 or -1.
    """

    inputs: np.ndarray
    diagonal: np.ndarray
    factor: np.ndarray
    sign: int

    @property
    def num_classes(self) -> int:
        """C, the number of classes."""
        return self.factor.shape[1]

    @property
    def rank(self) -> int:
        """R, the number of columns of a root: one for each class but one, or one in all."""
        return self.num_classes - 1 if self.sign < 0 else 1

    def roots(self) -> np.ndarray:
        """Compute a root S_i of every A_i, S_i S_i^T = A_i: [N, C, R].

        With q = sqrt(p), diag(p) - p p^T = diag(q) (I - q q^T) diag(q), so S = diag(q) Q with an
        orthonormal basis Q of the complement of q: all columns but the first of the reflection that
        maps q to a unit vector. Nothing cancels, since q is not negative.
        """
        if self.sign > 0:
            return self.factor[:, :, None]
        unit = np.sqrt(self.diagonal)
        normal = unit + np.eye(self.num_classes)[0]
        scaled = normal[:, 1:] / (1 + unit[:, :1])
        reflected = np.eye(self.num_classes)[:, 1:] - normal[:, :, None] * scaled[:, None, :]
        return unit[:, :, None] * reflected

    def mean(self) -> np.ndarray:
        """Compute the mean A_i, [C, C]."""
        outer = self.factor.T @ self.factor
        return np.diag(self.diagonal.mean(0)) + self.sign * outer / len(self.inputs)

    def traces(self) -> np.ndarray:
        """Compute the trace of every A_i, [N]."""
        return self.diagonal.sum(1) + self.sign * (self.factor**2).sum(1)

    def assemble(self, basis: np.ndarray | None = None, l2: float | np.ndarray = 0.0) -> np.ndarray:
        """Compute H [KD, KD] in an orthonormal basis [C, K] of class space, by default all of it.

        l2 is as for `add_damping`.

        H is assembled for pairs of basis vectors, from products X^T diag(w) X, without autodiff and
        without another array of H's size. Only the lower triangle is computed, and mirrored to the
        upper one. Fortran order lets LAPACK work in place.
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
                if a != b:  # the block is symmetric, so it is its own mirror image
                    result[columns, rows] = block
        add_damping(result, l2, basis)
        return result


def add_damping(matrix: np.ndarray, damping: float | np.ndarray, basis: np.ndarray) -> None:
    """Add damping to a matrix [KD, KD] in a basis [C, K], in place.

    It is one number, or one for each input [D]. Where it is 0 while others are not, as for a bias
    that a penalty leaves out, the direction that is the same for all classes is damped still: it
    changes no probability and no gradient has it, but without damping the matrix is singular.
    """
    classes, vectors = basis.shape
    damping = np.broadcast_to(damping, len(matrix) // vectors)
    matrix[np.diag_indices_from(matrix)] += np.tile(damping, vectors)
    alike = basis.sum(0) / np.sqrt(classes)
    for free in np.flatnonzero(damping == 0):
        rows = np.arange(vectors) * len(damping) + free
        matrix[np.ix_(rows, rows)] += damping.max() * np.outer(alike, alike)


def hessian_curvature(examples: Examples) -> Curvature:
    """Return the Hessian of the mean cross-entropy, also its expected Fisher information (A.9)."""
    return Curvature(examples.inputs, examples.probabilities, examples.probabilities, -1)


def empirical_fisher_curvature(examples: Examples) -> Curvature:
    """Return the mean outer product of the gradients, sum_i g_i g_i^T / N."""
    return Curvature(examples.inputs, np.zeros_like(examples.errors), examples.errors, 1)


CURVATURES = {"hessian": hessian_curvature, "empirical_fisher": empirical_fisher_curvature}
