"""How many seeds train in one program: as many as one device has memory for."""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from rtl_jax.data.transforms import prepare
from rtl_jax.errors import UserError
from rtl_jax.models.model import variable_shapes
from rtl_jax.models.registry import Variables
from rtl_jax.runtime import devices, resources
from rtl_jax.train.abstract import Abstract, Stored, evaluation, training_steps
from rtl_jax.train.features import feature_shape
from rtl_jax.train.feeds import steps_together
from rtl_jax.train.finetuning import FineTuning
from rtl_jax.train.program import Program
from rtl_jax.train.trainer import FeatureCaches, lockstep

_T = TypeVar("_T")
_ARRAYS = jax.Array | np.ndarray | jax.ShapeDtypeStruct

# The share of free memory that a program may take; the rest may be in pieces too small for it.
_SHARE = 0.9
_ESTIMATED_SHARE = 0.6  # the same where the program's memory is only estimated
# Compiled programs take less than the estimate: of 8 seeds with three blocks of ResNet-50 on a TPU,
# 0.4 of it.
_FOLD = 2
# More seeds are tried if, in proportion to fewer, they would take this many times the room or less.
_HOPEFUL = 1.2


class Needs(NamedTuple):
    """The bytes of a device's memory that a training takes, besides images that lie there already.

    arguments: weights, optimizer state and indices. steps: what training steps take besides.
    tests: what an evaluation takes besides. A number is infinite if the compiler finds it too
    large.
    """

    arguments: float
    steps: float
    tests: float

    @property
    def total(self) -> float:
        """The most that is taken at once."""
        return self.arguments + max(self.steps, self.tests)

    @property
    def setting(self) -> str:
        """The setting of what takes most."""
        return "batch_size" if self.steps >= self.tests else "eval_batch_size"


def divided(seeds: int, each: int, number_of_devices: int) -> Iterator[int]:
    """Yield the numbers of seeds of consecutive programs, at most `each` on a device.

    More than that are divided over devices, which takes a multiple of their number. The numbers are
    as equal as possible, since another number is another program to compile.
    """
    while seeds:
        number = evenly(seeds, each * number_of_devices)
        if number > each:
            number = number - number % number_of_devices or each
        yield number
        seeds -= number


def evenly(seeds: int, most: int) -> int:
    """Return the largest number of seeds in as few equal programs as `most` seeds in each allow."""
    return math.ceil(seeds / math.ceil(seeds / most))


def in_groups(every: Sequence[_T], numbers: Iterable[int]) -> Iterator[list[_T]]:
    """Yield consecutive groups of these sizes, until all are in one."""
    left = iter(every)
    for number in numbers:
        if not (group := list(islice(left, number))):
            return
        yield group


def seeds_at_once(
    tunings: Sequence[FineTuning], caches: FeatureCaches | None = None
) -> Iterator[int]:
    """Yield the numbers of seeds of consecutive programs for fine-tunings that differ by seed.

    `caches` hold their images; None: each makes its own. For the numbers, see `planned_at_once`.
    """
    program, images = lockstep(tunings), len(tunings[0].train_indices)
    stored = Stored.expected(program, images) if caches is None else Stored.of(caches.train)
    return planned_at_once(program, len(tunings), images, stored)


def planned_at_once(program: Program, seeds: int, images: int, stored: Stored) -> Iterator[int]:
    """Yield the numbers of seeds of consecutive programs, whose seeds local devices share.

    On an accelerator, as many as `most_seeds` on each device. On a CPU, where parallel seeds gain
    nothing on one device, attacked or not (measured in docs/benchmarks.md), one per device if all
    fit, unless only the head trains: its steps are so short that dispatching them dominates.

    Raises UserError if there is no room for a single seed.
    """
    number = jax.local_device_count()
    if devices.platform() != "cpu":
        each = most_seeds(program, -(-seeds // number), stored, _steps(program, images))
    else:
        alone, fitting = program.network.blocks == 0 and not program.settings.perturbs, 1
        if alone or number > 1:  # the estimate traces the program
            fitting = int(_ESTIMATED_SHARE * resources.device_free() / seed_bytes(program))
        number = number if fitting >= number else 1  # devices of a CPU share its memory
        each = max(1, fitting // number) if alone else 1
    return divided(seeds, each, number)


def memory(program: Program, seeds: int, images: int, stored: Stored) -> int | None:
    """Return the bytes that these seeds take in one program, on all devices that share them.

    It is an estimate on a CPU. None: the compiler refuses them.
    """
    if devices.platform() == "cpu":
        return seeds * seed_bytes(program)
    number = jax.local_device_count()
    shares = number if seeds % number == 0 else 1
    total = needed(program, seeds // shares, stored, _steps(program, images)).total
    return int(shares * total) if math.isfinite(total) else None


def _steps(program: Program, images: int) -> int:
    return steps_together(images // program.settings.batch_size)


def most_seeds(
    program: Program,
    seeds: int,
    stored: Stored,
    steps: int = 1,
    *,
    free: Callable[[], int] | None = None,
    needs: Callable[[Program, int, Stored, int], Needs] | None = None,
) -> int:
    """Return how many of `seeds` one device has room for, in as few equal programs as possible.

    The program is compiled for an estimated number and, if that does not fit or fewer programs may
    fit, for others. `steps` is the number of steps in it, `free` returns the free bytes of the
    device, by default of the first local one, and `needs` is `needed` by default.

    Raises UserError if there is no room for a single seed.
    """
    there, needs = (free or resources.device_free)(), needs or needed
    room = _SHARE * there
    sizes = sorted({evenly(seeds, most) for most in range(1, seeds + 1)})
    fitting, too_large = -1, len(sizes)  # positions in sizes
    guess = _FOLD * there / seed_bytes(program)
    known: dict[int, float] = {}
    while fitting + 1 < too_large:
        if fitting >= 0 and sizes[fitting + 1] > _HOPEFUL * guess:
            break
        position = bisect_right(sizes, guess + 1e-6) - 1
        position = min(max(position, fitting + 1), too_large - 1)
        number = sizes[position]
        taken = needs(program, number, stored, steps)
        if taken.total <= room:
            fitting = position
        elif number == 1:
            _require_room(program, taken, there)
            return 1
        else:
            too_large = position
        guess = _largest(number, taken.total, known, room)
        known[number] = taken.total
    return sizes[fitting]


def _largest(number: int, taken: float, known: Mapping[int, float], room: float) -> float:
    """Guess the largest number that fits: on the line through two known ones, or in proportion.

    A proportion is too few if seeds share many of the bytes.
    """
    if math.isinf(taken):
        return number / 2
    for other, total in known.items():
        if math.isfinite(total) and total != taken:
            return number + (room - taken) * (other - number) / (total - taken)
    return number * room / taken


def _require_room(program: Program, taken: Needs, there: int) -> None:
    if taken.total <= there:
        return
    group, amount = program.settings.GROUP, "more memory than the compiler allows"
    if math.isfinite(taken.total):
        amount = f"{taken.total / 2**30:,.1f} GiB of memory"
    raise UserError(
        f"{group}.{taken.setting}: the compiled program for one seed takes {amount}, and "
        f"{there / 2**30:,.1f} GiB are free on the device: lower {group}.{taken.setting} or the "
        "image size"
    )


def needed(
    program: Program,
    seeds: int,
    stored: Stored,
    steps: int = 1,
    device: jax.Device | None = None,
) -> Needs:
    """Compile training steps and a test batch; return the bytes that they take.

    They are compiled for `device`, which need not exist, by default for JAX's own.
    """
    # The number of epochs changes neither; without any, the solved head is the whole training.
    return _needed(program.replace(epochs=min(program.epochs, 1)), seeds, stored, steps, device)


@lru_cache(maxsize=64)
def _needed(
    program: Program, seeds: int, stored: Stored, steps: int, device: jax.Device | None
) -> Needs:
    # Arguments are counted by their shapes: what a program does not read is on the device, too.
    test = evaluation(program, seeds)
    arguments, inputs, trains = tree_bytes(test.arguments), tree_bytes(test.inputs), 0.0
    arguments -= inputs
    if program.epochs:
        step = training_steps(program, seeds, stored, steps)
        arguments = tree_bytes((step.arguments, step.keywords))
        arguments -= stored.bytes if stored.placed else 0
        trains = _besides(step, device)
    return Needs(arguments, trains, inputs + _besides(test, device))


def _besides(program: Abstract, device: jax.Device | None) -> float:
    """Return the bytes that a program takes besides its arguments; infinite if it is refused."""
    try:
        found: Any = program.lower(device).compile().memory_analysis()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return math.inf
    return found.temp_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes


def tree_bytes(tree: Any) -> int:
    """Return the bytes of a pytree's arrays, or of their shapes; other leaves have none."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, _ARRAYS)]
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)


@lru_cache(maxsize=64)
def seed_bytes(program: Program) -> int:
    """Return the bytes per additional seed, at the largest batch of the settings.

    They hold the trained parameters with their gradient, update, optimizer state and average, the
    inputs, the residuals of the forward pass, and the larger of a prefix without a backward pass,
    if features are not cached, and a perturbation's search.
    """
    network, size = program.network, program.settings.batch_size
    params, batch_stats = variable_shapes(network.architecture)
    step = program.step()
    (trained, moving), frozen = step.divide(params, batch_stats)
    one = feature_shape(network) if network.split >= 0 else _images(program, 1)
    shape = one.shape[1:] if network.split < 0 else one.shape
    inputs = jax.ShapeDtypeStruct((size, *shape), one.dtype)
    labels = jax.ShapeDtypeStruct((size,), jnp.int32)

    def residuals(trained: dict, moving: Variables, *rest: Any) -> Any:
        # The reverse function's leaves are its residuals; this is only traced, never computed.
        _, reverse, _ = jax.vjp(
            lambda params: step.objective(params, moving, *rest), trained, has_aux=True
        )
        return jax.tree.leaves(reverse)

    kept = jax.eval_shape(residuals, trained, moving, frozen, inputs, labels)
    # The optimizer's state, in addition to each parameter, its gradient and its update.
    opt_state = jax.eval_shape(step.start, trained, moving).opt_state
    own = 3 * tree_bytes(trained) + tree_bytes(opt_state)
    averaged = 0 if step.average is None else tree_bytes(trained)
    others = max(_prefix_bytes(program), _search_bytes(program))
    return own + averaged + tree_bytes(kept) + tree_bytes(inputs) + others


def _images(program: Program, number: int) -> jax.ShapeDtypeStruct:
    size = program.network.image_size
    return jax.ShapeDtypeStruct((number, size, size, 3), jnp.float32)


def _prefix_bytes(program: Program) -> int:
    """Return the bytes of the two largest arrays of a prefix that runs in every step, else 0."""
    network = program.network
    if network.split < 0 or program.trains_on_features:
        return 0

    def one(params: Variables, batch_stats: Variables, images: jax.Array) -> jax.Array:
        front = network.front(params, batch_stats, program.step().divide(params, batch_stats)[1])
        pixels = prepare(images, network.image_size)
        return front.prefix(pixels, network.split, train=network.moving_prefix)

    images = _images(program, program.settings.batch_size)
    equations = jax.make_jaxpr(one)(*variable_shapes(network.architecture), images).eqns
    sizes = sorted(tree_bytes([out.aval for out in equation.outvars]) for equation in equations)
    return sum(sizes[-2:])


def _search_bytes(program: Program) -> int:
    """Return the bytes of the residuals of a perturbation's search; 0 without one."""
    step, network = program.step(), program.network
    if step.perturb is None:
        return 0

    def residuals(images: jax.Array, params: Variables, batch_stats: Variables) -> Any:
        (trained, moving), frozen = step.divide(params, batch_stats)
        _, reverse = jax.vjp(lambda x: network.apply(trained, moving, frozen, x), images)
        return jax.tree.leaves(reverse)

    images = _images(program, program.settings.batch_size)
    return tree_bytes(jax.eval_shape(residuals, images, *variable_shapes(network.architecture)))
