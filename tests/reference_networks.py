"""The reference networks: torchvision's, timm's and robustbench's own.

They come with the extra `reference`; tests that need them are skipped without it. Only network
definitions are used, so that torchvision need not be built for the installed torch.
"""

import importlib.util
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np
import pytest
import torch

from rtl_jax.convert.torch_needed import import_package
from rtl_jax.convert.torch_resnet import randomize
from rtl_jax.errors import UserError
from rtl_jax.models.model import bind, definition


def reference(name: str) -> ModuleType:
    """Import 'torchvision', 'timm' or a module of theirs; skip the test if it is missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return import_package(name, "the test")
        except UserError as error:
            pytest.skip(str(error))


def definitions(package: str, path: str) -> ModuleType:
    """Run one file of network definitions without importing its package, which has many other
    dependencies; skip the test if it is missing.
    """
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        pytest.skip(f"{package} is not installed: pip install --no-deps {package}")
    file = Path(found.origin).parent / path
    spec = importlib.util.spec_from_file_location(f"_{package}_{file.stem}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def torch_logits(module: torch.nn.Module, arch: Any, images: np.ndarray) -> np.ndarray:
    """Compute logits of images [N, H, W, 3] in [0, 1] by a torch network without normalisation."""
    mean, std = (torch.tensor(part).view(3, 1, 1) for part in (arch.mean, arch.std))
    with torch.no_grad():
        pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
        return module.eval()((pixels - mean) / std).numpy()


def jax_logits(arch: Any, variables: dict[str, Any], images: np.ndarray) -> np.ndarray:
    """Compute our logits of the images, in one program."""
    graph = definition(arch)

    @jax.jit
    def run(params: Any, stats: Any, images: jax.Array) -> jax.Array:
        return bind(graph, params, stats)(images)

    with jax.default_matmul_precision("highest"):
        return np.asarray(run(variables["params"], variables["batch_stats"], images))


def moved(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Return the network with random weights and statistics that reveal mistakes."""
    return randomize(module, seed).eval()


def shaken(module: torch.nn.Module) -> torch.nn.Module:
    """Return the network with random weights, no scale 1, no bias 0, and positions that matter."""
    moved(module)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in module.named_parameters():
            random = torch.randn(value.shape, generator=generator)
            if ("embed" in name and value.dim() == 3) or "token" in name or "bias_table" in name:
                value.copy_(0.5 * random)
            elif "gamma" in name or "layer_scale" in name or "temperature" in name:
                value.copy_(1 + 0.2 * random)
            elif value.dim() == 1:
                value.add_(0.2 * random)
    return module
