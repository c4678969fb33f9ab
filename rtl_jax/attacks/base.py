"""The base class of attacks, their input (`Problem`) and their output (`Iterate`).

A new attack is a frozen dataclass that derives from `Attack` or `restarts.RestartedAttack`. The
decorator `registry.register` gives it a name for settings.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rtl_jax.attacks.losses import Loss
from rtl_jax.attacks.parallel import map_attacks
from rtl_jax.attacks.threats import THREATS, Threat, as_threat
from rtl_jax.errors import UserError, require, require_choice, require_whole

LogitsFn = Callable[[jax.Array], jax.Array]
Keep = Literal["best", "loss", "last"]


class Problem(NamedTuple):
    """The images and the model to attack.

    Attributes:
      logits_fn: images [N, ...] to logits [N, C], each image independently (evaluation mode).
      images: float [N, ...] in [0, 1].
      labels: int [N].
      eps: float [N], the radius; the step size if the threat model has no radius.
      keys: one per image, [N]; None for a deterministic attack.
      shared: the result of `Attack.prepare`, if searches at several radii share it.
      num_parallel: the number of restarts to run in parallel; see `map_attacks`.
      restart_indices: int [M], the restarts of a `RestartedAttack` to run; by default all.
    """

    logits_fn: LogitsFn
    images: jax.Array
    labels: jax.Array
    eps: jax.Array
    keys: jax.Array | None = None
    shared: Any = None
    num_parallel: int | None = None
    restart_indices: jax.Array | None = None


class Diagnostics(NamedTuple):
    """Signs of masked gradients, int [N] each; see `checks`.

    Attributes:
      zero_gradient: the number of restarts whose first gradient was zero in every pixel.
      ended_worse: the number of unsuccessful restarts whose last loss was lower than the first.
    """

    zero_gradient: jax.Array
    ended_worse: jax.Array


class Iterate(NamedTuple):
    """Images [N, ...] and the result of evaluating the network on them, [N] each.

    objective: what the attack maximises: the loss, or its negative in a targeted attack.
    finite: whether all logits and gradients so far were finite.
    diagnostics: None for attacks that collect none.
    """

    images: jax.Array
    objective: jax.Array
    success: jax.Array
    finite: jax.Array
    diagnostics: Diagnostics | None = None


class Attack(abc.ABC):
    """A search for adversarial images: hashable, and therefore static under `jit`.

    Subclasses are frozen dataclasses whose fields are the user's settings.

    Attributes:
      norm: the threat model; a name is replaced by the object.
      loss: the loss reported for the images found.
      targeted: whether labels are the classes to reach rather than the true ones.
      passes: the number of draws of a randomised network to average; None for any other network.
      step_size: the step size in pixel units, if it does not follow from eps.
      unroll: compile without loops.
    """

    norm: Threat | str
    loss: Loss = "cross_entropy"
    targeted: bool = False
    passes: int | None = None
    step_size: float | None = None
    unroll: bool = False

    def __post_init__(self) -> None:
        key = f"{type(self).__name__}: norm"
        threat = as_threat(self.norm, key)
        names = [repr(name) for name, known in THREATS.items() if self.supports(known)]
        require(self.supports(threat), key, f"one of {', '.join(names)}", str(threat))
        object.__setattr__(self, "norm", threat)
        require_choice(self.loss, Loss, f"{type(self).__name__}: loss")

    @property
    def threat(self) -> Threat:
        """The threat model that `norm` names."""
        return as_threat(self.norm)

    @property
    @abc.abstractmethod
    def display_name(self) -> str:
        """The name of the attack in figures and tables."""

    @property
    def needs_key(self) -> bool:
        """Whether the attack draws random numbers."""
        return True

    @property
    def min_classes(self) -> int:
        """The smallest number of classes for which the loss is defined."""
        return 3 if self.loss == "dlr" else 2

    @classmethod
    def supports(cls, threat: Threat) -> bool:
        """Whether the attack can search within a threat model."""
        return threat.has_radius

    def prepare(self, problem: Problem) -> Any:
        """Compute the results shared by searches at several radii, for `Problem.shared`."""
        return None

    @abc.abstractmethod
    def search(self, problem: Problem) -> Iterate:
        """Search for images within the threat model. Must be pure and traceable."""

    def replace(self, **changes: Any) -> Any:
        """Return the same attack with some settings changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]  # subclasses are

    def _require(self, condition: bool, name: str, expected: str) -> None:
        """Raise UserError, naming the attack and the setting, unless `condition` holds."""
        require(condition, f"{type(self).__name__}: {name}", expected, getattr(self, name))

    def _require_counts(self, *names: str, least: int = 1) -> None:
        """Make these settings ints. Raises UserError for other numbers, or below `least`."""
        for name in names:
            value = require_whole(getattr(self, name), f"{type(self).__name__}: {name}", least)
            object.__setattr__(self, name, value)


def best_of(
    search: Callable[[jax.Array], Iterate],
    indices: jax.Array,
    problem: Problem,
    rule: Keep = "best",
) -> Iterate:
    """Run `search` for every restart in `indices` and keep one result per image, by `rule`."""
    results = map_attacks(search, indices, len(problem.images), problem.num_parallel)
    first = jax.tree.map(lambda leaf: leaf[0], results)
    others = jax.tree.map(lambda leaf: leaf[1:], results)
    return lax.scan(lambda old, new: (keep_better(rule, old, new), None), first, others)[0]


def keep_better(rule: Keep, old: Iterate, new: Iterate) -> Iterate:
    """Choose between two iterates for each image; except for 'last', ties keep the old one."""
    if rule == "last":
        take = jnp.ones_like(new.success)
    elif rule == "loss":
        take = new.objective > old.objective  # false for NaN too
    else:
        higher = new.objective > old.objective
        take = jnp.where(new.success == old.success, higher, new.success)
    return Iterate(
        jax.vmap(jnp.where)(take, new.images, old.images),
        jnp.where(take, new.objective, old.objective).astype(old.objective.dtype),
        jnp.where(take, new.success, old.success),
        old.finite & new.finite,
        jax.tree.map(jnp.add, old.diagnostics, new.diagnostics),
    )


def require_key(problem: Problem) -> jax.Array:
    """Return the problem's keys. Raises UserError if it has none."""
    if problem.keys is None:
        raise UserError("this attack is random: give it key=jax.random.key(SEED)")
    return problem.keys
