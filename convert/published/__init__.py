"""Published robust checkpoints by short names, as printed by `rtl-jax convert list`.

Only documented facts are listed; unknown ones are left empty.
"""

from rtl_jax.convert.published.known import Known
from rtl_jax.convert.published.robustbench_cifar import CIFAR
from rtl_jax.convert.published.robustbench_imagenet import IMAGENET
from rtl_jax.convert.published.robustness_library import ENGSTROM
from rtl_jax.convert.published.salman import SALMAN

KNOWN: tuple[Known, ...] = (*SALMAN, *ENGSTROM, *IMAGENET, *CIFAR)
