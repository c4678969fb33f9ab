"""Projected gradient descent.

Paper, section 3 and A.2: maximise the loss over perturbations delta in the ball by k gradient
steps, each projected back onto the ball. `adversarial.attack` runs it.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from rtl_jax.attacks.base import Attack, Iterate, Keep, Problem, best_of, keep_better, require_key
from rtl_jax.attacks.losses import Loss, judge
from rtl_jax.attacks.registry import register
from rtl_jax.attacks.threats import L1, Threat
from rtl_jax.errors import UserError, require_choice

Evaluated = tuple[Iterate, Any]  # the second is the gradient of the objective, or None


@register("pgd")
@dataclasses.dataclass(frozen=True)
class PGD(Attack):
    """Projected gradient descent with a fixed step size. The radius is an argument of `attack`.

    Attributes:
      norm: 'l2', 'linf', 'unconstrained', or a `Threat`; in L1 use `APGD`.
      steps: k, the number of gradient steps.
      relative_step: c in the step size c * eps / k.
      step_size: the step size in pixel units, instead of `relative_step`; required for
        'unconstrained'.
      random_start: start at a random point: in the box (linf), on the sphere (l2), one step away
        (unconstrained).
      restarts: the number of random starts; an image must withstand all of them.
      targeted: whether labels are the classes to reach.
      loss: 'cross_entropy', 'margin', 'dlr' or 'logit'.
      keep: which of the iterates to return, including the first and the last. 'best': prefer
        successes, then the higher loss. 'loss': the highest loss, as `robustness` does in training.
        'last': the last iterate.
      unroll: compile the steps without a loop. Results do not change; compilation time grows with
        the number of steps. For models on a CPU whose convolutions XLA runs up to 90 times slower
        in a loop; networks of this package do not need it.

    Example:
        >>> from rtl_jax.attacks import PGD
        >>> PGD("linf", steps=50, random_start=True, restarts=5).steps
        50
    """

    norm: Threat | str
    steps: int = 20
    relative_step: float = 2.5
    step_size: float | None = None
    random_start: bool = False
    restarts: int = 1
    targeted: bool = False
    loss: Loss = "cross_entropy"
    keep: Keep = "best"
    unroll: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice(self.keep, Keep, "PGD: keep")
        self._require_counts("steps", "restarts")
        for name in ("relative_step", "step_size"):
            value = getattr(self, name)
            if value is not None or name == "relative_step":
                number = isinstance(value, int | float) and not isinstance(value, bool)
                self._require(number and 0 < value < float("inf"), name, "a positive number")
        if not self.threat.has_radius and self.step_size is None:
            raise UserError("PGD: without a norm there is no eps, so step_size must be given")
        if self.restarts > 1 and not self.random_start:
            raise UserError("PGD: restarts without random_start would all be the same search")

    @classmethod
    def supports(cls, threat: Threat) -> bool:
        """Whether this is not L1, where the steepest step changes a single pixel."""
        return not isinstance(threat, L1)

    @property
    def display_name(self) -> str:
        """The name used in papers."""
        return f"PGD({self.steps})"

    @property
    def needs_key(self) -> bool:
        """Whether starts are random."""
        return self.random_start

    def step_sizes(self, eps: jax.Array) -> jax.Array:
        """Return the step size for each eps [N]."""
        if self.step_size is not None:
            return jnp.full_like(eps, self.step_size)
        return self.relative_step * eps / self.steps

    def prepare(self, problem: Problem) -> Evaluated | None:
        """Evaluate the originals, which all searches share."""
        if not self.random_start:
            return self._gradient(problem, problem.images)
        if self.keep == "best":
            return self._judge(problem, problem.images), None
        return None

    def search(self, problem: Problem) -> Iterate:
        """Search from the originals or from random starts; see `Attack.search`."""
        if not self.random_start:
            return self._search_from(problem.images, problem, problem.shared)
        keys = require_key(problem)

        def restart(index: jax.Array) -> Iterate:
            restart_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, index)
            start = jax.vmap(self.threat.random_start)(restart_keys, problem.images, problem.eps)
            return self._search_from(start, problem, None)

        if self.restarts == 1:
            found = restart(jnp.asarray(0))
        else:
            unrolled = problem._replace(num_parallel=self.restarts) if self.unroll else problem
            rule: Keep = "loss" if self.keep == "loss" else "best"
            found = best_of(restart, jnp.arange(self.restarts), unrolled, rule)
        if self.keep == "best":
            # The original is in the ball too, so a misclassified image always counts as broken.
            original, _ = problem.shared or (self._judge(problem, problem.images), None)
            found = keep_better("best", original, found)
        return found

    def _search_from(self, start: jax.Array, problem: Problem, first: Evaluated | None) -> Iterate:
        """Run the attack: gradient, step, project. `first` is the evaluation of the start."""
        threat, sizes = self.threat, self.step_sizes(problem.eps)

        def move(best: Iterate, here: Iterate, gradient: jax.Array) -> tuple[jax.Array, Iterate]:
            x = here.images + jax.vmap(threat.step)(gradient, sizes)
            x = jax.vmap(threat.project)(x, problem.images, problem.eps)
            finite = jnp.isfinite(gradient).reshape(len(x), -1).all(-1)
            return x, keep_better(self.keep, best, here._replace(finite=here.finite & finite))

        def step(carry: tuple[jax.Array, Iterate], _: None) -> tuple[tuple, None]:
            x, best = carry
            return move(best, *self._gradient(problem, x)), None

        no = jnp.zeros(len(start), bool)
        nothing = Iterate(start, jnp.full(len(start), -jnp.inf, start.dtype), no, ~no)
        carry, steps = (start, nothing), self.steps
        if first is not None:
            carry, steps = move(nothing, *first), steps - 1
        (x, best), _ = lax.scan(step, carry, length=steps, unroll=self.unroll)
        return keep_better(self.keep, best, self._judge(problem, x))

    def _judge(self, problem: Problem, x: jax.Array) -> Iterate:
        """Evaluate the network at x [N, ...]."""
        verdict = judge(problem.logits_fn(x), problem.labels, self.loss, self.targeted)
        objective = -verdict.losses if self.targeted else verdict.losses
        return Iterate(x, objective.astype(x.dtype), verdict.success, verdict.finite)

    def _gradient(self, problem: Problem, x: jax.Array) -> Evaluated:
        """Evaluate the network and the gradient of each image's objective."""

        def total(x: jax.Array) -> tuple[jax.Array, Iterate]:
            here = self._judge(problem, x)
            return here.objective.sum(), here

        gradient, here = jax.grad(total, has_aux=True)(x)
        return here, gradient


# One step of size eps from the image (Goodfellow et al., 2015).
FGSM = PGD("linf", steps=1, relative_step=1.0, keep="last")

# PGD(20) trained the paper's source networks (A.2); section 7 and A.10 use one step of 2 eps (6 for
# eps = 3) from the image. `robustness`, with which they were trained, keeps the highest loss.
PAPER_PGD20 = PGD("l2", steps=20, keep="loss")
PAPER_PGD1 = PGD("l2", steps=1, relative_step=2.0, keep="loss")
