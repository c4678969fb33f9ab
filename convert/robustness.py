"""Comparison of a network's robustness in JAX with that of the same weights in PyTorch.

Both are attacked with PGD(20) from the image, in float32, on the same images, each by its own code.
The last iterates are compared, since choosing among iterates could hide a difference.
"""

import math
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rtl_jax.attacks import PGD, attack
from rtl_jax.convert import hub
from rtl_jax.convert.choices import DEFAULT, Choices
from rtl_jax.convert.parity import image_size, torch_network
from rtl_jax.convert.torch_needed import import_torch
from rtl_jax.data import draw_test_subset, load_dataset
from rtl_jax.data.transforms import prepare
from rtl_jax.errors import UserError
from rtl_jax.models.network import Network
from rtl_jax.models.registry import Architecture
from rtl_jax.runtime.progress import each

STEPS = 20
RELATIVE_STEP = 2.5
BATCH = 16
# An attack in one framework: maps images [n, height, width, 3] and labels [n] to the images found
# and the classes predicted for them, [n]. Without a ball, the images are unchanged.
Attack = Callable[[np.ndarray, np.ndarray, "Ball | None"], tuple[np.ndarray, np.ndarray]]
# Accuracies may differ by this many percentage points, and always by one image, due to rounding.
TOLERANCE = 1.0


class Ball(NamedTuple):
    """A threat model: `norm` within `eps` (for pixels in [0, 1]); `name` as the user typed it."""

    norm: Literal["l2", "linf"]
    eps: float
    name: str


class Pictures(NamedTuple):
    """Test images of a data set: uint8 [n, height, width, 1 or 3], labels int32 [n]."""

    spec: str
    images: np.ndarray
    labels: np.ndarray
    num_classes: int


class Compared(NamedTuple):
    """Accuracies in percent under one attack, in torch and JAX, and a comparison of their images.

    `difference` is the largest pixel difference between their final images, `norm` the largest of
    all perturbations, in the attack's norm.
    """

    ball: Ball
    clean_torch: float
    clean_jax: float
    robust_torch: float
    robust_jax: float
    difference: float
    norm: float
    num_images: int

    @property
    def agrees(self) -> bool:
        """Whether both accuracies differ by at most one percentage point, or by one image."""
        allowed = max(TOLERANCE, 100 / self.num_images) + 1e-9
        clean, robust = self.clean_torch - self.clean_jax, self.robust_torch - self.robust_jax
        return max(abs(clean), abs(robust)) <= allowed


def parse_ball(text: str) -> Ball:
    """Parse a `Ball` such as 'l2:3' or 'linf:4/255'. Raises UserError for anything else."""
    wanted = "expected l2:EPS or linf:EPS, such as l2:3 or linf:4/255, in units of [0, 1] pixels"
    norm, _, radius = text.partition(":")
    if norm not in ("l2", "linf"):
        raise UserError(f"--attack {text}: {wanted}; the norm {norm!r} is neither")
    above, slash, below = radius.partition("/")
    try:
        eps = float(above) / (float(below) if slash else 1.0)
    except (ValueError, ZeroDivisionError):
        raise UserError(f"--attack {text}: {wanted}; {radius!r} is not a number") from None
    if not (math.isfinite(eps) and eps >= 0):
        raise UserError(f"--attack {text}: {wanted}; eps must be 0 or more")
    if norm == "linf" and eps > 1:
        raise UserError(f"--attack {text}: {wanted}; perhaps linf:{radius}/255 was meant")
    return Ball("l2" if norm == "l2" else "linf", eps, text)


def load_pictures(spec: str, number: int, size: int | None) -> Pictures:
    """Load `number` test images of a data set, as drawn by every run, or all if it has fewer.

    `size` is for images without a size of their own. Raises UserError if the data are missing or a
    number is not positive.
    """
    if number < 1:
        raise UserError(f"--num-images: expected 1 or more, received {number}")
    if size is not None and size < 1:
        raise UserError(f"--image-size: expected 1 or more, received {size}")
    dataset = load_dataset(spec, data_dir=None, image_size=size or 224)
    labels = dataset.test.labels
    rows = draw_test_subset(labels, min(number, len(labels)), dataset.num_classes)
    test = dataset.test.take(rows)
    return Pictures(spec, test.images, test.labels, dataset.num_classes)


def compare_robustness(
    source: str | os.PathLike,
    converted: str | os.PathLike,
    balls: Sequence[Ball],
    pictures: Pictures,
    *,
    true_labels: bool,
    choices: Choices = DEFAULT,
    size: int | None = None,
    report: Callable[[str], Any] = print,
) -> list[Compared]:
    """Attack `source` in torch and `converted` in JAX; report a line for every ball.

    Images are prepared at `size` pixels, by default the size for which the network is made. With
    `true_labels`, labels are the data set's own if it has as many classes as the network. Otherwise
    they are torch's predictions for the clean images, so that its clean accuracy is 100 % by
    definition.
    """
    network = Network.load(hub.expanded(converted).absolute())
    arch = network.architecture
    in_torch, classes = _in_torch(source, arch, choices), arch.num_classes
    in_jax = _in_jax(network)
    # Resizing may leave [0, 1] by a rounding error.
    images = np.clip(prepare(pictures.images, size or image_size(arch)), 0, 1)
    _, said_torch = in_torch(images, pictures.labels, None)
    _, said_jax = in_jax(images, pictures.labels, None)
    true_labels = true_labels and pictures.num_classes == classes
    labels = pictures.labels if true_labels else said_torch.astype(np.int32)

    def percent(said: np.ndarray) -> float:
        return 100 * float((said == labels).mean())

    report(
        f"PGD({STEPS}) from the image, steps of {RELATIVE_STEP:g} eps / {STEPS}, last iterate; "
        f"{len(images)} test images of {pictures.spec} at {images.shape[1]} px"
    )
    if true_labels:
        report("labels: the true ones")
    else:
        report(
            "labels: NOT the true ones but torch's predictions for the clean images, so torch's "
            "clean accuracy is 100 %"
        )
    width = max(12, *(len(ball.name) for ball in balls))
    report(
        f"{'':<{width}}{'clean accuracy':>18}{'robust accuracy':>18}{'images':>12}{'largest':>12}"
    )
    columns = f"{'torch':>9}{'JAX':>9}" * 2 + f"{'differ by':>12}{'norm':>12}"
    report(f"{'attack':<{width}}{columns}")
    rows = []
    for ball in balls:
        found_torch, broken_torch = in_torch(images, labels, ball)
        found_jax, broken_jax = in_jax(images, labels, ball)
        row = Compared(
            ball,
            percent(said_torch),
            percent(said_jax),
            percent(broken_torch),
            percent(broken_jax),
            float(np.abs(found_torch - found_jax).max()),
            max(_largest_norm(found - images, ball) for found in (found_torch, found_jax)),
            len(images),
        )
        rows.append(row)
        accuracies = "".join(f"{accuracy:>9.2f}" for accuracy in row[1:5])
        report(f"{ball.name:<{width}}{accuracies}{row.difference:>12.2e}{row.norm:>12.6g}")
    return rows


def _in_torch(source: str | os.PathLike, arch: Architecture, choices: Choices) -> Attack:
    """Return the attack on the source's weights in torch."""
    torch = import_torch("--attack")
    from rtl_jax.convert.torch_pgd import pgd

    module = torch_network(source, arch, choices, lambda _: None).requires_grad_(False)

    def run(images: np.ndarray, labels: np.ndarray, ball: Ball | None) -> tuple:
        found, said = [], []
        for start in _batches(len(images), ball, "torch"):
            rows = slice(start, start + BATCH)
            x = torch.from_numpy(np.ascontiguousarray(images[rows].transpose(0, 3, 1, 2)))
            if ball is not None:
                y = torch.from_numpy(labels[rows].astype(np.int64))
                x = pgd(module, x, y, ball.norm, ball.eps, steps=STEPS, relative_step=RELATIVE_STEP)
            with torch.no_grad():
                said.append(module(x).argmax(1).numpy())
            found.append(x.numpy().transpose(0, 2, 3, 1))
        return np.concatenate(found), np.concatenate(said)

    return run


def _in_jax(network: Network) -> Attack:
    """Return the attack on the converted weights in JAX."""
    logits_fn = network.logits_fn()
    predict = jax.jit(lambda logits_fn, images: logits_fn(images).argmax(-1))

    def run(images: np.ndarray, labels: np.ndarray, ball: Ball | None) -> tuple:
        found, said = [], []
        size = min(BATCH, len(images))
        for start in _batches(len(images), ball, "JAX"):
            # The last batch is padded, so that a single shape is compiled, and truncated again.
            rows = np.minimum(np.arange(start, start + size), len(images) - 1)
            number = min(size, len(images) - start)
            with jax.default_matmul_precision("highest"):
                x = jnp.asarray(images[rows])
                if ball is not None:
                    settings = PGD(ball.norm, STEPS, RELATIVE_STEP, keep="last")
                    x = attack(logits_fn, x, jnp.asarray(labels[rows]), ball.eps, settings).images
                said.append(np.asarray(predict(logits_fn, x))[:number])
            found.append(np.asarray(x)[:number])
        return np.concatenate(found), np.concatenate(said)

    return run


def _batches(number: int, ball: Ball | None, framework: str) -> Iterable[int]:
    """Iterate over the starts of batches, with a progress bar."""
    what = f"{framework}, {ball.name if ball else 'clean'}"
    return each(range(0, number, BATCH), what, "batches")


def _largest_norm(change: np.ndarray, ball: Ball) -> float:
    """Return the largest norm of changes [n, height, width, 3], in float64."""
    flat = change.reshape(len(change), -1).astype(np.float64)
    return float(np.linalg.norm(flat, np.inf if ball.norm == "linf" else 2, axis=1).max())
