"""Predictions with guarantees: sets of classes that contain the true one, and outlier p-values.

Both are conformal (Vovk, Gammerman and Shafer, 2005): the guarantees hold for any network and any
distribution, provided that new images and calibration images are exchangeable.
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
