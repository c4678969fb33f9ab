"""The layouts of checkpoints, one file per family; adding one takes a line in `LAYOUTS`."""

from collections.abc import Mapping, Sequence
from typing import Any

from rtl_jax.convert.layouts.convnext import (
    ConvNeXtLayout,
    ConvolutionalConvNeXtLayout,
    TorchvisionConvNeXtLayout,
)
from rtl_jax.convert.layouts.densenet import DenseNetLayout
from rtl_jax.convert.layouts.entry import Entry
from rtl_jax.convert.layouts.layout import Layout, Option
from rtl_jax.convert.layouts.mobile import MNASNetLayout, MobileNetV2Layout
from rtl_jax.convert.layouts.preact import (
    DeepMindPreActLayout,
    DeepMindWideResNetLayout,
    PreActResNetLayout,
    WideResNetLayout,
)
from rtl_jax.convert.layouts.resnet import ResNetLayout
from rtl_jax.convert.layouts.shufflenet import ShuffleNetLayout
from rtl_jax.convert.layouts.swin import OldSwinLayout, SwinLayout
from rtl_jax.convert.layouts.torchvision_swin import TorchvisionSwinLayout
from rtl_jax.convert.layouts.torchvision_vit import TorchvisionViTLayout
from rtl_jax.convert.layouts.vgg import VGGLayout
from rtl_jax.convert.layouts.vit import ViTLayout
from rtl_jax.convert.layouts.xcit import XCiTLayout
from rtl_jax.models.registry import family_name

# If several have the signs of a file's names, the first that fits is used.
LAYOUTS: tuple[Layout, ...] = (
    ResNetLayout(),
    ViTLayout(),
    TorchvisionViTLayout(),
    ConvNeXtLayout(),
    ConvolutionalConvNeXtLayout(),
    TorchvisionConvNeXtLayout(),
    SwinLayout(),
    OldSwinLayout(),
    TorchvisionSwinLayout(),
    XCiTLayout(),
    PreActResNetLayout(),
    WideResNetLayout(),
    DeepMindWideResNetLayout(),
    DeepMindPreActLayout(),
    DenseNetLayout(),
    VGGLayout(),
    MobileNetV2Layout(),
    MNASNetLayout(),
    ShuffleNetLayout(),
)


def layout_of(architecture: Any, name: str | None = None) -> Layout:
    """Return the layout of a network's family: the one of this name, or the first that fits."""
    family = family_name(architecture)
    own = [layout for layout in LAYOUTS if layout.family == family]
    own = [layout for layout in own if layout.describes(architecture)]
    return next((layout for layout in own if layout.name == name), own[0])


def entries(architecture: Any) -> Sequence[Entry]:
    """Return the entries of a network in the first layout of its family that fits."""
    return layout_of(architecture).entries(architecture)


def all_options() -> Mapping[str, Option]:
    """Return the options of all layouts by name, with the union of their values."""
    found: dict[str, Option] = {}
    for layout in LAYOUTS:
        for name, option in layout.options.items():
            known = found.get(name, option)
            if isinstance(known.values, tuple) and isinstance(option.values, tuple):
                known = known._replace(values=tuple(dict.fromkeys(known.values + option.values)))
            found[name] = known
    return found


def known_architectures() -> dict[str, Any]:
    """Return the architectures of every family that files are converted to, by name."""
    return {name: each for layout in LAYOUTS for name, each in layout.known.items()}
