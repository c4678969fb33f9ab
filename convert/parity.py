"""The largest difference between the converted network and the same weights in PyTorch."""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rtl_jax.convert import hub, network
from rtl_jax.convert.checkpoint import open_checkpoint, translated
from rtl_jax.convert.choices import DEFAULT, Choices
from rtl_jax.convert.layouts import layout_of
from rtl_jax.convert.torch_needed import import_torch
from rtl_jax.convert.torch_weights import with_weights
from rtl_jax.models.model import bind, definition
from rtl_jax.models.network import Network
from rtl_jax.models.registry import Architecture

# Float32 through 150 layers differs by about 1e-5 of the largest value; a wrong tensor by 1.
TOLERANCE = 1e-3


class Difference(NamedTuple):
    """One stage: its name, the largest difference, and the largest value in torch."""

    stage: str
    largest: float
    scale: float

    @property
    def relative(self) -> float:
        """The largest difference relative to the largest value."""
        return self.largest / max(self.scale, 1e-30)


def image_size(arch: Architecture) -> int:
    """Return the image size, in pixels per side, for which the network is made."""
    return layout_of(arch).image_size(arch)


def torch_network(
    source: str | os.PathLike,
    arch: Architecture,
    choices: Choices,
    report: Callable[[str], Any],
) -> Any:
    """Build `arch` in PyTorch with the weights of `source`, from pixels to logits, to evaluate."""
    torch = import_torch("--check")
    path = hub.locate(source, report)
    with open_checkpoint(path) as checkpoint, translated(path):
        found = network.find(checkpoint, choices)
        layout = found.layout
        theirs = layout.torch_layout.entries(arch)
        names = {(each.collection, each.path): each.torch_name for each in theirs}
        state = {
            names[each.collection, each.path]: torch.from_numpy(
                found.tensors[each.torch_name].load().astype(np.float32)
            )
            for each in layout.entries(arch)
        }
    return with_weights(layout, arch, state)


def differences(
    source: str | os.PathLike,
    converted: str | os.PathLike,
    *,
    choices: Choices = DEFAULT,
    images: np.ndarray | None = None,
    report: Callable[[str], Any] = print,
) -> list[Difference]:
    """Run both networks on the same images and compare them.

    A ResNet is compared after every block, other families by their logits. torch has the weights of
    `source`, Flax those that were written to `converted`; `choices` are those of the conversion.
    `images` are [n, height, width, 3] in [0, 1], by default four random ones of the size for which
    the network is made. Reports a line per stage.
    """
    torch = import_torch("--check")
    stored = Network.load(hub.expanded(converted).absolute())
    arch: Any = stored.architecture
    if images is None:
        size = image_size(arch)
        images = np.random.default_rng(0).random((4, size, size, 3), np.float32)
    module = torch_network(source, arch, choices, report)
    with torch.no_grad():
        torch_results = module.stages_of(torch.from_numpy(images).permute(0, 3, 1, 2))
    graph = definition(arch, method="xla")
    stages = ["normalize", "stem", *arch.block_names(), "pool", "logits"]

    @jax.jit
    def ours(params: Any, batch_stats: Any, images: jax.Array) -> list[jax.Array]:
        net = bind(graph, params, batch_stats)
        features = net.prefix(images, 0)
        results = [net.normalize(images), features]
        for block in net.blocks():
            features = block(features, False)
            results.append(features)
        pooled = net.prefix(images, arch.num_blocks)
        return [*results, pooled, net(images)]

    with jax.default_matmul_precision("highest"):
        results = ours(stored.params, stored.batch_stats, jnp.asarray(images))
    flax_results = dict(zip(stages, results, strict=True))
    rows = []
    report(f"{len(images)} images of {images.shape[1]} px; largest difference, torch - Flax:")
    report(f"{'stage':<12}{'absolute':>12}{'of largest value':>18}")
    for stage, theirs in torch_results:
        expected = theirs.permute(0, 2, 3, 1).numpy() if theirs.ndim == 4 else theirs.numpy()
        largest = float(np.abs(expected - np.asarray(flax_results[stage])).max())
        row = Difference(stage, largest, float(np.abs(expected).max()))
        rows.append(row)
        report(f"{stage:<12}{row.largest:>12.2e}{row.relative:>18.2e}")
    return rows
