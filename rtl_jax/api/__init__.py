"""The library's main interface, from arrays to networks and arrays; `import rtl_jax as rtl`."""

from rtl_jax.api.explanation import influence, perturb_training
from rtl_jax.api.prediction import conformalize
from rtl_jax.api.robustness import attack, autoattack, certify, corrupt, corruption_accuracy
from rtl_jax.api.transfer import FEW_LABELS, choose, finetune, load

__all__ = [
    "FEW_LABELS",
    "attack",
    "autoattack",
    "certify",
    "choose",
    "conformalize",
    "corrupt",
    "corruption_accuracy",
    "finetune",
    "influence",
    "load",
    "perturb_training",
]
