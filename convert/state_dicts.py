"""A network's variables under the names of its counterpart in PyTorch."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from rtl_jax.convert.layouts.layout import Layout
from rtl_jax.convert.network import METADATA_KEY
from rtl_jax.errors import UserError
from rtl_jax.models.network import Network
from rtl_jax.models.registry import Architecture


def state_dict(
    layout: Layout,
    architecture: Architecture,
    params: Mapping[str, Any],
    batch_stats: Mapping[str, Any],
) -> dict[str, np.ndarray]:
    """Return torch's state dict of a network: float32, with BatchNorm's counters int64 zeros."""
    variables = {"params": params, "batch_stats": batch_stats}
    state: dict[str, np.ndarray] = {}
    for entry in layout.entries(architecture):
        values = np.asarray(variables[entry.collection][entry.path])
        state[entry.torch_name] = entry.to_torch(values)
    return state | layout.constants(architecture)


def write_safetensors(network: Network, layout: Layout, path: Path) -> None:
    """Write the state dict, with what no tensor shows in the metadata.

    Raises UserError if the disk is full.
    """
    arch = network.architecture
    state = state_dict(layout, arch, network.params, network.batch_stats)
    fields: dict[str, Any] = {"mean": arch.mean, "std": arch.std, **layout.stated(arch)}
    if network.image_size is not None:
        fields["image_size"] = network.image_size
    metadata = {"format": "pt", METADATA_KEY: json.dumps(fields)}
    try:
        save_file(state, path, metadata=metadata)
    except SafetensorError as error:  # raised if the disk is full
        reason = str(error).splitlines()[0]
        raise UserError(f"cannot write {path}; is there enough space? ({reason})") from error
