"""The precision in which networks compute."""

from typing import Literal

Precision = Literal["float32", "tf32", "bfloat16"]
