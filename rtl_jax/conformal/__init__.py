"""Predictions with guarantees: sets of classes that hold the true one, and p-values of outliers.

Both are conformal (Vovk, Gammerman and Shafer, 2005): what is promised holds for any network and
any distribution, as long as new images and those of the calibration are exchangeable.
"""

from rtl_jax.conformal.outliers import Neighbours, energy, p_values
from rtl_jax.conformal.sets import Conformal, Score, cross_sets
from rtl_jax.conformal.stored import Guarantees

__all__ = [
    "Conformal",
    "Guarantees",
    "Neighbours",
    "Score",
    "cross_sets",
    "energy",
    "p_values",
]
