"""Small source networks that come with the package, each in a file with its weights and card.

    rtl-jax sources                     lists them
    source.checkpoint=bundled:l2        selects one

A file is in safetensors format: convolutions and head in float16, the rest in float32. Its metadata
contain the architecture, the card (training, accuracy and cost) and a digest.
`rtl_jax.lab.pretrain.bundle` writes it.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rtl_jax.errors import UserError
from rtl_jax.models.architecture import ResNetArchitecture
from rtl_jax.models.model import check_variables
from rtl_jax.models.network import Network
from rtl_jax.runtime.digest import digest
from rtl_jax.runtime.paths import complete_or_absent

FORMAT = "rtl_jax bundled 1"
DIRECTORY = Path(__file__).parent
_SUFFIX = ".safetensors"


def names() -> list[str]:
    """List the bundled sources, natural ones first."""
    found = sorted(path.stem for path in DIRECTORY.glob(f"*{_SUFFIX}"))
    return sorted(found, key=lambda name: name != "natural")


def load(name: str) -> Network:
    """Load a bundled network in float32, with its card as provenance.

    Raises UserError for an unknown name or a damaged file.
    """
    path = DIRECTORY / f"{name}{_SUFFIX}"
    if name not in names():
        raise UserError(f"there is no bundled:{name}: expected one of {', '.join(names())}")
    return read(path)


def card(name: str) -> Mapping[str, Any]:
    """Return the card of a bundled source: settings, accuracies and cost."""
    return load(name).provenance


def write(path: Path, network: Network) -> None:
    """Write a network, whose provenance is its card, atomically."""
    from safetensors.numpy import save_file

    tensors = {name: stored(name, array) for name, array in _flat(network).items()}
    metadata = {
        "format": FORMAT,
        "architecture": json.dumps(network.architecture.to_dict()),
        "card": json.dumps(network.provenance),
        "digest": digest(tensors),
    }
    with complete_or_absent(path, replace=True) as temporary:
        save_file(tensors, str(temporary), metadata)
        os.chmod(temporary, 0o644)  # safetensors creates files that only their owner can read


def read(path: Path) -> Network:
    """Read a file from `write`. Raises UserError if it is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if metadata["format"] != FORMAT or metadata["digest"] != digest(tensors):
            raise ValueError("it is not what was written")
        architecture = ResNetArchitecture.from_dict(json.loads(metadata["architecture"]))
        provenance = json.loads(metadata["card"])
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise UserError(f"{path} is damaged ({error}): install rtl_jax again") from error
    params, batch_stats = _nested(tensors)
    check_variables(architecture, params, batch_stats, str(path))
    return Network(architecture, params, batch_stats, provenance)


def stored(name: str, array: np.ndarray) -> np.ndarray:
    """Convert a variable for storage: kernels to 16 bits, the few others unchanged."""
    return np.asarray(array, np.float16 if name.endswith("kernel") else np.float32)


def _flat(network: Network) -> dict[str, np.ndarray]:
    trees = {"params": network.params, "batch_stats": network.batch_stats}
    return {f"{kind}/{path}": leaf for kind, tree in trees.items() for path, leaf in tree.items()}


def _nested(
    tensors: Mapping[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    found: dict[str, dict[str, np.ndarray]] = {"params": {}, "batch_stats": {}}
    for name, array in tensors.items():
        kind, _, path = name.partition("/")
        found[kind][path] = np.asarray(array, np.float32)
    return found["params"], found["batch_stats"]
