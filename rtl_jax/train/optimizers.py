"""Optimizers and schedules: torch's SGD with StepLR (paper, A.4), or any of optax's by name.

A schedule is evaluated for every step before training. The optimizer takes learning rate and
weight decay as inputs of each step, so that one program serves all values.
"""

import dataclasses
import inspect
from collections.abc import Callable, Hashable, Mapping
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rtl_jax.errors import UserError, require
from rtl_jax.models.registry import Architecture
from rtl_jax.runtime.caching import cached
from rtl_jax.train.freeze import mask
from rtl_jax.train.settings import TrainingSettings

# ---- Schedules ------------------------------------------------------------------------------


def step_schedule(
    learning_rate: float, drop: float, drop_every: int, steps_per_epoch: int
) -> optax.Schedule:
    """Return torch's StepLR: the rate of step t is learning_rate * drop^(epoch // drop_every).

    Epochs count from 0 here, so 100 epochs with drop_every 33 drop after 33, 66 and 99.
    """

    def schedule(step: jax.Array) -> jax.Array:
        return learning_rate * drop ** (step // steps_per_epoch // drop_every)

    return schedule


def schedule_of(settings: TrainingSettings, epochs: int, steps_per_epoch: int) -> optax.Schedule:
    """Return the schedule: the learning rate as a function of the step, counted from 0.

    Raises UserError if the settings name an unknown schedule or option.
    """
    total, rate = epochs * steps_per_epoch, settings.learning_rate
    if settings.schedule.endswith(("one_cycle", "onecycle_schedule")):
        expected = f"0 with {settings.schedule}, which warms up itself"
        warmed = settings.warm_up_epochs
        require(warmed == 0, f"{settings.GROUP}.warm_up_epochs", expected, warmed)
    if settings.schedule == "one_cycle":
        return optax.cosine_onecycle_schedule(total, rate, pct_start=settings.warm_up)
    warm = round(settings.warm_up_epochs * steps_per_epoch)
    rest = max(total - warm, 1)
    schedules: dict[str, Callable[[], optax.Schedule]] = {
        "step": lambda: step_schedule(
            rate,
            settings.learning_rate_drop,
            settings.drop_every or max(epochs // 3, 1),
            steps_per_epoch,
        ),
        "constant": lambda: optax.constant_schedule(rate),
        "cosine": lambda: optax.cosine_decay_schedule(rate, rest),
        "linear": lambda: optax.linear_schedule(rate, 0.0, rest),
    }
    if settings.schedule in schedules:
        schedule = schedules[settings.schedule]()
    else:
        schedule, warms_up = _named_schedule(settings, total, rest, warm)
        if warms_up:
            return schedule
    # 'step' counts its epochs from the beginning, including the warm-up.
    if warm and settings.schedule == "step":
        return lambda step: jnp.minimum((step + 1) / warm, 1) * schedule(step)
    if warm:
        rise = optax.linear_schedule(rate / warm, rate, max(warm - 1, 1))
        return optax.join_schedules([rise, schedule], [warm])
    return schedule


@cached
def rates(settings: TrainingSettings, epochs: int, steps_per_epoch: int) -> np.ndarray:
    """Compute the learning rate of every step, float [epochs * steps_per_epoch]."""
    if not epochs:
        return np.zeros(0, np.float32)
    schedule = schedule_of(settings, epochs, steps_per_epoch)
    steps = jnp.arange(epochs * steps_per_epoch)
    found = np.asarray(jax.jit(jax.vmap(schedule))(steps))
    if not np.isfinite(found).all():
        raise UserError(
            f"{settings.GROUP}.schedule: {settings.schedule} gives rates that are not finite"
        )
    return found


# The parameters of optax's schedules for the learning rate and the number of steps.
_PEAKS = ("peak_value", "init_value", "value")
_LENGTHS = ("decay_steps", "transition_steps")


def _named_schedule(
    settings: TrainingSettings, total: int, rest: int, warm_up: int
) -> tuple[optax.Schedule, bool]:
    """Make the optax schedule named in the settings from the rate, the steps and the options.

    Returns it, and whether it includes the warm-up: else it is for the `rest` of the steps.
    """
    name, group = settings.schedule, settings.GROUP
    factory = getattr(optax, name, None)
    known = [other for other in dir(optax) if other.endswith(("_schedule", "_decay"))]
    if name.startswith("_") or name not in known or not inspect.isfunction(factory):
        own = "step, one_cycle, cosine, linear, constant"
        raise UserError(
            f"{group}.schedule: expected {own}, or a schedule of optax's such as "
            f"exponential_decay, received {name!r}"
        )
    options = _options(settings.schedule_options, f"{group}.schedule_options")
    parameters = inspect.signature(factory).parameters
    warm = "warmup_steps" in parameters  # if so, the initial value is where the warm-up starts
    peak = next((one for one in _PEAKS if one in parameters), None)
    filled: dict[str, float] = {} if peak is None else {peak: settings.learning_rate}
    filled |= {one: total if warm else rest for one in _LENGTHS if one in parameters}
    if warm:
        filled |= {"init_value": 0.0, "warmup_steps": warm_up}
    return _called(factory, {**filled, **options}, f"{group}.schedule"), warm


# ---- Optimizers -----------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """The static part of an optimizer; learning rate and weight decay are inputs of each step.

    name: 'sgd' (torch's) or one of optax's. options: (name, value) pairs of its parameters.
    clip_norm: the largest global norm of the gradient; None: not clipped.
    layer_decay: see `TrainingSettings`.
    """

    name: str = "sgd"
    momentum: float = 0.9
    options: tuple[tuple[str, float], ...] = ()
    clip_norm: float | None = None
    layer_decay: float = 1.0

    @classmethod
    def of(cls, settings: TrainingSettings) -> "Optimizer":
        """Read the settings. Raises UserError if optax has no such optimizer or option."""
        key = f"{settings.GROUP}.optimizer"
        options = _options(settings.optimizer_options, f"{key}_options")
        found = cls(
            settings.optimizer,
            settings.momentum if settings.optimizer == "sgd" else 0.0,
            tuple(options.items()),
            settings.clip_norm,
            settings.layer_decay,
        )
        _require_usable(found, key)
        return found

    def transformation(
        self, architecture: Architecture, paths: tuple[str, ...], blocks: int | None
    ) -> optax.GradientTransformation:
        """Make the optimizer for the trainable ones of `paths`; frozen parameters have no state.

        Its state holds `learning_rate` and `weight_decay`, which `at` sets.
        """
        return _transformation(self, architecture, paths, blocks)


def at(opt_state: optax.OptState, learning_rate: jax.Array, weight_decay: jax.Array) -> Any:
    """Set the learning rate and weight decay of a step, both scalars, in the optimizer state."""
    return optax.tree_utils.tree_set(
        opt_state, learning_rate=learning_rate, weight_decay=weight_decay
    )


@lru_cache(maxsize=64)
def _transformation(
    optimizer: Optimizer, architecture: Architecture, paths: tuple[str, ...], blocks: int | None
) -> optax.GradientTransformation:
    trains = mask(architecture, dict.fromkeys(paths), blocks)
    parts = [] if optimizer.clip_norm is None else [optax.clip_by_global_norm(optimizer.clip_norm)]
    parts.append(_injected(optimizer))
    if optimizer.layer_decay != 1:
        factors = {
            path: optimizer.layer_decay ** (architecture.num_blocks - architecture.block_of(path))
            for path in paths
            if trains[path]
        }
        parts.append(_scaled(factors))
    return optax.masked(optax.chain(*parts) if len(parts) > 1 else parts[0], trains)


def _injected(optimizer: Optimizer) -> optax.GradientTransformation:
    def create(learning_rate: Any, weight_decay: Any) -> optax.GradientTransformation:
        return _create(optimizer, learning_rate, weight_decay)

    return optax.inject_hyperparams(create)(learning_rate=0.0, weight_decay=0.0)


def _create(optimizer: Optimizer, learning_rate: Any, weight_decay: Any) -> Any:
    options = dict(optimizer.options)
    if optimizer.name == "sgd":
        # As in torch, weight decay is added to the gradient before the momentum.
        descent = optax.sgd(learning_rate, momentum=optimizer.momentum or None, **options)
        return optax.chain(optax.add_decayed_weights(weight_decay), descent)
    factory = getattr(optax, optimizer.name)
    if "weight_decay" in inspect.signature(factory).parameters:
        return factory(learning_rate, weight_decay=weight_decay, **options)
    return optax.chain(optax.add_decayed_weights(weight_decay), factory(learning_rate, **options))


def _scaled(factors: Mapping[str, float]) -> optax.GradientTransformation:
    """Multiply each path's update by its factor; masked paths have no update."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        scaled = {path: factor * updates[path] for path, factor in factors.items()}
        return {**updates, **scaled}, state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


# ---- Settings -------------------------------------------------------------------------------


def _options(pairs: tuple[str, ...], key: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        try:
            found[name.strip()] = _number(text.strip())
        except ValueError as error:
            raise UserError(f"{key}: expected NAME=NUMBER, received {pair!r}") from error
    return found


def _number(text: str) -> Any:
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    return int(text) if text.lstrip("+-").isdigit() else float(text)


def _called(factory: Callable, arguments: Mapping[str, Any], key: str) -> Any:
    try:
        return factory(**arguments)
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{key}: optax refuses {dict(arguments)} ({error})") from error


@lru_cache(maxsize=64)
def _require_usable(optimizer: Hashable, key: str) -> None:
    """Raise UserError unless the optimizer needs only the gradient and the parameters."""
    assert isinstance(optimizer, Optimizer)
    factory: Any = getattr(optax, optimizer.name, None)
    plain = callable(factory) and not inspect.isclass(factory)
    known = plain and "learning_rate" in inspect.signature(factory).parameters
    if optimizer.name.startswith(("_", "scale_by")) or not known:
        raise UserError(
            f"{key}: expected sgd, or an optimizer of optax's such as adamw, received "
            f"{optimizer.name!r}"
        )
    params = {"a": jnp.ones(2)}
    try:
        transformation = _injected(optimizer)
        state = jax.eval_shape(transformation.init, params)
        jax.eval_shape(transformation.update, params, state, params)
        slow, fast = (_create(optimizer, rate, 0.0).init(params) for rate in (0.1, 0.2))
        alike = jax.tree.map(lambda one, other: bool((one == other).all()), slow, fast)
        if not all(jax.tree.leaves(alike)):
            raise ValueError("it takes a constant rate, not a schedule")
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        options = ", ".join(f"{name}={value}" for name, value in optimizer.options)
        raise UserError(
            f"{key}: optax's {optimizer.name}({options}) cannot make a step from a gradient alone "
            f"({str(error).splitlines()[0]}): choose another, or other options"
        ) from error
