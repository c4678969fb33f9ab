"""Export of a network to PyTorch, ONNX or StableHLO, to a timm folder, or to the hub."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rtl_jax.convert.hub import expanded
from rtl_jax.convert.layouts import layout_of
from rtl_jax.convert.state_dicts import state_dict, write_safetensors
from rtl_jax.convert.torch_needed import import_torch
from rtl_jax.errors import UserError
from rtl_jax.models import bundled
from rtl_jax.models.network import Network
from rtl_jax.runtime import limits
from rtl_jax.runtime.documents import is_whole
from rtl_jax.runtime.paths import complete_or_absent

# Extensions: weights only, functions of images, a folder for timm.
STATE_DICTS = (".safetensors", ".pth", ".pt")
FUNCTIONS = (".onnx", ".stablehlo")
FOLDER = ".timm"
HUB = "hf:"
BUNDLED = "bundled:"

_NO_HEAD = "warning: its head is only a placeholder, for fine-tuning to replace"


def export(
    checkpoint: str | os.PathLike,
    destination: str | os.PathLike,
    *,
    image_size: int | None = None,
    license: str | None = None,
    rows: str | os.PathLike | None = None,
    private: bool = False,
    report: Callable[[str], Any] = print,
) -> str | Path:
    """Export a network as `export_network`, or as `push` to hf:OWNER/NAME.

    `checkpoint` is its directory, or bundled:NAME.
    `license` and `rows`, the work directory whose rows have its accuracy, are for the model card of
    OUT.timm or on the hub. By default, `rows` is the work directory that contains the network.
    `private` applies to a new repository.
    """
    hub = os.fspath(destination).startswith(HUB)
    for_card = hub or os.fspath(destination).endswith(FOLDER)
    if not for_card and (license is not None or rows is not None):
        raise UserError(
            f"{destination}: license and rows only apply to {FOLDER} and {HUB}OWNER/NAME"
        )
    if private and not hub:
        raise UserError(f"{destination}: private only applies to {HUB}OWNER/NAME")
    destination = destination if hub else _free(destination)
    name = os.fspath(checkpoint)
    if name.startswith(BUNDLED):
        place, network = None, bundled.load(name.removeprefix(BUNDLED))
    else:
        place = expanded(checkpoint).absolute()
        network = Network.load(place)
    if not for_card:
        return export_network(network, destination, image_size=image_size, report=report)
    size = _image_size(network, image_size)
    card: dict[str, Any] = {"license": license, "rows": _rows(place, rows), "report": report}
    if hub:
        from rtl_jax.convert.push import push

        repository = os.fspath(destination).removeprefix(HUB)
        return push(network, repository, size, private=private, **card)
    return _write_folder(network, Path(destination), size, **card)


def export_network(
    network: Network,
    destination: str | os.PathLike,
    *,
    image_size: int | None = None,
    report: Callable[[str], Any] = print,
) -> Path:
    """Write a network in the format of the destination's extension; return `destination`.

    .safetensors and .pth hold every value unchanged, as a flat state dict that the network of the
    layout's `torch_words`, such as torchvision's ResNet, loads with strict=True. .onnx and
    .stablehlo are functions from images [N, size, size, 3] in [0, 1] to probabilities, see
    `write_onnx` and `write_stablehlo`. .timm is a folder, see `write_timm_folder`. `image_size`
    defaults to the network's own. Only .pth and .onnx need torch.

    Raises UserError for another extension, an existing destination, an image size for weights
    alone, and as the writers do.
    """
    destination = _free(destination)
    if destination.suffix in FUNCTIONS:
        return _write_function(network, destination, _image_size(network, image_size), report)
    if destination.suffix == FOLDER:
        return _write_folder(network, destination, _image_size(network, image_size), report=report)
    if image_size is not None:
        raise UserError(f"{destination}: it holds only weights, which have no image size")
    return _write_weights(network, destination, report)


def _write_weights(network: Network, destination: Path, report: Callable[[str], Any]) -> Path:
    torch = None if destination.suffix == ".safetensors" else import_torch("exporting to .pth")
    arch = network.architecture
    layout = layout_of(arch, network.provenance.get("layout"))
    words = layout.torch_words
    with complete_or_absent(destination.absolute()) as temporary:
        if torch is None:
            write_safetensors(network, layout, Path(temporary))
        else:
            state = state_dict(layout, arch, network.params, network.batch_stats)
            try:
                torch.save({name: torch.from_numpy(v) for name, v in state.items()}, temporary)
            except RuntimeError as error:  # raised if the disk is full
                reason = str(error).splitlines()[0]
                raise UserError(
                    f"cannot write {destination}; is there enough space? ({reason})"
                ) from error
    report(f"wrote {destination}: {arch.name}, {arch.num_classes} classes, names of {words}")
    report(
        f"its input is normalised outside the file: clamp to [0, 1], mean {arch.mean}, "
        f"std {arch.std}"
    )
    if "head" in network.provenance:
        report(_NO_HEAD)
    if layout.unusual(arch):
        report(
            f"{words} computes something else with it by default: it needs {layout.described(arch)}"
        )
    return destination


def _write_function(
    network: Network, destination: Path, size: int, report: Callable[[str], Any]
) -> Path:
    from rtl_jax.convert.onnx_file import write_onnx
    from rtl_jax.convert.stablehlo_file import write_stablehlo

    arch = network.architecture
    layout = layout_of(arch, network.provenance.get("layout"))
    difference = None
    with complete_or_absent(destination.absolute()) as temporary:
        if destination.suffix == ".onnx":
            difference = write_onnx(network, layout, Path(temporary), size)
        else:
            write_stablehlo(network, Path(temporary), size)
    report(
        f"wrote {destination}: {arch.name}, images [N, {size}, {size}, 3] in [0, 1] to "
        f"probabilities of {arch.num_classes} classes; its normalisation"
        f"{'' if network.temperature == 1 else ' and its temperature'} inside"
    )
    if difference is not None:
        report(f"equal: probabilities in onnxruntime within {difference:.1e} of the network's")
    if "head" in network.provenance:
        report(_NO_HEAD)
    return destination


def _write_folder(network: Network, destination: Path, size: int, **options: Any) -> Path:
    from rtl_jax.convert.timm_folder import write_timm_folder

    with complete_or_absent(destination.absolute()) as temporary:
        write_timm_folder(network, Path(temporary), size, **options)
    options["report"](
        f"wrote {destination}: load it by "
        f'timm.create_model("local-dir:{destination}", pretrained=True)'
    )
    return destination


def _image_size(network: Network, asked: int | None) -> int:
    """Return the image size asked for, or else the network's own, or else its family's."""
    layout = layout_of(network.architecture, network.provenance.get("layout"))
    own = network.image_size or layout.image_size(network.architecture)
    size = own if asked is None else asked
    if not is_whole(size, 1, limits.IMAGE_SIZE):
        raise UserError(
            f"image size: expected a number from 1 to {limits.IMAGE_SIZE}, received {size}"
        )
    return size


def _rows(place: Path | None, asked: str | os.PathLike | None) -> Path | None:
    """Return the work directory asked for, or that of a network in WORKDIR/runs/RUN/network."""
    if asked is not None:
        return expanded(asked)
    if place is None:
        return None
    workdir = place.parent.parent.parent
    known = place.parent.parent.name == "runs" and any((workdir / "rows").glob("*.parquet"))
    return workdir if known else None


def _free(destination: str | os.PathLike) -> Path:
    """Return the path of a new file. Raises UserError for another extension, or if it exists."""
    place = expanded(destination)
    endings = (*STATE_DICTS, *FUNCTIONS, FOLDER)
    if place.suffix not in endings:
        raise UserError(
            f"{place}: expected an extension {', '.join(endings[:-1])} or {endings[-1]}, or "
            f"{HUB}OWNER/NAME"
        )
    if place.exists() or place.is_symlink():
        raise UserError(f"{place} exists already: remove it or choose another destination")
    return place
