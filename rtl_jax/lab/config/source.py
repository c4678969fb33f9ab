"""Settings of the network that a task starts from."""

import dataclasses
from typing import Literal

from rtl_jax.errors import require
from rtl_jax.runtime.hints import require_choices


@dataclasses.dataclass(frozen=True)
class Source:
    """The network that transfer starts from."""

    # A converted directory, a work directory with one finished network, a torch file
    # (.pt .pth .ckpt .safetensors), hf:REPO/FILE, bundled:NAME, or random.
    checkpoint: str = "random"
    # The name of an architecture. With random it says what to build; with a checkpoint it
    # is a check, and empty means whatever the checkpoint holds.
    arch: str = ""
    # For random only: 'imagenet' (7x7, stride 2, pool), or for images of about 32 px 'small'
    # (3x3, stride 1) or 'small_stride2' (3x3, stride 2).
    stem: Literal["imagenet", "small", "small_stride2"] = "imagenet"
    # For random only: blocks in each stage; none: the architecture's own.
    stage_sizes: tuple[int, ...] | None = None
    # For random only: the width of each stage; none: the architecture's own.
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
