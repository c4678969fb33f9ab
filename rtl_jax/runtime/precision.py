"""What networks compute in."""

from typing import Literal

Precision = Literal["float32", "tf32", "bfloat16"]
