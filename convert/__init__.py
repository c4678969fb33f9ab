"""Conversion of PyTorch checkpoints to `rtl_jax` networks, and back.

`convert` and `ensure_converted` are the whole interface for other code; `rtl-jax convert` is the
command. Only `--check` and the export to .pth and .onnx need torch.
"""

from rtl_jax.convert.converter import convert, ensure_converted

__all__ = ["convert", "ensure_converted"]
