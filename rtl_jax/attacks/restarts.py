"""Attacks that consist of independent restarts, from random starts or towards target classes."""

import abc
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rtl_jax.attacks.base import Attack, Iterate, Problem, best_of, keep_better, require_key
from rtl_jax.attacks.losses import Loss, beyond_rounding, judge


class RestartedAttack(Attack):
    """A random attack of independent restarts; an image withstands if it withstands them all.

    `autoattack` runs restarts one by one, so that misclassified images can leave in between. A
    restart ends for an image that is misclassified by more than rounding, so that the result does
    not depend on the rest of its batch, and for a batch when it has ended for all images.
    """

    loss: Loss = "margin"

    @abc.abstractmethod
    def num_restarts(self, num_classes: int) -> int:
        """The number of restarts, those towards each target class counted separately."""

    @abc.abstractmethod
    def restart(
        self, problem: Problem, clean_logits: jax.Array, keys: jax.Array, index: jax.Array
    ) -> Iterate:
        """Run one restart.

        Args:
          clean_logits: [N, C], at the originals.
          keys: one per image, [N], of this restart alone.
          index: which restart, counted from 0.
        """

    def prepare(self, problem: Problem) -> jax.Array:
        """Compute the logits at the originals, [N, C]."""
        logits = problem.logits_fn(problem.images)
        judge(logits, problem.labels, self.loss, self.targeted)  # raises if something is wrong
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))

    def search(self, problem: Problem) -> Iterate:
        """Run the restarts that the problem asks for; see `Attack.search`."""
        all_keys, indices = require_key(problem), problem.restart_indices
        clean = self.prepare(problem) if problem.shared is None else problem.shared
        indices = jnp.arange(self.num_restarts(clean.shape[-1])) if indices is None else indices

        def run(index: jax.Array) -> Iterate:
            keys = jax.vmap(jax.random.fold_in, (0, None))(all_keys, index)
            return self.restart(problem, clean, keys, index)

        return best_of(run, indices, problem)


class Found(NamedTuple):
    """What a restart has found: for each image the best, and whether its search has ended."""

    best: Iterate
    done: jax.Array

    @classmethod
    def initial(cls, problem: Problem, clean_logits: jax.Array, loss: Loss) -> "Found":
        """Before a restart: the originals, done where they are misclassified already."""
        losses, success, finite = judge(clean_logits, problem.labels, loss, False)
        losses = losses.astype(problem.images.dtype)
        return cls(Iterate(problem.images, losses, success, finite), success)

    def update(
        self,
        images: jax.Array,
        labels: jax.Array,
        logits: jax.Array,
        loss: Loss,
        *,
        inside: jax.Array | bool = True,
        certain: bool = True,
    ) -> "Found":
        """Take other images into account.

        inside: bool [N], whether they lie within their balls; others do not count.
        certain: whether one success ends the search; it does not for the means of random logits.
        """
        losses, success, finite = judge(logits, labels, loss, False)
        counts = inside & ~self.done
        objective = jnp.where(counts, losses, -jnp.inf).astype(images.dtype)
        here = Iterate(images, objective, success & counts, finite | self.done)
        done = self.done
        if certain:
            done |= success & counts & beyond_rounding(logits, labels)
        return Found(keep_better("best", self.best, here), done)
