"""Influence of all trained parameters: products, low rank and projections, with dense matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from rtl_jax.errors import UserError
from rtl_jax.influence_functions.arnoldi import LowRank, arnoldi
from rtl_jax.influence_functions.blocks import TrainablePart
from rtl_jax.influence_functions.head import Head
from rtl_jax.models.architecture import architecture
from rtl_jax.models.model import initialize
from rtl_jax.models.network import Network
from tests.influence_functions.problems import gradients, hessian

pytestmark = pytest.mark.slow

ARCH = architecture("resnet18", stem="small", stage_sizes=(1, 1), stage_widths=(2, 3)).replace(
    stem_width=2, num_classes=3
)


@pytest.fixture(scope="module")
def network() -> Network:
    params, batch_stats = initialize(ARCH, jax.random.key(0))
    return Network(ARCH, *jax.tree.map(np.asarray, (params, batch_stats)), {})


@pytest.fixture(scope="module")
def block(network: Network):
    """The last block and the head, its batches, and its dense Hessian and gradients."""
    draw = np.random.default_rng(0)
    part = TrainablePart(network, 1, batch_size=4)
    labels = draw.integers(0, 3, 10).astype(np.int32)
    batches = part.batches(np.abs(draw.normal(size=(10, 4, 4, 2))), labels)
    with jax.enable_x64(True):
        inputs = tuple(jnp.concatenate(array)[:10] for array in batches[:2])
        flat, unflatten = ravel_pytree(part._trained)

        def losses(flat: jax.Array) -> jax.Array:
            return part.suffix.losses(unflatten(flat), part._fixed, inputs)

        dense = np.asarray(jax.jit(jax.hessian(lambda flat: losses(flat).mean()))(flat))
        slopes = np.asarray(jax.jit(jax.jacfwd(losses))(flat))
    return part, batches, dense, slopes


def test_products_are_those_of_the_dense_hessian(block):
    part, batches, dense, _ = block
    vector = np.random.default_rng(1).normal(size=part.num_parameters)
    with jax.enable_x64(True):
        found = np.asarray(part.product(batches, jnp.asarray(vector)))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, dense @ vector, atol=1e-10)


def test_arnoldi_finds_the_largest_eigenpairs(block):
    part, batches, dense, slopes = block
    found = part.low_rank(batches, rank=5, steps=60)
    wanted = np.linalg.eigvalsh(dense)[::-1][:5]
    np.testing.assert_allclose(found.values, wanted, rtol=1e-8)
    vectors = found.vectors
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(5), atol=1e-10)
    left = dense @ vectors.T - vectors.T * found.values
    assert abs(left).max() < 1e-6 and found.residuals.max() < 1e-6
    np.testing.assert_allclose(part.project(batches, found.vectors), slopes @ vectors.T, atol=1e-10)


def test_without_blocks_it_is_the_head(network: Network):
    """The full rank of a head, compared with the closed form's damped inverse."""
    draw = np.random.default_rng(2)
    features, labels = draw.normal(size=(9, 3)), draw.integers(0, 3, 9).astype(np.int32)
    head = Head(network.params["fc/kernel"], network.params["fc/bias"])
    train = head.examples(features, labels)
    part = TrainablePart(network, 0, batch_size=4)
    batches = part.batches(features, labels)
    low_rank = part.low_rank(batches, rank=12, steps=12)
    inverse, vectors = low_rank.inverse(damping=0.01)
    assert len(inverse) == 8  # two contrasts of three classes, three features and a bias
    along = part.project(batches, vectors)
    wanted = gradients(train) @ np.linalg.solve(hessian(train, 0.01), gradients(train).T)
    np.testing.assert_allclose((along * inverse) @ along.T, wanted, atol=1e-9)


def test_a_start_in_an_invariant_space_ends_there():
    with jax.enable_x64(True):
        values = jnp.asarray([3.0, 2.0, 1.0, 0.5])
        start = jnp.asarray([1.0, 1.0, 0.0, 0.0])
        found = arnoldi(lambda vector: values * vector, start, steps=4, rank=2)
    np.testing.assert_allclose(found.values, [3.0, 2.0], rtol=1e-12)


def test_what_low_rank_refuses(block, monkeypatch: pytest.MonkeyPatch):
    part, batches, _, _ = block
    with pytest.raises(UserError, match="at least 6 steps"):
        part.low_rank(batches, rank=6, steps=5)
    monkeypatch.setattr("rtl_jax.runtime.resources.host_free", lambda: 1000)
    with pytest.raises(UserError, match="parameters need .* choose a smaller rank"):
        part.low_rank(batches, rank=5, steps=5)


def test_directions_that_curve_downwards_are_left_out():
    found = LowRank(np.array([2.0, 0.5, 1e-14, -0.5]), np.eye(4), np.zeros(4))
    inverse, vectors = found.inverse(damping=1.0)
    np.testing.assert_allclose(inverse, [1 / 3, 1 / 1.5])
    np.testing.assert_array_equal(vectors, np.eye(4)[:2])
