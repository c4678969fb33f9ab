"""From the setting `source.checkpoint` to a network: random, converted, trained or from torch."""

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from etils import epath

from rtl_jax.errors import UserError
from rtl_jax.lab.config import Source
from rtl_jax.models import bundled
from rtl_jax.models.architecture import Architecture, architecture
from rtl_jax.models.checkpoint import Network, is_network, load_network, networks_in
from rtl_jax.models.resnet import initialize

# Turns a torch file or hf:REPO/FILE into a network's directory. It is handed in, since
# conversion lies outside this package.
Convert = Callable[[str], Path]

TORCH_SUFFIXES = (".pt", ".pth", ".ckpt", ".tar", ".safetensors", ".bin")

_SALMAN = "hf:madrylab/robust-imagenet-models/"
_WHERE = {
    "imagenet_l2_3_0.pt": ("the paper's L2 eps=3 source", "resnet50_l2_eps3.ckpt"),
    "imagenet_linf_4.pt": ("the paper's Linf eps=4/255 source", "resnet50_linf_eps4.0.ckpt"),
    "imagenet_linf_8.pt": ("the paper's Linf eps=8/255 source", "resnet50_linf_eps8.0.ckpt"),
}


def load_source(settings: Source, *, seed: int = 0, convert: Convert | None = None) -> Network:
    """The network that `source.checkpoint` names, with NumPy variables.

    `seed` draws a random network; `convert` reads torch files and hf: names. Raises
    UserError where there is no such checkpoint (saying where to get it), where it is
    damaged, or where it is not of the architecture `source.arch`.
    """
    checkpoint = settings.checkpoint
    if checkpoint == "random":
        return _random(settings, seed)
    path = epath.Path(checkpoint).expanduser()
    if checkpoint.startswith("bundled:"):
        network = bundled.load(checkpoint.removeprefix("bundled:"))
    elif path.is_dir():
        network = load_network(_network_directory(path))
    elif checkpoint.startswith("hf:") or path.is_file():
        if convert is None:
            raise UserError(
                f"source.checkpoint: {checkpoint} is to be converted first: "
                f"python -m convert {checkpoint} DESTINATION"
            )
        network = load_network(convert(checkpoint))
    else:
        raise UserError(_absent(path))
    found = network.architecture.name
    if settings.arch and settings.arch != found:
        raise UserError(
            f"source.arch: expected {settings.arch!r}, and {checkpoint} holds {found!r}; "
            "set source.arch to that, or to nothing"
        )
    return network


def _random(settings: Source, seed: int) -> Network:
    changes = {
        name: value
        for name in ("stage_sizes", "stage_widths")
        if (value := getattr(settings, name)) is not None
    }
    if not settings.arch:
        raise UserError("source.arch: a random source needs an architecture, such as resnet50")
    arch: Architecture = architecture(settings.arch, stem=settings.stem, **changes)
    if "stage_widths" in changes:
        arch = arch.replace(stem_width=changes["stage_widths"][0])
    params, batch_stats = jax.tree.map(np.asarray, initialize(arch, jax.random.key(seed)))
    return Network(arch, params, batch_stats, {"kind": "random", "seed": seed})


def _network_directory(path: epath.Path) -> epath.Path:
    """`path` itself if it is a network, else the one that a task left in that work directory."""
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
        "Convert a torch checkpoint with: python -m convert SOURCE DESTINATION"
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
    return (
        f"{message} Expected a converted directory, the work directory of a finished run, a torch "
        f"file ({' '.join(TORCH_SUFFIXES)}), hf:REPO/FILE, or random"
    )
