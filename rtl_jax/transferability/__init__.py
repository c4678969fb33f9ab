"""Which source, and how many blocks, before any network is trained: transferability estimation."""

from rtl_jax.transferability.choose import Candidate, CurvePoint, choose

__all__ = ["Candidate", "CurvePoint", "choose"]
