"""Conjugate gradients for heads whose Hessian is too large to form, with 100 or 1,000 classes.

A product with H costs two products with the inputs: for M directions V [D, M, C] at once, z = X V
are changes of logits, y = A_i z those of the errors, and X^T y / N is the result.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rtl_jax.errors import UserError
from rtl_jax.influence_functions.curvature import Curvature
from rtl_jax.influence_functions.head import Examples
from rtl_jax.influence_functions.precondition import Classwise, Kronecker, preconditioner_for


class _System(NamedTuple):
    """The system on the device: curvature, damping and preconditioner."""

    curvature: Curvature
    damping: jax.Array  # [D]
    preconditioner: Classwise | Kronecker


@dataclasses.dataclass(eq=False)
class ConjugateGradient:
    """Iterative solutions with the damped Hessian for many right-hand sides in parallel.

    Attributes:
      residual: the largest relative residual so far.
      iterations: the largest number of iterations so far.
    """

    system: _System
    basis: np.ndarray
    tolerance: float
    max_iterations: int
    chunk: int
    residual: float = 0.0
    iterations: int = 0

    @classmethod
    def of(
        cls,
        curvature: Curvature,
        damping: float | np.ndarray,
        *,
        tolerance: float = 1e-8,
        max_iterations: int = 1000,
        chunk: int | None = None,
        preconditioner: Classwise | Kronecker | None = None,
    ) -> "ConjugateGradient":
        """Prepare H + damping I; `tolerance` applies to each relative residual.

        Damping [D], one value for each input, may leave out the bias.
        `chunk` examples are solved in parallel, by default as many as fit in about 1 GiB. The
        default preconditioner is the best that fits in memory. Raises UserError unless the damping
        is positive.
        """
        largest = float(np.max(damping))
        if largest <= 0:
            raise UserError(
                "influence.damping: expected a positive number with conjugate gradients, "
                f"which do not converge for a singular Hessian; received {largest:g}"
            )
        (number, inputs), classes = curvature.inputs.shape, curvature.num_classes
        with jax.enable_x64(True):
            system = _System(
                jax.tree.map(lambda array: jnp.asarray(array, jnp.float64), curvature),
                jnp.broadcast_to(jnp.asarray(damping, jnp.float64), inputs),
                preconditioner or preconditioner_for(curvature, largest),
            )
        chunk = chunk or max(1, min(128, 2**27 // (classes * (5 * inputs + 3 * number))))
        return cls(system, np.eye(classes), tolerance, max_iterations, chunk)

    @property
    def record(self) -> dict[str, Any]:
        """The accuracy of the solutions and the iterations they took."""
        return {
            "relative_residual": self.residual,
            "iterations": self.iterations,
            "preconditioner": type(self.system.preconditioner).__name__.lower(),
        }

    def solve(self, examples: Examples) -> np.ndarray:
        """Return the solutions [N, C, D] for the gradients of `examples`.

        Raises UserError if a solution does not reach the tolerance.
        """
        with jax.enable_x64(True):
            arrays = jnp.asarray(examples.inputs), jnp.asarray(examples.errors)
            found, residuals, iterations = _solve(
                self.system, *arrays, self.tolerance, self.max_iterations
            )
            solved, residual = np.asarray(found).transpose(1, 2, 0), float(residuals.max())
        self.residual = max(self.residual, residual)
        self.iterations = max(self.iterations, int(iterations))
        if not residual <= self.tolerance:
            raise UserError(
                f"conjugate gradients reached a relative residual of {residual:.2g} after "
                f"{int(iterations)} iterations, expected {self.tolerance:.2g}: raise "
                "influence.damping or influence.tolerance"
            )
        return solved


def hessian_product(system: _System, directions: jax.Array) -> jax.Array:
    """Compute (H + damping I) V for V [D, M, C]."""
    inputs, diagonal, factor, sign = system.curvature
    changes = jnp.tensordot(inputs, directions, 1)  # [N, M, C]
    along = (factor[:, None, :] * changes).sum(-1, keepdims=True)
    bent = diagonal[:, None, :] * changes + sign * factor[:, None, :] * along
    products = jnp.tensordot(inputs.T, bent, 1) / len(inputs)
    return products + system.damping[:, None, None] * directions


class _State(NamedTuple):
    solution: jax.Array
    residual: jax.Array
    direction: jax.Array
    slope: jax.Array  # <residual, preconditioned residual>, [M]
    iteration: jax.Array


@jax.jit
def _solve(
    system: _System, inputs: jax.Array, errors: jax.Array, tolerance: float, max_iterations: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Solve for the gradients of M examples.

    Returns the solutions [D, M, C], the true relative residuals [M] and the number of iterations.
    """
    right = inputs.T[:, :, None] * errors[None, :, :]
    norms = _norm(right)
    # An example that is fitted to the last digit has zero gradient, and so no influence.
    limits = jnp.where(norms > 0, tolerance * norms, jnp.inf)

    def unfinished(state: _State) -> jax.Array:
        # A tenth of the tolerance, since rounding separates the recursive from the true residual.
        some = (_norm(state.residual) > 0.1 * limits).any()
        return some & (state.iteration < max_iterations)

    def step(state: _State) -> _State:
        product = hessian_product(system, state.direction)
        active = _norm(state.residual) > 0.1 * limits
        length = jnp.where(active, state.slope / _inner(state.direction, product), 0)
        solution = state.solution + length[:, None] * state.direction
        residual = state.residual - length[:, None] * product
        preconditioned = system.preconditioner.apply(residual)
        slope = _inner(residual, preconditioned)
        turn = jnp.where(active, slope / state.slope, 0)
        direction = jnp.where(
            active[:, None], preconditioned + turn[:, None] * state.direction, state.direction
        )
        slope = jnp.where(active, slope, state.slope)
        return _State(solution, residual, direction, slope, state.iteration + 1)

    direction = system.preconditioner.apply(right)
    start = _State(
        jnp.zeros_like(right), right, direction, _inner(right, direction), jnp.asarray(0)
    )
    end = lax.while_loop(unfinished, step, start)
    left = _norm(hessian_product(system, end.solution) - right)
    return end.solution, jnp.where(norms > 0, left / norms, 0), end.iteration


def _inner(one: jax.Array, other: jax.Array) -> jax.Array:
    return (one * other).sum((0, 2))


def _norm(values: jax.Array) -> jax.Array:
    return jnp.sqrt(_inner(values, values))
