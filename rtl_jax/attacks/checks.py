"""AutoAttack's checks for reasons why a robust accuracy may be too high.

A defence that masks its gradients or is randomised may withstand attacks that assume neither. A
failed check does not prove this; it reports what was observed.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from rtl_jax.attacks.base import LogitsFn

# The largest relative difference between the logits of two calls (AutoAttack's).
SAME = 1e-4
# The largest fraction of unsuccessful restarts that may end with a lower loss than at the start.
ENDED_WORSE = 0.05
# The largest fraction of images that only Square may break (AutoAttack's); one is always allowed.
SQUARE_ALONE = 0.002


class EvaluationWarning(NamedTuple):
    """A failed check: its name, and a message with the observation and what it means."""

    name: str
    message: str


def check_network(logits_fn: LogitsFn, images: np.ndarray) -> list[EvaluationWarning]:
    """Check on a few images [N, ...] that a network is deterministic and returns logits.

    The network is called twice outside any compiled program: random numbers that compilation would
    turn into constants are then drawn anew.
    """
    first, second = (np.asarray(logits_fn(jnp.asarray(images)), np.float32) for _ in range(2))
    warnings = []
    difference = np.linalg.norm(first - second, axis=-1)
    change = float((difference / (np.linalg.norm(first, axis=-1) + 1e-10)).max())
    if change > SAME:
        warnings.append(
            EvaluationWarning(
                "randomised",
                f"two calls with the same images differ by {change:.1e} of the logits' norm: "
                "write the network as logits_fn(images, key) and use the version 'rand'",
            )
        )
    sums = np.abs(first.sum(-1) - 1)
    if first.min() > -1e-5 and first.max() < 1 + 1e-5 and sums.max() < 1e-5:
        warnings.append(
            EvaluationWarning(
                "not_logits",
                "the outputs are probabilities, whose losses have vanishing gradients: return "
                "the values before the softmax",
            )
        )
    return warnings


def check_gradients(attack: str, zero_gradient: np.ndarray) -> list[EvaluationWarning]:
    """Check that no gradient was zero.

    zero_gradient: int [N], the number of each image's restarts whose first gradient was zero.
    """
    images = int((zero_gradient > 0).sum())
    if not images:
        return []
    return [
        EvaluationWarning(
            "zero_gradients",
            f"{attack}: {images} of {len(zero_gradient)} images have a gradient that is zero in "
            "every pixel: gradient-based attacks cannot find their adversarial images",
        )
    ]


def check_ascent(
    attack: str, ended_worse: np.ndarray, num_restarts: int
) -> list[EvaluationWarning]:
    """Check that restarts raised the loss.

    ended_worse: int [N], for each unbroken image, the number of restarts that lowered the loss.
    """
    share = float(ended_worse.sum()) / max(len(ended_worse) * num_restarts, 1)
    if share <= ENDED_WORSE:
        return []
    return [
        EvaluationWarning(
            "ended_worse",
            f"{attack}: {100 * share:.0f} % of its restarts ended with a lower loss than they "
            "began with: the gradient does not point upwards",
        )
    ]


def check_square(broken_by: Sequence[str], attacks: Sequence[str]) -> list[EvaluationWarning]:
    """Check that Square did not break images that gradient-based attacks should have broken.

    broken_by: [N], the attack that broke each image. attacks: all attacks, in order.
    """
    before = attacks[: attacks.index("square")] if "square" in attacks else []
    alone = sum(name == "square" for name in broken_by)
    if not before or alone < 2 or alone / len(broken_by) <= SQUARE_ALONE:
        return []
    return [
        EvaluationWarning(
            "square_stronger",
            f"square, which uses only logits, broke {alone} images that {', '.join(before)} "
            "did not: their gradients are misleading, and robust accuracy may be even lower",
        )
    ]
