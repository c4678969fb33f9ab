"""Arrays and their names in torch and in Flax.

torch stores a convolution as [out, in, height, width] and a linear layer as [out, in]; Flax as
[height, width, in, out] and [in, out]. BatchNorm's counter of batches has no counterpart.
"""

from typing import NamedTuple

import numpy as np

COUNTER = "num_batches_tracked"

_NORM = (
    ("weight", "scale", "params"),
    ("bias", "bias", "params"),
    ("running_mean", "mean", "batch_stats"),
    ("running_var", "var", "batch_stats"),
)

Shape = tuple[int, ...]


class Entry(NamedTuple):
    """An array under both of its names: torch's name and shape, our collection and path.

    torch's array is reshaped to `split`, if given, transposed by `axes`, as in `numpy.transpose`,
    and then reshaped to our `shape`, if given.
    """

    torch_name: str
    torch_shape: Shape
    collection: str
    path: str
    axes: tuple[int, ...]
    split: Shape | None = None
    shape: Shape | None = None

    @property
    def _viewed(self) -> Shape:
        return self.torch_shape if self.split is None else self.split

    @property
    def flax_shape(self) -> Shape:
        """The shape of our array."""
        return self.shape or tuple(self._viewed[axis] for axis in self.axes)

    def arranged(self, values: np.ndarray) -> np.ndarray:
        """Return torch's array in our layout, with the same dtype; it may be a view."""
        return values.reshape(self._viewed).transpose(self.axes).reshape(self.flax_shape)

    def to_flax(self, values: np.ndarray) -> np.ndarray:
        """Convert torch's array to ours: contiguous float32 in Flax's layout."""
        return np.ascontiguousarray(self.arranged(values), np.float32)

    def to_torch(self, values: np.ndarray) -> np.ndarray:
        """Convert our array to torch's: contiguous float32 in torch's layout."""
        moved = values.reshape([self._viewed[axis] for axis in self.axes])
        back = moved.transpose(np.argsort(self.axes)).reshape(self.torch_shape)
        return np.ascontiguousarray(back, np.float32)


class Table(list[Entry]):
    """The entries of a network, from input to output, to which layers are added.

    A layer's torch name and our path are the same except for dots and slashes, unless `path` is
    given.
    """

    def conv(
        self,
        name: str,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        path: str = "",
        groups: int = 1,
        bias: bool = False,
    ) -> None:
        """Add a convolution."""
        path, shape = path or _path(name), (outputs, inputs // groups, kernel, kernel)
        self.append(Entry(f"{name}.weight", shape, "params", f"{path}/kernel", (2, 3, 1, 0)))
        if bias:
            self.vector(f"{name}.bias", f"{path}/bias", outputs)

    def norm(self, name: str, width: int, *, path: str = "") -> None:
        """Add a batch normalisation."""
        path = path or _path(name)
        for theirs, ours, collection in _NORM:
            self.vector(f"{name}.{theirs}", f"{path}/{ours}", width, collection)

    def layer_norm(self, name: str, width: int, *, path: str = "") -> None:
        """Add a layer normalisation."""
        path = path or _path(name)
        self.vector(f"{name}.weight", f"{path}/scale", width)
        self.vector(f"{name}.bias", f"{path}/bias", width)

    def linear(
        self, name: str, inputs: int, outputs: int, *, path: str = "", bias: bool = True
    ) -> None:
        """Add a linear layer."""
        path, shape = path or _path(name), (outputs, inputs)
        self.append(Entry(f"{name}.weight", shape, "params", f"{path}/kernel", (1, 0)))
        if bias:
            self.vector(f"{name}.bias", f"{path}/bias", outputs)

    def pointwise(self, name: str, inputs: int, outputs: int, *, path: str = "") -> None:
        """Add a linear layer that is a 1x1 convolution in torch."""
        path, shape = path or _path(name), (outputs, inputs, 1, 1)
        entry = Entry(f"{name}.weight", shape, "params", f"{path}/kernel", (1, 0), shape[:2])
        self.append(entry)
        self.vector(f"{name}.bias", f"{path}/bias", outputs)

    def whole(
        self, name: str, torch_shape: Shape, *, path: str = "", shape: Shape | None = None
    ) -> None:
        """Add an array whose axes have the same order in both, reshaped to our `shape` if given."""
        axes = tuple(range(len(torch_shape)))
        self.append(Entry(name, torch_shape, "params", path or _path(name), axes, shape=shape))

    def vector(self, name: str, path: str, width: int, collection: str = "params") -> None:
        """Add a one-dimensional array."""
        self.append(Entry(name, (width,), collection, path, (0,)))


def _path(name: str) -> str:
    return name.replace(".", "/")
