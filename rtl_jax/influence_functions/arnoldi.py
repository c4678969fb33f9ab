"""The largest eigenpairs of a Hessian that is known by its products alone.

Arnoldi's iteration, as Schioppa et al. (2022, "Scaling up influence functions") use it: an
orthonormal basis of the Krylov space of one random vector, then the eigenpairs of the small
matrix that the Hessian is there. Each new vector is made orthogonal twice, for in one pass
rounding lets converged eigenvectors return. `scipy.sparse.linalg.eigsh` would bring every vector to
the host, restart for an unknown number of products, and give no pair that has not converged.
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
    """Eigenvalues [R], the largest first, and vectors [R, P], orthonormal.

    residuals: [R], |H v - value v|, by which to see how many are converged.
    """

    values: np.ndarray
    vectors: np.ndarray
    residuals: np.ndarray

    def inverse(self, damping: float, cutoff: float = 1e-12) -> tuple[np.ndarray, np.ndarray]:
        """(1 / (value + damping), vectors) of the eigenvalues above `cutoff` times the largest.

        Outside of their space the inverse is 0, as a pseudo-inverse's. Directions along which the
        loss curves downwards, as it does where training ended early, are left out with it: at no
        minimum does H have them, and a step along them would lower nothing.
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
    """The `rank` largest eigenpairs of a symmetric H after at most `steps` products.

    `product` maps a vector [P] to H times it; `start` [P] is where the Krylov space begins.
    Raises UserError for a rank above the steps.
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
        if left <= 1e-12 * float(_norm(image)):  # the space is whole: nothing is left of H
            break
    done = step + 1
    matrix = small[:done, :done]
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    first = np.argsort(-values)[:rank]
    residuals = np.abs(small[done, done - 1] * vectors[-1, first])
    return LowRank(values[first], vectors[:, first].T @ np.asarray(basis[:done]), residuals)


@partial(jax.jit, donate_argnums=0)
def _extend(basis: jax.Array, image: jax.Array, row: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The basis [M, P] with what `image` adds to it at `row`, its coordinates [M], what is left."""
    first = basis @ image
    image = image - first @ basis
    second = basis @ image
    image = image - second @ basis
    left = _norm(image)
    return basis.at[row].set(image / left), first + second, left


def _norm(vector: jax.Array) -> jax.Array:
    return jnp.sqrt(vector @ vector)
