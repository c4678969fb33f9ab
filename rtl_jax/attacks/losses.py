"""Attack losses and success criteria, for logits [N, C] and labels [N]."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rtl_jax.errors import UserError

Loss = Literal["cross_entropy", "margin", "dlr", "logit"]


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """-log p_y, in nats, [N]."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def margin(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """max_{i != y} z_i - z_y, [N]; positive if another class wins."""
    own = jnp.arange(logits.shape[-1]) == labels[:, None]
    others = jnp.where(own, -jnp.inf, logits).max(-1)
    return others - jnp.where(own, logits, 0).sum(-1)


def dlr(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Difference of logits ratio: the margin divided by z_(1) - z_(3), in descending order, [N].

    Croce and Hein (2020), equation 6. Unlike cross-entropy, it does not vanish for confident
    predictions and is invariant to scaling the logits. Needs at least three classes.
    """
    if logits.shape[-1] < 3:
        raise UserError(
            f"the DLR loss needs three classes or more, received {logits.shape[-1]}: "
            "use loss='margin'"
        )
    top = jax.lax.top_k(logits, 3)[0]
    return margin(logits, labels) / (top[:, 0] - top[:, 2] + 1e-12)


def dlr_targeted(logits: jax.Array, labels: jax.Array, goals: jax.Array) -> jax.Array:
    """(z_goal - z_y) / (z_(1) - (z_(3) + z_(4)) / 2), [N], for other classes `goals` int [N].

    Croce and Hein (2020), equation 7. Needs at least four classes.
    """
    if logits.shape[-1] < 4:
        raise UserError(
            f"the targeted DLR loss needs four classes or more, received {logits.shape[-1]}: "
            "choose other attacks than apgd-t, such as apgd-ce,fab-t,square"
        )
    top = jax.lax.top_k(logits, 4)[0]
    lead = pick(logits, goals) - pick(logits, labels)
    return lead / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + 1e-12)


def pick(logits: jax.Array, classes: jax.Array) -> jax.Array:
    """Return the logit of one class per image, [N]; `classes` is int [N]."""
    return jnp.take_along_axis(logits, classes[:, None], axis=-1)[:, 0]


def top_other_classes(logits: jax.Array, labels: jax.Array, number: int) -> jax.Array:
    """Return the `number` most likely classes except the label, in order, int [N, number]."""
    own = jnp.arange(logits.shape[-1]) == labels[:, None]
    return jax.lax.top_k(jnp.where(own, -jnp.inf, logits), number)[1]


def beyond_rounding(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Return whether another class wins by more than the rounding between programs, bool [N]."""
    return margin(logits, labels) > 1e-5 * jnp.abs(logits).max(-1)


def logit(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """-z_y, [N]: a targeted attack maximises the target's logit alone.

    In this way it can maximise any output of any function, such as one feature of a network.
    """
    return -pick(logits, labels)


LOSSES: dict[Loss, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "cross_entropy": cross_entropy,
    "margin": margin,
    "dlr": dlr,
    "logit": logit,
}


class Verdict(NamedTuple):
    """Losses, success of the attack, and whether all logits are finite, [N] each."""

    losses: jax.Array
    success: jax.Array
    finite: jax.Array


def judge(logits: jax.Array, labels: jax.Array, loss: Loss, targeted: bool) -> Verdict:
    """Compute losses and success from logits [N, C] of any float type, in at least float32.

    An attack succeeds if the prediction differs from the label or, if targeted, equals it.
    Non-finite logits are never a success.
    """
    if logits.ndim != 2 or len(logits) != len(labels):
        raise UserError(
            f"logits_fn must map images to logits [{len(labels)}, classes]; "
            f"it returned {logits.shape}"
        )
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    finite = jnp.isfinite(logits).all(-1)
    hit = logits.argmax(-1) == labels
    return Verdict(LOSSES[loss](logits, labels), finite & (hit == targeted), finite)
