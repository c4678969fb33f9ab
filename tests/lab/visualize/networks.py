"""A tiny source of three classes."""

import jax
import numpy as np

from rtl_jax.models.architecture import architecture
from rtl_jax.models.model import initialize
from rtl_jax.models.network import Network

ARCH = architecture("resnet18", stem="small", stage_sizes=(1, 1), stage_widths=(8, 16)).replace(
    stem_width=8, num_classes=3
)


def tiny(seed: int) -> Network:
    """Make a network with random variables, 16 features and a head with weights."""
    params, batch_stats = jax.tree.map(np.array, initialize(ARCH, jax.random.key(seed)))
    params["fc/kernel"] = np.random.default_rng(seed).normal(size=(16, 3)).astype(np.float32)
    return Network(ARCH, params, batch_stats, {"kind": "random"})
