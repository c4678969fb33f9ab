"""What no file says of its network, and what its user overrules."""

import dataclasses
from collections.abc import Sequence

from convert.heads import seed_of
from rtl_jax.models.architecture import OPTIONS, ResNetArchitecture


@dataclasses.dataclass(frozen=True)
class Choices:
    """How to read a checkpoint; None leaves a choice to the file, and to torchvision's usual.

    arch: the name of the architecture that it must hold.
    stem: 'imagenet' or 'small'. mean, std: of pixels of [0, 1], three numbers each.
    key, prefix: of the network in a file with several: the dictionary, 'a.b' for one in another,
      and what all names of its tensors begin with.
    ignore: patterns of names, as a shell's, of tensors that are no part of the network.
    head: for a network without one, 'zeros' or 'seed:N': what it gets for fine-tuning to replace.
    activation, stride_in, bn_eps: as in `ResNetArchitecture`, which no tensor's shape shows.
    """

    arch: str | None = None
    stem: str | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    key: str | None = None
    prefix: str | None = None
    ignore: Sequence[str] = ()
    head: str | None = None
    activation: str | None = None
    stride_in: str | None = None
    bn_eps: float | None = None

    def __post_init__(self) -> None:
        if self.prefix and not self.prefix.endswith("."):
            object.__setattr__(self, "prefix", f"{self.prefix}.")
        if self.head is not None and self.head != "zeros":
            seed_of(self.head)

    @property
    def options(self) -> dict[str, object]:
        """The options of the architecture that were chosen."""
        chosen = {name: getattr(self, name) for name in OPTIONS}
        return {name: value for name, value in chosen.items() if value is not None}


DEFAULT = Choices()


def described(arch: ResNetArchitecture) -> str:
    """The options of an architecture in words; stride only where there is a choice."""
    stride = f", stride in the {arch.stride_in}" if arch.block == "bottleneck" else ""
    return f"{arch.activation}{stride}, BatchNorm eps {arch.bn_eps:g}"
