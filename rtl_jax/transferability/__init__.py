"""Which source, and how many blocks, before any network is trained: transferability estimation."""

from rtl_jax.transferability.choose import Candidate, CurvePoint, choose
from rtl_jax.transferability.cleaning import Cleaning, clean

__all__ = ["Candidate", "Cleaning", "CurvePoint", "choose", "clean"]
