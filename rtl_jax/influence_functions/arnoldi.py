"""The largest eigenpairs of a Hessian that is accessible only through Hessian-vector products.

Arnoldi's iteration, as used by Schioppa et al. (2022, "Scaling up influence functions"), computes
an orthonormal basis of the Krylov space of a random vector, then the eigenpairs of the Hessian's
small projection onto it. Each new vector is orthogonalised twice, since after a single pass
rounding errors let converged eigenvectors return. `scipy.sparse.linalg.eigsh` would transfer every
vector to the host, restart for an unknown number of products, and return no unconverged pairs.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rtl_jax.errors import UserError
from rtl_jax.runtime.progress import Progress

Product = Callable[[jax.Array], jax.Array]


class LowRank(NamedTuple):
    """Eigenvalues [R], largest first, and orthonormal eigenvectors [R, P].

    residuals: [R], |H v - value v|, which show how many pairs have converged.
    """

    values: np.ndarray
    vectors: np.ndarray
    residuals: np.ndarray

    def inverse(self, damping: float, cutoff: float = 1e-12) -> tuple[np.ndarray, np.ndarray]:
        """Return (1 / (value + damping), vectors) for eigenvalues above `cutoff` times the largest.

        Outside their span the inverse is 0, as for a pseudo-inverse. This also excludes directions
        of negative curvature, which occur if training ended early: H has none at a minimum, and a
        step along them would not lower the loss.
        """
        kept = self.values > cutoff * np.abs(self.values).max()
        return 1 / (self.values[kept] + damping), self.vectors[kept]


def arnoldi(
    product: Product,
    start: jax.Array,
    steps: int,
    rank: int,
    progress: Progress = lambda done: None,
) -> LowRank:
    """Compute the `rank` largest eigenpairs of a symmetric H with at most `steps` products.

    `product` maps a vector [P] to H times it; `start` [P] is the first vector of the Krylov space.
    Raises UserError if the rank exceeds the steps.
    """
    if rank > steps:
        raise UserError(f"arnoldi: expected at least {rank} steps for that rank, received {steps}")
    steps = min(steps, len(start))
    basis = jnp.zeros((steps + 1, len(start)), start.dtype).at[0].set(start / _norm(start))
    small = np.zeros((steps + 1, steps))
    for step in range(steps):
        image = product(basis[step])
        basis, along, left = _extend(basis, image, step + 1)
        small[:, step] = along
        small[step + 1, step] = left
        progress(1)
        if left <= 1e-12 * float(_norm(image)):  # the space is complete: nothing is left of H
            break
    done = step + 1
    matrix = small[:done, :done]
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    first = np.argsort(-values)[:rank]
    residuals = np.abs(small[done, done - 1] * vectors[-1, first])
    return LowRank(values[first], vectors[:, first].T @ np.asarray(basis[:done]), residuals)


@partial(jax.jit, donate_argnums=0)
def _extend(basis: jax.Array, image: jax.Array, row: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Orthogonalise `image` and store it in the basis [M, P] at `row`.

    Returns the basis, the coordinates [M] of `image`, and the norm of the remainder.
    """
    first = basis @ image
    image = image - first @ basis
    second = basis @ image
    image = image - second @ basis
    left = _norm(image)
    return basis.at[row].set(image / left), first + second, left


def _norm(vector: jax.Array) -> jax.Array:
    return jnp.sqrt(vector @ vector)
