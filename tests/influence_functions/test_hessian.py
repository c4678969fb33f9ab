"""The closed form, autodiff on several devices, and the Fisher information."""

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

from rtl_jax.errors import UserError
from rtl_jax.influence_functions.curvature import empirical_fisher_curvature, hessian_curvature
from rtl_jax.influence_functions.head import contrasts
from rtl_jax.influence_functions.hessian import SLICE, autodiff_bytes, autodiff_hessian
from tests.influence_functions import fisher
from tests.influence_functions.problems import gradients, hessian, problem
from tests.processes import on_devices, on_hosts


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("l2", [0.0, 1e-3])
def test_autodiff_and_the_closed_form_are_the_hessian(bias: bool, l2: float):
    head, train, _ = problem(bias)
    exact = hessian(train, l2)
    closed = hessian_curvature(train).assemble(l2=l2)
    np.testing.assert_allclose(closed, exact, atol=1e-15)
    # 43 examples in batches of 5: the last one is partial.
    np.testing.assert_allclose(autodiff_hessian(head, train, l2=l2), closed, atol=1e-10, rtol=0)
    assert closed.flags.f_contiguous  # else LAPACK would copy 3 GB


def test_slices_of_rows_are_the_hessian_that_jax_computes():
    head, train, _ = problem(
        features=60, classes=5, train=20
    )  # 305 parameters: two slices and more
    assert train.num_parameters % SLICE != 0 < train.num_parameters // SLICE

    def loss(weights: jax.Array) -> jax.Array:
        logits = train.inputs @ weights.reshape(head.weights.shape).T
        return optax.softmax_cross_entropy_with_integer_labels(logits, train.labels).mean()

    with jax.enable_x64(True):
        expected = jax.hessian(loss)(head.weights.reshape(-1))
    found = autodiff_hessian(head, train)
    np.testing.assert_allclose(found, expected, atol=1e-15, rtol=0)
    assert found.flags.f_contiguous


def test_contrasts_hold_all_of_it():
    _, train, _ = problem()
    basis = np.kron(contrasts(4), np.eye(7))
    reduced = hessian_curvature(train).assemble(contrasts(4), 0.5)
    np.testing.assert_allclose(reduced, basis.T @ hessian(train, 0.5) @ basis, atol=1e-14)
    restored = basis @ hessian_curvature(train).assemble(contrasts(4)) @ basis.T
    np.testing.assert_allclose(restored, hessian(train), atol=1e-14)


def test_the_expected_fisher_is_the_hessian_at_any_parameters():
    _, train, _ = problem()
    expected = fisher.expected_fisher(train)
    np.testing.assert_allclose(expected, hessian_curvature(train).assemble(), atol=1e-10, rtol=0)


def test_the_empirical_fisher_is_another():
    _, train, _ = problem()
    found = empirical_fisher_curvature(train).assemble()
    np.testing.assert_allclose(found, fisher.empirical_fisher(train), atol=1e-14)
    one_by_one = sum(np.outer(g, g) for g in gradients(train)) / train.num_examples
    np.testing.assert_allclose(found, one_by_one, atol=1e-14)
    assert abs(found - hessian(train)).max() > 0.01


def test_means_and_traces_are_those_of_the_class_matrices():
    _, train, _ = problem()
    for curvature in (hessian_curvature(train), empirical_fisher_curvature(train)):
        each = [
            np.diag(diagonal) + curvature.sign * np.outer(factor, factor)
            for diagonal, factor in zip(curvature.diagonal, curvature.factor, strict=True)
        ]
        np.testing.assert_allclose(curvature.mean(), np.mean(each, 0), atol=1e-15)
        np.testing.assert_allclose(curvature.traces(), [np.trace(a) for a in each], atol=1e-15)


def test_too_little_memory_is_said_before_it_is_taken():
    head, train, _ = problem(features=2000, classes=20, train=3, test=1)
    with pytest.raises(UserError, match=r"40,020 parameters.*GiB.*solver=conjugate_gradient"):
        autodiff_hessian(head, train, memory_gib=1)
    assert autodiff_bytes(40_020) > 8 * 40_020**2


SCRIPT = """
import sys
import jax
import numpy as np
from rtl_jax.influence_functions.hessian import autodiff_hessian
from rtl_jax.runtime import devices
from tests.influence_functions.problems import hessian, problem
head, train, _ = problem()
every = jax.local_devices()
for number in (1, 2, 4):
    # pmap takes the first of the devices that the platform says there are.
    jax.local_device_count = lambda number=number: number
    for platform in ("cpu", "tpu"):  # summed by the devices; by the host
        devices.platform = lambda platform=platform: platform
        found = autodiff_hessian(head, train, l2=1e-3)
        print(number, len(every), platform, abs(found - hessian(train, 1e-3)).max())
"""


def test_any_number_of_devices_gives_the_same():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=Path(__file__).parents[2],
        env=on_devices(4),
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[:3] for line in lines] == [
        [number, "4", platform] for number in "124" for platform in ("cpu", "tpu")
    ]
    assert all(float(error) < 1e-12 for *_, error in lines)


ON_A_HOST = """
from rtl_jax.runtime import devices
devices.join_hosts()
from rtl_jax.influence_functions.hessian import autodiff_hessian
from tests.influence_functions.problems import hessian, problem
head, train, _ = problem()
print(abs(autodiff_hessian(head, train, l2=1e-3) - hessian(train, 1e-3)).max())
"""


def test_each_of_several_hosts_sums_over_its_own_devices():
    hosts = [
        subprocess.Popen(
            [sys.executable, "-c", ON_A_HOST],
            cwd=Path(__file__).parents[2],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for environment in on_hosts(2, devices=2)
    ]
    printed = [process.communicate(timeout=300)[0] for process in hosts]
    assert all(float(output.splitlines()[-1]) < 1e-12 for output in printed)
