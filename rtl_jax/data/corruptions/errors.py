"""The mean corruption error. Importing this module does not import JAX."""

from collections.abc import Mapping, Sequence

import numpy as np

Errors = Mapping[str, Sequence[float]]


def corruption_errors(errors: Errors, reference: Errors) -> dict[str, float]:
    """Compute CE of each corruption, in percent (Hendrycks and Dietterich, section 4).

    CE_c = sum_s E_{s,c} / sum_s E'_{s,c}, with the errors E and E' of a network and of a reference
    network by severity s, which must be the same for both. Their mean is mCE. NaN if the reference
    makes no error.
    """
    if errors.keys() != reference.keys():
        raise ValueError("both sides need the same corruptions")
    totals = {name: float(np.sum(reference[name])) for name in errors}
    return {
        name: 100 * float(np.sum(each)) / totals[name] if totals[name] > 0 else float("nan")
        for name, each in errors.items()
    }


def mean_corruption_error(errors: Errors, reference: Errors) -> float:
    """Compute mCE in percent, the mean of `corruption_errors`; the reference network has 100."""
    return float(np.mean(list(corruption_errors(errors, reference).values())))
