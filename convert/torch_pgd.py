"""PGD in PyTorch as in the `robustness` library, for comparison by `--check --attack`.

It is plain PyTorch and shares nothing with `rtl_jax.attacks`. Throughout, `images` are
[n, 3, height, width] in [0, 1], `labels` int64 [n], `eps` in units of [0, 1]; the network has
its normalisation inside and is in evaluation mode.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Norm = Literal["l2", "linf"]


def pgd(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    norm: Norm,
    eps: float,
    *,
    steps: int,
    relative_step: float,
) -> Tensor:
    """Return the last iterate, [n, 3, height, width], of PGD from `images` on cross-entropy.

    Every step, of size relative_step * eps / steps, follows the gradient and is projected onto the
    ball around `images`, then clamped to [0, 1]. The losses are summed, so that an image's path
    does not depend on its batch.
    """
    size = relative_step * eps / steps
    x = images
    for _ in range(steps):
        x = x.detach().requires_grad_()
        loss = F.cross_entropy(network(x), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, [x])  # of the input only, not of weights
        x = _project(x.detach() + _direction(gradient, norm) * size, images, norm, eps)
    return x


def _direction(gradient: Tensor, norm: Norm) -> Tensor:
    if norm == "linf":
        return gradient.sign()
    length = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
    return gradient / (length.view(-1, 1, 1, 1) + 1e-10)


def _project(x: Tensor, images: Tensor, norm: Norm, eps: float) -> Tensor:
    change = x - images
    # `renorm` scales each image's change down to length eps if it is longer.
    change = change.clamp(-eps, eps) if norm == "linf" else change.renorm(2, 0, eps)
    return (images + change).clamp(0, 1)
