"""Other architectures compared with timm's networks: `python -m benchmarks.families`.

ConvNeXt-T and ViT-S at 224 px: a forward pass and a step of PGD (gradient with respect to the
images, step, projection), on the same weights and images. Torch uses one thread per core,
evaluation mode and, for ConvNeXt, channels_last. Needs timm.
"""

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks import machine
from benchmarks.attack_step import EPS, PGD20, Row, step
from benchmarks.interleaved import medians
from rtl_jax.convert.layouts import entries
from rtl_jax.convert.torch_pgd import pgd
from rtl_jax.models import registry
from rtl_jax.models.network import Network
from rtl_jax.runtime.resources import cores
from tests.reference_networks import reference
from tests.torch_networks import nchw

PIXELS = 224
NETWORKS = {
    "convnext_tiny": ("convnext", "convnext_tiny"),
    "vit_small_patch16_224": ("vit", "deit_small_patch16_224"),
}


class Normalized(torch.nn.Module):
    """timm's network after its normalisation of pixels in [0, 1], which ours includes."""

    def __init__(self, network: torch.nn.Module, arch: registry.Architecture) -> None:
        super().__init__()
        self.network = network
        self.mean, self.std = (torch.tensor(part).view(3, 1, 1) for part in (arch.mean, arch.std))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute logits of images in [0, 1]."""
        return self.network((images.clamp(0, 1) - self.mean) / self.std)


def compare(name: str, batch: int, repetitions: int) -> list[Row]:
    """Time a forward pass and a step of PGD in JAX and in torch, in milliseconds."""
    family, known = NETWORKS[name]
    arch = registry.FAMILIES[family].named[known]
    torchs = reference("timm").create_model(name).eval().requires_grad_(False)
    state = torchs.state_dict()
    params = {entry.path: entry.to_flax(state[entry.torch_name].numpy()) for entry in entries(arch)}
    layout = torch.channels_last if family == "convnext" else torch.contiguous_format
    normalized = Normalized(torchs, arch).to(memory_format=layout)  # type: ignore[call-overload]  # not in stubs
    shape = (batch, PIXELS, PIXELS, 3)
    pixels = np.random.default_rng(0).uniform(0.1, 0.9, shape).astype(np.float32)
    labels = np.arange(batch, dtype=np.int32)
    images, theirs = jnp.asarray(pixels), nchw(pixels).contiguous(memory_format=layout)
    logits_fn, forward = Network(arch, params, {}).logits_fn(), jax.jit(lambda f, x: f(x))

    @torch.no_grad()
    def torch_forward() -> torch.Tensor:
        return normalized(theirs)

    relative = PGD20.relative_step / PGD20.steps
    torch_step = partial(
        pgd,
        normalized,
        theirs,
        torch.from_numpy(labels).long(),
        "l2",
        EPS,
        steps=1,
        relative_step=relative,
    )
    found = np.asarray(forward(logits_fn, images))
    apart = np.abs(found - torch_forward().numpy()).max() / np.abs(found).max()
    if apart > 1e-3:
        raise SystemExit(f"{name}: the logits differ by {apart:.2g}")
    pairs: dict[str, dict[str, Callable[[], Any]]] = {
        "forward": {
            "jax": lambda: forward(logits_fn, images).block_until_ready(),
            "torch": torch_forward,
        },
        "PGD step": {
            "jax": lambda: step(logits_fn, images, jnp.asarray(labels)).block_until_ready(),
            "torch": torch_step,
        },
    }
    rows = []
    for what, both in pairs.items():
        times = medians(both, repetitions)
        rows.append(
            {
                "network": name,
                "what": what,
                "batch": batch,
                "jax_ms": 1e3 * times["jax"].wall,
                "torch_ms": 1e3 * times["torch"].wall,
                "ratio": times["jax"].wall / times["torch"].wall,
                "cpu_ratio": times["jax"].cpu / times["torch"].cpu,
            }
        )
    return rows


def main() -> None:
    """Measure, print, and optionally write JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.families", description=__doc__)
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write JSON here")
    parser.add_argument("--repetitions", type=int, default=5, metavar="N")
    parser.add_argument("--batch", type=int, default=16, metavar="N")
    parser.add_argument("--network", choices=NETWORKS, action="append", help="default: all")
    options = parser.parse_args()
    torch.set_num_threads(cores())
    described = machine.describe()
    print(", ".join(f"{name} {value}" for name, value in described.items()), flush=True)
    rows: list[Row] = []
    for name in options.network or NETWORKS:
        for row in compare(name, options.batch, options.repetitions):
            numbers = ", ".join(f"{key} {value:.3g}" for key, value in list(row.items())[3:])
            print(f"{name:24} {row['what']:9} batch {row['batch']}: {numbers}", flush=True)
            rows.append(row)
    if options.output:
        options.output.write_text(json.dumps({"machine": described, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
