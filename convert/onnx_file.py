"""Export to ONNX, by PyTorch's exporter from the same network in PyTorch."""

import importlib.util
import json
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from rtl_jax.convert.layouts.layout import Layout, NoTorchNetworkError
from rtl_jax.convert.torch_needed import import_torch
from rtl_jax.convert.torch_weights import in_torch
from rtl_jax.errors import UserError
from rtl_jax.models.network import Network

_MAX_BYTES = (2 << 30) - (1 << 24)  # protobuf's limit, and room for the graph
# Largest float32 difference of probabilities between two programs of the same network.
TOLERANCE = 1e-4


def write_onnx(network: Network, layout: Layout, path: Path, image_size: int) -> float | None:
    """Write the function of `images` [N, size, size, 3] in [0, 1] to `probabilities` and `logits`.

    Both are [N, classes], at the network's temperature, with the normalisation inside; N is
    arbitrary. The file's metadata have `class_names`, as JSON, if they are known. Returns the
    largest difference of probabilities of random images from the network's own, or None if
    onnxruntime is not installed.

    Raises UserError if a package is missing, PyTorch has no such network, the network has more than
    2 GiB, or the file computes something else.
    """
    purpose = "exporting to .onnx"
    torch = import_torch(purpose)
    for package in ("onnx", "onnxscript"):
        if importlib.util.find_spec(package) is None:
            raise UserError(f"{purpose} needs {package}: pip install 'rtl-jax[onnx]'")
    module = _with_probabilities(network, layout, purpose)
    size = sum(value.nbytes for value in module.state_dict().values())
    if size > _MAX_BYTES:
        raise UserError(
            f"{path}: such a file holds at most 2 GiB, and the network has {size / 2**30:.1f} GiB: "
            "write .safetensors instead"
        )
    images = np.random.default_rng(0).random((2, image_size, image_size, 3), np.float32)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter's
        try:
            program = torch.onnx.export(
                module,
                (torch.from_numpy(images),),
                input_names=["images"],
                output_names=["probabilities", "logits"],
                dynamic_shapes=({0: torch.export.Dim("n")},),
                dynamo=True,
                verbose=False,
            )
        except UserError as error:  # torchvision's ViT has one size of images
            raise UserError(f"{path}: {str(error).removeprefix('--check: ')}") from error
    if network.class_names is not None:
        program.model.metadata_props["class_names"] = json.dumps(network.class_names)
    program.save(str(path), external_data=False)
    return _difference(network, path, images)


def _with_probabilities(network: Network, layout: Layout, purpose: str) -> Any:
    """Build the network in PyTorch, from images [N, H, W, 3] to probabilities and logits."""
    from rtl_jax.convert.torch_networks.probabilities import Probabilities

    architecture = network.architecture
    try:
        inside = in_torch(network, layout, purpose)
    except NoTorchNetworkError as error:
        raise UserError(
            f"{purpose} goes through PyTorch, and {layout.torch_words} cannot be built as "
            f"{architecture.name} with {layout.described(architecture) or 'these sizes'}: write "
            ".stablehlo or .safetensors instead"
        ) from error
    except UserError as error:
        raise UserError(f"{purpose}: {str(error).removeprefix('--check: ')}") from error
    return Probabilities(inside, network.temperature).eval()


def _difference(network: Network, path: Path, images: np.ndarray) -> float | None:
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    received = session.run(["probabilities"], {"images": images})[0]
    largest = float(np.abs(received - network.replace(
        provenance={**network.provenance, "image_size": images.shape[1]}
    ).predict_proba(images)).max())  # fmt: skip
    if not largest <= TOLERANCE:
        raise UserError(
            f"{path}: its probabilities differ by {largest:.1e} from the network's, more than "
            f"{TOLERANCE:g}: it was removed; report this"
        )
    return largest
