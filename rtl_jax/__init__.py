"""Transfer learning from adversarially trained networks, in JAX (Utrera et al., ICLR 2021).

    import rtl_jax as rtl

    source = rtl.load("bundled:l2")
    network = rtl.finetune(source, images, labels, blocks=1)
    network.predict_proba(new_images)
    rtl.attack(network, images, labels, 0.5, rtl.PGD("l2"))
    rtl.influence(network, (images, labels), (new_images, new_labels))
    network.save("mine")

`rtl_jax.sklearn` provides the same as a scikit-learn classifier. Names are imported on first use,
so that reading result rows does not need JAX.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rtl_jax.version import __version__

if TYPE_CHECKING:
    import rtl_jax.sklearn as sklearn
    from rtl_jax.api import (
        FEW_LABELS,
        attack,
        autoattack,
        certify,
        choose,
        conformalize,
        corrupt,
        corruption_accuracy,
        finetune,
        influence,
        load,
        perturb_training,
    )
    from rtl_jax.attacks import (
        APGD,
        FAB,
        FGSM,
        L1,
        L2,
        PGD,
        Attack,
        AutoAttack,
        FourierPGD,
        Gaussian,
        Linf,
        Square,
        Threat,
    )
    from rtl_jax.data.augmentation import Augmentation
    from rtl_jax.errors import UserError
    from rtl_jax.models.network import Network
    from rtl_jax.smoothing import Smoothing
    from rtl_jax.train.recipe import Recipe


_PLACES = {
    "rtl_jax.api": (
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
    ),
    "rtl_jax.attacks": (
        "APGD",
        "FAB",
        "FGSM",
        "L1",
        "L2",
        "PGD",
        "Attack",
        "AutoAttack",
        "FourierPGD",
        "Gaussian",
        "Linf",
        "Square",
        "Threat",
    ),
    "rtl_jax.data.augmentation": ("Augmentation",),
    "rtl_jax.errors": ("UserError",),
    "rtl_jax.lab.results": ("read_rows",),
    "rtl_jax.models.network": ("Network",),
    "rtl_jax.smoothing": ("Smoothing",),
    "rtl_jax.train.recipe": ("Recipe",),
}

__all__ = [
    "APGD",
    "FAB",
    "FEW_LABELS",
    "FGSM",
    "L1",
    "L2",
    "PGD",
    "Attack",
    "Augmentation",
    "AutoAttack",
    "FourierPGD",
    "Gaussian",
    "Linf",
    "Network",
    "Recipe",
    "Smoothing",
    "Square",
    "Threat",
    "UserError",
    "__version__",
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
    "read_rows",
    "sklearn",
]


def __getattr__(name: str) -> Any:
    if name == "sklearn":
        return import_module("rtl_jax.sklearn")
    for module, names in _PLACES.items():
        if name in names:
            # Cache it, since a subpackage of that name may be imported later and replace it.
            value = getattr(import_module(module), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'rtl_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
