"""The number of seeds in one program, from what the compiler says that it takes."""

import math
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import jax
import numpy as np
import pytest

import rtl_jax as rtl
from rtl_jax.data import ImageSet
from rtl_jax.data.augmentation import PRESETS
from rtl_jax.errors import UserError
from rtl_jax.models.architecture import ResNetArchitecture
from rtl_jax.models.model import initialize
from rtl_jax.models.network import Network
from rtl_jax.runtime import devices, resources
from rtl_jax.train import feeds, parallel, trainer
from rtl_jax.train.abstract import Stored, evaluation, training_steps
from rtl_jax.train.finetuning import FineTuning, start
from rtl_jax.train.parallel import (
    Needs,
    divided,
    in_groups,
    most_seeds,
    needed,
    planned_at_once,
    seed_bytes,
)
from rtl_jax.train.program import Program
from rtl_jax.train.recipe import FrozenBatchNorm, Recipe
from rtl_jax.train.split import SplitNetwork

ARCH = ResNetArchitecture("tiny", "bottleneck", (1, 1), (4, 6), stem_width=6, num_classes=3)
CHOSEN = {"batch_size": 8, "eval_batch_size": 12, "weight_decay": 0.0}


def program(blocks: int = 1, mode: FrozenBatchNorm = "source", **changes: Any) -> Program:
    recipe = Recipe(blocks=blocks, frozen_batch_norm=mode, **{**CHOSEN, **changes})
    return Program(SplitNetwork.of(ARCH, recipe, 32), recipe, PRESETS["none"], epochs=1)


STORED = Stored.expected(program(), 24)._replace(placed=True)


# ---- Groups --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seeds", "each", "number_of_devices", "expected"),
    [
        (20, 20, 1, [20]),
        (20, 17, 1, [10, 10]),
        (20, 7, 1, [7, 7, 6]),
        (10, 5, 4, [8, 2]),  # ten would all lie on one device, and it has room for five
        (8, 1, 4, [4, 4]),
        (2, 1, 4, [1, 1]),
    ],
)
def test_seeds_are_divided_evenly(
    seeds: int, each: int, number_of_devices: int, expected: list[int]
) -> None:
    assert list(divided(seeds, each, number_of_devices)) == expected


@pytest.mark.parametrize("number_of_devices", [1, 2, 3, 8])
def test_no_device_ever_has_more_seeds_than_it_has_room_for(number_of_devices: int) -> None:
    for seeds in range(1, 30):
        for each in range(1, 30):
            numbers = list(divided(seeds, each, number_of_devices))
            assert sum(numbers) == seeds
            for number in numbers:
                # As in `runtime.devices.seeds_apart`: all are on one device unless they divide.
                share = 1 if number % number_of_devices else number_of_devices
                assert number / share <= each
            if number_of_devices == 1:
                assert len(numbers) == math.ceil(seeds / each) and len(set(numbers)) <= 2


def test_groups_are_consecutive_and_complete() -> None:
    assert list(in_groups("abcde", [2, 2, 2])) == [["a", "b"], ["c", "d"], ["e"]]


# ---- The search ----------------------------------------------------------------------------------


def counted(needs: Callable[[int], float]) -> tuple[Callable[..., Needs], list[int]]:
    """Return an oracle of bytes by number of seeds, and the numbers for which it was asked."""
    asked: list[int] = []

    def oracle(program: Program, seeds: int, stored: Stored, steps: int) -> Needs:
        asked.append(seeds)
        return Needs(needs(seeds) / 4, needs(seeds) * 3 / 4, 0)

    return oracle, asked


@pytest.mark.parametrize("fixed", [0.0, 2.0, 20.0])  # in bytes that are estimated for a seed
@pytest.mark.parametrize("own", [0.2, 1.0, 3.0])
def test_as_many_as_fit_in_few_compilations(fixed: float, own: float) -> None:
    one = program()
    unit = seed_bytes(one)
    for free in (fixed + own) / 0.9 * np.array([1.001, 1.5, 3.1, 10.1, 100]):
        oracle, asked = counted(lambda seeds: unit * (fixed + own * seeds))
        found = most_seeds(one, 20, STORED, free=lambda free=free: int(free * unit), needs=oracle)
        room = (0.9 * free - fixed) / own
        fitting = [number for number in range(1, 21) if number <= room]
        programs = {math.ceil(20 / number) for number in fitting}
        assert found in fitting
        if not fixed:
            assert math.ceil(20 / found) == min(programs)
        assert math.ceil(20 / found) <= 2 * min(programs)
        assert len(asked) <= 5 and len(asked) == len(set(asked))
        if room >= 20 and 2 * free >= 20:
            assert asked == [20]  # nothing is compiled that does not run


def test_what_a_compiler_refuses_counts_as_too_many() -> None:
    one = program()
    unit = seed_bytes(one)
    oracle, _ = counted(lambda seeds: unit * seeds if seeds < 6 else math.inf)
    assert most_seeds(one, 20, STORED, free=lambda: 100 * unit, needs=oracle) == 5


@pytest.mark.parametrize(
    ("needs", "message"),
    [
        (
            Needs(2**30, 2**31, 0),
            "transfer.batch_size: the compiled program for one seed takes 3.0",
        ),
        (Needs(0, 0, 2**32), "transfer.eval_batch_size: .* takes 4.0 GiB of memory, and 1.0 GiB"),
        (Needs(0, math.inf, 0), "transfer.batch_size: .* takes more memory than the compiler"),
    ],
)
def test_no_room_for_one_seed_is_an_error(needs: Needs, message: str) -> None:
    with pytest.raises(UserError, match=message):
        most_seeds(program(), 20, STORED, free=lambda: 2**30, needs=lambda *_: needs)


def test_a_seed_that_fills_the_device_runs_alone() -> None:
    oracle, _ = counted(lambda seeds: 0.95 * seeds * 2**30)
    assert most_seeds(program(), 20, STORED, free=lambda: 2**30, needs=oracle) == 1


# ---- What is compiled is what runs ---------------------------------------------------------------


class Recorded:
    """A jitted function that keeps the arguments of its calls."""

    def __init__(self, function: Any):
        self.function, self.calls = function, []

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        # Shapes, since buffers are donated.
        self.calls.append(jax.tree.map(_shape_of, (arguments, keywords)))
        return self.function(*arguments, **keywords)


def _shape_of(leaf: Any) -> Any:
    if isinstance(leaf, np.ndarray):
        return jax.ShapeDtypeStruct(leaf.shape, jax.dtypes.canonicalize_dtype(leaf.dtype))
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) if isinstance(leaf, jax.Array) else leaf


def text(function: Any, call: tuple) -> str:
    arguments, keywords = call
    return function.lower(*arguments, **keywords).as_text()


@pytest.fixture(scope="module")
def images() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.integers(0, 256, (24, 32, 32, 3), np.uint8), np.arange(24) % 3


def network() -> Network:
    params, batch_stats = jax.tree.map(np.asarray, initialize(ARCH, jax.random.key(0)))
    return Network(ARCH, params, batch_stats, {})


CASES: list[tuple[int, FrozenBatchNorm, dict]] = [
    (1, "source", {}),
    (3, "source", {}),
    (3, "batch", {}),
    (2, "adapt", {"class_weights": "balanced"}),
    (2, "source", {"perturbation": "pgd", "eps": 0.5}),
    (2, "source", {"feature_bits": 16, "average_decay": 0.9}),
]


@pytest.mark.parametrize(("seeds", "mode", "changes"), CASES)
def test_what_is_measured_is_what_runs(
    seeds: int, mode: FrozenBatchNorm, changes: dict, images: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, tests = Recorded(feeds.train_steps), Recorded(trainer.evaluate_batch)
    monkeypatch.setattr(feeds, "train_steps", steps)
    monkeypatch.setattr(trainer, "evaluate_batch", tests)
    one = program(mode=mode, **changes)
    source, (pixels, labels) = network(), images
    train = ImageSet(pixels, labels.astype(np.int32))
    tunings = [
        FineTuning(
            **start(
                source,
                train,
                class_names=("a", "b", "c"),
                image_size=32,
                recipe=one.settings,
                augmentation=one.augmentation,
                seed=seed,
                test=train,
                test_indices=np.arange(24),
            )
        )
        for seed in range(seeds)
    ]
    with devices.matmul_precision(one.settings.precision):
        training, state = trainer.begin(tunings)
        expected = Stored.expected(one, 24)
        owners = seeds if mode == "adapt" else 1  # each has its own features
        stored = expected._replace(images=24 * owners)
        step = training_steps(trainer.lockstep(tunings), seeds, stored)
        test = evaluation(trainer.lockstep(tunings), seeds)
        state, _ = training.epoch(state, 1)
        training.evaluate(state)
        assert text(step.function, steps.calls[0]) == step.lower().as_text()
        assert text(test.function, tests.calls[0]) == test.lower().as_text()

        # What a seed takes, counted by hand: its arrays, besides what is stored.
        arguments, keywords = steps.calls[0]
        taken = sum(
            math.prod(leaf.shape) * leaf.dtype.itemsize
            for leaf in jax.tree.leaves((arguments[2:5], keywords))
        )
        found = needed(trainer.lockstep(tunings), seeds, stored._replace(placed=True))
    labels_too = 4 * stored.images
    # Some numbers are float64 on the host, and float32 in the program.
    assert found.arguments == pytest.approx(taken + labels_too, abs=64)
    assert found.steps > 0 and found.tests > 0


@pytest.mark.parametrize("room, numbers", [(4, [2, 2, 1]), (3, [1] * 5)])
def test_cores_share_seeds_if_there_is_memory_for_all(
    room: int, numbers: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = program(perturbation="pgd", steps=2, eps=0.5)
    monkeypatch.setattr(jax, "local_device_count", lambda: 2)
    monkeypatch.setattr(resources, "device_free", lambda: room * seed_bytes(one))
    assert list(planned_at_once(one, 5, 24, STORED)) == numbers


def test_devices_of_a_cpu_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    one = program(blocks=0)
    monkeypatch.setattr(jax, "local_device_count", lambda: 2)
    monkeypatch.setattr(resources, "device_free", lambda: 7 * seed_bytes(one))
    assert list(planned_at_once(one, 8, 24, STORED)) == [4, 4]  # 0.6 of 7: two on each


# ---- In a program --------------------------------------------------------------------------------


def test_networks_are_the_same_however_they_are_grouped(
    images: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {**CHOSEN, "blocks": 1, "epochs": 2, "seeds": range(5), "image_size": 32}
    one_by_one = rtl.finetune(network(), *images, **changes)  # as on a CPU
    monkeypatch.setattr(devices, "platform", lambda: "gpu")
    for most in (5, 2):
        fitting = Mock(return_value=most)
        monkeypatch.setattr(parallel, "most_seeds", fitting)
        jax.clear_caches()
        grouped = rtl.finetune(network(), *images, **changes)
        assert fitting.call_args.args[1] == len(grouped) == 5
        for one, other in zip(one_by_one, grouped, strict=True):
            for path, leaf in one.params.items():
                np.testing.assert_allclose(leaf, other.params[path], rtol=1e-3, atol=1e-5)
    jax.clear_caches()


def test_a_head_that_is_solved_compiles_no_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise AssertionError("nothing trains by steps")

    monkeypatch.setattr(parallel, "training_steps", refused)
    one = program(blocks=0, head_fit="ridge").replace(epochs=0)
    found = needed(one, 3, STORED)
    assert found.steps == 0 and found.total == found.arguments + found.tests > 0
