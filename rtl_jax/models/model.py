"""Networks of any family as pure functions of flat dictionaries.

Conventions of the whole package: `images` are NHWC float in [0, 1], `features` are the activations
between blocks, `logits` are [N, classes]. `params` and `batch_stats` are flat dictionaries from a
path such as 'layer4/2/conv1/kernel' to an array, so that freezing, checkpoints, `vmap` over seeds
and Hessians work on plain pytrees. NNX objects exist only inside a step.
"""

from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from rtl_jax.errors import UserError
from rtl_jax.models.convolution import ConvMethod, choose_convolution
from rtl_jax.models.registry import Architecture, Variables, family_of
from rtl_jax.runtime.caching import cached


class Weights(NamedTuple):
    """A network's variables, or part of them: flat parameters and running statistics."""

    params: Variables
    batch_stats: Variables


def definition(
    architecture: Architecture,
    *,
    dtype: jnp.dtype = jnp.float32,
    method: ConvMethod | None = None,
) -> nnx.GraphDef:
    """Return the hashable static part of a network; `bind` adds the variables.

    `dtype` is the dtype in which blocks compute (float32 or bfloat16; variables stay float32).
    `method` is the implementation of convolutions, by default the backend's.
    """
    return _definition(architecture, jnp.dtype(dtype), method or choose_convolution())


@lru_cache(maxsize=64)
def _definition(architecture: Architecture, dtype: jnp.dtype, method: ConvMethod) -> nnx.GraphDef:
    return nnx.graphdef(nnx.eval_shape(lambda: _build(architecture, dtype, method)))


def bind(graphdef: nnx.GraphDef, params: Mapping, batch_stats: Mapping) -> Any:
    """Return a network with these variables for use in a step, without changing them."""

    def state(variables: Mapping) -> nnx.State:
        # JAX arrays, since NNX would write new statistics into the caller's NumPy arrays.
        leaves: Any = {_unflatten(path): jnp.asarray(leaf) for path, leaf in variables.items()}
        return nnx.from_flat_state(leaves)

    return nnx.merge(graphdef, state(params), state(batch_stats), copy=True)


def batch_stats_of(network: Any) -> Variables:
    """Return the running statistics as a flat dictionary, e.g. after a call with `train`."""
    return _flatten(nnx.state(network, nnx.BatchStat))


def variable_shapes(architecture: Architecture) -> tuple[Variables, Variables]:
    """Return the shape and dtype of every parameter and statistic, without computing them."""
    params, batch_stats = _variable_shapes(architecture)
    return dict(params), dict(batch_stats)


@cached
def _variable_shapes(architecture: Architecture) -> tuple[Variables, Variables]:
    def create() -> tuple[Variables, Variables]:
        network = _build(architecture, jnp.dtype(jnp.float32), "xla")
        return _flatten(nnx.state(network, nnx.Param)), batch_stats_of(network)

    return jax.eval_shape(create)


@partial(jax.jit, static_argnums=0)
def initialize(architecture: Architecture, key: jax.Array) -> tuple[Variables, Variables]:
    """Draw random parameters and initial statistics, as defined by the architecture's family."""
    shapes = variable_shapes(architecture)
    return family_of(architecture).initialize(architecture, key, *shapes)


def check_variables(
    architecture: Architecture, params: Mapping, batch_stats: Mapping, where: str
) -> None:
    """Raise UserError naming every variable that is missing, unexpected or of the wrong shape."""
    wanted_params, wanted_stats = variable_shapes(architecture)
    problems = []
    for wanted, received in ((wanted_params, params), (wanted_stats, batch_stats)):
        problems += [f"missing: {path} {wanted[path].shape}" for path in wanted.keys() - received]
        problems += [
            f"left over: {path} {np.shape(received[path])}" for path in received.keys() - wanted
        ]
        problems += [
            f"{path}: expected {wanted[path].shape}, received {np.shape(received[path])}"
            for path in wanted.keys() & received
            if wanted[path].shape != np.shape(received[path])
        ]
    if problems:
        raise UserError(
            f"{where} does not fit {architecture.name} with {architecture.num_classes} classes:\n  "
            + "\n  ".join(sorted(problems))
        )


def _build(architecture: Architecture, dtype: jnp.dtype, method: ConvMethod) -> Any:
    return family_of(architecture).module(architecture, dtype=dtype, method=method)


def _flatten(state: nnx.State) -> Variables:
    return {"/".join(map(str, path)): leaf[...] for path, leaf in nnx.to_flat_state(state)}


def _unflatten(path: str) -> tuple[str | int, ...]:
    return tuple(int(part) if part.isdigit() else part for part in path.split("/"))
