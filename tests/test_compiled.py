"""Small programs compiled for absent accelerators, to notice if their memory traffic doubles.

For a TPU, its own compiler is used; for CUDA, programs are lowered, which needs no compiler.
"""

import dataclasses
import importlib.util
import os
import re
import sys

import jax
import pytest

from benchmarks.accelerator.sizes import SMALL
from benchmarks.chips import CHIPS
from benchmarks.compiled import compile_for, devices_of, lower
from benchmarks.programs import Case, Programs
from rtl_jax.attacks.apgd import APGD
from rtl_jax.attacks.pgd import PGD
from rtl_jax.data.augmentation import PRESETS
from rtl_jax.runtime import devices

pytestmark = pytest.mark.slow

# Where libtpu lies apart: beside JAX, it would be looked at by every program that starts.
sys.path += [folder for folder in [os.environ.get("RTL_JAX_LIBTPU_DIR")] if folder]

needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="the compiler for TPUs is missing: pip install -e '.[tpu]'",
)

PROGRAMS = Programs(SMALL, pixels=32, batch=8, stored=64)
EVERY = [  # measured with jax 0.10.2 and libtpu 0.0.42.1: 36 M and 57 MB, and so on
    (PROGRAMS.training(1, 1), 45e6, 70),
    (PROGRAMS.training(1, 4), 180e6, 220),
    (PROGRAMS.training(1, 1, "batch", augmentation=PRESETS["paper"]), 90e6, 115),
    (PROGRAMS.training(1, 1, perturbation="pgd"), 230e6, 270),
    (PROGRAMS.features(1), 38e6, 30),
    (PROGRAMS.attack(PGD("l2", steps=3)), 150e6, 210),
]
HESSIAN = PROGRAMS.hessian(images=80)


def _name(value: object) -> str:
    return value.name if isinstance(value, Case) else ""


@needs_libtpu
@pytest.mark.parametrize(("case", "operations", "megabytes"), EVERY, ids=_name)
def test_a_tpu_runs_it_with_few_operations_and_bytes(
    case: Case, operations: float, megabytes: float
) -> None:
    once = dataclasses.replace(case, body=None)  # a loop's body counts once
    found = compile_for(devices_of(CHIPS["v5e"]), once)
    assert 0 < found.operations < operations and 0 < found.bytes < megabytes * 1e6


@needs_libtpu
def test_chips_exchange_sums_alone_where_a_batch_is_divided() -> None:
    text = lower(devices_of(CHIPS["v5e"]), PROGRAMS.source()).compile().as_text()
    assert "num_partitions=8" in text
    assert len(re.findall(r" all-reduce(?:-start)?\(", text)) > 0  # gradients, statistics
    # What is gathered or exchanged otherwise would be images or activations.
    assert not re.findall(r" (?:all-gather|all-to-all|collective-permute)(?:-start)?\(", text)


@needs_libtpu
def test_eight_chips_compute_a_hessian_without_exchanging_it() -> None:
    """In float64, which a TPU emulates: a sum over chips would gather the parts of all of them."""
    chips = devices_of(CHIPS["v5e"])
    found = compile_for(chips, HESSIAN)  # measured: 75 M and 299 MB
    assert 0 < found.operations < 95e6 and 0 < found.bytes < 370e6
    text = lower(chips, HESSIAN).compile().as_text()
    assert "num_partitions=8" in text or "replica_count=8" in text
    exchanged = r" (?:all-reduce|all-gather|all-to-all|collective-permute)(?:-start)?\("
    assert not re.findall(exchanged, text)


@pytest.mark.parametrize(
    "case",
    [
        *(case for case, *_ in EVERY),
        PROGRAMS.evaluation(1, 4),
        PROGRAMS.source(),
        PROGRAMS.attack(APGD("l2", steps=3)),
    ],
    ids=_name,
)
def test_it_lowers_for_cuda(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "platform", lambda: "gpu")
    jax.clear_caches()  # what was traced for another platform has that one's forms
    exported = jax.export.export(case.function, platforms=["cuda"])(
        *case.arguments, **case.keywords
    )
    jax.clear_caches()
    assert exported.platforms == ("cuda",)
    # One network's convolutions are cuDNN's; those of several seeds are matrix products.
    text = exported.mlir_module()
    assert "stablehlo.convolution" in text or "stablehlo.dot_general" in text
    if "seeds" not in case.name:
        assert "stablehlo.convolution" in text
