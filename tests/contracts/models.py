"""The contract of architectures: `check_model`, for present and future families."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rtl_jax.errors import UserError
from rtl_jax.models import registry
from rtl_jax.models.architecture import BEFORE_STEM
from rtl_jax.models.model import batch_stats_of, bind, definition, initialize, variable_shapes
from rtl_jax.models.network import Network


def check_model(architecture: registry.Architecture, directory: Path, image_size: int = 16) -> None:
    """Raise AssertionError unless a small architecture of a family keeps the contract."""
    check_description(architecture)
    check_head(architecture)
    check_parts(architecture)
    check_initial_values(architecture)
    network = Network(architecture, *random_variables(architecture))
    images = np.random.default_rng(1).uniform(size=(3, image_size, image_size, 3)).astype("float32")
    logits = jax.jit(apply)(network.logits_fn(), images)
    check_splits(network, images, np.asarray(logits))
    check_evaluation(network, images, np.asarray(logits))
    check_training(network, images)
    check_files(network, directory)


def apply(function: Any, images: Any) -> jax.Array:
    """Call a function that is a pytree: with it as an argument, one program serves all weights."""
    return function(images)


def check_description(architecture: registry.Architecture) -> None:
    """It is a JSON-serialisable constant."""
    written = json.loads(json.dumps(registry.to_dict(architecture)))
    read = registry.from_dict(written)
    assert read == architecture and hash(read) == hash(architecture)
    with pytest.raises(UserError):
        registry.from_dict({**written, "no_such_field": 1})


def check_head(architecture: registry.Architecture) -> None:
    """Another number of classes changes only the head."""
    other = architecture.replace(num_classes=architecture.num_classes + 2)
    assert other != architecture and other.num_classes == architecture.num_classes + 2
    ours, theirs = (variable_shapes(each)[0] for each in (architecture, other))
    assert ours.keys() == theirs.keys()
    differs = {path for path in ours if ours[path].shape != theirs[path].shape}
    assert differs == set(architecture.head)


def check_parts(architecture: registry.Architecture) -> None:
    """Every variable belongs to one part, every block has some, and the head is as declared."""
    params, batch_stats = variable_shapes(architecture)
    parts = {architecture.block_of(path) for path in params}
    assert set(range(architecture.num_blocks + 1)) <= parts
    assert parts <= set(range(BEFORE_STEM, architecture.num_blocks + 1))
    assert {architecture.block_of(path) for path in batch_stats} <= parts
    assert architecture.has_batch_stats == bool(batch_stats)
    kernel, bias = architecture.head
    assert params[kernel].shape == (architecture.num_features, architecture.num_classes)
    assert params[bias].shape == (architecture.num_classes,)
    last = {path for path in params if architecture.block_of(path) == architecture.num_blocks}
    assert {kernel, bias} <= last
    with pytest.raises(UserError):
        architecture.block_of("no/such/path")


def check_initial_values(architecture: registry.Architecture) -> None:
    """They are finite, of the required shapes, equal for the same key and different for another."""
    shapes = variable_shapes(architecture)
    first, again, other = (initialize(architecture, jax.random.key(seed)) for seed in (0, 0, 1))
    for tree, wanted in zip(first, shapes, strict=True):
        assert {path: leaf.shape for path, leaf in tree.items()} == {
            path: leaf.shape for path, leaf in wanted.items()
        }
        assert all(np.isfinite(leaf).all() for leaf in tree.values())
    jax.tree.map(np.testing.assert_array_equal, first, again)
    kernel = architecture.head[0]
    assert np.abs(first[0][kernel] - other[0][kernel]).max() > 0


def random_variables(architecture: registry.Architecture) -> tuple[dict, dict]:
    """Perturb the initial values: no scale is 1, no bias 0, and variances stay positive."""
    draw = np.random.default_rng(0)
    params, batch_stats = initialize(architecture, jax.random.key(0))

    def moved(leaf: jax.Array) -> np.ndarray:
        return np.asarray(leaf) + draw.uniform(0.05, 0.2, leaf.shape).astype(np.float32)

    return (
        {path: moved(0.5 * leaf) if leaf.ndim < 2 else leaf for path, leaf in params.items()},
        jax.tree.map(moved, batch_stats),
    )


def check_splits(network: Network, images: np.ndarray, whole: np.ndarray) -> None:
    """Prefix and suffix compose to the network, and each reads only variables of its own side."""
    arch = network.architecture
    splits = range(BEFORE_STEM, arch.num_blocks + 1)
    variables = network.params, network.batch_stats

    def only(behind: bool, split: int) -> list[dict]:
        """Keep the variables on one side of a split point; the others become NaN."""
        return [
            {
                path: leaf
                if (arch.block_of(path) >= split) == behind
                else np.full_like(leaf, np.nan)
                for path, leaf in tree.items()
            }
            for tree in variables
        ]

    @jax.jit
    def everywhere(fronts: list, backs: list, images: jax.Array) -> list[tuple]:
        outs = []
        for split, front, back in zip(splits, fronts, backs, strict=True):
            features = bind(definition(arch), *front).prefix(images, split)
            outs.append((features, bind(definition(arch), *back).suffix(features, split)))
        return outs

    outs = everywhere(
        *([only(behind, each) for each in splits] for behind in (False, True)), images
    )
    assert whole.shape == (len(images), arch.num_classes) and whole.dtype == np.float32
    assert np.ptp(whole, axis=0).max() > 1e-4  # images matter
    np.testing.assert_array_equal(outs[0][0], images)
    assert outs[-1][0].shape == (len(images), arch.num_features)
    for features, logits in outs:
        assert len(features) == len(images)
        np.testing.assert_allclose(logits, whole, rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError):
        bind(definition(arch), *variables).prefix(jnp.asarray(images), arch.num_blocks + 1)


def check_evaluation(network: Network, images: np.ndarray, whole: np.ndarray) -> None:
    """Logits do not depend on the batch; pixels beyond [0, 1] count as their bounds; kernels with a
    seed axis give each seed's results; images have a gradient.
    """
    logits_fn, jitted = network.logits_fn(), jax.jit(apply)
    beside = np.stack([images[2], images[1], 1 - images[0]])
    np.testing.assert_allclose(jitted(logits_fn, beside)[1], whole[1], rtol=1e-4, atol=1e-5)
    beyond = np.where(images > 0.5, images + 2 * (images > 0.9), images - 2 * (images < 0.1))
    np.testing.assert_allclose(
        jitted(logits_fn, beyond.astype("float32")),
        jitted(logits_fn, np.where(beyond > 1, 1, np.where(beyond < 0, 0, beyond))),
        rtol=1e-4,
        atol=1e-5,
    )
    gradient = jax.jit(jax.grad(lambda x: logits_fn(x)[:, 0].sum()))(images)
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0
    other = Network(
        network.architecture, {p: x * 0.9 for p, x in network.params.items()}, network.batch_stats
    )
    pair = [each.logits_fn(method="dot") for each in (network, other)]
    both: Any = jax.tree.map(lambda *leaves: jnp.stack(leaves), *pair)
    found = jax.jit(jax.vmap(apply, (0, None)))(both, images)
    for one, wanted in zip(found, pair, strict=True):
        np.testing.assert_allclose(one, jitted(wanted, images), rtol=1e-3, atol=1e-4)


def check_training(network: Network, images: np.ndarray) -> None:
    """Statistics, if any, are updated in train mode only."""
    arch = network.architecture

    @jax.jit
    def step(params: dict, batch_stats: dict, images: jax.Array) -> tuple[dict, dict, jax.Array]:
        module = bind(definition(arch), params, batch_stats)
        module(images)
        still = batch_stats_of(module)
        logits = module(images, train=True)
        return still, batch_stats_of(module), logits

    still, moved, logits = step(network.params, network.batch_stats, images)
    jax.tree.map(np.testing.assert_array_equal, still, network.batch_stats)
    assert all(np.abs(moved[path] - still[path]).max() > 0 for path in moved)
    assert np.isfinite(logits).all()


def check_files(network: Network, directory: Path) -> None:
    """Saved networks are read back bit for bit, with the same digest."""
    network.save(directory / "network")
    read = Network.load(directory / "network")
    assert read.architecture == network.architecture and read.digest == network.digest
    for ours, theirs in (
        (network.params, read.params),
        (network.batch_stats, read.batch_stats),
    ):
        assert ours.keys() == theirs.keys()
        for path in ours:
            np.testing.assert_array_equal(ours[path], theirs[path])
