"""The head of a network, as influence functions want it: at an optimum of the cross-entropy."""

from collections.abc import Mapping
from typing import Any

from rtl_jax.errors import UserError
from rtl_jax.influence_functions.head import Head
from rtl_jax.models.network import Network

DAMPING = 1e-3


def head_of(network: Network) -> Head:
    """The last layer of a network.

    Raises UserError where it was solved for by ridge regression and trained no further: influence
    expands the cross-entropy, of which that is no optimum. (What leaving an image out does to a
    ridge head is known exactly: `train.heads.ridge.leave_one_out`.)
    """
    if _solved(network).get("method") == "ridge":
        raise UserError(
            "influence: expected a head that was trained on the cross-entropy, and this one is a "
            "ridge regression: fine-tune with transfer.head_fit=logistic, which is at an optimum "
            "of the cross-entropy, or with sgd"
        )
    return Head(*network.head)


def damping_of(network: Network) -> float:
    """What makes the mean loss's Hessian that of what a network's head minimises.

    The penalty of a head solved for by logistic regression; of any other the usual 0.001.
    """
    return _solved(network).get("l2", DAMPING)


def _solved(network: Network) -> Mapping[str, Any]:
    """How a head was fitted that was not trained afterwards; empty: it was."""
    fitted = network.provenance.get("head_fit") or {}
    return fitted if fitted.get("epochs") == 0 else {}
