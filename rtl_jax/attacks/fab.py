"""FAB, the fast adaptive boundary attack: it approaches the decision boundary near the original.

Croce and Hein (2020, "Minimally distorted adversarial examples with a fast adaptive boundary
attack"), algorithm 1.
"""

import dataclasses
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from jax import lax

from rtl_jax.attacks.base import Iterate, Problem
from rtl_jax.attacks.losses import top_other_classes
from rtl_jax.attacks.registry import register
from rtl_jax.attacks.restarts import Found, RestartedAttack
from rtl_jax.attacks.threats import NormBall, Threat

ALPHA_MAX = 0.1  # the largest weight of the original's own projection
OVERSHOOT = 1.05  # eta: beyond the boundary
BACKWARD = 0.9  # beta: what is left of the change after a misclassification


class Boundary(NamedTuple):
    """The linearised decision boundary at x: a logit difference [N] and its gradient."""

    difference: jax.Array
    gradient: jax.Array


@register("fab-t", targets=9)
@register("fab", targets=0)
@dataclasses.dataclass(frozen=True)
class FAB(RestartedAttack):
    """FAB (Croce and Hein, 2020): the closest misclassified image; needs a key.

    It minimises the distance to the original, and here stops within eps.

    Attributes:
      norm: 'linf', 'l2' or 'l1'.
      targets: FAB-T: separate restarts towards this number of the most likely other classes (at
        most all of them). 0: towards the closest of all boundaries, at one gradient per class.
      steps: the number of steps of each restart.
      restarts: their number (per target class); the first starts at the image, the others at random
        around it.

    Example:
        >>> from rtl_jax.attacks import FAB
        >>> FAB("l2", targets=9).restarts
        1
    """

    norm: Threat | str
    targets: int = 9
    steps: int = 100
    restarts: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_counts("steps", "restarts")

    @classmethod
    def supports(cls, threat: Threat) -> bool:
        """Those with a dual norm and a projection onto hyperplanes."""
        return isinstance(threat, NormBall)

    @property
    def display_name(self) -> str:
        """As AutoAttack calls it."""
        return "fab-t" if self.targets else "fab"

    @property
    def ball(self) -> NormBall:
        """The threat model, which `supports` admits only with a dual norm."""
        return cast(NormBall, self.threat)

    def num_restarts(self, num_classes: int) -> int:
        """`restarts` towards each target class."""
        return self.restarts * (min(self.targets, num_classes - 1) or 1)

    def restart(
        self, problem: Problem, clean_logits: jax.Array, keys: jax.Array, index: jax.Array
    ) -> Iterate:
        """Project onto the linearised boundary again and again; see `RestartedAttack.restart`."""
        images, labels = problem.images, problem.labels
        count = min(self.targets, clean_logits.shape[-1] - 1)
        target_classes = None
        if count:
            ranked = top_other_classes(clean_logits, labels, count)
            target_classes = ranked[:, index // self.restarts]

        def unfinished(carry: tuple[jax.Array, jax.Array, Found]) -> jax.Array:
            step, _, found = carry
            return (step < self.steps) & ~found.done.all()

        def go(carry: tuple[jax.Array, jax.Array, Found]) -> tuple[jax.Array, jax.Array, Found]:
            step, x, found = carry
            boundary = self._boundary(problem, x, target_classes)
            x = jax.vmap(self._approach)(x, images, boundary)
            logits = problem.logits_fn(x)
            inside = jax.vmap(self.threat.norm)(x - images) <= problem.eps
            gradient = boundary.gradient.reshape(len(x), -1)
            # A gradient that is not finite discredits the logits too.
            finite = jnp.isfinite(gradient).all(-1)
            trusted = jnp.where(finite[:, None], logits, jnp.nan)
            found = found.update(x, labels, trusted, self.loss, inside=inside)
            misclassified = logits.argmax(-1) != labels
            back = jax.vmap(jnp.where)(misclassified, images + BACKWARD * (x - images), x)
            return step + 1, back, found

        start = self._start(problem, keys, index % self.restarts)
        found = Found.initial(problem, clean_logits, self.loss)
        return lax.while_loop(unfinished, go, (jnp.zeros((), int), start, found))[2].best

    def _start(self, problem: Problem, keys: jax.Array, restart: jax.Array) -> jax.Array:
        """The images in the first restart, random points within eps / 2 in the others."""
        images = problem.images
        if self.restarts == 1:
            return images
        around = jax.vmap(self.threat.random_start)(keys, images, problem.eps / 2)
        return jnp.where(restart == 0, images, around)

    def _approach(self, x: jax.Array, image: jax.Array, boundary: Boundary) -> jax.Array:
        """One step, for one image: beyond the boundary, with a bias towards the original."""
        difference, gradient = boundary
        from_x = self.ball.to_hyperplane(x, gradient, difference)
        difference_there = difference + (gradient * (image - x)).sum()
        from_image = self.ball.to_hyperplane(image, gradient, difference_there)
        near, far = (jnp.maximum(self.ball.norm(change), 1e-8) for change in (from_x, from_image))
        alpha = jnp.minimum(near / (near + far), ALPHA_MAX)
        here, there = x + OVERSHOOT * from_x, image + OVERSHOOT * from_image
        return jnp.clip((1 - alpha) * here + alpha * there, 0, 1)

    def _boundary(
        self, problem: Problem, x: jax.Array, target_classes: jax.Array | None
    ) -> Boundary:
        """The boundary with each image's target class, or the nearest of all."""
        labels = problem.labels
        logits, pull_back = jax.vjp(problem.logits_fn, x)
        own = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)

        def towards(classes: jax.Array) -> Boundary:
            weights = jax.nn.one_hot(classes, logits.shape[-1], dtype=logits.dtype) - own
            return Boundary((weights * logits).sum(-1).astype(x.dtype), pull_back(weights)[0])

        if target_classes is not None:
            return towards(target_classes)

        def nearer(carry: tuple, other: jax.Array) -> tuple[tuple, None]:
            distance, boundary = carry
            new = towards(jnp.full_like(labels, other))
            length = jax.vmap(self.ball.dual_norm)(new.gradient)
            new_distance = jnp.abs(new.difference) / (length + 1e-12)
            new_distance = jnp.where(other == labels, jnp.inf, new_distance)
            take = new_distance < distance
            chosen = jax.tree.map(lambda a, b: jax.vmap(jnp.where)(take, a, b), new, boundary)
            return (jnp.minimum(distance, new_distance), chosen), None

        nothing = jnp.full(len(x), jnp.inf, x.dtype), Boundary(jnp.zeros(len(x), x.dtype), x * 0)
        return lax.scan(nearer, nothing, jnp.arange(logits.shape[-1]))[0][1]
