"""The head of a network as influence functions require it: at an optimum of the cross-entropy."""

from collections.abc import Mapping
from typing import Any

from rtl_jax.errors import UserError
from rtl_jax.influence_functions.head import Head
from rtl_jax.models.network import Network

DAMPING = 1e-3


def head_of(network: Network) -> Head:
    """Return the last layer of a network.

    Raises UserError if it is a ridge head without further training: influence functions expand the
    cross-entropy, of which it is no optimum. (The effect of leaving an image out of a ridge head is
    known exactly: `train.heads.ridge.leave_one_out`.)
    """
    if _solved(network).get("method") == "ridge":
        raise UserError(
            "influence: expected a head that was trained on the cross-entropy, but this one is a "
            "ridge regression: fine-tune with transfer.head_fit=logistic, which is at an optimum "
            "of the cross-entropy, or with sgd"
        )
    return Head(*network.head)


def damping_of(network: Network) -> float:
    """Return the damping that turns the mean loss's Hessian into that of the head's objective.

    This is the penalty for a fitted logistic head, and the usual 0.001 for any other.
    """
    return _solved(network).get("l2", DAMPING)


def bias_is_damped(network: Network) -> bool:
    """Whether the damping applies to the bias: the penalty of a fitted head leaves it out."""
    return not _solved(network)


def _solved(network: Network) -> Mapping[str, Any]:
    """Return how a head was fitted, or nothing if it was trained afterwards."""
    fitted = network.provenance.get("head_fit") or {}
    return fitted if fitted.get("epochs") == 0 else {}
