"""Small programs compiled for a TPU that is not there: what doubles their bytes is noticed here."""

import pytest

pytest.importorskip("libtpu", reason="the compiler for TPUs: pip install -e '.[tpu]'")

from benchmarks.compiled import CHIPS, Case, Programs, compile_for, device_of
from rtl_jax.attacks.pgd import PGD
from rtl_jax.data.augmentation import PRESETS
from rtl_jax.models.architecture import ResNetArchitecture

pytestmark = pytest.mark.slow

SMALL = ResNetArchitecture(
    "two blocks", "bottleneck", (1, 1), (8, 8), stem_width=8, stem_kernel=3, stem_stride=1,
    stem_pool=False, num_classes=10,
)  # fmt: skip
PROGRAMS = Programs(SMALL, pixels=32, batch=8, stored=64)


@pytest.mark.parametrize(
    ("case", "operations", "megabytes"),
    [  # measured with jax 0.10.2 and libtpu 0.0.42.1: 37 M and 73 MB, and so on
        (PROGRAMS.training(1, 1), 45e6, 90),
        (PROGRAMS.training(1, 4), 180e6, 670),
        (PROGRAMS.training(1, 1, "batch", augmentation=PRESETS["paper"]), 90e6, 180),
        (PROGRAMS.training(1, 1, perturbation="pgd"), 230e6, 270),
        (PROGRAMS.features(1), 38e6, 30),
        (PROGRAMS.attack(PGD("l2", steps=3)), 150e6, 210),
    ],
    ids=lambda value: value.name if isinstance(value, Case) else "",
)
def test_a_tpu_runs_it_with_few_operations_and_bytes(
    case: Case, operations: float, megabytes: float
) -> None:
    found = compile_for(device_of(CHIPS["v5e"]), case)
    assert 0 < found.operations < operations and 0 < found.bytes < megabytes * 1e6
