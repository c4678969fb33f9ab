"""The same networks in PyTorch: torchvision's ResNet, built from a `ResNetArchitecture`.

`--check`, the export and the tests compare with it, so it is plain PyTorch and shares nothing with
`rtl_jax.models` except the description of the network. Parameter names, shapes and padding are
torchvision's, so `load_state_dict(strict=True)` works in both directions.
"""

import itertools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rtl_jax.models.architecture import EXPANSION, ResNetArchitecture

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "silu": F.silu,
    "gelu": F.gelu,
}


class Activation(nn.Module):
    """An activation by its name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        return ACTIVATIONS[self.name](x)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (ResNet-18 and 34)."""

    def __init__(
        self, arch: ResNetArchitecture, channels: int, inner: int, out: int, stride: int
    ) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[arch.activation]
        self.aa = _anti_aliasing(arch, stride)
        self.conv1 = nn.Conv2d(channels, inner, 3, 1 if self.aa else stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.downsample = _downsample(arch, channels, out, stride)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.activation(self.bn1(self.conv1(x)))
        x = x if self.aa is None else self.aa(x)
        return self.activation(self.bn2(self.conv2(x)) + shortcut)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions and a shortcut; the stride in the 3x3 (v1.5) or before (v1)."""

    def __init__(
        self, arch: ResNetArchitecture, channels: int, inner: int, out: int, stride: int
    ) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[arch.activation]
        v1 = arch.stride_in == "1x1"
        self.aa = _anti_aliasing(arch, stride)
        own = 1 if self.aa else stride
        self.conv1 = nn.Conv2d(channels, inner, 1, own if v1 else 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        second = 1 if v1 else own
        self.conv2 = nn.Conv2d(inner, inner, 3, second, 1, groups=arch.groups, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.downsample = _downsample(arch, channels, out, stride)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.activation(self.bn1(self.conv1(x)))
        x = self.activation(self.bn2(self.conv2(x)))
        x = x if self.aa is None else self.aa(x)
        return self.activation(self.bn3(self.conv3(x)) + shortcut)


class Blur(nn.Module):
    """A binomial 3x3 filter with stride 2 and reflection padding, as timm's BlurPool2d."""

    def forward(self, x: Tensor) -> Tensor:
        row = torch.tensor([1.0, 2.0, 1.0], dtype=x.dtype) / 4
        kernel = torch.outer(row, row).expand(x.shape[1], 1, 3, 3)
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), kernel, stride=2, groups=x.shape[1])


def _anti_aliasing(arch: ResNetArchitecture, stride: int) -> nn.Module | None:
    if stride == 1 or arch.anti_aliasing == "none":
        return None
    return nn.AvgPool2d(2) if arch.anti_aliasing == "average" else Blur()


def _downsample(
    arch: ResNetArchitecture, channels: int, out: int, stride: int
) -> nn.Sequential | None:
    if stride == 1 and channels == out:
        return None
    if arch.average_shortcut:
        pool = nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False)
        return nn.Sequential(
            nn.Identity() if stride == 1 else pool,
            nn.Conv2d(channels, out, 1, bias=False),
            nn.BatchNorm2d(out),
        )
    return nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))


class TorchResNet(nn.Module):
    """A ResNet from pixels to logits; see `torch_resnet`.

    The normalisation is inside, as in `robustness`: clamp to [0, 1], subtract the mean, divide by
    the standard deviation. Its constants are not part of the state dict, which therefore has only
    torchvision's names.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, architecture: ResNetArchitecture) -> None:
        super().__init__()
        arch = architecture
        self.architecture = arch
        self.register_buffer("mean", torch.tensor(arch.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(arch.std).view(3, 1, 1), persistent=False)
        kernel, stride = arch.stem_kernel, arch.stem_stride
        stem: list[nn.Module] = []
        for before, after in itertools.pairwise((3, *arch.deep_stem, arch.stem_width)):
            if stem:
                stem += [nn.BatchNorm2d(before), Activation(arch.activation)]
            stem.append(
                nn.Conv2d(before, after, kernel, 1 if stem else stride, kernel // 2, bias=False)
            )
        self.conv1 = nn.Sequential(*stem) if arch.deep_stem else stem[0]
        self.bn1 = nn.BatchNorm2d(arch.stem_width)
        self.maxpool: nn.Module = nn.MaxPool2d(3, 2, 1) if arch.stem_pool else nn.Identity()
        if arch.stem_pool and arch.anti_aliasing == "average":
            self.maxpool = nn.AvgPool2d(2)
        elif arch.stem_pool and arch.anti_aliasing == "blur":
            self.maxpool = nn.Sequential(nn.MaxPool2d(3, 1, 1), Blur())
        block = {"basic": BasicBlock, "bottleneck": Bottleneck}[arch.block]
        blocks: dict[str, list[nn.Module]] = {}
        for name, channels, inner, out, stride in arch.block_specs():
            blocks.setdefault(name.split("/")[0], []).append(
                block(arch, channels, inner, out, stride)
            )
        self.stages = list(blocks)
        for stage, members in blocks.items():
            self.add_module(stage, nn.Sequential(*members))
        self.fc = nn.Linear(arch.stage_widths[-1] * EXPANSION[arch.block], arch.num_classes)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = arch.bn_eps

    def normalize(self, images: Tensor) -> Tensor:
        """Clamp `images` [n, 3, height, width] to [0, 1] and normalise them."""
        return (images.clamp(0, 1) - self.mean) / self.std

    def stages_of(self, images: Tensor) -> list[tuple[str, Tensor]]:
        """Compute every intermediate result from images [n, 3, height, width] in [0, 1].

        Returns (name, tensor) pairs: 'normalize', 'stem' (after its pooling), every block as
        'layer1/0', ..., 'pool' [n, features] and 'logits' [n, classes].
        """
        x = self.normalize(images)
        results = [("normalize", x)]
        x = self.maxpool(ACTIVATIONS[self.architecture.activation](self.bn1(self.conv1(x))))
        results.append(("stem", x))
        for stage in self.stages:
            for index, block in enumerate(self.get_submodule(stage).children()):
                x = block(x)
                results.append((f"{stage}/{index}", x))
        x = x.mean((2, 3))
        results.append(("pool", x))
        results.append(("logits", self.fc(x)))
        return results

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits [n, classes] of images [n, 3, height, width] in [0, 1]."""
        return self.stages_of(images)[-1][1]


def torch_resnet(architecture: ResNetArchitecture) -> TorchResNet:
    """Build `architecture` in PyTorch, in evaluation mode, with torch's initial weights."""
    return TorchResNet(architecture).eval()


@torch.no_grad()
def randomize(module: nn.Module, seed: int) -> nn.Module:
    """Give `module` random weights and running statistics that hide no mistake; return it.

    Untrained BatchNorm has mean 0, variance 1, scale 1 and bias 0, with which a swapped or
    forgotten tensor would go unnoticed. Here, all four differ in every channel, and activations
    keep a magnitude of about one through any depth.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(like: Tensor, low: float, high: float) -> Tensor:
        return torch.rand(like.shape, generator=generator, dtype=like.dtype) * (high - low) + low

    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            fan_in = part.weight[0].numel()
            normal = torch.randn(part.weight.shape, generator=generator)
            part.weight.copy_(normal * fan_in**-0.5)
            if part.bias is not None:
                part.bias.copy_(uniform(part.bias, -0.5, 0.5))
        elif isinstance(part, nn.BatchNorm2d):
            assert part.running_mean is not None and part.running_var is not None
            part.weight.copy_(uniform(part.weight, 0.5, 1.5))
            part.bias.copy_(uniform(part.bias, -0.3, 0.3))
            part.running_mean.copy_(uniform(part.running_mean, -0.3, 0.3))
            part.running_var.copy_(uniform(part.running_var, 0.5, 1.5))
    return module
