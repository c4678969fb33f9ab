"""The cost of influence functions at the paper's size and beyond, and their accuracy.

    python -m benchmarks.influence dense        # 10 classes: every score by the exact damped path
    python -m benchmarks.influence few          # 10 classes, few images: Woodbury's identity
    python -m benchmarks.influence autodiff     # the Hessian by slices, against jax.hessian
    python -m benchmarks.influence torch        # the paper's way in torch, extrapolated from parts
    python -m benchmarks.influence iterative    # 100 classes: conjugate gradients
    python -m benchmarks.influence retraining   # leave-one-out retraining on the digits
    python -m benchmarks.influence pixels       # retraining after a training image has changed

Features are random (rectified normal, since a ResNet's are non-negative), except for the digits.
"""

import argparse
import functools
import json
import resource
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rtl_jax.influence_functions import (
    Cholesky,
    ConjugateGradient,
    Examples,
    Head,
    Solver,
    Woodbury,
    hessian_curvature,
    influence_kernel,
    score,
)
from rtl_jax.influence_functions.hessian import autodiff_hessian

FEATURES, TRAIN, TEST = 2048, 3200, 10_000
DAMPING = 1e-3


def problem(
    classes: int, tests: int, *, features: int = FEATURES, images: int = TRAIN
) -> tuple[Head, Examples, Examples]:
    """Make a head and examples, by default of the paper's number of features and images."""
    draw = np.random.default_rng(0)
    kernel = 0.05 * draw.normal(size=(features, classes))
    head = Head(kernel, np.zeros(classes))

    def examples(number: int) -> Examples:
        values = np.maximum(draw.normal(size=(number, features)), 0)
        return head.examples(values, draw.integers(0, classes, number))

    return head, examples(images), examples(tests)


def timed(seconds: dict[str, float], name: str, work: Callable[[], Any]) -> Any:
    """Return the result of `work`, and record its wall-clock time in `seconds`."""
    began = time.monotonic()
    result = work()
    seconds[name] = round(time.monotonic() - began, 2)
    return result


def dense() -> dict[str, Any]:
    """Compute 32 million scores by Cholesky in the basis of class contrasts."""
    _, train, test = problem(10, TEST)
    seconds: dict[str, float] = {}
    curvature = hessian_curvature(train)
    solver = timed(seconds, "hessian and factor", lambda: Cholesky.of(curvature, DAMPING))
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place) / "scores"
        scores = timed(seconds, "scores", lambda: score(directory, solver, test, train, {}))
        size = list(scores.values.shape)
    return {"scores": size, "parameters": train.num_parameters, "seconds": seconds}


def few(tests: int = 600) -> dict[str, Any]:
    """Compare the two exact solvers for fewer training images than inputs."""
    ways = {"woodbury": Woodbury.of, "cholesky": Cholesky.of}
    found: dict[str, Any] = {}
    for images in (100, 400, 1600):
        _, train, test = problem(10, tests, images=images)
        curvature, scores = hessian_curvature(train), []
        for name, way in ways.items():
            seconds: dict[str, float] = {}
            solver: Solver = timed(seconds, "factor", partial(way, curvature, DAMPING))
            # As in `score`, the smaller set is the one that is solved for.
            pair = (test, train) if images <= tests else (train, test)
            scores.append(timed(seconds, "scores", partial(influence_kernel(solver), *pair)))
            found[f"{images} images, {name}"] = seconds
        difference = abs(scores[0] - scores[1]).max() / abs(scores[1]).max()
        found[f"{images} images, largest difference"] = float(difference)
    return {"parameters": train.num_parameters, "test images": tests, **found}


def autodiff(features: int = 512, images: int = 100, repetitions: int = 3) -> dict[str, Any]:
    """Compare the Hessian by autodiff, a slice of rows at a time, with `jax.hessian` of batches."""
    head, train, _ = problem(10, 1, features=features, images=images)
    exact = hessian_curvature(train).assemble()
    ways = {"slices": autodiff_hessian, "jax.hessian": whole_batches}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    errors = {}
    for name, way in ways.items():
        errors[name] = float(abs(way(head, train) - exact).max())  # compiles, too
    for _ in range(repetitions):
        for name, way in ways.items():
            began = time.monotonic()
            way(head, train)
            seconds[name].append(round(time.monotonic() - began, 2))
    return {"parameters": train.num_parameters, "seconds": seconds, "largest errors": errors}


def whole_batches(head: Head, examples: Examples) -> np.ndarray:
    """Compute the Hessian of the mean cross-entropy by `jax.hessian` of batches of five."""
    import jax

    with jax.enable_x64(True):
        batches = (
            jax.numpy.asarray(examples.inputs).reshape(-1, 5, examples.inputs.shape[1]),
            jax.numpy.asarray(examples.labels).reshape(-1, 5),
        )
        total = _summing()(jax.numpy.asarray(head.weights), batches)
        return np.asarray(total) / examples.num_examples


@functools.cache
def _summing() -> Any:
    import jax
    import optax

    def summed(weights: jax.Array, batches: tuple[jax.Array, jax.Array]) -> jax.Array:
        def add(total: jax.Array, batch: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
            inputs, labels = batch

            def loss(flat: jax.Array) -> jax.Array:
                logits = inputs @ flat.reshape(weights.shape).T
                return optax.softmax_cross_entropy_with_integer_labels(logits, labels).sum()

            return total + jax.hessian(loss)(weights.reshape(-1)), None

        start = jax.numpy.zeros((weights.size,) * 2, weights.dtype)
        return jax.lax.scan(add, start, batches)[0]

    return jax.jit(summed)


def iterative(tests: int = 100) -> dict[str, Any]:
    """Compute scores for CIFAR-100's head, 204,900 parameters; its Hessian would take 336 GB."""
    _, train, test = problem(100, tests)
    seconds: dict[str, float] = {}
    curvature = hessian_curvature(train)
    solver = timed(
        seconds, "preparing", lambda: ConjugateGradient.of(curvature, DAMPING, tolerance=1e-6)
    )
    scores = timed(seconds, "scores", lambda: influence_kernel(solver)(train, test))
    return {
        "scores": list(scores.T.shape),
        "parameters": train.num_parameters,
        "seconds": seconds,
        **solver.record,
    }


def torch_parts() -> dict[str, Any]:
    """Time the paper's method in torch, each part at a feasible size, and extrapolate by flops.

    The parts are the sum of autodiff Hessians of batches of five, a pseudo-inverse by SVD, and
    products of dense gradients.
    """
    import torch

    torch.set_default_dtype(torch.float64)
    head, train, _ = problem(10, 5)
    flat = torch.tensor(head.weights).reshape(-1)
    inputs, labels = torch.tensor(train.inputs[:5]), torch.tensor(train.labels[:5])

    def loss(flat: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(inputs @ flat.reshape(10, -1).T, labels)

    seconds: dict[str, float] = {}
    size = flat.numel()

    def one_batch() -> None:
        # All rows at once, by vmap; computing them one by one, torch's default, takes longer.
        torch.autograd.functional.hessian(loss, flat, vectorize=True)

    timed(seconds, "one of 640 Hessians", one_batch)
    small = 2048
    draw = torch.randn(small, small)
    timed(seconds, f"pinv of {small}", lambda: torch.linalg.pinv(draw @ draw.T, hermitian=False))
    gradients = torch.randn(256, size)
    matrix = torch.randn(size, 1024)
    timed(seconds, "256 x 20,490 x 1,024", lambda: gradients @ matrix)
    whole = {
        "hessian": 640 * seconds["one of 640 Hessians"],
        "pseudo-inverse": seconds[f"pinv of {small}"] * (size / small) ** 3,
        "scores": seconds["256 x 20,490 x 1,024"]
        * (TEST * size * size + TEST * size * TRAIN)
        / (256 * size * 1024),
    }
    whole = {name: round(value) for name, value in whole.items()}
    return {"seconds measured": seconds, "extrapolated": {**whole, "all": sum(whole.values())}}


def retraining(removed: int = 60) -> dict[str, Any]:
    """Correlate predicted and actual changes of the test losses (Pearson) when the head (on pixels,
    L2 1e-3) is retrained to convergence without one of `removed` images.
    """
    from sklearn.datasets import load_digits

    from tests.influence_functions.test_retraining import L2, trained

    digits = load_digits()
    pixels, targets = digits.data / 16.0, digits.target
    optimum = trained(pixels[:1197], targets[:1197], np.zeros((10, 65)))
    train = optimum.examples(pixels[:1197], targets[:1197])
    test = optimum.examples(pixels[1197:], targets[1197:])
    solver = Cholesky.of(hessian_curvature(train), L2)
    rows = np.random.default_rng(0).choice(1197, removed, replace=False)
    predicted = influence_kernel(solver)(test, train)[:, rows] / 1197
    actual = np.empty_like(predicted)
    for column, row in enumerate(rows):
        kept = np.delete(np.arange(1197), row)
        without = trained(pixels[kept], targets[kept], optimum.weights)
        actual[:, column] = without.examples(pixels[1197:], targets[1197:]).losses - test.losses
    each = [np.corrcoef(predicted[row], actual[row])[0, 1] for row in range(len(actual))]
    return {
        "removed": removed,
        "test images": len(actual),
        "pearson": float(np.corrcoef(predicted.ravel(), actual.ravel())[0, 1]),
        "pearson per test image, median": float(np.median(each)),
        "slope": float(np.polyfit(predicted.ravel(), actual.ravel(), 1)[0]),
    }


def refitted_losses(
    features: np.ndarray, *, labels: np.ndarray, l2: float, tested: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """Compute test losses of the logistic head refitted on these features with a given penalty."""
    import jax

    from rtl_jax.train.heads.logistic import at_penalty
    from rtl_jax.train.heads.spectrum import spectrum

    with jax.enable_x64(True):
        found = jax.jit(at_penalty, static_argnums=3)(
            spectrum(jax.numpy.asarray(features)), labels, l2, int(labels.max()) + 1
        )
    return Head(np.asarray(found.kernel), np.asarray(found.bias)).examples(*tested).losses


def pixels(pairs: int = 20, images: int = 100) -> dict[str, Any]:
    """Compare predicted and actual changes of test losses after a training image has changed.

    One training image at a time moves within an L2 ball in its most influential direction, and the
    head (logistic, on a frozen source at 32 px) is refitted with the same penalty.
    """
    import rtl_jax as rtl
    from rtl_jax.data import load_dataset

    digits = load_dataset("digits", data_dir=None, image_size=32)
    train, test = (half.take(np.arange(images)) for half in (digits.train, digits.test))
    data = train.images, train.labels
    found: dict[str, Any] = {}
    for name in ("natural", "l2"):
        source = rtl.load(f"bundled:{name}")
        network = rtl.finetune(source, *data, blocks=0, head_fit="logistic")
        scores = rtl.influence(network, data, (test.images, test.labels))
        rows = np.arange(pairs)
        chosen = np.stack([scores[rows].argmax(1), rows], axis=1)
        features = network.features(train.images).astype(np.float64)
        tested = network.features(test.images)[rows], test.labels[rows]
        l2 = network.provenance["head_fit"]["l2"]
        losses = partial(refitted_losses, labels=train.labels, l2=l2, tested=tested)
        before = losses(features)
        for kind, search in (("one step", 1), ("ten steps", 10)):
            for eps in (0.05, 0.5):
                settings = rtl.PGD("l2", steps=search, keep="loss")
                moved = rtl.perturb_training(
                    network, data, (test.images, test.labels), chosen, eps, settings
                )
                actual = np.empty(pairs)
                for index, image in enumerate(moved.images):
                    other = features.copy()
                    other[chosen[index, 0]] = network.features(image[None])[0]
                    actual[index] = losses(other)[index] - before[index]
                found[f"{name}, {kind}, eps {eps}"] = {
                    "test loss before, mean": float(before.mean()),
                    "predicted change, mean": float(moved.changes.mean()),
                    "actual change, mean": float(actual.mean()),
                    "raised": int((actual > 0).sum()),
                    "pearson": float(np.corrcoef(moved.changes, actual)[0, 1]),
                    "slope": float(moved.changes @ actual / (moved.changes @ moved.changes)),
                }
    return {"pairs": pairs, "training images": images, **found}


PARTS = {
    "dense": dense,
    "few": few,
    "autodiff": autodiff,
    "torch": torch_parts,
    "iterative": iterative,
    "retraining": retraining,
    "pixels": pixels,
}


def main() -> None:
    """Run one part and print its measurements as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("part", choices=PARTS)
    part = parser.parse_args().part
    measured = PARTS[part]()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    used = resource.getrusage(resource.RUSAGE_SELF)
    measured |= {"peak GiB": round(peak, 2), "cpu seconds": round(used.ru_utime + used.ru_stime)}
    print(json.dumps(measured, indent=2))


if __name__ == "__main__":
    main()
