"""Fisher information of a softmax head by its definitions (appendix A.9, Khanna et al., 2019).

The Fisher kernel of two examples is g^T F^-1 g'. With the expected Fisher it is the influence
itself, for F is the Hessian of a softmax head at any parameters, optimum or not; `curvature`
has the form that is fast. Here are the sums as they are written, dense, for small heads and to
hold the fast ones against.
"""

import numpy as np

from rtl_jax.influence_functions.head import Examples


def expected_fisher(examples: Examples) -> np.ndarray:
    """1/N sum_i E[g g^T] over labels drawn from the model's own probabilities, [CD, CD]."""
    size = examples.num_parameters
    total = np.zeros((size, size))
    for label in range(examples.num_classes):
        drawn = np.eye(examples.num_classes)[label]
        gradients = examples._replace(errors=examples.probabilities - drawn).gradients()
        gradients = gradients.reshape(-1, size)
        total += (gradients * examples.probabilities[:, [label]]).T @ gradients
    return total / examples.num_examples


def empirical_fisher(examples: Examples) -> np.ndarray:
    """1/N sum_i g_i g_i^T with the labels as given, [CD, CD]."""
    gradients = examples.gradients().reshape(examples.num_examples, -1)
    return gradients.T @ gradients / examples.num_examples
