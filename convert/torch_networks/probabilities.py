"""A network in PyTorch, wrapped to map images to probabilities."""

from torch import Tensor, nn


class Probabilities(nn.Module):
    """`network` on channels-last images, with its probabilities at a temperature."""

    def __init__(self, network: nn.Module, temperature: float) -> None:
        super().__init__()
        self.network, self.temperature = network, temperature

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return (probabilities, logits) [n, classes] of images [n, height, width, 3] in [0, 1]."""
        logits = self.network(images.permute(0, 3, 1, 2)) / self.temperature
        return logits.softmax(1), logits
