"""Timing of steps on this machine, with random networks and blank images of a program's shapes."""

import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rtl_jax.data.batches import Batch
from rtl_jax.lab.sweep.estimate import Costs
from rtl_jax.models.model import Weights, initialize
from rtl_jax.train.features import feature_shape, prefix_features
from rtl_jax.train.metrics import Metrics
from rtl_jax.train.program import Program
from rtl_jax.train.side_by_side import evaluate_batch, train_batch
from rtl_jax.train.step import Keys


@lru_cache(maxsize=64)
def measure(program: Program, seeds: int) -> Costs:
    """Time the programs of `seeds` parallel seeds, in seconds per image and seed.

    Compilation is excluded.
    """
    kept = program.network.constant_prefix
    step = program.step()
    step = step.replace(network=program.network.replace(features=program.trains_on_features))
    test = program.network.replace(features=kept)
    params, batch_stats = initialize(program.network.architecture, jax.random.key(0))
    (trained, moving), still = step.divide(params, batch_stats)

    @jax.jit
    def repeated(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: jnp.repeat(leaf[None], seeds, axis=0), tree)

    frozen = Weights(
        *(
            part if axis is None else repeated(part)
            for part, axis in zip(still, program.network.frozen_axes, strict=True)
        )
    )
    size, tested = program.settings.batch_size, program.settings.eval_batch_size
    labels = np.zeros(size, np.int32)
    batch = repeated(Batch(_blank(step.network, size), labels, labels))
    keys = Keys(*[jax.random.split(jax.random.key(0), seeds)] * 3)
    # A solved head takes no steps; one is timed nevertheless, but counts for no epochs.
    numbers = program.replace(epochs=max(program.epochs, 1)).hyper(1)
    hyper = repeated(numbers._replace(learning_rate=numbers.learning_rate[0]))

    def one_step() -> Any:
        # A new state each time, as its buffers are donated.
        state = repeated(step.start(trained, moving))
        arguments = (step, state, Metrics.zero(seeds), frozen, batch, keys)
        return lambda: train_batch(*arguments, epoch=jnp.asarray(1), hyper=hyper)

    shared = not program.network.own_statistics
    images = _blank(test, tested)
    inputs = images if shared or not kept else repeated(images)
    trained_all = repeated(Weights(trained, moving))
    weights = np.ones(tested)
    seen = (test, shared or not kept, trained_all, frozen, inputs, np.zeros(tested, np.int32))
    pixels, rows = np.zeros((tested, 32, 32, 3), np.uint8), np.arange(tested)
    alone = program.network.replace(many=False, own_params=False)
    return Costs(
        _time(one_step) / (seeds * size),
        _time(lambda: lambda: evaluate_batch(*seen, weights=weights)) / (seeds * tested),
        _time(
            lambda: lambda: next(prefix_features(alone, params, batch_stats, pixels, rows, tested))
        )
        / tested
        if kept
        else 0.0,
    )


def _blank(network: Any, number: int) -> jax.Array:
    """Return features, or images of 32 x 32 pixels, that are all zero."""
    if not network.features:
        return jnp.zeros((number, 32, 32, 3), jnp.uint8)
    one = feature_shape(network)
    return jnp.zeros((number, *one.shape), one.dtype)


def _time(prepare: Callable[[], Callable[[], Any]], repeats: int = 3) -> float:
    """Return the minimum of several timings of what `prepare` returns, excluding the first run."""
    timings = []
    for _ in range(repeats + 1):
        run = prepare()
        started = time.perf_counter()
        jax.block_until_ready(run())
        timings.append(time.perf_counter() - started)
    return min(timings[1:])
