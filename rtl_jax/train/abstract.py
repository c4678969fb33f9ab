"""A training's compiled programs with shapes in place of arrays: to lower, compile and measure.

Nothing is computed, and nothing is put on a device.
"""

import dataclasses
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding

from rtl_jax.models.model import Weights, variable_shapes
from rtl_jax.train.feature_cache import FeatureCache
from rtl_jax.train.features import feature_shape
from rtl_jax.train.metrics import Metrics
from rtl_jax.train.program import Program
from rtl_jax.train.side_by_side import Images, Rows, evaluate_batch, train_steps
from rtl_jax.train.step import Hyper, Keys
from rtl_jax.train.stored import stored_shape


@dataclasses.dataclass(frozen=True)
class Abstract:
    """A jitted function and the shapes of its arguments; the two leading ones are static."""

    function: Any
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]

    @property
    def inputs(self) -> Any:
        """The images or features that a test batch takes."""
        return self.arguments[4]

    def lower(self, device: jax.Device | None = None) -> jax.stages.Lowered:
        """Lower the function for a device, which need not exist; by default JAX's own."""

        def placed(leaf: Any) -> Any:
            if not isinstance(leaf, jax.ShapeDtypeStruct):
                return leaf
            return jax.ShapeDtypeStruct(
                leaf.shape, leaf.dtype, sharding=SingleDeviceSharding(device)
            )

        arguments, keywords = self.arguments, self.keywords
        if device is not None:
            arguments, keywords = jax.tree.map(placed, (arguments, keywords))
        with jax.default_device(
            device
        ):  # code that depends on the platform chooses this one's form
            return self.function.lower(*arguments, **keywords)


class Stored(NamedTuple):
    """What a training reads its images from, like a `FeatureCache` without its data.

    shape: of an image or its features. dtype: as stored. taken_as: the dtype in which steps take
    them. images: their number, without the `views` of each. placed: whether they lie on the device
    already. Images on the host come batch by batch, and count as one.
    """

    images: int
    shape: tuple[int, ...]
    dtype: Any
    taken_as: Any
    features: bool
    views: int = 1
    placed: bool = True

    @classmethod
    def of(cls, cache: FeatureCache) -> Self:
        """Describe a cache."""
        on_device = isinstance(cache.data, jax.Array)
        number, views = (len(cache.labels), cache.views) if on_device else (1, 1)
        return cls(number, cache.shape, cache.data.dtype, cache.dtype, cache.features, views)

    @classmethod
    def expected(cls, program: Program, images: int) -> Self:
        """Describe what a program will store if there is room for features that stay valid."""
        if not program.trains_on_features:
            size, pixels = program.network.image_size, np.dtype(np.uint8)
            return cls(images, (size, size, 3), pixels, pixels, False, placed=False)
        one, settings = feature_shape(program.network), program.settings
        narrow = np.dtype(np.float16) if settings.feature_bits == 16 else one.dtype
        every = cls(images, one.shape, narrow, one.dtype, True, settings.views or 1, placed=False)
        on_device = every.bytes <= settings.feature_cache_mib * 2**20
        return every if on_device else every._replace(images=1, views=1)

    @property
    def bytes(self) -> int:
        """The bytes of all images or features."""
        return self.views * self.images * int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize


def training_steps(program: Program, seeds: int, stored: Stored, number: int = 1) -> Abstract:
    """Return `side_by_side.train_steps` for `number` full batches of every seed."""
    network = program.network.replace(many=seeds > 1, features=stored.features)
    step = program.replace(network=network).step()
    trained, frozen = step.divide(*variable_shapes(network.architecture))
    state = _with_axis(seeds, jax.eval_shape(step.start, *trained))
    data = array(stored.views * stored.images, *stored_shape(stored.shape), dtype=stored.dtype)
    rows = array(seeds, number, program.settings.batch_size, dtype=jnp.int32)
    each, counts, keys = array(seeds), array(seeds, dtype=jnp.int32), random_keys(seeds)
    classes = None
    if getattr(program.settings, "class_weights", "none") != "none":
        classes = array(seeds, network.architecture.num_classes)
    return Abstract(
        train_steps,
        (
            step,
            stored.taken_as,
            state,
            Metrics(each, counts, counts),
            _frozen(program, seeds, frozen),
            Images(data, array(stored.images, dtype=jnp.int32), stored.shape),
        ),
        {
            "rows": Rows(rows, rows),
            "keys": Keys(keys, keys, keys),
            "epoch": array(dtype=jnp.int32),
            "hyper": Hyper(array(seeds, number), each, each, each, classes),
        },
    )


def evaluation(program: Program, seeds: int) -> Abstract:
    """Return the evaluation of a full batch of test images, on features where they stay valid."""
    network = program.network.replace(many=seeds > 1)
    number = program.settings.eval_batch_size
    size, kept = network.image_size, network.constant_prefix
    inputs = array(number, size, size, 3, dtype=jnp.uint8)
    if kept:
        one = feature_shape(network)
        inputs = array(number, *one.shape, dtype=one.dtype)
    trained, frozen = program.step().divide(*variable_shapes(network.architecture))
    shared = not (kept and network.own_statistics)
    return Abstract(
        evaluate_batch,
        (
            network.replace(features=kept),
            shared,
            _with_axis(seeds, Weights(*trained)),
            _frozen(program, seeds, frozen),
            inputs if shared else _with_axis(seeds, inputs),
            array(number, dtype=jnp.int32),
        ),
        {"weights": array(number, dtype=jnp.bool_)},
    )


def _frozen(program: Program, seeds: int, frozen: Weights) -> Weights:
    """Add a seed axis to the parts of the frozen weights that seeds do not share."""
    axes = program.network.frozen_axes
    return Weights(
        *(
            part if axis is None else _with_axis(seeds, part)
            for part, axis in zip(frozen, axes, strict=True)
        )
    )


def array(*shape: int, dtype: Any = jnp.float32) -> Any:
    """Return an array's shape and dtype in its place."""
    return jax.ShapeDtypeStruct(shape, dtype)


def _with_axis(seeds: int, tree: Any) -> Any:
    """Add a leading seed axis to the shapes of a pytree."""
    return jax.tree.map(lambda leaf: array(seeds, *leaf.shape, dtype=leaf.dtype), tree)


def random_keys(number: int) -> Any:
    """Return the shape and dtype of an array of random keys in its place."""
    return jax.eval_shape(lambda: jax.random.split(jax.random.key(0), number))
