"""Fisher information of a softmax head by its definitions (appendix A.9, Khanna et al., 2019).

The Fisher kernel of two examples is g^T F^-1 g'. With the expected Fisher it equals the influence,
since F is the Hessian of a softmax head at any parameters, at an optimum or not. `curvature` has
the fast form. Here the sums are written out, dense, for comparison on small heads.
"""

import numpy as np

from rtl_jax.influence_functions.head import Examples


def expected_fisher(examples: Examples) -> np.ndarray:
    """Compute 1/N sum_i E[g g^T] over labels drawn from the model's own probabilities, [CD, CD]."""
    size = examples.num_parameters
    total = np.zeros((size, size))
    for label in range(examples.num_classes):
        drawn = np.eye(examples.num_classes)[label]
        gradients = examples._replace(errors=examples.probabilities - drawn).gradients()
        gradients = gradients.reshape(-1, size)
        total += (gradients * examples.probabilities[:, [label]]).T @ gradients
    return total / examples.num_examples


def empirical_fisher(examples: Examples) -> np.ndarray:
    """Compute 1/N sum_i g_i g_i^T with the given labels, [CD, CD]."""
    gradients = examples.gradients().reshape(examples.num_examples, -1)
    return gradients.T @ gradients / examples.num_examples
