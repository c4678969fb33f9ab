"""The interface of a layout: the names and contents of a family's checkpoints."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from rtl_jax.convert.inert import shown
from rtl_jax.convert.layouts.entry import COUNTER, Entry, Shape
from rtl_jax.errors import UserError
from rtl_jax.models.registry import FAMILIES


class NoTorchNetworkError(UserError):
    """PyTorch has no network of this description."""


class Option(NamedTuple):
    """A property that no tensor's shape reveals, with a flag of its own.

    default: what is taken where nobody says; None: what the shapes suggest, or a UserError.
    values: those that there are, or `float`. words: for the help of the flag.
    """

    default: object
    values: tuple[str, ...] | type[float]
    words: str


class Change(NamedTuple):
    """A way in which a network may differ; changes of the same `kind` exclude each other.

    name: the flags that say it. fields: of the architecture.
    """

    kind: str
    name: str
    fields: Mapping[str, object]
    bgr: bool = False


class Layout:
    """The base of every layout; a family has one for each set of names that is in use.

    name: of the layout. family: of `registry.FAMILIES`. words: what holds it, 'a ResNet'.
    first: names of a layer, '.weight' and all, of which every such network has one. signs: what
    names of its tensors begin with, one at least, and no other part of a network does. heads: what
    its last, linear layer is called; the first is the name in `entries`. options: by the names
    that `infer` takes them by, each a field of the architecture or explained by the layout.
    unused: last parts of the names of tensors that compute nothing. torch_words: whose
    network in PyTorch has these names.
    """

    name: ClassVar[str]
    family: ClassVar[str]
    words: ClassVar[str]
    first: ClassVar[tuple[str, ...]]
    signs: ClassVar[tuple[str, ...]]
    heads: ClassVar[tuple[str, ...]] = ("fc",)
    options: ClassVar[Mapping[str, Option]] = {}
    unused: ClassVar[tuple[str, ...]] = (COUNTER,)
    torch_words: ClassVar[str] = "torchvision's network"

    def rename(self, name: str) -> str:
        """A name inside the network as `entries` has it, where files have it otherwise."""
        return name

    def computes_nothing(self, name: str) -> bool:
        """Whether a tensor inside the network is of no use to it, such as a counter of batches."""
        return name.rpartition(".")[2] in self.unused

    def fits(self, shapes: Mapping[str, Shape]) -> bool:
        """Whether these tensors, renamed, are its own, where several layouts have its signs."""
        return True

    def infer(self, shapes: Mapping[str, Shape], options: Mapping[str, Any]) -> Any:
        """The architecture whose tensors these are; sizes by the vote of all that show them.

        Raises UserError that says which flag to give where nothing decides.
        """
        raise NotImplementedError

    def entries(self, architecture: Any) -> Sequence[Entry]:
        """Every array of a network, from input to output."""
        raise NotImplementedError

    def options_of_name(self, name: str) -> dict[str, Any]:
        """The options that the name of an architecture or of a file says, such as timm's."""
        return {}

    def options_of_modules(self, modules: Collection[str]) -> dict[str, Any]:
        """The options that the names of all parts of a network say, those without tensors too.

        None as a value: the parts are those of several networks, and it is to be asked for.
        """
        return {}

    def stem_words(self, architecture: Any) -> str:
        """Describe the first layers, for the report."""
        return ""

    def describes(self, architecture: Any) -> bool:
        """Whether networks of this architecture have these names, of its family's several."""
        return True

    def described(self, architecture: Any) -> str:
        """Describe the options of an architecture in words."""
        return ", ".join(f"{name} {getattr(architecture, name)}" for name in self.options)

    def stated(self, architecture: Any) -> dict[str, Any]:
        """The options of an architecture that an exported file says of itself."""
        return {
            name: value for name, value in architecture.to_dict().items() if name in self.options
        }

    def unusual(self, architecture: Any) -> bool:
        """Whether the network of `torch_words` computes something else with these tensors."""
        return bool(set(architecture.to_dict()) & set(architecture.OPTIONS))

    def changes(self, architecture: Any) -> Iterator[Change]:
        """Return the other architectures that the same tensors fit."""
        for name, option in self.options.items():
            for value in option.values if isinstance(option.values, tuple) else ():
                yield Change(name, f"--{name.replace('_', '-')} {value}", {name: value})

    def hints(self, architecture: Any, problems: Sequence[str]) -> list[str]:
        """Return hints on a near miss, from the lines of `mismatches`."""
        return []

    def image_size(self, architecture: Any) -> int:
        """Return the image size, in pixels per side, for which such a network is made."""
        return 224

    def torch_module(self, architecture: Any) -> Any:
        """The network of `torch_words`, from pixels to logits, with `stages_of` and the names of
        `torch_layout`; UserError where there is none of these sizes or it cannot be imported."""
        from rtl_jax.convert.torch_networks.from_pixels import FromPixels

        return FromPixels(self.torch_network(architecture), architecture).eval()

    def torch_network(self, architecture: Any) -> Any:
        """The same from normalised pixels; UserError likewise."""
        raise self.incomparable(architecture)

    def incomparable(self, architecture: Any) -> "NoTorchNetworkError":
        """Return the error to raise if `torch_words` has no network of this description."""
        return NoTorchNetworkError(
            f"--check: {self.torch_words} cannot be built as {architecture.name} with "
            f"{self.described(architecture) or 'these sizes'}, so there is nothing to compare "
            "with: --reference FILE.npz compares with logits of your own model"
        )

    @property
    def torch_layout(self) -> "Layout":
        """The layout of the names that `torch_module` has."""
        return self

    def constants(self, architecture: Any) -> dict[str, np.ndarray]:
        """What torch's state dict has beside the entries: BatchNorm's counters, int64 zeros."""
        return {
            entry.torch_name.replace("running_var", COUNTER): np.zeros((), np.int64)
            for entry in self.entries(architecture)
            if entry.torch_name.endswith("running_var")
        }

    @property
    def known(self) -> Mapping[str, Any]:
        """The family's architectures by name."""
        return FAMILIES[self.family].named


def majority(values: Iterable[int]) -> int:
    """Return the most common value, or 0 if there are none."""
    return next((value for value, _ in Counter(values).most_common(1)), 0)


def named(found: Any, known: Mapping[str, Any], otherwise: str) -> Any:
    """`found` by the name of the known architecture that it is but for its classes, or by another
    name."""
    for each in known.values():
        if found.replace(name=each.name, num_classes=each.num_classes) == each:
            return found.replace(name=each.name)
    return found.replace(name=otherwise)


def mismatches(layout: Layout, architecture: Any, shapes: Mapping[str, Shape]) -> list[str]:
    """Return a line for every tensor that is missing, left over or misshapen, with its shapes."""
    expected = {entry.torch_name: entry.torch_shape for entry in layout.entries(architecture)}
    received = {n: s for n, s in shapes.items() if not layout.computes_nothing(n)}
    lines = [f"missing: {name} {expected[name]}" for name in expected if name not in received]
    lines += [
        f"left over: {shown(name)} {received[name]}" for name in received if name not in expected
    ]
    lines += [
        f"wrong shape: {name} expected {expected[name]}, received {received[name]}"
        for name in expected
        if name in received and received[name] != expected[name]
    ]
    return lines
