"""Preconditioners for conjugate gradients: easily inverted approximations of H + damping I.

Each is a symmetric positive definite map on residuals [D, M, C] whose classes sum to zero, as
those of softmax gradients do.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import linalg

from rtl_jax.influence_functions.curvature import Curvature
from rtl_jax.runtime.resources import device_free, host_free

# The maximum share of free memory for inverted blocks; the right-hand sides need room too.
_SHARE = 0.4


class Classwise(NamedTuple):
    """The inverted diagonal blocks of H + damping I, one per class; ignores coupling of classes.

    inverses: float32 [C, D, D]. Lower precision of a preconditioner costs iterations, not accuracy.
    """

    inverses: jax.Array

    @classmethod
    def of(cls, curvature: Curvature, damping: float) -> "Classwise":
        """Invert the block of every class, in O(C D^2 (N + D))."""
        classes, (number, inputs) = curvature.num_classes, curvature.inputs.shape
        weights = curvature.diagonal + curvature.sign * curvature.factor**2
        inverses = np.empty((classes, inputs, inputs), np.float32)
        for index in range(classes):
            # A product of a matrix with itself takes half the work of any other.
            root = curvature.inputs * np.sqrt(np.maximum(weights[:, index], 0) / number)[:, None]
            block = root.T @ root
            block[np.diag_indices(inputs)] += damping
            factor, _ = linalg.lapack.dpotrf(block, lower=1, overwrite_a=1)
            lower, _ = linalg.lapack.dpotri(factor, lower=1, overwrite_c=1)
            lower = np.tril(lower)
            inverses[index] = lower + np.tril(lower, -1).T
        return cls(jnp.asarray(inverses))

    def apply(self, residuals: jax.Array) -> jax.Array:
        """Apply each class's block, then project onto classes that sum to zero."""
        narrow = residuals.astype(jnp.float32)
        found = jnp.einsum("cde,emc->dmc", self.inverses, narrow).astype(residuals.dtype)
        return found - found.mean(-1, keepdims=True)


class Kronecker(NamedTuple):
    """(mean A) (x) (mean x~ x~^T, weighted by the A_i) + damping I, exact if all A_i are equal.

    rotation [D, D] and spread [D]: eigenvectors and eigenvalues of the second moments of the
    inputs, each weighted by its curvature; turn [C, C] and bend [C]: those of the mean class
    matrix.
    """

    rotation: jax.Array
    spread: jax.Array
    turn: jax.Array
    bend: jax.Array
    damping: jax.Array

    @classmethod
    def of(cls, curvature: Curvature, damping: float) -> "Kronecker":
        """Compute two eigendecompositions, of [D, D] and [C, C]."""
        traces = curvature.traces()
        scale = max(traces.mean(), np.finfo(float).tiny)
        weights = traces / scale / len(traces)
        moments = (curvature.inputs * weights[:, None]).T @ curvature.inputs
        spread, rotation = linalg.eigh(moments, overwrite_a=True, check_finite=False)
        bend, turn = linalg.eigh(curvature.mean())
        arrays = (rotation, np.maximum(spread, 0), turn, np.maximum(bend, 0), damping)
        return cls(*(jnp.asarray(array, jnp.float64) for array in arrays))

    def apply(self, residuals: jax.Array) -> jax.Array:
        """Divide in the basis of eigenvectors."""
        rotated = jnp.tensordot(self.rotation.T, residuals, 1) @ self.turn
        rotated /= (self.spread[:, None] * self.bend + self.damping)[:, None, :]
        return jnp.tensordot(self.rotation, rotated, 1) @ self.turn.T


def preconditioner_for(
    curvature: Curvature, damping: float, free: int | None = None
) -> Classwise | Kronecker:
    """Choose class blocks if they fit in `free` bytes of memory, else Kronecker factors.

    Class blocks need several times fewer iterations. Call with float64 enabled.
    """
    free = min(host_free(), device_free()) if free is None else free
    # Twice the inverses, since they are made on the host, and the workspace for one block.
    needed = curvature.inputs.shape[1] ** 2 * (2 * 4 * curvature.num_classes + 4 * 8)
    kind = Classwise if needed < _SHARE * free else Kronecker
    return kind.of(curvature, damping)
