"""The families of networks. To add one, write a file like `resnet` and an entry in `FAMILIES`.

An architecture is data, a frozen and hashable dataclass; a module is built from it. `Architecture`
and `Module` define what the rest of the package requires of them; the contract test `check_model`
checks every family.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax

from rtl_jax.errors import UserError, shown
from rtl_jax.models import (
    architecture,
    convnext,
    densenet,
    initial,
    mobile,
    preact,
    resnet,
    shufflenet,
    swin,
    token_layers,
    vgg,
    vit,
    xcit,
)

Variables = dict[str, jax.Array]


class Architecture(Protocol):
    """An architecture as data.

    name: such as 'resnet50'. num_classes: of the head. mean, std: of the normalisation inside.
    num_blocks: split points run from -1, before the stem, to this. num_features: the width of the
    head's input. head: paths of its kernel [features, classes] and bias. has_batch_stats: whether
    there are running statistics; bn_momentum: the weight of a new batch in them. block_of(path):
    the block of a variable, -1 for the stem, `num_blocks` for the head. unseen: what variables do
    not show, where it is not as usual. to_dict(): a JSON-serialisable dictionary, which the class
    method `from_dict` reads.
    """

    def __hash__(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def num_classes(self) -> int: ...
    @property
    def mean(self) -> tuple[float, float, float]: ...
    @property
    def std(self) -> tuple[float, float, float]: ...
    @property
    def num_blocks(self) -> int: ...
    @property
    def num_features(self) -> int: ...
    @property
    def head(self) -> tuple[str, str]: ...
    @property
    def has_batch_stats(self) -> bool: ...
    @property
    def bn_momentum(self) -> float: ...
    @property
    def unseen(self) -> dict[str, Any]: ...
    def block_of(self, path: str) -> int: ...
    def replace(self, **changes: Any) -> Any: ...
    def to_dict(self) -> dict[str, Any]: ...


class Module(Protocol):
    """A network with its variables, for use inside a step; `images` are [N, H, W, 3] in [0, 1].

    `suffix(prefix(images, split), split)` is the network, for every split point. With `train`,
    normalisation uses batch statistics and updates the running ones.
    """

    def prefix(self, images: jax.Array, split: int, *, train: bool = False) -> jax.Array: ...
    def suffix(self, features: jax.Array, split: int, *, train: bool = False) -> jax.Array: ...
    def __call__(self, images: jax.Array, *, train: bool = False) -> jax.Array: ...


@dataclasses.dataclass(frozen=True)
class Family:
    """A family of networks.

    architecture: the dataclass. module: makes the network from an architecture, `dtype` and
    `method`. initialize: draws parameters and statistics from an architecture, a key and the shapes
    of both. named: the family's architectures by name.
    """

    architecture: Any
    module: Callable[..., Any]
    initialize: Callable[..., tuple[Variables, Variables]]
    named: Mapping[str, Any]


FAMILIES: dict[str, Family] = {
    "resnet": Family(
        architecture.ResNetArchitecture,
        resnet.ResNet,
        initial.initialize,
        architecture.ARCHITECTURES,
    ),
    "vit": Family(vit.ViTArchitecture, vit.ViT, token_layers.initialize, vit.ARCHITECTURES),
    "convnext": Family(
        convnext.ConvNeXtArchitecture,
        convnext.ConvNeXt,
        token_layers.initialize,
        convnext.ARCHITECTURES,
    ),
    "xcit": Family(xcit.XCiTArchitecture, xcit.XCiT, token_layers.initialize, xcit.ARCHITECTURES),
    "swin": Family(swin.SwinArchitecture, swin.Swin, token_layers.initialize, swin.ARCHITECTURES),
    "preact": Family(
        preact.PreActArchitecture, preact.PreActResNet, initial.initialize, preact.ARCHITECTURES
    ),
    "densenet": Family(
        densenet.DenseNetArchitecture,
        densenet.DenseNet,
        initial.initialize,
        densenet.ARCHITECTURES,
    ),
    "vgg": Family(vgg.VGGArchitecture, vgg.VGG, initial.initialize, vgg.ARCHITECTURES),
    "mobile": Family(
        mobile.MobileArchitecture, mobile.MobileNet, initial.initialize, mobile.ARCHITECTURES
    ),
    "shufflenet": Family(
        shufflenet.ShuffleNetArchitecture,
        shufflenet.ShuffleNet,
        initial.initialize,
        shufflenet.ARCHITECTURES,
    ),
}


def family_of(arch: Any) -> Family:
    """Return the family that an architecture belongs to."""
    return FAMILIES[family_name(arch)]


def family_name(arch: Any) -> str:
    """Return the name in `FAMILIES` of an architecture's family."""
    return next(name for name, one in FAMILIES.items() if isinstance(arch, one.architecture))


def to_dict(arch: Any) -> dict[str, Any]:
    """Convert an architecture, including its family, to a JSON-serialisable dictionary."""
    return {"family": family_name(arch), **arch.to_dict()}


def from_dict(fields: Mapping[str, Any]) -> Any:
    """Read a dictionary from `to_dict`; without a family, it describes a ResNet.

    Raises UserError for an unknown family, and for unknown or missing fields.
    """
    fields = dict(fields)
    name = fields.pop("family", "resnet")
    if not isinstance(name, str) or name not in FAMILIES:
        raise UserError(f"unknown family {shown(name)}: expected one of {', '.join(FAMILIES)}")
    try:
        return FAMILIES[name].architecture.from_dict(fields)
    except UserError as error:
        raise UserError(f"{error} (family {name})") from error
