"""Settings of spatial frequencies: a band, and a budget that weighs the frequencies in it.

Importing this module does not import JAX.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

from rtl_jax.errors import require, require_choice

# Weights by radial frequency: constant, falling like the amplitudes of natural images, or rising.
Budget = Literal["flat", "1/f", "f"]


def require_frequencies(settings: Any, prefix: str) -> None:
    """Raise UserError unless a band and its budget are valid; messages call a field PREFIX + name.

    `settings` has low_frequency, high_frequency, budget and budget_weights.
    """
    low, high, weights = settings.low_frequency, settings.high_frequency, settings.budget_weights
    require(0 <= low <= 1, f"{prefix}low_frequency", "a number from 0 to 1", low)
    expected = f"a number from low_frequency, {low:g}, to 1"
    require(low <= high <= 1, f"{prefix}high_frequency", expected, high)
    require_choice(settings.budget, Budget, f"{prefix}budget")
    good = not weights or (
        len(weights) > 1 and all(0 <= one < math.inf for one in weights) and max(weights) > 0
    )
    expected = "none, or two or more numbers of 0 or more, some above 0"
    require(good, f"{prefix}budget_weights", expected, weights)


def frequencies_name(
    low: object, high: object, budget: str = "flat", weights: Sequence[float] = ()
) -> str:
    """Return the name of a band and its budget in figures and tables."""
    ends = (f"{end:g}" if isinstance(end, float) else str(end) for end in (low, high))
    words = f"frequencies {' to '.join(ends)}"
    if weights:
        return f"{words}, budget {' '.join(f'{one:g}' for one in weights)}"
    return words if budget == "flat" else f"{words}, budget {budget}"
