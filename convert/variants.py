"""Networks with the same tensors as a converted one, and other ways to run it.

Each differs from the converted network in one or two respects. `nearest` searches for the one that
computed a reference.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from rtl_jax.convert.layouts import layout_of
from rtl_jax.convert.layouts.layout import Change
from rtl_jax.models.description import IMAGENET_MEAN, IMAGENET_STD
from rtl_jax.models.model import bind, definition
from rtl_jax.models.network import Network
from rtl_jax.models.registry import Architecture
from rtl_jax.runtime.progress import each

# Near enough to stop the search.
_FITS = 1e-5
_BATCH = 16

_NORMALISATIONS = {
    "ImageNet's": (IMAGENET_MEAN, IMAGENET_STD),
    "none": ((0.0,) * 3, (1.0,) * 3),
    "to [-1, 1]": ((0.5,) * 3, (0.5,) * 3),
    "CIFAR-10's": ((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)),
    "CIFAR-10's, as often written": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "CIFAR-100's": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "none, pixels of 0 to 255": ((0.0,) * 3, (1 / 255,) * 3),
    "ImageNet's mean alone, pixels of 0 to 255": (IMAGENET_MEAN, (1 / 255,) * 3),
}


class Variant(NamedTuple):
    """A way to run a network's variables; `name` says how to obtain it."""

    name: str
    architecture: Architecture
    train: bool = False
    bgr: bool = False

    def logits(self, network: Network, images: np.ndarray) -> np.ndarray:
        """Compute logits float32 [N, C] of images [N, H, W, 3].

        Operations run one at a time: compiling every variant would take longer than running it.
        """
        graph = definition(self.architecture, method="xla")
        net = bind(graph, network.params, network.batch_stats)
        if self.bgr:
            images = images[..., ::-1]
        size = len(images) if self.train else _BATCH
        batches = (jnp.asarray(images[at : at + size]) for at in range(0, len(images), size))
        return np.concatenate([np.asarray(net(batch, train=self.train)) for batch in batches])


def _changes(arch: Architecture) -> Iterator[Change]:
    yield from layout_of(arch).changes(arch)
    m, s = np.array(arch.mean), np.array(arch.std)
    twice = {"the same, applied twice": (tuple(m + m * s), tuple(s * s))}
    for what, (mean, std) in (_NORMALISATIONS | twice).items():
        flags = [",".join(f"{value:.6g}" for value in part) for part in (mean, std)]
        name = f"--mean {flags[0]} --std {flags[1]} (normalisation: {what})"
        yield Change("normalisation", name, {"mean": mean, "std": std})
    name = "blue, green, red instead of red, green, blue (OpenCV's order)"
    yield Change("colours", name, {}, bgr=True)


def nearest(network: Network, off: Callable[[Variant, bool], float]) -> tuple[str, float]:
    """Return the name of the variant nearest to a reference, and its distance.

    `off` returns a variant's distance, on a few images if its second argument is True. Single
    changes are tried before pairs, until one fits.
    """
    arch = network.architecture
    changes = [
        change
        for change in _changes(arch)
        if change.bgr or any(getattr(arch, k) != v for k, v in change.fields.items())
    ]
    variants = [_variant(arch, change) for change in changes]
    variants.append(
        Variant("BatchNorm in training mode (call model.eval() for the logits)", arch, train=True)
    )
    variants += [
        _variant(arch, one, other)
        for one, other in itertools.combinations(changes, 2)
        if one.kind != other.kind
    ]
    best, smallest = variants[0], float("inf")
    for variant in each(variants, "looking for what fits", "variants"):
        found = off(variant, True)
        if found < smallest:
            best, smallest = variant, found
        if smallest <= _FITS:
            break
    return best.name, off(best, False)


def _variant(arch: Architecture, *changes: Change) -> Variant:
    fields: dict[str, object] = {}
    for change in changes:
        fields |= change.fields
    name = " and ".join(change.name for change in changes)
    return Variant(name, arch.replace(**fields), bgr=any(change.bgr for change in changes))
