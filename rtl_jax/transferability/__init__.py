"""Transferability estimation: choose a source and the number of blocks before any training."""

from rtl_jax.transferability.choose import Candidate, CurvePoint, choose

__all__ = ["Candidate", "CurvePoint", "choose"]
