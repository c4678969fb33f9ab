"""RobustBench's pre-activation ResNets in PyTorch, built from our description."""

import torch.nn.functional as F
from torch import Tensor, nn

from rtl_jax.convert.torch_resnet import ACTIVATIONS
from rtl_jax.models.preact import PreActArchitecture


class TorchPreActBlock(nn.Module):
    """Normalise, activate, convolve, twice; plus a shortcut."""

    def __init__(self, arch: PreActArchitecture, channels: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.architecture = arch
        # TensorFlow's padding for stride 2: only at the end, before the convolution.
        self.padded = arch.padding == "end" and stride == 2
        around = 0 if self.padded else 1
        self.bn1 = nn.BatchNorm2d(channels, arch.bn_eps)
        self.conv1 = nn.Conv2d(channels, outputs, 3, stride, around, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs, arch.bn_eps)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels != outputs:
            kernel = arch.shortcut_kernel
            own = around if kernel == 3 else 0
            self.shortcut.append(nn.Conv2d(channels, outputs, kernel, stride, own, bias=False))

    def _pad(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, 1, 0, 1)) if self.padded else x

    def forward(self, x: Tensor) -> Tensor:
        """Compute the block's output."""
        arch, activation = self.architecture, ACTIVATIONS[self.architecture.activation]
        inside = activation(self.bn1(x))
        seen = x
        if len(self.shortcut):
            seen = inside if arch.shortcut == "activated" else x
            seen = self.shortcut(self._pad(seen) if arch.shortcut_kernel == 3 else seen)
        inside = self.conv1(self._pad(inside))
        return self.conv2(activation(self.bn2(inside))) + seen


class TorchPreActResNet(nn.Module):
    """The network after its normalisation, with the names of RobustBench's PreActResNet."""

    def __init__(self, arch: PreActArchitecture) -> None:
        super().__init__()
        self.architecture = arch
        self.conv1 = nn.Conv2d(3, arch.stem_width, 3, 1, 1, bias=False)
        self.layers: list[str] = []
        for path, channels, outputs, stride in arch.block_specs():
            stage = path.partition("/")[0]
            if stage not in self.layers:
                self.layers.append(stage)
                self.add_module(stage, nn.Sequential())
            block = TorchPreActBlock(arch, channels, outputs, stride)
            self.get_submodule(stage).append(block)  # type: ignore[operator]
        if arch.final_norm:
            self.bn = nn.BatchNorm2d(arch.num_features, arch.bn_eps)
        self.linear = nn.Linear(arch.num_features, arch.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits [n, classes] of normalised images [n, 3, height, width]."""
        x = self.conv1(x)
        for stage in self.layers:
            x = self.get_submodule(stage)(x)
        if self.architecture.final_norm:
            x = ACTIVATIONS[self.architecture.activation](self.bn(x))
        return self.linear(x.mean((2, 3)))
