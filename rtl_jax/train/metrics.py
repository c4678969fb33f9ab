"""Metrics, as sums over examples, and the losses that a step minimises."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax


class Metrics(NamedTuple):
    """Sums over examples, to be divided once: float loss, int correct and int number.

    With several seeds, every array has a leading seed axis.
    """

    loss: jax.Array
    correct: jax.Array
    number: jax.Array

    @classmethod
    def zero(cls, seeds: int | None = None) -> "Metrics":
        """Return zero sums, for one seed or with a leading axis of several."""
        shape = () if seeds is None else (seeds,)
        counts = (jnp.zeros(shape, jnp.int32) for _ in range(2))
        return cls(jnp.zeros(shape), *counts)

    def add(self, other: "Metrics") -> "Metrics":
        """Return the sums over both sets of examples."""
        return jax.tree.map(jnp.add, self, other)

    def means(self) -> dict[str, float]:
        """Read the mean loss (nats) and accuracy (percent) from the device."""
        number = int(self.number)
        return {"loss": float(self.loss) / number, "accuracy": 100 * int(self.correct) / number}

    def each(self) -> list[dict[str, float]]:
        """Return `means` for every seed."""
        return [Metrics(*sums).means() for sums in zip(*map(np.asarray, self), strict=True)]


def measure(logits: jax.Array, labels: jax.Array, weights: jax.Array | None = None) -> Metrics:
    """Sum cross-entropy (nats) and top-1 hits over logits [N, C] and int labels [N].

    `weights` [N], of 0 and 1, mask out padding.
    """
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    hits = (logits.argmax(-1) == labels).astype(jnp.int32)
    if weights is None:
        return Metrics(losses.sum(), hits.sum(), jnp.asarray(len(labels), jnp.int32))
    inside = weights.astype(bool)
    return Metrics(
        jnp.where(inside, losses, 0).sum(), jnp.where(inside, hits, 0).sum(), inside.sum()
    )


def weighted_mean(
    losses: jax.Array, labels: jax.Array, class_weights: jax.Array | None
) -> jax.Array:
    """Return the mean of losses [N], weighted by their labels' class weights [C] as in torch."""
    if class_weights is None:
        return losses.mean()
    weights = class_weights[labels]
    return (weights * losses).sum() / weights.sum()


def smoothed_cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float) -> jax.Array:
    """Return the cross-entropy, nats [N], with labels smoothed uniformly over all classes."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    if smoothing == 0:
        return losses
    even = -jax.nn.log_softmax(logits).mean(-1)
    return (1 - smoothing) * losses + smoothing * even
