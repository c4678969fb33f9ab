"""Attacks that make several runs, from other starts or towards other classes."""

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from rtl_jax.attacks.losses import Loss, beyond_rounding, judge
from rtl_jax.attacks.pgd import Iterate, LogitsFn, best_of, kept
from rtl_jax.attacks.threat import Ball
from rtl_jax.errors import require, require_choice


@dataclasses.dataclass(frozen=True)
class Runs:
    """A random attack of `runs` independent runs, each of which counts.

    Used like `PGD`. `autoattack` calls `run` itself, so that images that have fallen can leave
    between runs. An image's run ends when it has fallen by more than rounding, so that what is
    found does not depend on the rest of its batch, and a batch ends when all its images have.
    """

    norm: Ball
    loss: Loss = dataclasses.field(default="margin", init=False)
    passes: int | None = dataclasses.field(default=None, init=False)

    needs_key: ClassVar[bool] = True
    targeted: ClassVar[bool] = False
    step_size: ClassVar[None] = None
    unroll: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_choice(self.norm, Ball, f"{type(self).__name__}: norm")

    def _require_counts(self, *names: str) -> None:
        """Raise UserError unless these settings are whole numbers of 1 or more."""
        for name in names:
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool)
            key = f"{type(self).__name__}: {name}"
            require(whole and value >= 1, key, "a whole number, 1 or more", value)

    def runs(self, classes: int) -> int:
        """How many runs there are on a network with so many classes."""
        raise NotImplementedError

    def run(
        self,
        logits_fn: LogitsFn,
        images: jax.Array,
        labels: jax.Array,
        eps: jax.Array,
        keys: jax.Array,
        clean: jax.Array,
        number: jax.Array,
    ) -> Iterate:
        """One run, its number counted from 0; `clean` [N, C] are the logits at the originals."""
        raise NotImplementedError

    def begin(self, logits_fn: LogitsFn, images: jax.Array, labels: jax.Array) -> jax.Array:
        """What runs and radii share: the logits at the originals, [N, C]."""
        logits = logits_fn(images)
        judge(logits, labels, self.loss, self.targeted)  # raises where there is something wrong
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))

    def search(
        self,
        logits_fn: LogitsFn,
        images: jax.Array,
        labels: jax.Array,
        eps: jax.Array,
        keys: jax.Array | None,
        shared: jax.Array | None = None,
        together: int | None = None,
        numbers: jax.Array | None = None,
    ) -> Iterate:
        """As `PGD.search`; `numbers` [M] are the runs to make, by default all."""
        assert keys is not None
        clean = self.begin(logits_fn, images, labels) if shared is None else shared
        numbers = jnp.arange(self.runs(clean.shape[-1])) if numbers is None else numbers

        def run(number: jax.Array) -> Iterate:
            own = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
            return self.run(logits_fn, images, labels, eps, own, clean, number)

        return best_of(run, numbers, len(images), together)


class Fall(NamedTuple):
    """What a run has found so far: for each image its best, and whether that is enough."""

    best: Iterate
    done: jax.Array

    @classmethod
    def of(cls, images: jax.Array, labels: jax.Array, clean: jax.Array, loss: Loss) -> "Fall":
        """Before a run: the originals, enough where they are misclassified already."""
        losses, success, finite = judge(clean, labels, loss, False)
        return cls(Iterate(images, losses.astype(images.dtype), success, finite), success)

    def met(
        self,
        images: jax.Array,
        labels: jax.Array,
        logits: jax.Array,
        loss: Loss,
        counts: jax.Array | bool = True,
        certain: bool = True,
    ) -> "Fall":
        """After looking at other images, of which those that `counts` says lie within their balls.

        Where the logits are not `certain`, being means of random ones, none is ever enough.
        """
        losses, success, finite = judge(logits, labels, loss, False)
        open_ = counts & ~self.done
        objective = jnp.where(open_, losses, -jnp.inf).astype(images.dtype)
        here = Iterate(images, objective, success & open_, finite | self.done)
        enough = success & open_ & beyond_rounding(logits, labels)
        done = self.done | enough if certain else self.done
        return Fall(kept("best", self.best, here), done)
