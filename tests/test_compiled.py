"""Small programs compiled for absent accelerators, to notice if their memory traffic doubles.

For a TPU, its own compiler is used; for CUDA, programs are lowered, which needs no compiler.
"""

import dataclasses
import importlib.util
import math
import os
import re
import sys

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax.sharding import SingleDeviceSharding

from benchmarks.accelerator.sizes import SMALL
from benchmarks.chips import CHIPS
from benchmarks.compiled import compile_for, devices_of, lower
from benchmarks.programs import Case, Programs
from benchmarks.traffic import memory_bytes
from rtl_jax.attacks.apgd import APGD
from rtl_jax.attacks.pgd import PGD
from rtl_jax.data.augmentation import PRESETS
from rtl_jax.models.batch_norm import BatchNorm
from rtl_jax.models.convolution import Conv
from rtl_jax.models.expansion import normalised
from rtl_jax.runtime import devices
from rtl_jax.train.abstract import Stored
from rtl_jax.train.parallel import needed

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
    assert 0 < found.memory_bytes < found.bytes


@needs_libtpu
def test_moments_of_the_inputs_save_a_third_of_an_expansions_bytes() -> None:
    """A bottleneck's last convolution with its normalisation, shortcut and gradients."""
    usual, ours = (_bytes_of_an_expansion(usual) for usual in (True, False))
    assert ours < 0.75 * usual  # measured: 361 and 527 MB


def _bytes_of_an_expansion(usual: bool) -> float:
    device = devices_of(CHIPS["v5e"])[0]
    bfloat16 = jnp.dtype(jnp.bfloat16)

    def layers() -> nnx.List:
        conv = Conv(64, 256, 1, dtype=bfloat16, method="xla")
        return nnx.List([conv, BatchNorm(256, eps=1e-5, dtype=bfloat16)])

    graph, state = nnx.split(nnx.eval_shape(layers))

    def loss(state: nnx.State, inputs: jax.Array, shortcut: jax.Array) -> tuple:
        conv, norm = nnx.merge(graph, state)
        features = nnx.relu(inputs)
        out = norm(conv(features), True) if usual else normalised(conv, norm, features, True)
        out = nnx.relu(out + shortcut).astype("float32").mean((1, 2))
        return out.sum(), (norm.mean[...], norm.var[...])

    def shape(shape: tuple[int, ...], dtype: jnp.dtype) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=SingleDeviceSharding(device))

    arguments = (
        jax.tree.map(lambda leaf: shape(leaf.shape, leaf.dtype), state),
        shape((64, 28, 28, 64), bfloat16),
        shape((64, 28, 28, 256), bfloat16),
    )
    with jax.default_device(device), jax.default_matmul_precision("default"):
        step = jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))
        return step.lower(*arguments).compile().cost_analysis()["bytes accessed"]


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


@needs_libtpu
def test_seeds_are_as_many_as_a_tpu_has_room_for() -> None:
    """Its own compiler refuses what does not fit into its memory."""
    device = devices_of(CHIPS["v5e"])[0]
    images = 2**12
    program = dataclasses.replace(PROGRAMS, batch=images).finetuning(1)
    stored = Stored.expected(program, 64)
    takes = {seeds: needed(program, seeds, stored, 1, device).total for seeds in (1, 2, 512)}
    # Features of 32 x 32 x 32 in bfloat16, and what a block keeps of them.
    assert 1 < takes[1] / (images * 32**3 * 2) < 5
    assert 1.4 < takes[2] / takes[1] < 2.1
    assert math.isinf(takes[512])


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


# As a TPU's compiler prints them: what has S(1) in its layout lies on the chip.
PROGRAM = """\
HloModule step, is_scheduled=true

%fused (p0: f32[1000,8], p1: s32[2]) -> f32[2,8] {
  %p0 = f32[1000,8]{1,0:T(8,128)} parameter(0)
  %p1 = s32[2]{0:T(128)S(1)} parameter(1)
  ROOT %gather.1 = f32[2,8]{1,0:T(8,128)S(1)} gather(%p0, %p1), offset_dims={1}
}

%body (carry: (f32[16])) -> (f32[16]) {
  %carry = (f32[16]{0}) parameter(0)
  %value = f32[16]{0} get-tuple-element(%carry), index=0
  %twice = f32[16]{0} add(%value, %value)
  ROOT %next = (f32[16]{0}) tuple(%twice)
}

ENTRY %main (a: f32[1000,8], b: s32[2], c: bf16[4,4], d: f32[16]) -> (f32[2,8], bf16[4,4]) {
  %a = f32[1000,8]{1,0:T(8,128)} parameter(0), metadata={op_name="a"}
  %b = s32[2]{0:T(128)} parameter(1)
  %c = bf16[4,4]{1,0:T(8,128)(2,1)} parameter(2)
  %d = f32[16]{0} parameter(3)
  %copy-start = (s32[2]{0:T(128)S(1)}, s32[2]{0:T(128)}, u32[]{:S(2)}) copy-start(%b)
  %copy-done = s32[2]{0:T(128)S(1)} copy-done(%copy-start)
  %fusion = f32[2,8]{1,0:T(8,128)S(1)} fusion(%a, %copy-done), kind=kCustom, calls=%fused
  %negate = bf16[4,4]{1,0:T(8,128)(2,1)S(1)} negate(%c)
  %tuple = (f32[16]{0}) tuple(%d)
  %while = (f32[16]{0}) while(%tuple), condition=%condition, body=%body
  ROOT %out = (f32[2,8]{1,0}, bf16[4,4]{1,0}) tuple(%fusion, %negate)
}
"""


def test_bytes_of_memory_leave_out_what_stays_on_the_chip() -> None:
    prefetched = 2 * 4  # read; written to the chip
    gathered = 2 * 8 * 4  # two of the thousand rows are read; written to the chip
    negated = 4 * 4 * 2  # the same
    body = 3 * 16 * 4  # two operands and a result, once
    assert memory_bytes(PROGRAM) == prefetched + gathered + negated + body
    everywhere = memory_bytes(PROGRAM.replace("S(1)", ""))
    assert everywhere == 2 * prefetched + (2 * 4 + 2 * gathered) + 2 * negated + body
