"""Export to a folder that timm loads in one line: weights, a config, and a model card."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rtl_jax.convert.model_card import measured, model_card
from rtl_jax.convert.state_dicts import write_safetensors
from rtl_jax.convert.timm_description import TimmDescription, timm_description
from rtl_jax.convert.torch_needed import import_package
from rtl_jax.errors import UserError
from rtl_jax.models.network import Network

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
# Largest float32 difference between two programs of a network, relative to the largest logit.
TOLERANCE = 1e-4


def write_timm_folder(
    network: Network,
    folder: Path,
    image_size: int,
    *,
    license: str | None = None,
    rows: Path | None = None,
    repository: str | None = None,
    report: Callable[[str], Any] = print,
) -> None:
    """Write a folder that `timm.create_model('local-dir:FOLDER', pretrained=True)` loads.

    If timm is installed, this is done here and its logits are compared. `rows` is the work
    directory whose rows have the network's accuracy; `repository` is named in the card.

    Raises UserError for a network that timm cannot build or whose head is a placeholder, for
    damaged rows, and if timm's network computes something else.
    """
    if "head" in network.provenance:
        raise UserError(
            "this network's head is a placeholder for fine-tuning to replace: train it first"
        )
    described = timm_description(network.architecture, image_size)
    facts = measured(network, rows)
    folder.mkdir(parents=True)
    write_safetensors(network, described.layout, folder / WEIGHTS)
    config = _config(network, described, image_size)
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    name = repository.partition("/")[2] if repository else network.architecture.name
    card = model_card(network, name, image_size, facts, license=license, repository=repository)
    (folder / CARD).write_text(card, encoding="utf-8")
    _compare(network, folder, image_size, report)


def _config(network: Network, described: TimmDescription, image_size: int) -> dict[str, Any]:
    """Return timm's config.json."""
    arch = network.architecture
    names = {} if network.class_names is None else {"label_names": list(network.class_names)}
    return {
        "architecture": described.architecture,
        "num_classes": arch.num_classes,
        "num_features": arch.num_features,
        **names,
        "model_args": described.arguments,
        "pretrained_cfg": {
            "input_size": [3, image_size, image_size],
            "fixed_input_size": False,
            "mean": list(arch.mean),
            "std": list(arch.std),
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "crop_mode": "center",  # as `data.pictures.decode` fits pictures to a square
            "num_classes": arch.num_classes,
            "first_conv": described.first,
            "classifier": described.head,
            "custom_load": False,
        },
    }


def _compare(network: Network, folder: Path, image_size: int, report: Callable[[str], Any]) -> None:
    """Raise UserError unless timm, if installed, gives the same logits for random images."""
    try:
        timm = import_package("timm", "comparing")
    except UserError as error:
        report(f"not compared with timm's network: {error}")
        return
    import torch

    images = np.random.default_rng(0).random((2, image_size, image_size, 3), np.float32)
    arch = network.architecture
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    pixels = (images - np.array(arch.mean, np.float32)) / np.array(arch.std, np.float32)
    with torch.no_grad():
        received = model(torch.from_numpy(pixels.transpose(0, 3, 1, 2))).numpy()
    with jax.default_matmul_precision("float32"):
        expected = np.asarray(jax.jit(lambda logits, x: logits(x))(network.logits_fn(), images))
    largest = float(np.abs(received - expected).max() / max(np.abs(expected).max(), 1e-30))
    if not largest <= TOLERANCE:
        raise UserError(
            f"timm's network differs by {largest:.1e} of the largest logit, more than "
            f"{TOLERANCE:g}: nothing was written; report this"
        )
    report(f"equal: timm's logits within {largest:.1e} of the largest")
