"""The same weights and images attacked by torch and by foolbox.

The torch attack follows the definitions of `robustness`, which trained the paper's sources:
gradients of the mean loss, `renorm` for the ball, clamp, highest loss or last iterate.
"""

import warnings
from collections.abc import Callable
from functools import cache

import jax
import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from rtl_jax.attacks import PGD, attack
from rtl_jax.convert.torch_resnet import TorchResNet
from rtl_jax.models.architecture import ResNetArchitecture
from rtl_jax.models.network import Network
from tests.torch_networks import nchw, random_torch, variables_of

pytestmark = pytest.mark.slow

ARCH = ResNetArchitecture(
    "digits",
    "basic",
    (1, 1),
    (8, 16),
    stem_width=8,
    stem_kernel=3,
    stem_stride=1,
    stem_pool=False,
    num_classes=10,
)
EPS = {"l2": 0.8, "linf": 0.07}  # robust accuracy lies between 20 and 80 %


@cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """1,797 handwritten digits, float [N, 8, 8, 3]; most pixels are near 0 or 1."""
    images, labels = load_digits(return_X_y=True)
    pixels = (images / 16).reshape(-1, 8, 8, 1).astype(np.float32)
    return np.repeat(pixels, 3, axis=3), labels.astype(np.int32)


@cache
def trained() -> TorchResNet:
    """A network trained on the digits in evaluation mode, with the given statistics."""
    torch.manual_seed(0)
    network = random_torch(ARCH)
    images, labels = digits()
    inputs, targets = nchw(images[1000:]), torch.from_numpy(labels[1000:]).long()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(80):
        for batch in torch.randperm(len(inputs)).split(200):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(inputs[batch]), targets[batch]).backward()
            optimizer.step()
    return network.requires_grad_(False)


def torch_pgd(
    network: nn.Module,
    originals: Tensor,
    labels: Tensor,
    eps: float,
    norm: str,
    steps: int,
    *,
    keep: str = "last",
    targeted: bool = False,
) -> Tensor:
    size, sign = 2.5 * eps / steps, -1 if targeted else 1
    x = originals
    best, best_loss = x.clone(), torch.full((len(x),), -torch.inf, dtype=x.dtype)

    def look(x: Tensor) -> Tensor:
        losses = sign * nn.functional.cross_entropy(network(x), labels, reduction="none")
        higher = losses.detach() > best_loss
        best[higher], best_loss[higher] = x.detach()[higher], losses.detach()[higher]
        return losses

    for _ in range(steps):
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(look(x).sum(), x)
        with torch.no_grad():
            if norm == "linf":
                change = (x + size * gradient.sign() - originals).clamp(-eps, eps)
            else:
                length = gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
                change = x + size * gradient / (length + 1e-10) - originals
                change = change.renorm(p=2, dim=0, maxnorm=eps)
            x = (originals + change).clamp(0, 1)
    look(x)
    return x.detach() if keep == "last" else best


def accuracy(network: nn.Module, images: Tensor, labels: np.ndarray) -> float:
    return 100 * float((network(images).argmax(1).numpy() == labels).mean())


@pytest.mark.parametrize(
    ("norm", "keep", "targeted"),
    [
        ("l2", "last", False),
        ("l2", "loss", True),
        ("linf", "last", True),
        ("linf", "loss", False),
    ],
)
def test_image_by_image_in_float64(norm: str, keep: str, targeted: bool) -> None:
    """Includes black, white and clamped pixels, and the normalisation."""
    network = random_torch(ARCH, seed=1).double().requires_grad_(False)
    images, labels = (part[:20] for part in digits())
    images = images.astype(np.float64)
    eps = 4 * EPS[norm]
    steps = 5
    theirs = torch_pgd(
        network,
        nchw(images),
        torch.from_numpy(labels).long(),
        eps,
        norm,
        steps,
        keep=keep,
        targeted=targeted,
    )
    with jax.enable_x64(True):
        model = Network(ARCH, *variables_of(network)).logits_fn(dtype=np.float64)
        settings = PGD(norm, steps=steps, keep=keep, targeted=targeted)
        found = attack(model, images, labels, eps, settings)
        np.testing.assert_allclose(
            found.images, theirs.numpy().transpose(0, 2, 3, 1), atol=1e-6, rtol=0
        )
    said = network(theirs).argmax(1).numpy() == labels
    np.testing.assert_array_equal(found.success, said == targeted)


def torch_attack(
    network: nn.Module, images: Tensor, labels: Tensor, eps: float, norm: str, random_start: bool
) -> Tensor:
    assert not random_start
    return torch_pgd(network, images, labels, eps, norm, 20)


def foolbox_attack(
    network: nn.Module, images: Tensor, labels: Tensor, eps: float, norm: str, random_start: bool
) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # foolbox 3.3.4 imports what SciPy deprecates
        foolbox = pytest.importorskip("foolbox")
    kind = {"l2": foolbox.attacks.L2PGD, "linf": foolbox.attacks.LinfPGD}[norm]
    attacker = kind(rel_stepsize=2.5 / 20, steps=20, random_start=random_start)
    wrapped = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")
    return attacker(wrapped, images, labels, epsilons=eps)[0]


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize(
    ("other", "random_start"),
    [(torch_attack, False), (foolbox_attack, False), (foolbox_attack, True)],
)
def test_robust_accuracy_of_1000_images(other: Callable, norm: str, random_start: bool) -> None:
    """PGD(20), last iterate: within 1 point, and within 0.2 without randomness.

    With random starts, both sides average three draws, since a single draw varies by up to 0.5.
    """
    network = trained()
    images, labels = (part[:1000] for part in digits())
    inputs, targets = nchw(images), torch.from_numpy(labels).long()
    assert accuracy(network, inputs, labels) > 85
    model = Network(ARCH, *variables_of(network)).logits_fn()
    settings = PGD(norm, random_start=random_start, keep="last")
    eps, ours, theirs = EPS[norm], [], []
    for seed in range(3 if random_start else 1):
        torch.manual_seed(seed)
        attacked = other(network, inputs, targets, eps, norm, random_start)
        theirs.append(accuracy(network, attacked, labels))
        found = attack(model, images, labels, eps, settings, jax.random.key(seed))
        ours.append(100 * float(found.robust_accuracy))
    assert 20 < np.mean(ours) < 80
    assert abs(np.mean(ours) - np.mean(theirs)) <= (1 if random_start else 0.2)
