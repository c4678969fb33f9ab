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

    default: used if unspecified; None: what the shapes suggest, or else a UserError.
    values: the possible ones, or `float`. words: the flag's help.
    """

    default: object
    values: tuple[str, ...] | type[float]
    words: str


class Change(NamedTuple):
    """A way in which a network may differ; changes of the same `kind` are mutually exclusive.

    name: the flags that express it. fields: the changed ones of the architecture.
    """

    kind: str
    name: str
    fields: Mapping[str, object]
    bgr: bool = False


class Layout:
    """The base of every layout; a family has one for each naming scheme in use.

    name: the layout's. family: a key of `registry.FAMILIES`. words: for messages, 'a ResNet'.
    first: names of the first layer, including '.weight', of which every such network has one.
    signs: prefixes, of which at least one begins the names of such a network's tensors, and none
    those of other parts. heads: names of the last, linear layer; the first is the one in `entries`.
    options: by `infer`'s names for them, each a field of the architecture or explained by the
    layout. unused: last parts of the names of tensors that compute nothing. torch_words: the
    network in PyTorch with these names.
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
        """Return a name inside the network as in `entries`, if files use another."""
        return name

    def computes_nothing(self, name: str) -> bool:
        """Whether a tensor inside the network is not used by it, such as a counter of batches."""
        return name.rpartition(".")[2] in self.unused

    def fits(self, shapes: Mapping[str, Shape]) -> bool:
        """Whether these renamed tensors are this layout's, if several layouts have its signs."""
        return True

    def infer(self, shapes: Mapping[str, Shape], options: Mapping[str, Any]) -> Any:
        """Infer the architecture of these tensors; sizes by majority vote of those that show them.

        Raises UserError that says which flag to give if nothing decides.
        """
        raise NotImplementedError

    def entries(self, architecture: Any) -> Sequence[Entry]:
        """Return every array of a network, from input to output."""
        raise NotImplementedError

    def options_of_name(self, name: str) -> dict[str, Any]:
        """Return the options implied by the name of an architecture or a file, such as timm's."""
        return {}

    def options_of_modules(self, modules: Collection[str]) -> dict[str, Any]:
        """Return the options implied by the names of all modules, including those without tensors.

        A value of None means that the modules fit several networks, so the user must be asked.
        """
        return {}

    def stem_words(self, architecture: Any) -> str:
        """Describe the first layers, for the report."""
        return ""

    def describes(self, architecture: Any) -> bool:
        """Whether networks of this architecture have these names, among those of its family."""
        return True

    def described(self, architecture: Any) -> str:
        """Describe the options of an architecture in words."""
        return ", ".join(f"{name} {getattr(architecture, name)}" for name in self.options)

    def stated(self, architecture: Any) -> dict[str, Any]:
        """Return the options of an architecture that an exported file states."""
        return {
            name: value for name, value in architecture.to_dict().items() if name in self.options
        }

    def unusual(self, architecture: Any) -> bool:
        """Whether the network of `torch_words` computes something else with these tensors."""
        return bool(set(architecture.to_dict()) & set(architecture.OPTIONS))

    def changes(self, architecture: Any) -> Iterator[Change]:
        """Yield the changes that lead to other architectures that the same tensors fit."""
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
        """Build the network of `torch_words`, from pixels to logits, with `stages_of`.

        Its tensors have the names of `torch_layout`. Raises UserError if there is none of these
        sizes or it cannot be imported.
        """
        from rtl_jax.convert.torch_networks.from_pixels import FromPixels

        return FromPixels(self.torch_network(architecture), architecture).eval()

    def torch_network(self, architecture: Any) -> Any:
        """Build the same from normalised pixels; raise UserError likewise."""
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
        """The layout with the names of `torch_module`."""
        return self

    def constants(self, architecture: Any) -> dict[str, np.ndarray]:
        """Return torch's state dict beyond the entries: BatchNorm's counters, int64 zeros."""
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
    """Return `found` with the name of the known architecture that it equals, or else `otherwise`.

    The number of classes may differ.
    """
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
