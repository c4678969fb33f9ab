"""FAB, the fast adaptive boundary attack, which approaches the boundary close to the original.

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

ALPHA_MAX = 0.1  # the largest weight of the projection of the original
OVERSHOOT = 1.05  # eta: extrapolation beyond the boundary
BACKWARD = 0.9  # beta: factor on the perturbation after a misclassification


class Boundary(NamedTuple):
    """The linearised decision boundary at x: a logit difference [N] and its gradient."""

    difference: jax.Array
    gradient: jax.Array


@register("fab-t", targets=9)
@register("fab", targets=0)
@dataclasses.dataclass(frozen=True)
class FAB(RestartedAttack):
    """FAB (Croce and Hein, 2020): a search for the closest misclassified image. Needs a key.

    FAB minimises the distance to the original; here it stops once within eps.

    Attributes:
      norm: 'linf', 'l2' or 'l1'.
      targets: for FAB-T, the number of most likely other classes (at most all), with separate
        restarts towards each. 0: towards the closest boundary, at the cost of a gradient per class.
      steps: the number of steps of each restart.
      restarts: the number of restarts (per target class). The first starts at the image, the others
        at random points around it.

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
        self._require_counts("targets", least=0)

    @classmethod
    def supports(cls, threat: Threat) -> bool:
        """Whether the threat model has a dual norm and a projection onto hyperplanes."""
        return isinstance(threat, NormBall)

    @property
    def display_name(self) -> str:
        """The name that AutoAttack uses."""
        return "fab-t" if self.targets else "fab"

    @property
    def ball(self) -> NormBall:
        """The threat model as a `NormBall`, which `supports` guarantees."""
        return cast(NormBall, self.threat)

    def num_restarts(self, num_classes: int) -> int:
        """Return `restarts` times the number of target classes."""
        return self.restarts * (min(self.targets, num_classes - 1) or 1)

    def restart(
        self, problem: Problem, clean_logits: jax.Array, keys: jax.Array, index: jax.Array
    ) -> Iterate:
        """Project repeatedly onto the linearised boundary; see `RestartedAttack.restart`."""
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
            # A non-finite gradient invalidates the logits too.
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
        """Return the images for the first restart, random points within eps / 2 for the others."""
        images = problem.images
        if self.restarts == 1:
            return images
        around = jax.vmap(self.threat.random_start)(keys, images, problem.eps / 2)
        return jnp.where(restart == 0, images, around)

    def _approach(self, x: jax.Array, image: jax.Array, boundary: Boundary) -> jax.Array:
        """Step beyond the boundary with a bias towards the original, for one image."""
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
        """Linearise the boundary to each image's target class, or to the nearest class."""
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
