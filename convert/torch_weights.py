"""A layout's network in PyTorch, with given weights."""

from collections.abc import Mapping
from typing import Any

from rtl_jax.convert.layouts.layout import Layout
from rtl_jax.convert.torch_needed import import_torch
from rtl_jax.errors import UserError
from rtl_jax.models.network import Network


def with_weights(layout: Layout, architecture: Any, state: Mapping[str, Any]) -> Any:
    """Build `layout.torch_module` with these tensors, by the names of `layout.torch_layout`.

    Raises UserError if the network cannot be built in PyTorch, and NoTorchNetworkError if it has
    other tensors.
    """
    try:
        module = layout.torch_module(architecture)
    except UserError:
        raise
    except Exception as error:  # timm and torchvision raise various errors for such sizes
        raise layout.incomparable(architecture) from error
    whole = module.state_dict()  # with torch's metadata, which some modules read
    # Counters and the like compute nothing; the values that do must all be there.
    missing = [name for name in whole.keys() - state.keys() if not layout.computes_nothing(name)]
    if missing or any(
        name not in whole or whole[name].shape != value.shape for name, value in state.items()
    ):
        raise layout.incomparable(architecture)
    whole.update(state)
    module.load_state_dict(whole)
    return module


def in_torch(network: Network, layout: Layout, purpose: str) -> Any:
    """Build a network in PyTorch, from pixels [N, 3, H, W] in [0, 1] to logits.

    Raises as `with_weights`.
    """
    import numpy as np

    torch = import_torch(purpose)
    variables = {"params": network.params, "batch_stats": network.batch_stats}
    state = {
        entry.torch_name: torch.from_numpy(
            entry.to_torch(np.asarray(variables[entry.collection][entry.path]))
        )
        for entry in layout.torch_layout.entries(network.architecture)
    }
    return with_weights(layout, network.architecture, state)
