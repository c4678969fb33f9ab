"""Attacks that consist of independent restarts, from random starts or towards target classes."""

import abc
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rtl_jax.attacks.base import Attack, Iterate, Problem, best_of, keep_better, require_key
from rtl_jax.attacks.losses import Loss, beyond_rounding, judge


class RestartedAttack(Attack):
    """A random attack of independent restarts, all of which an image must withstand.

    `autoattack` drops misclassified images between groups of restarts. Within a restart, the search
    for an image ends when it is misclassified by more than rounding, so that its result does not
    depend on the rest of the batch; the restart ends when all searches have.
    """

    loss: Loss = "margin"

    @abc.abstractmethod
    def num_restarts(self, num_classes: int) -> int:
        """Return the number of restarts, counting each target class separately."""

    @abc.abstractmethod
    def restart(
        self, problem: Problem, clean_logits: jax.Array, keys: jax.Array, index: jax.Array
    ) -> Iterate:
        """Run one restart.

        Args:
          problem: the images and the model.
          clean_logits: [N, C], logits of the originals.
          keys: one per image, [N], different in every restart.
          index: the index of the restart, from 0.
        """

    def prepare(self, problem: Problem) -> jax.Array:
        """Compute the logits of the originals, [N, C]."""
        logits = problem.logits_fn(problem.images)
        judge(logits, problem.labels, self.loss, self.targeted)  # raises if something is wrong
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))

    def search(self, problem: Problem) -> Iterate:
        """Run the restarts `problem.restart_indices`; see `Attack.search`."""
        all_keys, indices = require_key(problem), problem.restart_indices
        clean = self.prepare(problem) if problem.shared is None else problem.shared
        indices = jnp.arange(self.num_restarts(clean.shape[-1])) if indices is None else indices

        def run(index: jax.Array) -> Iterate:
            keys = jax.vmap(jax.random.fold_in, (0, None))(all_keys, index)
            return self.restart(problem, clean, keys, index)

        return best_of(run, indices, problem)


class Found(NamedTuple):
    """The best iterate of a restart for each image, and whether its search has ended."""

    best: Iterate
    done: jax.Array

    @classmethod
    def initial(cls, problem: Problem, clean_logits: jax.Array, loss: Loss) -> "Found":
        """Return the state before a restart: the originals, done if already misclassified."""
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
        """Update the best iterates with new ones.

        inside: bool [N], whether the new iterates lie within their balls; others do not count.
        certain: whether one success ends the search. False if the logits are means of random draws.
        """
        losses, success, finite = judge(logits, labels, loss, False)
        counts = inside & ~self.done
        objective = jnp.where(counts, losses, -jnp.inf).astype(images.dtype)
        here = Iterate(images, objective, success & counts, finite | self.done)
        done = self.done
        if certain:
            done |= success & counts & beyond_rounding(logits, labels)
        return Found(keep_better("best", self.best, here), done)
