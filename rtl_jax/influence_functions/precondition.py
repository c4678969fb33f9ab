"""What conjugate gradients divide by: approximations of H + damping I that are easily inverted.

Each is a symmetric positive definite map of residuals [D, M, C] whose classes sum to zero, as
those of softmax gradients do, to others of that kind.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import linalg

from rtl_jax.influence_functions.curvature import Curvature
from rtl_jax.runtime.resources import device_free, host_free

# Inverted blocks take at most this share of free memory: the right-hand sides need room too.
_SHARE = 0.4


class Classwise(NamedTuple):
    """The diagonal blocks of H + damping I, one for each class, inverted: exact but for what
    couples classes.

    inverses: float32 [C, D, D]. What a preconditioner lacks in precision costs iterations, not
    accuracy.
    """

    inverses: jax.Array

    @classmethod
    def of(cls, curvature: Curvature, damping: float) -> "Classwise":
        """Invert the block of every class: O(C D^2 (N + D)) once."""
        classes, (number, inputs) = curvature.num_classes, curvature.inputs.shape
        weights = curvature.diagonal + curvature.sign * curvature.factor**2
        inverses = np.empty((classes, inputs, inputs), np.float32)
        for index in range(classes):
            # One matrix times itself: half of the work of any product.
            root = curvature.inputs * np.sqrt(np.maximum(weights[:, index], 0) / number)[:, None]
            block = root.T @ root
            block[np.diag_indices(inputs)] += damping
            factor, _ = linalg.lapack.dpotrf(block, lower=1, overwrite_a=1)
            lower, _ = linalg.lapack.dpotri(factor, lower=1, overwrite_c=1)
            lower = np.tril(lower)
            inverses[index] = lower + np.tril(lower, -1).T
        return cls(jnp.asarray(inverses))

    def apply(self, residuals: jax.Array) -> jax.Array:
        """Block by block, then back to classes that sum to zero."""
        narrow = residuals.astype(jnp.float32)
        found = jnp.einsum("cde,emc->dmc", self.inverses, narrow).astype(residuals.dtype)
        return found - found.mean(-1, keepdims=True)


class Kronecker(NamedTuple):
    """(mean A) (x) (mean x~ x~^T, weighed by the A's) + damping I, exact if all A_i were alike.

    rotation [D, D] and spread [D]: eigenvectors and eigenvalues of the inputs' second moments,
    each input weighed by its curvature; turn [C, C] and bend [C]: of the mean class matrix.
    """

    rotation: jax.Array
    spread: jax.Array
    turn: jax.Array
    bend: jax.Array
    damping: jax.Array

    @classmethod
    def of(cls, curvature: Curvature, damping: float) -> "Kronecker":
        """Two eigendecompositions, of [D, D] and [C, C]."""
        traces = curvature.traces()
        scale = max(traces.mean(), np.finfo(float).tiny)
        weights = traces / scale / len(traces)
        moments = (curvature.inputs * weights[:, None]).T @ curvature.inputs
        spread, rotation = linalg.eigh(moments, overwrite_a=True, check_finite=False)
        bend, turn = linalg.eigh(curvature.mean())
        arrays = (rotation, np.maximum(spread, 0), turn, np.maximum(bend, 0), damping)
        return cls(*(jnp.asarray(array, jnp.float64) for array in arrays))

    def apply(self, residuals: jax.Array) -> jax.Array:
        """Divide in the eigenvectors' basis."""
        rotated = jnp.tensordot(self.rotation.T, residuals, 1) @ self.turn
        rotated /= (self.spread[:, None] * self.bend + self.damping)[:, None, :]
        return jnp.tensordot(self.rotation, rotated, 1) @ self.turn.T


def preconditioner_for(
    curvature: Curvature, damping: float, free: int | None = None
) -> Classwise | Kronecker:
    """Class by class where the blocks fit in `free` bytes of memory, which needs several times
    fewer iterations; else by Kronecker factors. Made with float64 enabled."""
    free = min(host_free(), device_free()) if free is None else free
    # The inverses twice, for they are made on the host, and the work on one block.
    needed = curvature.inputs.shape[1] ** 2 * (2 * 4 * curvature.num_classes + 4 * 8)
    kind = Classwise if needed < _SHARE * free else Kronecker
    return kind.of(curvature, damping)
