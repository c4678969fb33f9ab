"""A network in PyTorch, preceded by the normalisation of its pixels."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rtl_jax.errors import UserError
from rtl_jax.models.registry import Architecture


class FromPixels(nn.Module):
    """`network`, from pixels to logits; its state dict is the network's own."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, architecture: Architecture) -> None:
        super().__init__()
        self.network = network
        for name in ("mean", "std"):
            values = torch.tensor(getattr(architecture, name)).view(3, 1, 1)
            self.register_buffer(name, values, persistent=False)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Return the network's state dict."""
        return self.network.state_dict(*args, **kwargs)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load a state dict of the network."""
        return self.network.load_state_dict(state_dict, strict=strict, assign=assign)

    def stages_of(self, images: Tensor) -> list[tuple[str, Tensor]]:
        """Compute 'normalize' and 'logits' from images [n, 3, height, width] in [0, 1]."""
        x = (images.clamp(0, 1) - self.mean) / self.std
        try:
            logits = self.network(x)
        except (AssertionError, RuntimeError) as error:  # torchvision's ViT has one size of images
            height, width = images.shape[2:]
            raise UserError(
                f"--check: the network in PyTorch does not take images of {height} x {width} px: "
                f"{error}"
            ) from error
        return [("normalize", x), ("logits", logits)]

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits [n, classes] of images [n, 3, height, width] in [0, 1]."""
        return self.stages_of(images)[-1][1]
