"""From a network on disk to a file that PyTorch reads, under the names it had there."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from rtl_jax.convert.hub import expanded
from rtl_jax.convert.layouts import layout_of
from rtl_jax.convert.layouts.layout import Layout
from rtl_jax.convert.network import METADATA_KEY
from rtl_jax.convert.torch_needed import import_torch
from rtl_jax.errors import UserError
from rtl_jax.models.network import Network
from rtl_jax.models.registry import Architecture
from rtl_jax.runtime.paths import complete_or_absent


def export(
    checkpoint: str | os.PathLike,
    destination: str | os.PathLike,
    *,
    report: Callable[[str], Any] = print,
) -> Path:
    """`export_network` of a network's directory."""
    destination = _free(destination)
    return export_network(Network.load(expanded(checkpoint).absolute()), destination, report=report)


def export_network(
    network: Network, destination: str | os.PathLike, *, report: Callable[[str], Any] = print
) -> Path:
    """Write a network as .safetensors or .pth, every value unchanged; return `destination`.

    The file is a flat state dict that the network of the layout's `torch_words`, torchvision's
    ResNet, say, loads with strict=True. Only .pth needs torch. Raises UserError for another
    ending, a destination that exists, and a network that is not one.
    """
    destination = _free(destination)
    torch = None if destination.suffix == ".safetensors" else import_torch("exporting to .pth")
    arch = network.architecture
    layout = layout_of(arch, network.provenance.get("layout"))
    state = state_dict(layout, arch, network.params, network.batch_stats)
    words = layout.torch_words
    with complete_or_absent(destination.absolute()) as temporary:
        try:
            if torch is None:
                save_file(state, temporary, metadata=_metadata(layout, arch))
            else:
                torch.save({name: torch.from_numpy(v) for name, v in state.items()}, temporary)
        except (SafetensorError, RuntimeError) as error:  # how both report a full disk
            reason = str(error).splitlines()[0]
            raise UserError(f"cannot write {destination}; is there room? ({reason})") from error
    report(f"wrote {destination}: {arch.name}, {arch.num_classes} classes, names of {words}")
    report(
        f"its input is normalised outside the file: clamp to [0, 1], mean {arch.mean}, "
        f"std {arch.std}"
    )
    if "head" in network.provenance:
        report("warning: its head is none of its own, only one for fine-tuning to replace")
    if layout.unusual(arch):
        report(
            f"{words} computes something else with it by default: it needs {layout.described(arch)}"
        )
    return destination


def _free(destination: str | os.PathLike) -> Path:
    """The place of a new file; UserError for another ending, and where there is one already."""
    place = expanded(destination)
    if place.suffix not in (".safetensors", ".pth", ".pt"):
        raise UserError(f"{place}: expected an ending .safetensors, .pth or .pt")
    if place.exists() or place.is_symlink():
        raise UserError(f"{place} exists already: remove it or choose another destination")
    return place


def state_dict(
    layout: Layout,
    architecture: Architecture,
    params: Mapping[str, Any],
    batch_stats: Mapping[str, Any],
) -> dict[str, np.ndarray]:
    """torch's state dict of a network: float32, BatchNorm's counters as int64 zeros."""
    variables = {"params": params, "batch_stats": batch_stats}
    state: dict[str, np.ndarray] = {}
    for entry in layout.entries(architecture):
        values = np.asarray(variables[entry.collection][entry.path])
        state[entry.torch_name] = entry.to_torch(values)
    return state | layout.constants(architecture)


def _metadata(layout: Layout, architecture: Architecture) -> dict[str, str]:
    fields = {"mean": architecture.mean, "std": architecture.std, **layout.stated(architecture)}
    return {"format": "pt", METADATA_KEY: json.dumps(fields)}
