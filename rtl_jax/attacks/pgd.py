"""Projected gradient descent, as data (`PGD`) and as a pure function (`PGD.search`).

Paper, section 3 and A.2: the delta within the ball that maximises the loss, found by k steps
along its gradient, each projected back onto the ball. `adversarial.attack` runs it.
"""

import dataclasses
import typing
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rtl_jax.attacks.losses import Loss, judge
from rtl_jax.attacks.parallel import map_attacks
from rtl_jax.attacks.threat import THREATS, Norm
from rtl_jax.errors import UserError

LogitsFn = Callable[[jax.Array], jax.Array]
Keep = Literal["best", "loss", "last"]
PGDNorm = Literal["l2", "linf", "unconstrained"]  # in L1 its step would be one pixel's: see `apgd`


class Signs(NamedTuple):
    """What makes an attack on an image doubtful, int [N] each; see `honesty`.

    zero_gradient: in so many runs the gradient at the start was zero in every pixel.
    ended_worse: so many runs did not succeed, and their loss at the end was lower than at first.
    """

    zero_gradient: jax.Array
    ended_worse: jax.Array


class Iterate(NamedTuple):
    """Images [N, ...] and what the network said of them, [N] each.

    `objective` is what the attack raises: the loss, or its negative where it is targeted.
    `finite` says so of all logits and gradients on the way here. `signs` is None for attacks
    that do not look for any.
    """

    images: jax.Array
    objective: jax.Array
    success: jax.Array
    finite: jax.Array
    signs: Signs | None = None


Shared = tuple[Iterate, Any]  # at the originals; the second is the gradient, or None


@dataclasses.dataclass(frozen=True)
class PGD:
    """PGD(steps), hashable: static under `jit`. The radius is not part of it.

    norm: 'l2', 'linf' or 'unconstrained'.
    steps: k, the number of gradients taken.
    relative_step: c of the step's size c * eps / k.
    step_size: the step's size in pixel units instead; 'unconstrained' needs it.
    random_start: begin at a random point: in the box (linf), on the sphere (l2), one step away
        (unconstrained).
    restarts: searches from so many random starts, every one of which counts.
    targeted: labels are what the network shall say, not what it shall not.
    loss: 'cross_entropy', 'margin', 'dlr' or 'logit'.
    keep: of every iterate, first and last included, for each image the 'best' (one that
        succeeds before one that does not, then the higher loss), or the one of the highest
        'loss' alone, as `robustness` does in training; or the 'last', whatever it is.
    unroll: compile the steps one after the other instead of a loop. No number changes, and
        compilation takes longer with every step. It is for models on a CPU whose convolutions
        XLA runs up to 90 times slower in a loop; this package's networks have none such.
    """

    norm: Norm
    steps: int = 20
    relative_step: float = 2.5
    step_size: float | None = None
    random_start: bool = False
    restarts: int = 1
    targeted: bool = False
    loss: Loss = "cross_entropy"
    keep: Keep = "best"
    unroll: bool = False

    passes: typing.ClassVar[None] = None

    def __post_init__(self) -> None:
        for name, choices in (("norm", PGDNorm), ("loss", Loss), ("keep", Keep)):
            options, value = typing.get_args(choices), getattr(self, name)
            _require(value in options, name, f"one of {', '.join(map(repr, options))}", value)
        for name in ("steps", "restarts"):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool)
            _require(whole and value >= 1, name, "a whole number, 1 or more", value)
        for name in ("relative_step", "step_size"):
            value = getattr(self, name)
            if value is not None or name == "relative_step":
                number = isinstance(value, int | float) and not isinstance(value, bool)
                _require(number and 0 < value < float("inf"), name, "a positive number", value)
        if self.norm == "unconstrained" and self.step_size is None:
            raise UserError("PGD: without a norm there is no eps, so step_size must be given")
        if self.restarts > 1 and not self.random_start:
            raise UserError("PGD: restarts without random_start would all be the same search")

    @property
    def needs_key(self) -> bool:
        """Whether anything is random."""
        return self.random_start

    def replace(self, **changes: Any) -> "PGD":
        """The same attack with some settings changed."""
        return dataclasses.replace(self, **changes)

    def sizes(self, eps: jax.Array) -> jax.Array:
        """The step's size for each eps [N]."""
        if self.step_size is not None:
            return jnp.full_like(eps, self.step_size)
        return self.relative_step * eps / self.steps

    def begin(self, logits_fn: LogitsFn, images: jax.Array, labels: jax.Array) -> Shared | None:
        """What searches with several eps share: the network's look at the originals."""
        if not self.random_start:
            return self._look(logits_fn, images, labels)
        if self.keep == "best":
            return self._judge(logits_fn, images, labels), None
        return None

    def search(
        self,
        logits_fn: LogitsFn,
        images: jax.Array,
        labels: jax.Array,
        eps: jax.Array,
        keys: jax.Array | None,
        shared: Shared | None = None,
        together: int | None = None,
    ) -> Iterate:
        """Attack a batch: pure, to be traced.

        Args:
          logits_fn: images [N, ...] to logits [N, C], each image by itself (eval mode).
          images: float [N, ...] in [0, 1].
          labels: int [N].
          eps: float [N]; the step's size where the norm is 'unconstrained'.
          keys: one per image, [N]; None without random_start.
          shared: what `begin` returned, if there are several searches.
          together: how many restarts run side by side; see `map_attacks`.
        """
        if not self.random_start or keys is None:
            return self._from(images, logits_fn, images, labels, eps, shared)
        threat = THREATS[self.norm]

        def restart(number: jax.Array) -> Iterate:
            restart_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
            start = images + jax.vmap(threat.random_change)(restart_keys, images, eps)
            start = jax.vmap(threat.project)(start, images, eps)
            return self._from(start, logits_fn, images, labels, eps, None)

        if self.restarts == 1:
            found = restart(jnp.asarray(0))
        else:
            together = self.restarts if self.unroll else together
            rule: Keep = "loss" if self.keep == "loss" else "best"
            found = best_of(restart, jnp.arange(self.restarts), len(images), together, rule)
        if self.keep == "best":
            # The original lies in the ball too: no image becomes right by being attacked.
            original, _ = shared or (self._judge(logits_fn, images, labels), None)
            found = kept("best", original, found)
        return found

    def _from(
        self,
        start: jax.Array,
        logits_fn: LogitsFn,
        images: jax.Array,
        labels: jax.Array,
        eps: jax.Array,
        shared: Shared | None,
    ) -> Iterate:
        """The attack itself, from one start: gradient, normalise, step, project, clip."""
        threat, sizes = THREATS[self.norm], self.sizes(eps)

        def move(best: Iterate, here: Iterate, gradient: jax.Array) -> tuple[jax.Array, Iterate]:
            x = here.images + jax.vmap(threat.step)(gradient, sizes)  # normalised and stepped
            x = jax.vmap(threat.project)(x, images, eps)  # projected and clipped
            finite = jnp.isfinite(gradient).reshape(len(x), -1).all(-1)
            return x, kept(self.keep, best, here._replace(finite=here.finite & finite))

        def step(carry: tuple[jax.Array, Iterate], _: None) -> tuple[tuple, None]:
            x, best = carry
            return move(best, *self._look(logits_fn, x, labels)), None

        no = jnp.zeros(len(images), bool)
        nothing = Iterate(start, jnp.full(len(images), -jnp.inf, images.dtype), no, ~no)
        carry, steps = (start, nothing), self.steps
        if shared is not None:
            here, gradient = shared
            carry, steps = move(nothing, here, gradient), steps - 1
        (x, best), _ = lax.scan(step, carry, length=steps, unroll=self.unroll)
        return kept(self.keep, best, self._judge(logits_fn, x, labels))

    def _judge(self, logits_fn: LogitsFn, x: jax.Array, labels: jax.Array) -> Iterate:
        """What the network says of x [N, ...]."""
        losses, success, finite = judge(logits_fn(x), labels, self.loss, self.targeted)
        return Iterate(x, (-losses if self.targeted else losses).astype(x.dtype), success, finite)

    def _look(self, logits_fn: LogitsFn, x: jax.Array, labels: jax.Array) -> Shared:
        """The same, and the gradient of every image's objective, by itself."""

        def total(x: jax.Array) -> tuple[jax.Array, Iterate]:
            here = self._judge(logits_fn, x, labels)
            return here.objective.sum(), here

        gradient, here = jax.grad(total, has_aux=True)(x)
        return here, gradient


def best_of(
    search: Callable[[jax.Array], Iterate],
    numbers: jax.Array,
    examples: int,
    together: int | None,
    rule: Keep = "best",
) -> Iterate:
    """What several searches of so many examples found, by `rule` for each; see `map_attacks`."""
    every = map_attacks(search, numbers, examples, together)
    first = jax.tree.map(lambda leaf: leaf[0], every)
    others = jax.tree.map(lambda leaf: leaf[1:], every)
    return lax.scan(lambda old, new: (kept(rule, old, new), None), first, others)[0]


def kept(rule: Keep, old: Iterate, new: Iterate) -> Iterate:
    """For each image the iterate to keep; the older one of two that are equal."""
    if rule == "last":
        take = jnp.ones_like(new.success)
    elif rule == "loss":
        take = new.objective > old.objective  # false for NaN, too
    else:
        higher = new.objective > old.objective
        take = jnp.where(new.success == old.success, higher, new.success)
    return Iterate(
        jax.vmap(jnp.where)(take, new.images, old.images),
        jnp.where(take, new.objective, old.objective).astype(old.objective.dtype),
        jnp.where(take, new.success, old.success),
        old.finite & new.finite,
        jax.tree.map(jnp.add, old.signs, new.signs),
    )


def _require(condition: bool, key: str, expected: str, value: object) -> None:
    if not condition:
        raise UserError(f"PGD: {key}: expected {expected}, received {value!r}")


# One step of length eps from the image (Goodfellow et al., 2015).
FGSM = PGD("linf", steps=1, relative_step=1.0, keep="last")

# The paper's sources (A.2), and its section 7 and A.10: one step of 2 eps (6 for eps = 3) from
# zero. `robustness`, which trained them, keeps the iterate of the highest loss.
PAPER_PGD20 = PGD("l2", steps=20, keep="loss")
PAPER_PGD1 = PGD("l2", steps=1, relative_step=2.0, keep="loss")
