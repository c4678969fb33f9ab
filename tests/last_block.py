"""Training a network's last block here and in torch, in float64, from the same weights."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from rtl_jax.convert import convert
from rtl_jax.convert.layouts import layout_of
from rtl_jax.models.model import batch_stats_of, bind, definition
from rtl_jax.models.network import Network
from rtl_jax.train.freeze import mask

STEPS, BATCH, CLASSES = 5, 6, 7
LEARNING_RATE, MOMENTUM, DECAY = 0.01, 0.9, 5e-4


def require_the_same_training(
    module: torch.nn.Module, directory: Path, size: int, *, atol: float = 1e-9, **options: Any
) -> None:
    """Fail unless five steps of SGD on the last block and the head give the same variables.

    `module` is a torch network with 7 classes and without normalisation; `options` are what its
    file does not contain. All statistics move, as in the paper's mode, and there is no dropout.
    """
    torch.save(module.state_dict(), directory / "a.pth")
    choices = {"mean": (0.0,) * 3, "std": (1.0,) * 3, **options}
    convert(directory / "a.pth", directory / "out", report=lambda _: None, **choices)
    network = Network.load(directory / "out")
    draw = np.random.default_rng(0)
    images = draw.random((STEPS, BATCH, size, size, 3))
    labels = draw.integers(0, CLASSES, (STEPS, BATCH))
    layout = layout_of(network.architecture, network.provenance.get("layout"))
    table = {entry.torch_name: entry for entry in layout.entries(network.architecture)}
    blocks = {name: network.architecture.block_of(entry.path) for name, entry in table.items()}
    expected = _trained_in_torch(module, images, labels, blocks)
    ours = _trained(network, images, labels)
    for torch_name, value in expected.items():
        if torch_name in table:
            entry = table[torch_name]
            found = ours[entry.collection][entry.path]
            truth = entry.arranged(value.numpy())
            np.testing.assert_allclose(found, truth, rtol=1e-7, atol=atol, err_msg=entry.path)


def _trained_in_torch(
    module: torch.nn.Module, images: np.ndarray, labels: np.ndarray, blocks: dict[str, int]
) -> dict[str, torch.Tensor]:
    module = module.double().train()
    for part in module.modules():
        if type(part).__name__ in ("Dropout", "DropPath", "StochasticDepth"):
            part.eval()
    last = max(blocks.values()) - 1
    for name, value in module.named_parameters():
        value.requires_grad_(blocks[name] >= last)
    trained = [value for value in module.parameters() if value.requires_grad]
    sgd = torch.optim.SGD(trained, LEARNING_RATE, momentum=MOMENTUM, weight_decay=DECAY)
    for x, y in zip(images, labels, strict=True):
        sgd.zero_grad()
        logits = module(torch.from_numpy(x.transpose(0, 3, 1, 2).copy()))
        torch.nn.functional.cross_entropy(logits, torch.from_numpy(y)).backward()
        sgd.step()
    return module.state_dict()


def _trained(
    network: Network, images: np.ndarray, labels: np.ndarray
) -> dict[str, dict[str, jax.Array]]:
    """Return the variables by collection and path."""
    arch = network.architecture
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), dict(network.params))
        stats = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), dict(network.batch_stats))
        own = mask(arch, wide, 1)
        params = {path: value for path, value in wide.items() if own[path]}
        sgd = optax.sgd(LEARNING_RATE, momentum=MOMENTUM)
        optimizer = optax.chain(optax.add_decayed_weights(DECAY), sgd)
        graph = definition(arch, dtype=jnp.float64)

        @jax.jit
        def step(params, stats, state, x, y):
            def loss(params):
                bound = bind(graph, wide | params, stats)
                logits = bound(x, train=True)
                losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
                return losses.mean(), batch_stats_of(bound)

            gradient, stats = jax.grad(loss, has_aux=True)(params)
            updates, state = optimizer.update(gradient, state, params)
            return optax.apply_updates(params, updates), stats, state

        state = optimizer.init(params)
        for x, y in zip(images, labels, strict=True):
            params, stats, state = step(params, stats, state, jnp.asarray(x), jnp.asarray(y))
    return {"params": {**wide, **params}, "batch_stats": stats}
