"""Models of any kind as arguments of compiled programs, and the programs that they make."""

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import numpy as np

from rtl_jax.attacks.base import LogitsFn


class ModelStructure(NamedTuple):
    """A model without its arrays, for which a program is compiled.

    structure: the structure of its pytree. rest: its leaves, with None in place of arrays.
    """

    structure: Any
    rest: tuple[Hashable, ...]

    @classmethod
    def split(cls, logits_fn: LogitsFn) -> tuple["ModelStructure", list]:
        """Split a model into its hashable structure and its arrays."""
        leaves, structure = jax.tree.flatten(logits_fn)
        arrays = [leaf if isinstance(leaf, jax.Array | np.ndarray) else None for leaf in leaves]
        pairs = zip(arrays, leaves, strict=True)
        rest = tuple(leaf if array is None else None for array, leaf in pairs)
        return cls(structure, rest), arrays

    def join(self, arrays: list) -> LogitsFn:
        """Rebuild the model from arrays, which may be traced."""
        pairs = zip(arrays, self.rest, strict=True)
        leaves = [leaf if array is None else array for array, leaf in pairs]
        return jax.tree.unflatten(self.structure, leaves)


def lowered(model: Callable, *inputs: Any) -> jax.stages.Lowered:
    """Lower `model(*inputs)`, without compiling it, for the shapes and dtypes of the inputs.

    Its text is the same in every process, and its constants include all arrays that are not leaves
    of the model, such as those in a closure.
    """
    structure, arrays = ModelStructure.split(model)

    # A new function, because JAX does not trace a known one again.
    def called(arrays: list, *inputs: Any) -> Any:
        return structure.join(arrays)(*inputs)

    return jax.jit(called).lower(arrays, *inputs)
