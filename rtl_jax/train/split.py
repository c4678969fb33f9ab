"""A network split into a frozen prefix and a trainable suffix."""

import dataclasses

import jax
import jax.numpy as jnp

from rtl_jax.data.transforms import prepare
from rtl_jax.errors import UserError
from rtl_jax.models.architecture import BEFORE_STEM
from rtl_jax.models.convolution import choose_convolution
from rtl_jax.models.model import Weights, batch_stats_of, bind, definition
from rtl_jax.models.registry import Architecture, Module, Variables
from rtl_jax.train.freeze import combine, split_point
from rtl_jax.train.recipe import FrozenBatchNorm, Recipe


@dataclasses.dataclass(frozen=True)
class SplitNetwork:
    """The hashable static part of the network; functions of it alone compile once.

    With `features`, its inputs are features at the split point, otherwise images. Parallel seeds
    may share the frozen part: `own_params` says that each seed has its own frozen parameters
    (they start from different networks), `own_statistics` that each has its own statistics.
    """

    architecture: Architecture
    blocks: int | None
    frozen_batch_norm: FrozenBatchNorm
    image_size: int
    dtype: jnp.dtype = dataclasses.field(default_factory=lambda: jnp.dtype(jnp.float32))
    features: bool = False
    many: bool = False  # several seeds: kernels after the split point have a leading axis
    own_params: bool = False

    @classmethod
    def of(cls, architecture: Architecture, settings: Recipe, image_size: int) -> "SplitNetwork":
        """Split the network according to the settings.

        Raises UserError if the network has fewer blocks than are to train, or has no statistics to
        adapt.
        """
        split_point(architecture, settings.blocks)
        if settings.frozen_batch_norm == "adapt" and not architecture.has_batch_stats:
            raise UserError(
                f"transfer.frozen_batch_norm: {architecture.name} has no batch normalisation whose "
                "statistics could be adapted, expected batch or source (which mean the same for it)"
            )
        return cls(architecture, settings.blocks, settings.frozen_batch_norm, image_size)

    @property
    def split(self) -> int:
        """The split point, after which layers train."""
        return split_point(self.architecture, self.blocks)

    @property
    def moving_prefix(self) -> bool:
        """Whether frozen layers use batch statistics and update their running ones."""
        return self.frozen_batch_norm == "batch" and self.architecture.has_batch_stats

    @property
    def own_statistics(self) -> bool:
        """Whether each seed has its own frozen statistics."""
        return self.own_params or self.frozen_batch_norm == "adapt"

    @property
    def constant_prefix(self) -> bool:
        """Whether features at the split point stay valid during training.

        This suffices for test images; training images must not be augmented anew either.
        """
        return not self.moving_prefix and self.split > BEFORE_STEM

    @property
    def frozen_axes(self) -> Weights:
        """The seed axes of the frozen part, for `vmap`; None if seeds share it."""
        params = 0 if self.own_params else None
        statistics = 0 if self.own_statistics else None
        return Weights(params, statistics)  # type: ignore[arg-type]

    def replace(self, **changes: object) -> "SplitNetwork":
        """Return the same network with some fields changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    def front(self, params: dict, batch_stats: Variables, frozen: Weights) -> Module:
        """Bind the whole network to run its prefix, whose kernels seeds share."""
        return self._bind(params, batch_stats, frozen, self.many and self.own_params)

    def back(self, params: dict, batch_stats: Variables, frozen: Weights) -> Module:
        """Bind the whole network to run its suffix."""
        return self._bind(params, batch_stats, frozen, self.many)

    def _bind(self, params: dict, batch_stats: Variables, frozen: Weights, batched: bool) -> Module:
        method = choose_convolution(batched_weights=batched)
        return bind(
            definition(self.architecture, dtype=self.dtype, method=method),
            combine(params, frozen.params),
            {**frozen.batch_stats, **batch_stats},
        )

    def apply(
        self, params: dict, batch_stats: Variables, frozen: Weights, images: jax.Array
    ) -> jax.Array:
        """Compute logits [N, C] of float images [N, H, W, 3] in [0, 1] with running statistics."""
        inputs = self.front(params, batch_stats, frozen).prefix(images, self.split)
        return self.back(params, batch_stats, frozen).suffix(inputs, self.split)

    def logits(
        self, params: dict, batch_stats: Variables, frozen: Weights, inputs: jax.Array
    ) -> jax.Array:
        """Compute logits [N, C] of stored images or features with running statistics."""
        if not self.features:
            return self.apply(params, batch_stats, frozen, prepare(inputs, self.image_size))
        return self.back(params, batch_stats, frozen).suffix(inputs, self.split)


def moved(network: Module, batch_stats: Variables) -> Variables:
    """Return the statistics of `network` at the paths of `batch_stats`."""
    new = batch_stats_of(network)
    return {path: new[path] for path in batch_stats}
