"""Small heads, and their gradients and Hessians by dense linear algebra."""

import numpy as np

from rtl_jax.influence_functions.head import Examples, Head


def problem(
    bias: bool = True, *, features: int = 6, classes: int = 4, train: int = 43, test: int = 17
) -> tuple[Head, Examples, Examples]:
    """Make a head that is not at an optimum, and training and test examples."""
    draw = np.random.default_rng(3)
    head = Head(draw.normal(size=(features, classes)), draw.normal(size=classes) if bias else None)

    def examples(number: int) -> Examples:
        labels = draw.integers(0, classes, number)
        return head.examples(draw.normal(size=(number, features)), labels)

    return head, examples(train), examples(test)


def gradients(examples: Examples) -> np.ndarray:
    """Compute the gradients [N, CD] one by one."""
    pairs = zip(examples.errors, examples.inputs, strict=True)
    return np.stack([np.kron(error, inputs) for error, inputs in pairs])


def hessian(examples: Examples, l2: float = 0.0) -> np.ndarray:
    """Compute the Hessian [CD, CD], the mean of one Kronecker product per example."""
    total = np.zeros((examples.num_parameters,) * 2)
    for inputs, p in zip(examples.inputs, examples.probabilities, strict=True):
        total += np.kron(np.diag(p) - np.outer(p, p), np.outer(inputs, inputs))
    return total / examples.num_examples + l2 * np.eye(len(total))
