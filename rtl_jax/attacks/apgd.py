"""Auto-PGD: projected gradient descent with an adaptive step size.

Croce and Hein (2020), algorithm 1, for Linf and L2; Croce and Hein (2021), algorithm 1, for L1.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rtl_jax.attacks.base import Diagnostics, Iterate, Problem
from rtl_jax.attacks.losses import LOSSES, Loss, dlr_targeted, top_other_classes
from rtl_jax.attacks.randomised import Randomised
from rtl_jax.attacks.registry import register
from rtl_jax.attacks.restarts import Found, RestartedAttack
from rtl_jax.attacks.schedules import SCHEDULES, Balls, Maximum, Stage, StepSize
from rtl_jax.attacks.threats import Threat
from rtl_jax.errors import UserError, require_choice

AscentLoss = Literal["cross_entropy", "dlr"]


class Evaluated(NamedTuple):
    """An evaluation of the network: losses [N], their gradients [N, ...] and logits [N, C]."""

    loss: jax.Array
    gradient: jax.Array
    logits: jax.Array


Evaluate = Callable[[jax.Array, jax.Array], Evaluated]  # arguments: images, step


class State(NamedTuple):
    """The state of a restart: the current and previous iterates, and the results so far.

    loss, first_loss: the losses at the last and the first evaluation.
    zero_gradient: whether the first gradient was zero in every pixel.
    """

    x: jax.Array
    previous: jax.Array
    loss: jax.Array
    first_loss: jax.Array
    zero_gradient: jax.Array
    maximum: Maximum
    step_size: StepSize
    found: Found


@register("apgd-t", loss="dlr", targets=9)
@register("apgd-dlr", loss="dlr")
@register("apgd-ce", loss="cross_entropy")
@dataclasses.dataclass(frozen=True)
class APGD(RestartedAttack):
    """Auto-PGD (Croce and Hein, 2020), with an adaptive step size. Needs a key.

    Attributes:
      norm: 'linf', 'l2' or 'l1'.
      loss: 'cross_entropy' or 'dlr'.
      targets: the number of most likely other classes (at most all) for which to maximise the
        targeted DLR loss, with separate restarts for each. 0: untargeted.
      steps: the number of steps of each restart.
      restarts: the number of random starts (per target class).
      passes: for a randomised network, `logits_fn(images, key)`, the number of draws over which
        losses, gradients and the deciding logits are averaged. None for a deterministic network.

    Example:
        >>> from rtl_jax.attacks import APGD
        >>> APGD("linf", loss="dlr", targets=9).targets
        9
    """

    norm: Threat | str
    loss: Loss = "cross_entropy"
    targets: int = 0
    steps: int = 100
    restarts: int = 1
    passes: int | None = None

    def __post_init__(self) -> None:
        require_choice(self.loss, AscentLoss, "APGD: loss")
        super().__post_init__()
        self._require_counts("steps", "restarts", *(("passes",) if self.passes is not None else ()))
        self._require_counts("targets", least=0)
        if self.targets and self.loss != "dlr":
            raise UserError("APGD: targets: expected loss='dlr', the only one with a targeted form")

    @classmethod
    def supports(cls, threat: Threat) -> bool:
        """Whether the threat model has a step-size schedule."""
        return type(threat) in SCHEDULES

    @property
    def display_name(self) -> str:
        """The name that AutoAttack uses."""
        untargeted = "apgd-ce" if self.loss == "cross_entropy" else "apgd-dlr"
        return "apgd-t" if self.targets else untargeted

    @property
    def min_classes(self) -> int:
        """Four for the targeted DLR loss, which involves four logits."""
        return 4 if self.targets else super().min_classes

    def num_restarts(self, num_classes: int) -> int:
        """Return `restarts` times the number of target classes."""
        return self.restarts * (min(self.targets, num_classes - 1) or 1)

    def restart(
        self, problem: Problem, clean_logits: jax.Array, keys: jax.Array, index: jax.Array
    ) -> Iterate:
        """Ascend from a random start through all stages; see `RestartedAttack.restart`."""
        target_classes = self._target_classes(problem, clean_logits, index)
        evaluate = partial(self._evaluate, problem, target_classes)

        def ascend(carry: tuple[jax.Array, Found], stage: Stage) -> tuple[tuple, Diagnostics]:
            end = self._ascend(problem, evaluate, stage, carry)
            worse = ~end.found.best.success & (end.loss < end.first_loss)
            return (end.maximum.x, end.found), Diagnostics(end.zero_gradient, worse)

        change = jax.vmap(self.threat.random_change)(keys, problem.images, problem.eps)
        start = problem.images + change, Found.initial(problem, clean_logits, self.loss)
        stages = SCHEDULES[type(self.threat)].stages(self.steps)
        (_, found), diagnostics = lax.scan(ascend, start, stages)
        diagnostics = jax.tree.map(lambda leaf: leaf[-1].astype(int), diagnostics)
        return found.best._replace(diagnostics=diagnostics)

    def _target_classes(
        self, problem: Problem, clean_logits: jax.Array, index: jax.Array
    ) -> jax.Array | None:
        """Return the target class of each image in this restart, int [N]; None if untargeted."""
        if not self.targets:
            return None
        count = min(self.targets, clean_logits.shape[-1] - 1)
        return top_other_classes(clean_logits, problem.labels, count)[:, index // self.restarts]

    def _evaluate(
        self, problem: Problem, target_classes: jax.Array | None, x: jax.Array, step: jax.Array
    ) -> Evaluated:
        """Compute the per-image losses and gradients at x [N, ...], at a step of the restart."""

        def total(x: jax.Array, logits_fn: Callable) -> tuple[jax.Array, tuple]:
            logits = logits_fn(x)
            logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
            if target_classes is None:
                losses = LOSSES[self.loss](logits, problem.labels)
            else:
                losses = dlr_targeted(logits, problem.labels, target_classes)
            return losses.sum(), (losses.astype(x.dtype), logits)

        def once(logits_fn: Callable) -> Evaluated:
            gradient, (losses, logits) = jax.grad(total, has_aux=True)(x, logits_fn)
            return Evaluated(losses, gradient, logits)

        network = problem.logits_fn
        if not isinstance(network, Randomised):
            return once(network)

        def draw(number: jax.Array) -> Evaluated:
            return once(lambda x: network.draw(x, step + 1, number))

        draws = jnp.arange(network.passes)
        shapes = jax.eval_shape(draw, draws[0])
        nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        sums, _ = lax.scan(
            lambda sums, number: (jax.tree.map(jnp.add, sums, draw(number)), None), nothing, draws
        )
        return jax.tree.map(lambda leaf: leaf / network.passes, sums)

    def _ascend(
        self, problem: Problem, evaluate: Evaluate, stage: Stage, start: tuple[jax.Array, Found]
    ) -> State:
        """Run one stage from the projected start: evaluate, record, set the step size, step."""
        schedule = SCHEDULES[type(self.threat)]
        radii = problem.eps * stage.factor.astype(problem.eps.dtype)
        balls = Balls(self.threat, problem.images, radii)
        x, found = balls.project(start[0]), start[1]

        def unfinished(carry: tuple[jax.Array, State]) -> jax.Array:
            step, state = carry
            return (step <= stage.steps) & ~state.found.done.all()

        def go(carry: tuple[jax.Array, State]) -> tuple[jax.Array, State]:
            step, state = carry
            here = evaluate(state.x, step)
            state = self._record(problem, state, here, first=step == 0, inside=stage.factor == 1)
            interval = stage.checkpoints[step]
            new, reset = schedule.checkpoint(state.step_size, interval, state.maximum, balls)
            step_size = jax.tree.map(partial(jnp.where, interval > 0), new, state.step_size)
            current = Maximum(state.x, here.loss, here.gradient)
            current = _choose(reset & (interval > 0), state.maximum, current)
            x = schedule.move(current, state.previous, step == 0, step_size, balls)
            return step + 1, state._replace(x=x, previous=current.x, step_size=step_size)

        lowest = jnp.full(len(x), -jnp.inf, x.dtype)
        maximum = Maximum(x, lowest, jnp.zeros_like(x))
        no, step_size = jnp.zeros(len(x), bool), schedule.initial(x, balls)
        begun = State(x, x, -lowest, lowest, no, maximum, step_size, found)
        return lax.while_loop(unfinished, go, (jnp.zeros((), int), begun))[1]

    def _record(
        self,
        problem: Problem,
        state: State,
        here: Evaluated,
        *,
        first: jax.Array,
        inside: jax.Array,
    ) -> State:
        """Record the evaluation at `state.x`; `inside` says whether that lies within eps."""
        loss, gradient = here.loss, here.gradient
        finite = jnp.isfinite(gradient).reshape(len(loss), -1).all(-1)
        zero = (gradient == 0).reshape(len(loss), -1).all(-1)
        increases = state.step_size.increases + (loss > state.loss)
        # A non-finite gradient invalidates the logits too.
        logits = jnp.where(finite[:, None], here.logits, jnp.nan)
        current, certain = Maximum(state.x, loss, gradient), self.passes is None
        return state._replace(
            loss=loss,
            first_loss=jnp.where(first, loss, state.first_loss),
            zero_gradient=jnp.where(first, zero, state.zero_gradient),
            maximum=_choose(loss > state.maximum.loss, current, state.maximum),
            step_size=state.step_size._replace(increases=increases),
            found=state.found.update(
                state.x, problem.labels, logits, self.loss, inside=inside, certain=certain
            ),
        )


def _choose(take: jax.Array, new: Maximum, old: Maximum) -> Maximum:
    """Choose the new maximum where `take` [N] is true, the old one elsewhere."""
    return jax.tree.map(lambda new, old: jax.vmap(jnp.where)(take, new, old), new, old)
