"""Auto-PGD: projected gradient descent that chooses its step sizes itself.

Croce and Hein (2020), algorithm 1, for Linf and L2; Croce and Hein (2021), algorithm 1, for L1.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rtl_jax.attacks.losses import LOSSES, dlr_targeted, rivals
from rtl_jax.attacks.pace import SCHEDULES, Pace, Peak, Stage
from rtl_jax.attacks.pgd import Iterate, LogitsFn, Signs
from rtl_jax.attacks.randomised import Randomised
from rtl_jax.attacks.runs import Fall, Runs
from rtl_jax.attacks.threat import L1, THREATS
from rtl_jax.errors import UserError, require_choice

AscentLoss = Literal["cross_entropy", "dlr"]


class Look(NamedTuple):
    """What the network says of images: what is raised [N], its gradient, and logits [N, C]."""

    value: jax.Array
    gradient: jax.Array
    logits: jax.Array


class Task(NamedTuple):
    """What a run is about: how to look at images at a step, the originals, labels and eps [N]."""

    look: Callable[[jax.Array, jax.Array], Look]
    images: jax.Array
    labels: jax.Array
    eps: jax.Array


class Climb(NamedTuple):
    """The state of a run: the images, where they were a step before, and what has been seen.

    last, first: what is raised, at the last look and at the first. flat: no gradient at the first.
    """

    x: jax.Array
    before: jax.Array
    last: jax.Array
    first: jax.Array
    flat: jax.Array
    peak: Peak
    pace: Pace
    fall: Fall


@dataclasses.dataclass(frozen=True)
class APGD(Runs):
    """Auto-PGD, hashable and used like `PGD`; it has no step size to choose, and needs a key.

    norm: 'linf', 'l2' or 'l1'.
    loss: 'cross_entropy' or 'dlr'.
    targets: raise the targeted DLR loss instead, towards so many of the likeliest other classes
        (at most all of them), one run each. 0: none.
    steps: k, of each run.
    restarts: runs from so many random starts (towards each target).
    passes: the network draws random numbers, `logits_fn(images, key)`; loss and gradient are
        means over so many draws, and so are the logits that decide. None: it does not.
    """

    loss: AscentLoss = "cross_entropy"
    targets: int = 0
    steps: int = 100
    restarts: int = 1
    passes: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice(self.loss, AscentLoss, "APGD: loss")
        self._require_counts("steps", "restarts", *(("passes",) if self.passes is not None else ()))
        if self.targets and self.loss != "dlr":
            raise UserError("APGD: targets: expected loss='dlr', which alone has a targeted form")

    def runs(self, classes: int) -> int:
        """One for each target and restart."""
        return self.restarts * (min(self.targets, classes - 1) or 1)

    def run(
        self,
        logits_fn: LogitsFn,
        images: jax.Array,
        labels: jax.Array,
        eps: jax.Array,
        keys: jax.Array,
        clean: jax.Array,
        number: jax.Array,
    ) -> Iterate:
        """As `Runs.run`: from a random start up, through every stage's radius."""
        goals = self._goals(clean, labels, number)
        task = Task(partial(self._look, logits_fn, labels, goals), images, labels, eps)

        def climb(carry: tuple[jax.Array, Fall], stage: Stage) -> tuple[tuple, Signs]:
            end = self._climb(task, stage, *carry)
            worse = ~end.fall.best.success & (end.last < end.first)
            return (end.peak.images, end.fall), Signs(end.flat, worse)

        start = images + jax.vmap(THREATS[self.norm].random_change)(keys, images, eps)
        fall = Fall.of(images, labels, clean, self.loss)
        (_, fall), signs = lax.scan(climb, (start, fall), SCHEDULES[self.norm].stages(self.steps))
        signs = jax.tree.map(lambda sign: sign[-1].astype(int), signs)
        return fall.best._replace(signs=signs)

    def _goals(self, clean: jax.Array, labels: jax.Array, number: jax.Array) -> jax.Array | None:
        """The class that each image shall be taken for, int [N]."""
        if not self.targets:
            return None
        count = min(self.targets, clean.shape[-1] - 1)
        return rivals(clean, labels, count)[:, number // self.restarts]

    def _look(
        self,
        logits_fn: LogitsFn,
        labels: jax.Array,
        goals: jax.Array | None,
        x: jax.Array,
        step: jax.Array,
    ) -> Look:
        """At x [N, ...], at a step of the run: every image's own loss and gradient."""

        def total(x: jax.Array, logits_fn: LogitsFn) -> tuple[jax.Array, tuple]:
            logits = logits_fn(x)
            logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
            if goals is None:
                values = LOSSES[self.loss](logits, labels)
            else:
                values = dlr_targeted(logits, labels, goals)
            return values.sum(), (values.astype(x.dtype), logits)

        def once(logits_fn: LogitsFn) -> Look:
            gradient, (values, logits) = jax.grad(total, has_aux=True)(x, logits_fn)
            return Look(values, gradient, logits)

        if not isinstance(logits_fn, Randomised):
            return once(logits_fn)

        def draw(number: jax.Array) -> Look:
            return once(lambda x: logits_fn.draw(x, step + 1, number))

        draws = jnp.arange(logits_fn.passes)
        shapes = jax.eval_shape(draw, draws[0])
        nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        sums, _ = lax.scan(
            lambda sums, number: (jax.tree.map(jnp.add, sums, draw(number)), None), nothing, draws
        )
        return jax.tree.map(lambda leaf: leaf / logits_fn.passes, sums)

    def _climb(self, task: Task, stage: Stage, x: jax.Array, fall: Fall) -> Climb:
        """One stage, from x [N, ...] brought into its ball: look, remember, pace, step."""
        images, schedule = task.images, SCHEDULES[self.norm]
        radius = task.eps * stage.factor.astype(task.eps.dtype)
        x = jax.vmap(THREATS[self.norm].project)(x, images, radius)

        def unfinished(carry: tuple[jax.Array, Climb]) -> jax.Array:
            step, climb = carry
            return (step <= stage.steps) & ~climb.fall.done.all()

        def go(carry: tuple[jax.Array, Climb]) -> tuple[jax.Array, Climb]:
            step, climb = carry
            here = task.look(climb.x, step)
            climb = self._seen(climb, here, task.labels, step == 0, stage.factor == 1)
            window = stage.windows[step]
            pace, back = schedule.checkpoint(climb.pace, window, climb.peak, images, radius)
            pace = jax.tree.map(partial(jnp.where, window > 0), pace, climb.pace)
            peak = _choose(
                back & (window > 0), climb.peak, Peak(climb.x, here.value, here.gradient)
            )
            weight = jnp.where(step == 0, 1, schedule.momentum)
            new = self._step(peak, peak.images - climb.before, weight, pace, images, radius)
            return step + 1, climb._replace(x=new, before=peak.images, pace=pace)

        lowest = jnp.full(len(x), -jnp.inf, x.dtype)
        peak = Peak(x, lowest, jnp.zeros_like(x))
        pace = schedule.begin(x, images, radius)
        begun = Climb(x, x, -lowest, lowest, jnp.zeros(len(x), bool), peak, pace, fall)
        return lax.while_loop(unfinished, go, (jnp.zeros((), int), begun))[1]

    def _seen(
        self, climb: Climb, here: Look, labels: jax.Array, start: jax.Array, counts: jax.Array
    ) -> Climb:
        """After a look at `climb.x`; `counts` says whether it lies within eps."""
        value, gradient = here.value, here.gradient
        finite = jnp.isfinite(gradient).reshape(len(value), -1).all(-1)
        flat = (gradient == 0).reshape(len(value), -1).all(-1)
        rises = climb.pace.rises + (value > climb.last)
        # A gradient that is not finite says as little as such logits do.
        logits = jnp.where(finite[:, None], here.logits, jnp.nan)
        return climb._replace(
            last=value,
            first=jnp.where(start, value, climb.first),
            flat=jnp.where(start, flat, climb.flat),
            peak=_choose(value > climb.peak.value, Peak(climb.x, value, gradient), climb.peak),
            pace=climb.pace._replace(rises=rises),
            fall=climb.fall.met(
                climb.x, labels, logits, self.loss, counts, certain=self.passes is None
            ),
        )

    def _step(
        self,
        here: Peak,
        change: jax.Array,
        weight: jax.Array,
        pace: Pace,
        images: jax.Array,
        radius: jax.Array,
    ) -> jax.Array:
        """A step along the gradient, projected; then mixed with the last change and projected."""
        threat = THREATS[self.norm]

        def one(
            x: jax.Array,
            gradient: jax.Array,
            change: jax.Array,
            size: jax.Array,
            share: jax.Array,
            image: jax.Array,
            radius: jax.Array,
        ) -> jax.Array:
            # However short the gradient is, its direction counts.
            gradient /= jnp.maximum(jnp.abs(gradient).max(), jnp.finfo(x.dtype).tiny)
            if self.norm == "l1":  # without momentum
                return L1.project(x + L1.step(gradient, size, share), image, radius)
            new = threat.project(x + threat.step(gradient, size), image, radius)
            new = x + weight * (new - x) + (1 - weight) * change
            return threat.project(new, image, radius)

        return jax.vmap(one)(
            here.images, here.gradient, change, pace.size, pace.share, images, radius
        )


def _choose(take: jax.Array, new: Peak, old: Peak) -> Peak:
    """The new where `take` [N], the old elsewhere."""
    return jax.tree.map(lambda new, old: jax.vmap(jnp.where)(take, new, old), new, old)
