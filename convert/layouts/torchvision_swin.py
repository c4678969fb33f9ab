"""Swin transformers under torchvision's names."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from rtl_jax.convert.layouts.entry import Shape
from rtl_jax.convert.layouts.layout import Layout
from rtl_jax.convert.layouts.swin import SwinLayout
from rtl_jax.models.swin import SwinArchitecture

_INDEX = "relative_position_index"


class TorchvisionSwinLayout(SwinLayout):
    """features.0.0 and 0.2 are the stem; then stages and token merging alternate; head."""

    name = "swin-torchvision"
    first = ("features.0.0.weight",)
    signs = ("features.1.0.attn.",)
    heads = ("head",)
    torch_words = "torchvision's SwinTransformer"
    stem = ("features.0.0", "features.0.2")
    mlp = ("mlp.0", "mlp.3")

    def fits(self, shapes: Mapping[str, Shape]) -> bool:
        """Return True: its signs suffice."""
        return True

    def describes(self, architecture: SwinArchitecture) -> bool:
        """Whether images that do not fill their windows are padded before the shift, as here."""
        return architecture.pad_before_shift

    def infer(self, shapes: Mapping[str, Shape], options: Mapping[str, Any]) -> SwinArchitecture:
        """Infer the architecture of these tensors."""
        return super().infer(shapes, options).replace(pad_before_shift=True)

    def _stage(self, stage: int) -> str:
        return f"features.{2 * stage + 1}"

    def _merging(self, stage: int) -> str:
        return f"features.{2 * stage}"

    def num_stages(self, shapes: Mapping[str, Shape]) -> int:
        """Return half the number of layers after the stem, as stages and mergings alternate."""
        return super().num_stages(shapes) // 2

    def constants(self, architecture: SwinArchitecture) -> dict[str, np.ndarray]:
        """Return each pair's index in the table of biases, int64 [T * T], for every block."""
        window = architecture.window
        rows, columns = (each.reshape(-1) for each in np.mgrid[:window, :window])
        down, across = (each[:, None] - each + window - 1 for each in (rows, columns))
        places = (down * (2 * window - 1) + across).reshape(-1).astype(np.int64)
        return {
            f"{self._stage(stage)}.{index}.attn.{_INDEX}": places
            for stage, depth in enumerate(architecture.depths)
            for index in range(depth)
        }

    def torch_network(self, architecture: SwinArchitecture) -> Any:
        """Build torchvision's network."""
        from rtl_jax.convert.torch_networks.torchvision_networks import swin

        return swin(architecture)

    @property
    def torch_layout(self) -> Layout:
        """This layout itself."""
        return self
