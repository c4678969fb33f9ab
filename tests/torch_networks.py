"""The independent reference: the same network in torch, and its variables in our layout."""

import numpy as np
import torch

from rtl_jax.convert.layouts import entries
from rtl_jax.convert.torch_resnet import TorchResNet, randomize, torch_resnet
from rtl_jax.models.architecture import ResNetArchitecture

Arrays = dict[str, np.ndarray]


def random_torch(architecture: ResNetArchitecture, seed: int = 0) -> TorchResNet:
    """Make a torch network with random weights and running statistics that reveal mistakes."""
    return randomize(torch_resnet(architecture), seed).eval()


def variables_of(network: TorchResNet) -> tuple[Arrays, Arrays]:
    """Return (params, batch_stats) of a torch network, in its own floating type."""
    state = network.state_dict()
    found: dict[str, Arrays] = {"params": {}, "batch_stats": {}}
    for entry in entries(network.architecture):
        # A copy: torch would go on writing into its statistics.
        array = entry.arranged(state[entry.torch_name].numpy()).copy(order="C")
        found[entry.collection][entry.path] = array
    return found["params"], found["batch_stats"]


def nchw(images: np.ndarray) -> torch.Tensor:
    """Convert NHWC images to torch's layout."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
