"""FAB, the fast adaptive boundary attack: to the boundary and along it, ever nearer.

Croce and Hein (2020, "Minimally distorted adversarial examples with a fast adaptive boundary
attack"), algorithm 1.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rtl_jax.attacks.hyperplane import nearest
from rtl_jax.attacks.losses import rivals
from rtl_jax.attacks.pgd import Iterate, LogitsFn
from rtl_jax.attacks.runs import Fall, Runs
from rtl_jax.attacks.threat import THREATS

TOWARDS_ORIGINAL = 0.1  # the most that a step mixes in of the original's own step
OVERSHOOT = 1.05  # beyond the boundary
BACKWARDS = 0.9  # what is left of the change after an image has fallen


class Boundary(NamedTuple):
    """The decision boundary seen from x, linearised: the lead of a class, [N], and its gradient."""

    lead: jax.Array
    gradient: jax.Array


@dataclasses.dataclass(frozen=True)
class FAB(Runs):
    """FAB, hashable and used like `PGD`; it needs a key for what begins at random.

    It looks for the nearest image that is misclassified; here it ends where that lies within eps.

    norm: 'linf', 'l2' or 'l1'.
    targets: FAB-T: towards so many of the likeliest other classes (at most all of them), one
        after the other. 0: towards the nearest of all boundaries, at a gradient for each class.
    steps: k, of each run.
    restarts: runs (towards each target), the first from the image, others from around it.
    """

    targets: int = 9
    steps: int = 100
    restarts: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_counts("steps", "restarts")

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
        """As `Runs.run`: project onto the linearised boundary, from here and from the original."""
        threat = THREATS[self.norm]
        count = min(self.targets, clean.shape[-1] - 1)
        goals = rivals(clean, labels, count)[:, number // self.restarts] if count else None

        def unfinished(carry: tuple[jax.Array, jax.Array, Fall]) -> jax.Array:
            step, _, fall = carry
            return (step < self.steps) & ~fall.done.all()

        def go(carry: tuple[jax.Array, jax.Array, Fall]) -> tuple[jax.Array, jax.Array, Fall]:
            step, x, fall = carry
            boundary = self._boundary(logits_fn, x, labels, goals)
            x = jax.vmap(self._approach)(x, images, *boundary)
            logits = logits_fn(x)
            inside = jax.vmap(threat.norm)(x - images) <= eps
            gradient = boundary.gradient.reshape(len(x), -1)
            # A gradient that is not finite says as little as such logits do.
            finite = jnp.isfinite(gradient).all(-1)
            met = jnp.where(finite[:, None], logits, jnp.nan)
            fall = fall.met(x, labels, met, self.loss, inside)
            fallen = logits.argmax(-1) != labels
            back = jax.vmap(jnp.where)(fallen, images + BACKWARDS * (x - images), x)
            return step + 1, back, fall

        start = self._start(images, eps, keys, number % self.restarts)
        begun = jnp.zeros((), int), start, Fall.of(images, labels, clean, self.loss)
        return lax.while_loop(unfinished, go, begun)[2].best

    def _start(
        self, images: jax.Array, eps: jax.Array, keys: jax.Array, restart: jax.Array
    ) -> jax.Array:
        """The images; for a restart, points at random half as far as eps."""
        if self.restarts == 1:
            return images
        threat = THREATS[self.norm]

        def one(key: jax.Array, image: jax.Array, eps: jax.Array) -> jax.Array:
            around = image + threat.random_change(key, image, eps / 2)
            return threat.project(around, image, eps / 2)

        return jnp.where(restart == 0, images, jax.vmap(one)(keys, images, eps))

    def _approach(
        self, x: jax.Array, image: jax.Array, lead: jax.Array, gradient: jax.Array
    ) -> jax.Array:
        """A step, for one image: beyond the boundary, and somewhat nearer to the original."""
        norm = THREATS[self.norm].norm
        from_here = nearest(self.norm, x, gradient, lead)
        lead_there = lead + (gradient * (image - x)).sum()
        from_there = nearest(self.norm, image, gradient, lead_there)
        near, far = (jnp.maximum(norm(change), 1e-8) for change in (from_here, from_there))
        share = jnp.minimum(near / (near + far), TOWARDS_ORIGINAL)
        here, there = x + OVERSHOOT * from_here, image + OVERSHOOT * from_there
        return jnp.clip((1 - share) * here + share * there, 0, 1)

    def _boundary(
        self, logits_fn: LogitsFn, x: jax.Array, labels: jax.Array, goals: jax.Array | None
    ) -> Boundary:
        """That of each image with its goal, or the nearest of all."""
        logits, pull = jax.vjp(logits_fn, x)
        own = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)

        def towards(goals: jax.Array) -> Boundary:
            weights = jax.nn.one_hot(goals, logits.shape[-1], dtype=logits.dtype) - own
            return Boundary((weights * logits).sum(-1).astype(x.dtype), pull(weights)[0])

        if goals is not None:
            return towards(goals)
        dual = {"linf": 1, "l2": 2, "l1": jnp.inf}[self.norm]

        def nearer(carry: tuple, goal: jax.Array) -> tuple[tuple, None]:
            distance, boundary = carry
            new = towards(jnp.full_like(labels, goal))
            length = jnp.linalg.norm(new.gradient.reshape(len(x), -1), dual, axis=-1)
            apart = jnp.where(goal == labels, jnp.inf, jnp.abs(new.lead) / (length + 1e-12))
            take = apart < distance
            chosen = jax.tree.map(lambda a, b: jax.vmap(jnp.where)(take, a, b), new, boundary)
            return (jnp.minimum(distance, apart), chosen), None

        nothing = jnp.full(len(x), jnp.inf, x.dtype), Boundary(jnp.zeros(len(x), x.dtype), x * 0)
        return lax.scan(nearer, nothing, jnp.arange(logits.shape[-1]))[0][1]
