"""Robust checkpoints that are published, by short names: what `python -m convert list` prints.

Only what is documented stands here; what is not known is left empty.
"""

from convert.published.known import Known
from convert.published.robustbench_cifar import CIFAR
from convert.published.robustbench_imagenet import IMAGENET
from convert.published.robustness_library import ENGSTROM
from convert.published.salman import SALMAN

KNOWN: tuple[Known, ...] = (*SALMAN, *ENGSTROM, *IMAGENET, *CIFAR)
