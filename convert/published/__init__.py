"""Robust checkpoints that are published, by short names: what `rtl-jax convert list` prints.

Only what is documented stands here; what is not known is left empty.
"""

from rtl_jax.convert.published.known import Known
from rtl_jax.convert.published.robustbench_cifar import CIFAR
from rtl_jax.convert.published.robustbench_imagenet import IMAGENET
from rtl_jax.convert.published.robustness_library import ENGSTROM
from rtl_jax.convert.published.salman import SALMAN

KNOWN: tuple[Known, ...] = (*SALMAN, *ENGSTROM, *IMAGENET, *CIFAR)
