"""A single mask determines what trains, what is frozen, and what has optimizer memory."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rtl_jax.data.augmentation import Augmentation
from rtl_jax.errors import UserError
from rtl_jax.models.architecture import BEFORE_STEM, architecture
from rtl_jax.models.model import variable_shapes
from rtl_jax.train.freeze import combine, mask, partition, split_point
from rtl_jax.train.program import Program
from rtl_jax.train.recipe import Recipe
from rtl_jax.train.split import SplitNetwork

RESNET50 = architecture("resnet50", num_classes=10)
PARAMS, STATS = variable_shapes(RESNET50)


def trained(blocks: int | None) -> set[str]:
    return {path for path, trains in mask(RESNET50, PARAMS, blocks).items() if trains}


def test_the_papers_block_counts_name_the_papers_layers():
    # Utrera et al.: 0: fc; 1: + layer4.2; 3: + layer4.0-2 with its downsample branch;
    # 9: + layer3.0-5.
    head = {"fc/kernel", "fc/bias"}
    under = lambda *names: {p for p in PARAMS if p.startswith(names)}  # noqa: E731
    assert trained(0) == head
    assert trained(1) == head | under("layer4/2/")
    assert trained(3) == head | under("layer4/")
    assert "layer4/0/downsample_conv/kernel" in trained(3)
    assert "layer4/0/downsample_bn/scale" in trained(3)
    assert trained(9) == head | under("layer4/", "layer3/")
    assert trained(16) == set(PARAMS) - under("conv1", "bn1")
    assert trained(None) == set(PARAMS)


def test_the_cut_lies_before_the_last_blocks():
    assert [split_point(RESNET50, blocks) for blocks in (0, 1, 3, 9, 16)] == [16, 15, 13, 7, 0]
    assert split_point(RESNET50, None) == BEFORE_STEM
    with pytest.raises(UserError, match="16 blocks, received 17"):
        split_point(RESNET50, 17)


def test_a_path_that_no_rule_covers_is_an_error():
    for path in ("layer5/0/conv1/kernel", "layer4/3/bn1/scale", "fc/scale", "extra"):
        with pytest.raises(UserError, match="no freezing rule"):
            mask(RESNET50, [path], 3)


def program_of(settings: Recipe) -> Program:
    return Program(SplitNetwork.of(RESNET50, settings, 32), settings, Augmentation(), epochs=10)


@pytest.mark.parametrize("blocks", [0, 3, None])
def test_frozen_parameters_own_no_optimizer_memory(blocks: int | None):
    params = {path: jnp.zeros(shape.shape) for path, shape in PARAMS.items()}
    stats = {path: jnp.zeros(shape.shape) for path, shape in STATS.items()}
    step = program_of(Recipe(blocks=blocks)).step()
    (selected, moving), frozen = step.divide(params, stats)
    opt_state = step.start(selected, moving).opt_state
    momenta = [leaf for leaf in jax.tree.leaves(opt_state) if leaf.ndim]
    sizes = {path: int(np.prod(PARAMS[path].shape)) for path in PARAMS}
    assert sum(leaf.size for leaf in momenta) == sum(sizes[path] for path in trained(blocks))
    assert len(jax.tree.leaves(selected)) == len(trained(blocks))
    assert set(frozen.params) == set(PARAMS) - trained(blocks)


@pytest.mark.parametrize(
    ("mode", "all_move"), [("batch", True), ("source", False), ("adapt", False)]
)
def test_which_statistics_move(mode: str, all_move: bool):
    params = {path: jnp.zeros(shape.shape) for path, shape in PARAMS.items()}
    stats = {path: jnp.zeros(shape.shape) for path, shape in STATS.items()}
    settings = Recipe(blocks=3, frozen_batch_norm=mode)
    (_, moved), frozen = program_of(settings).step().divide(params, stats)
    moving = set(STATS) if all_move else {path for path in STATS if path.startswith("layer4/")}
    assert set(moved) == moving
    assert set(frozen.batch_stats) == set(STATS) - moving


def test_partition_and_combine_are_inverse():
    variables = {path: np.arange(3.0) + index for index, path in enumerate(PARAMS)}
    selected, frozen = partition(variables, mask(RESNET50, variables, 1))
    assert all(isinstance(selected[path], optax.MaskedNode) for path in frozen)
    assert combine(selected, frozen).keys() == variables.keys()
    assert all(combine(selected, frozen)[path] is variables[path] for path in variables)
