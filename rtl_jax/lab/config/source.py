"""Settings of the network that a task starts from."""

import dataclasses
from typing import Literal

from rtl_jax.errors import require
from rtl_jax.runtime.hints import require_choices


@dataclasses.dataclass(frozen=True)
class Source:
    """The pre-trained network to transfer from."""

    # The network: a converted directory, a work directory with one finished network, a torch file
    # (.pt .pth .ckpt .safetensors), hf:REPO/FILE, bundled:NAME, or random
    checkpoint: str = "random"
    # Name of the architecture: what to build if the checkpoint is random, otherwise a check of what
    # the checkpoint holds; empty: no check
    arch: str = ""
    # Only for random: 'imagenet' (7x7, stride 2, pooling), or for images of about 32 px 'small'
    # (3x3, stride 1) or 'small_stride2' (3x3, stride 2)
    stem: Literal["imagenet", "small", "small_stride2"] = "imagenet"
    # Only for random: number of blocks in each stage; none: the architecture's default
    stage_sizes: tuple[int, ...] | None = None
    # Only for random: width of each stage; none: the architecture's default
    stage_widths: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        require(bool(self.checkpoint), "source.checkpoint", "a path or a name", self.checkpoint)
        require_choices(self, "source", "stem")
        for name in ("stage_sizes", "stage_widths"):
            value = getattr(self, name)
            require(
                value is None or (len(value) > 0 and min(value) > 0),
                f"source.{name}",
                "positive whole numbers, one per stage, or none",
                value,
            )
