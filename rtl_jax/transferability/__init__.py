"""Transferability estimation: choose a source and the number of blocks before any training."""

from rtl_jax.transferability.choose import Candidate, CurvePoint, choose
from rtl_jax.transferability.cleaning import Cleaning, clean

__all__ = ["Candidate", "Cleaning", "CurvePoint", "choose", "clean"]
