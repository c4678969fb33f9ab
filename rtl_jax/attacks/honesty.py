"""What makes an evaluation doubtful: AutoAttack's checks of the network, and of its attacks.

A defence that hides its gradients, or draws random numbers, is not broken by attacks that rely on
neither; the number is then too high. None of these checks proves that: each gives it a name.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from rtl_jax.attacks.pgd import LogitsFn

# Relative difference of the logits of two calls (AutoAttack's).
SAME = 1e-4
# Of runs that break nothing, the share that may end lower than they began.
ENDED_WORSE = 0.05
# Of all images, the share that Square alone may break (AutoAttack's); and never a single one.
SQUARE_ALONE = 0.002


class Doubt(NamedTuple):
    """A check that failed: its name, and what it saw and means."""

    name: str
    message: str


def look(logits_fn: LogitsFn, images: np.ndarray) -> list[Doubt]:
    """The network itself, on a few images [N, ...]: does it change, are these logits?

    It is called twice outside of any compiled program, where random numbers that a program would
    hold fast are drawn anew.
    """
    first, second = (np.asarray(logits_fn(jnp.asarray(images)), np.float32) for _ in range(2))
    doubts = []
    apart = np.linalg.norm(first - second, axis=-1)
    change = float((apart / (np.linalg.norm(first, axis=-1) + 1e-10)).max())
    if change > SAME:
        doubts.append(
            Doubt(
                "randomised",
                f"two calls with the same images differ by {change:.1e} of the logits' length: "
                "write the network as logits_fn(images, key) and take the version 'rand'",
            )
        )
    sums = np.abs(first.sum(-1) - 1)
    if first.min() > -1e-5 and first.max() < 1 + 1e-5 and sums.max() < 1e-5:
        doubts.append(
            Doubt(
                "not_logits",
                "the outputs are probabilities: their losses have vanishing gradients. Return "
                "what comes before the softmax",
            )
        )
    return doubts


def flat(attack: str, runs: np.ndarray) -> list[Doubt]:
    """`runs` [N]: of each image's, those that began without a gradient."""
    images = int((runs > 0).sum())
    if not images:
        return []
    return [
        Doubt(
            "zero_gradients",
            f"{attack}: {images} of {len(runs)} images have a gradient that is zero in every "
            "pixel: attacks that follow it do not find what is there",
        )
    ]


def worse(attack: str, runs: np.ndarray, each: int) -> list[Doubt]:
    """`runs` [N]: of `each` on images that withstood, those that ended lower than they began."""
    share = float(runs.sum()) / max(len(runs) * each, 1)
    if share <= ENDED_WORSE:
        return []
    return [
        Doubt(
            "ended_worse",
            f"{attack}: {100 * share:.0f} % of its runs ended with a lower loss than they began "
            "with: the gradient does not point upwards",
        )
    ]


def outdone(broken_by: Sequence[str], attacks: Sequence[str]) -> list[Doubt]:
    """`broken_by` [N] names the attack that broke each image, of `attacks` in their order."""
    before = attacks[: attacks.index("square")] if "square" in attacks else []
    alone = sum(name == "square" for name in broken_by)
    if not before or alone < 2 or alone / len(broken_by) <= SQUARE_ALONE:
        return []
    return [
        Doubt(
            "square_stronger",
            f"square, which sees logits alone, broke {alone} images that {', '.join(before)} "
            "did not: gradients mislead them, and robust accuracy may be lower still",
        )
    ]
