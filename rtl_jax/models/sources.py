"""Load a network by the name of a checkpoint: random, bundled, converted, trained or torch's."""

import logging
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import jax
import numpy as np
from etils import epath

from rtl_jax.errors import UserError
from rtl_jax.models import bundled
from rtl_jax.models.architecture import architecture
from rtl_jax.models.model import initialize
from rtl_jax.models.network import Network
from rtl_jax.models.storage import is_network, networks_in
from rtl_jax.runtime.paths import cache_path
from rtl_jax.runtime.program import typed

logger = logging.getLogger(__name__)

# Converts a torch file or hf:REPO/FILE to a network's directory inside a cache directory.
Convert = Callable[[str, Path], Path]

TORCH_SUFFIXES = (".pt", ".pth", ".ckpt", ".tar", ".safetensors", ".bin")

_SALMAN = "hf:madrylab/robust-imagenet-models/"
_WHERE = {
    "imagenet_l2_3_0.pt": ("the paper's L2 eps=3 source", "resnet50_l2_eps3.ckpt"),
    "imagenet_linf_4.pt": ("the paper's Linf eps=4/255 source", "resnet50_linf_eps4.0.ckpt"),
    "imagenet_linf_8.pt": ("the paper's Linf eps=8/255 source", "resnet50_linf_eps8.0.ckpt"),
}


def load_source(checkpoint: str, *, arch: str = "", seed: int = 0, **shape: Any) -> Network:
    """Load the network that a checkpoint names, with NumPy variables.

    Args:
      checkpoint: a network's directory, a work directory with one finished network, a torch file
        (.pt .pth .ckpt .safetensors), hf:REPO/FILE, bundled:NAME, or random.
      arch: the name of the architecture to draw with 'random', or that the checkpoint must have;
        empty: any.
      seed: the seed of a random network.
      shape: options of a random network: `stem`, `stage_sizes`, `stage_widths`; see `architecture`.

    Raises:
      UserError: if there is no such checkpoint (the message says where to get it), it is damaged,
        or it does not have the architecture `arch`.
    """
    if checkpoint == "random":
        return random_network(arch, seed=seed, **shape)
    path = epath.Path(checkpoint).expanduser()
    if checkpoint.startswith("bundled:"):
        network = bundled.load(checkpoint.removeprefix("bundled:"))
    elif path.is_dir():
        network = Network.load(_network_directory(path))
    elif checkpoint.startswith("hf:") or path.is_file():
        convert = converter()
        if convert is None:
            raise UserError(
                f"source.checkpoint: {checkpoint} must be converted first: "
                f"{typed('convert')} {checkpoint} DESTINATION"
            )
        network = Network.load(convert(checkpoint, cache_path() / "converted"))
    else:
        raise UserError(_absent(path))
    found = network.architecture.name
    if arch and arch != found:
        raise UserError(
            f"source.arch: expected {arch!r}, but {checkpoint} is a {found!r}; "
            "set source.arch to that, or leave it empty"
        )
    if "head" in network.provenance:
        logger.warning(
            "%s has only a placeholder head, for fine-tuning to replace: its predictions, and "
            "attacks on them, are meaningless",
            checkpoint,
        )
    return network


def converter() -> Convert | None:
    """Return the installed converter of torch files, or None.

    This package itself does not know their formats.
    """
    return next((entry.load() for entry in entry_points(group="rtl_jax.converters")), None)


def random_network(
    arch: str,
    *,
    seed: int = 0,
    stem: str = "imagenet",
    stage_sizes: tuple[int, ...] | None = None,
    stage_widths: tuple[int, ...] | None = None,
) -> Network:
    """Draw a network from a seed. Raises UserError for an unknown architecture or stem."""
    given = {"stage_sizes": stage_sizes, "stage_widths": stage_widths}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if not arch:
        raise UserError("source.arch: a random source needs an architecture, such as resnet50")
    chosen = architecture(arch, stem=stem, **changes)
    if "stage_widths" in changes:
        chosen = chosen.replace(stem_width=changes["stage_widths"][0])
    params, batch_stats = jax.tree.map(np.asarray, initialize(chosen, jax.random.key(seed)))
    return Network(chosen, params, batch_stats, {"kind": "random", "seed": seed})


def _network_directory(path: epath.Path) -> epath.Path:
    """Return `path` if it is a network, else the one that a task left in that work directory."""
    for place in (path, path / "network"):
        if is_network(place):
            return place
    found = networks_in(path)
    if len(found) == 1:
        return found[0]
    if found:
        listing = "\n  ".join(map(str, found))
        raise UserError(f"source.checkpoint: {path} has several networks, name one:\n  {listing}")
    raise UserError(
        f"source.checkpoint: {path} holds neither a converted network nor a finished run. "
        f"Convert a torch checkpoint with: {typed('convert')} SOURCE DESTINATION"
    )


def _absent(path: epath.Path) -> str:
    message = f"source.checkpoint: there is no {path}."
    if path.name in _WHERE:
        what, similar = _WHERE[path.name]
        return (
            f"{message} It is {what}, from the model zoo of the `robustness` library "
            f"(github.com/MadryLab/robustness, 'Pretrained models'): download {path.name} and put "
            f"it there. Or fine-tune Salman et al.'s network, which has other weights: "
            f"--config.source.checkpoint={_SALMAN}{similar}"
        )
    if path.name == "resnet50-19c8e357.pth":
        return (
            f"{message} It is torchvision's natural ResNet-50: download it from PyTorch's model "
            "hub (ResNet50_Weights.IMAGENET1K_V1) and put it there."
        )
    if path.name in bundled.names():
        return f"{message} Did you mean bundled:{path.name}?"
    return (
        f"{message} Expected a converted directory, the work directory of a finished run, a torch "
        f"file ({' '.join(TORCH_SUFFIXES)}), hf:REPO/FILE, bundled:NAME, or random"
    )
