"""The project's compiled programs and the shapes of their arguments; nothing is computed here."""

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Self

import jax
import jax.numpy as jnp

from rtl_jax.attacks.apgd import APGD
from rtl_jax.attacks.base import Attack, Problem
from rtl_jax.attacks.pgd import PGD
from rtl_jax.data.augmentation import PRESETS, Augmentation
from rtl_jax.influence_functions import hessian
from rtl_jax.models.model import Weights, variable_shapes
from rtl_jax.models.registry import Architecture
from rtl_jax.train import features
from rtl_jax.train.abstract import (
    Abstract,
    Stored,
    array,
    evaluation,
    random_keys,
    training_steps,
)
from rtl_jax.train.program import Program
from rtl_jax.train.recipe import FrozenBatchNorm, Recipe
from rtl_jax.train.settings import PerturbationName
from rtl_jax.train.split import SplitNetwork


@dataclasses.dataclass(frozen=True)
class Case:
    """A named, jitted program and the shapes of its arguments.

    images: the number of images it processes, counting each seed.
    static: the number of leading static arguments.
    carried: the positions of donated arguments, which its results replace.
    body, extra: a program that it runs in a loop, which compilers count once, and the number of
    further iterations.
    divided: the keyword argument whose last axis is divided over all devices; None: it runs on one.
    mapped: the second argument has a part for each device, and the function's results are summed
    over them (`runtime.devices.mapped_over_devices`).
    float64: whether it computes in float64.
    """

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    keywords: dict[str, Any] = dataclasses.field(default_factory=dict)
    images: int = 0
    static: int = 0
    carried: tuple[int, ...] = ()
    body: "Case | None" = None
    extra: int = 0
    divided: str | None = None
    mapped: bool = False
    float64: bool = False

    @classmethod
    def of(cls, name: str, program: Abstract, **others: Any) -> Self:
        """Name a training's program."""
        return cls(name, program.function, program.arguments, program.keywords, static=2, **others)


@dataclasses.dataclass(frozen=True)
class Programs:
    """The programs of a network at one batch size, with `stored` images on the device."""

    architecture: Architecture
    pixels: int
    batch: int
    stored: int
    dtype: jnp.dtype = dataclasses.field(default_factory=lambda: jnp.dtype(jnp.bfloat16))

    def every(self) -> Iterator[Case]:
        """Yield the programs in the table."""
        for blocks in (0, 1, 3, 9, None):
            for seeds in (1, 8, 20):
                yield self.training(blocks, seeds)
        for blocks in (0, 1, 3, 9):
            yield self.paper(blocks)
        yield self.training(3, 1, perturbation="pgd")
        yield self.source()
        for blocks in (0, 1, 3, 9):
            yield self.features(blocks)
            yield self.evaluation(blocks, 8)
        yield self.evaluation(0, 1, mode="batch")
        yield self.attack(PGD("l2", steps=20))
        yield self.attack(APGD("l2", steps=100))
        yield self.hessian()

    # ---- Training ---------------------------------------------------------------------------

    def paper(self, blocks: int) -> Case:
        """Return a step as in the paper: train mode throughout, images augmented anew."""
        return self.training(blocks, 1, mode="batch", augmentation=PRESETS["paper"])

    def training(
        self,
        blocks: int | None,
        seeds: int,
        mode: FrozenBatchNorm = "source",
        *,
        augmentation: Augmentation = PRESETS["none"],
        perturbation: PerturbationName = "none",
    ) -> Case:
        """Return a fine-tuning step on images or features stored on the device."""
        program = self.finetuning(blocks, mode, augmentation, perturbation)
        stored, steps = Stored.expected(program, self.stored), program.settings.steps
        what = "features" if stored.features else "images"
        what += f", PGD({steps})" if perturbation != "none" else ""
        what += "" if stored.features else f", {mode}"
        what += "" if augmentation.is_identity else ", augmented"
        depth = "all blocks" if blocks is None else _count(blocks, "block")
        return Case.of(
            f"step on {what}, {depth}, {_count(seeds, 'seed')}",
            training_steps(program, seeds, stored),
            images=seeds * self.batch,
            carried=(2, 3),
            body=None if perturbation != "pgd" else self.gradient(),
            extra=steps - 1 if perturbation == "pgd" else 0,
        )

    def finetuning(
        self,
        blocks: int | None,
        mode: FrozenBatchNorm = "source",
        augmentation: Augmentation = PRESETS["none"],
        perturbation: PerturbationName = "none",
    ) -> Program:
        """Return a fine-tuning, by default on cached features."""
        recipe = Recipe(
            blocks=blocks,
            frozen_batch_norm=mode,
            perturbation=perturbation,
            batch_size=self.batch,
            eval_batch_size=self.batch,
        )
        return Program(self._split(recipe), recipe, augmentation, epochs=1)

    def source(self) -> Case:
        """Return a step of a source's training, with its batch divided over all devices."""
        case = self.training(None, 1, mode="batch")
        name = "step of a source, divided over 8 chips"
        return dataclasses.replace(case, name=name, divided="rows")

    # ---- Forward ----------------------------------------------------------------------------

    def features(self, blocks: int) -> Case:
        """Return the computation of a batch's features by the frozen layers."""
        network = self._split(Recipe(blocks=blocks, frozen_batch_norm="source"))
        images = array(self.batch, self.pixels, self.pixels, 3, dtype=jnp.uint8)
        arguments = (*variable_shapes(self.architecture), images)
        return Case(
            f"features in front of {_count(blocks, 'block')}",
            features.batch_features,
            (network, PRESETS["none"], *arguments),
            {"rows": self._labels(self.batch), "view": array(dtype=jnp.int32)},
            images=self.batch,
            static=2,
        )

    def evaluation(self, blocks: int, seeds: int, mode: FrozenBatchNorm = "source") -> Case:
        """Return the evaluation of a test batch, on features where they stay valid."""
        program = self.finetuning(blocks, mode)
        what = "features" if program.network.constant_prefix else "images"
        return Case.of(
            f"test on {what}, {_count(blocks, 'block')}, {_count(seeds, 'seed')}",
            evaluation(program, seeds),
            images=seeds * self.batch,
        )

    # ---- Attacks ----------------------------------------------------------------------------

    def attack(self, attack: Attack) -> Case:
        """Return an attack on the whole network."""
        steps = getattr(attack, "steps", 1)
        logits = self._logits_fn()

        @jax.jit
        def search(params: Any, batch_stats: Any, *problem: Any) -> Any:
            return attack.search(Problem(partial(logits, params, batch_stats), *problem))

        images = array(self.batch, self.pixels, self.pixels, 3)
        problem = (images, self._labels(self.batch), array(self.batch), random_keys(self.batch))
        return Case(
            f"{type(attack).__name__}({steps}), {attack.threat.name}",
            search,
            (*variable_shapes(self.architecture), *problem),
            images=self.batch,
            body=self.gradient(),
            extra=steps - 1,
        )

    def gradient(self) -> Case:
        """Return the gradient of an attack's loss with respect to the images, a step's body."""
        logits = self._logits_fn()

        @jax.jit
        def gradient(params: Any, batch_stats: Any, images: jax.Array, labels: jax.Array) -> Any:
            def total(images: jax.Array) -> jax.Array:
                log_probabilities = jax.nn.log_softmax(logits(params, batch_stats, images))
                return -jnp.take_along_axis(log_probabilities, labels[:, None], axis=1).sum()

            return jax.grad(total)(images)

        images = array(self.batch, self.pixels, self.pixels, 3)
        arguments = (*variable_shapes(self.architecture), images, self._labels(self.batch))
        return Case("gradient to the images", gradient, arguments, images=self.batch)

    # ---- Influence --------------------------------------------------------------------------

    def hessian(self, images: int = 3200, batch: int = 5, num_devices: int = 8) -> Case:
        """Return the head's Hessian by autodiff, its batches distributed over devices."""
        inputs, classes = self.architecture.num_features + 1, self.architecture.num_classes
        batches = images // (batch * num_devices)
        double = jnp.dtype(jnp.float64)

        def examples(*shape: int) -> tuple[jax.ShapeDtypeStruct, ...]:
            counted = array(*shape, dtype=double)
            return array(*shape, inputs, dtype=double), array(*shape, dtype=jnp.int32), counted

        weights = array(classes, inputs, dtype=double)
        size = classes * inputs
        total = array(hessian.SLICE, size, dtype=double)
        one = Case(
            "rows of a batch's Hessian",
            jax.jit(hessian.add_rows, donate_argnums=2),
            (weights, array(dtype=jnp.int32), total, examples(batch)),
            images=batch,
            carried=(2,),
            float64=True,
        )
        return Case(
            f"Hessian of {images:,} images, divided over {num_devices} chips",
            hessian.sum_of_hessians,
            (weights, examples(num_devices, batches, batch)),
            images=images,
            body=one,
            extra=batches * hessian.padded_size(size) // hessian.SLICE - 1,
            mapped=True,
            float64=True,
        )

    def _logits_fn(self) -> Callable[..., jax.Array]:
        network = self._split(Recipe(blocks=0, frozen_batch_norm="source"))

        def logits(params: Any, batch_stats: Any, images: jax.Array) -> jax.Array:
            return network.apply(params, batch_stats, Weights({}, {}), images)

        return logits

    def _split(self, recipe: Recipe) -> SplitNetwork:
        return SplitNetwork.of(self.architecture, recipe, self.pixels).replace(dtype=self.dtype)

    def _labels(self, number: int) -> jax.ShapeDtypeStruct:
        return array(number, dtype=jnp.int32)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
