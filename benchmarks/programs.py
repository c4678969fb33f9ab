"""The project's compiled programs and the shapes of their arguments; nothing is computed here."""

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

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
from rtl_jax.train.metrics import Metrics
from rtl_jax.train.program import Program
from rtl_jax.train.recipe import FrozenBatchNorm, Recipe
from rtl_jax.train.settings import PerturbationName
from rtl_jax.train.side_by_side import Images, Rows, evaluate_batch, train_steps
from rtl_jax.train.split import SplitNetwork
from rtl_jax.train.step import Hyper, Keys
from rtl_jax.train.stored import stored_shape


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
        recipe = Recipe(blocks=blocks, frozen_batch_norm=mode, perturbation=perturbation)
        network = self._split(recipe).replace(many=seeds > 1)
        program = Program(network, recipe, augmentation, epochs=1)
        kept = program.trains_on_features
        shape, stored = (self.pixels, self.pixels, 3), jnp.dtype(jnp.uint8)
        if kept:
            shape, stored = features.feature_shape(network).shape, self.dtype
        step = program.replace(network=network.replace(features=kept)).step()
        trained, frozen = step.divide(*variable_shapes(network.architecture))
        state = _side_by_side(seeds, jax.eval_shape(step.start, *trained))
        number, count = _shape(seeds), _shape(seeds, dtype=jnp.int32)
        rows, keys = _shape(seeds, 1, self.batch, dtype=jnp.int32), _keys(seeds)
        what = "features" if kept else "images"
        what += f", PGD({recipe.steps})" if perturbation != "none" else ""
        what += "" if kept else f", {mode}"
        what += "" if augmentation.is_identity else ", augmented"
        depth = "all blocks" if blocks is None else _count(blocks, "block")
        return Case(
            f"step on {what}, {depth}, {_count(seeds, 'seed')}",
            train_steps,
            (
                step,
                self.dtype if kept else stored,
                state,
                Metrics(number, count, count),
                frozen,
                Images(
                    _shape(self.stored, *stored_shape(shape), dtype=stored),
                    self._labels(self.stored),
                    shape,
                ),
            ),
            {
                "rows": Rows(rows, rows),
                "keys": Keys(keys, keys, keys),
                "epoch": _shape(dtype=jnp.int32),
                "hyper": Hyper(_shape(seeds, 1), number, number, number),
            },
            images=seeds * self.batch,
            static=2,
            carried=(2, 3),
            body=None if perturbation != "pgd" else self.gradient(),
            extra=recipe.steps - 1 if perturbation == "pgd" else 0,
        )

    def source(self) -> Case:
        """Return a step of a source's training, with its batch divided over all devices."""
        case = self.training(None, 1, mode="batch")
        name = "step of a source, divided over 8 chips"
        return dataclasses.replace(case, name=name, divided="rows")

    # ---- Forward ----------------------------------------------------------------------------

    def features(self, blocks: int) -> Case:
        """Return the computation of a batch's features by the frozen layers."""
        network = self._split(Recipe(blocks=blocks, frozen_batch_norm="source"))
        images = _shape(self.batch, self.pixels, self.pixels, 3, dtype=jnp.uint8)
        arguments = (*variable_shapes(self.architecture), images)
        return Case(
            f"features in front of {_count(blocks, 'block')}",
            features.batch_features,
            (network, PRESETS["none"], *arguments),
            {"rows": self._labels(self.batch), "view": _shape(dtype=jnp.int32)},
            images=self.batch,
            static=2,
        )

    def evaluation(self, blocks: int, seeds: int, mode: FrozenBatchNorm = "source") -> Case:
        """Return the evaluation of a test batch, on features where they stay valid."""
        recipe = Recipe(blocks=blocks, frozen_batch_norm=mode)
        network = self._split(recipe).replace(many=seeds > 1)
        step = Program(network, recipe, PRESETS["none"], epochs=1).step()
        kept = network.constant_prefix
        inputs = _shape(self.batch, self.pixels, self.pixels, 3, dtype=jnp.uint8)
        if kept:
            inputs = _shape(self.batch, *features.feature_shape(network).shape, dtype=self.dtype)
        trained, frozen = step.divide(*variable_shapes(self.architecture))
        what = "features" if kept else "images"
        return Case(
            f"test on {what}, {_count(blocks, 'block')}, {_count(seeds, 'seed')}",
            evaluate_batch,
            (
                network.replace(features=kept),
                True,
                _side_by_side(seeds, Weights(*trained)),
                frozen,
                inputs,
                self._labels(self.batch),
            ),
            {"weights": _shape(self.batch)},
            images=seeds * self.batch,
            static=2,
        )

    # ---- Attacks ----------------------------------------------------------------------------

    def attack(self, attack: Attack) -> Case:
        """Return an attack on the whole network."""
        steps = getattr(attack, "steps", 1)
        logits = self._logits_fn()

        @jax.jit
        def search(params: Any, batch_stats: Any, *problem: Any) -> Any:
            return attack.search(Problem(partial(logits, params, batch_stats), *problem))

        images = _shape(self.batch, self.pixels, self.pixels, 3)
        problem = (images, self._labels(self.batch), _shape(self.batch), _keys(self.batch))
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

        images = _shape(self.batch, self.pixels, self.pixels, 3)
        arguments = (*variable_shapes(self.architecture), images, self._labels(self.batch))
        return Case("gradient to the images", gradient, arguments, images=self.batch)

    # ---- Influence --------------------------------------------------------------------------

    def hessian(self, images: int = 3200, batch: int = 5, num_devices: int = 8) -> Case:
        """Return the head's Hessian by autodiff, its batches distributed over devices."""
        inputs, classes = self.architecture.num_features + 1, self.architecture.num_classes
        batches = images // (batch * num_devices)
        double = jnp.dtype(jnp.float64)

        def examples(*shape: int) -> tuple[jax.ShapeDtypeStruct, ...]:
            counted = _shape(*shape, dtype=double)
            return _shape(*shape, inputs, dtype=double), _shape(*shape, dtype=jnp.int32), counted

        weights = _shape(classes, inputs, dtype=double)
        size = classes * inputs
        total = _shape(hessian.SLICE, size, dtype=double)
        one = Case(
            "rows of a batch's Hessian",
            jax.jit(hessian.add_rows, donate_argnums=2),
            (weights, _shape(dtype=jnp.int32), total, examples(batch)),
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
        return _shape(number, dtype=jnp.int32)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _shape(*shape: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def _keys(number: int) -> jax.ShapeDtypeStruct:
    return jax.eval_shape(lambda: jax.random.split(jax.random.key(0), number))


def _side_by_side(seeds: int, tree: Any) -> Any:
    """Add a leading seed axis to the shapes of a pytree."""
    return jax.tree.map(lambda leaf: _shape(seeds, *leaf.shape, dtype=leaf.dtype), tree)
