"""Scores on disk: complete, by test or training images, interrupted, damaged; and their ranks."""

import json
from pathlib import Path

import numpy as np
import pytest

from rtl_jax.errors import UserError
from rtl_jax.influence_functions import scores as module
from rtl_jax.influence_functions.conjugate import ConjugateGradient
from rtl_jax.influence_functions.curvature import hessian_curvature
from rtl_jax.influence_functions.scores import (
    gradient_kernel,
    influence_kernel,
    read_scores,
    score,
    self_gradient,
    top_k,
)
from rtl_jax.influence_functions.solve import Cholesky
from tests.influence_functions.problems import gradients, problem

HEAD, TRAIN, TEST = problem()


def solver(chunk: int = 4) -> Cholesky:
    found = Cholesky.of(hessian_curvature(TRAIN), 1e-3)
    found.chunk = chunk
    return found


@pytest.mark.parametrize("swapped", [False, True])
def test_what_is_written_is_the_matrix(tmp_path: Path, swapped: bool):
    # The smaller set is solved for: the test images here, or those for training.
    test, train = (TRAIN, TEST) if swapped else (TEST, TRAIN)
    done: list[int] = []
    found = score(tmp_path / "scores", solver(), test, train, {"damping": 1e-3}, done.append)
    np.testing.assert_allclose(found.values, influence_kernel(solver())(test, train), rtol=1e-9)
    assert isinstance(found.values, np.memmap) and not found.values.flags.writeable
    assert found.record["damping"] == 1e-3 and "lowers the test image's loss" in str(found.record)
    assert sum(done) == 17 and max(done) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["scores"]
    np.testing.assert_array_equal(read_scores(tmp_path / "scores").values, found.values)


class Killed(BaseException):
    """Simulates a kill: no code catches this exception."""


def killed_after(chunks: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Score until `chunks` chunks are on disk, then die; return a growing list of solved chunks."""
    solved: list[int] = []
    solve = Cholesky.solve

    def solve_or_die(self, examples):
        if len(solved) == chunks:
            solved.append(-1)
            raise Killed
        solved.append(examples.num_examples)
        return solve(self, examples)

    monkeypatch.setattr(Cholesky, "solve", solve_or_die)
    with pytest.raises(Killed):
        score(tmp_path / "scores", solver(), TEST, TRAIN, {"damping": 1e-3})
    assert not (tmp_path / "scores").exists()
    return solved


def test_an_interrupted_call_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole = score(tmp_path / "whole", solver(), TEST, TRAIN, {"damping": 1e-3})
    solved = killed_after(3, tmp_path, monkeypatch)
    found = score(tmp_path / "scores", solver(), TEST, TRAIN, {"damping": 1e-3})
    assert solved == [4, 4, 4, -1, 4, 1]  # 17 in all: none twice
    np.testing.assert_array_equal(found.values, whole.values)
    assert found.record == whole.record


def test_other_examples_or_settings_begin_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    solved = killed_after(3, tmp_path, monkeypatch)
    score(tmp_path / "scores", solver(), TEST, TRAIN, {"damping": 1e-2})
    assert solved == [4, 4, 4, -1, 4, 4, 4, 4, 1]


def test_scores_of_other_examples_or_settings_are_not_returned(tmp_path: Path):
    score(tmp_path / "scores", solver(), TEST, TRAIN, {"damping": 1e-3})
    fewer = TEST.take(slice(0, 5))
    by_gradients = ConjugateGradient.of(hessian_curvature(TRAIN), 1e-3)
    for wanted in (
        (solver(), fewer, TRAIN, {"damping": 1e-3}),
        (solver(), TEST, TRAIN, {"damping": 1.0}),
        (by_gradients, TEST, TRAIN, {"damping": 1e-3}),
    ):
        with pytest.raises(UserError, match=r"scores of other examples or settings: remove it"):
            score(tmp_path / "scores", *wanted)


def test_scores_that_may_be_replaced_are(tmp_path: Path):
    """As by the tasks, whose directories are named by all that scores depend on."""
    score(tmp_path / "scores", solver(), TEST, TRAIN, {"damping": 1.0})
    (tmp_path / "scores" / "manifest.json").write_text(
        (tmp_path / "scores" / "manifest.json").read_text().replace('"identity"', '"former"')
    )
    found = score(tmp_path / "scores", solver(), TEST, TRAIN, {"damping": 1e-3}, replace=True)
    np.testing.assert_allclose(found.values, influence_kernel(solver())(TEST, TRAIN), rtol=1e-9)


def test_a_resumed_call_records_the_accuracy_of_all_solutions(tmp_path: Path, monkeypatch):
    def by_gradients():
        found = ConjugateGradient.of(hessian_curvature(TRAIN), 1e-3)
        found.chunk = 4
        return found

    whole = score(tmp_path / "whole", by_gradients(), TEST, TRAIN, {}).record
    write = module._write_json

    def die_before_the_manifest(path, value):
        if path.name == "manifest.json":
            raise Killed
        write(path, value)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(module, "_write_json", die_before_the_manifest)
        score(tmp_path / "scores", by_gradients(), TEST, TRAIN, {})
    found = score(tmp_path / "scores", by_gradients(), TEST, TRAIN, {}).record
    assert found["iterations"] == whole["iterations"] > 0
    assert found["relative_residual"] == whole["relative_residual"] > 0


def test_a_full_disk_is_named_and_keeps_what_is_done(tmp_path: Path, monkeypatch):
    write, calls = module._write_json, iter([True, False])

    def full(path, value):
        if not next(calls):
            raise OSError(28, "No space left on device")
        write(path, value)

    with monkeypatch.context() as patch:
        patch.setattr(module, "_write_json", full)
        with pytest.raises(UserError, match=r"No space left.*make room"):
            score(tmp_path / "scores", solver(), TEST, TRAIN, {})
    (progress,) = tmp_path.glob(".scores.partial/progress.json")
    assert json.loads(progress.read_text())["done"] == 4


@pytest.mark.parametrize("damage", ["value", "manifest", "gone"])
def test_damaged_scores_are_named(tmp_path: Path, damage: str):
    score(tmp_path / "scores", solver(), TEST, TRAIN, {})
    array, manifest = tmp_path / "scores" / "scores.npy", tmp_path / "scores" / "manifest.json"
    if damage == "value":
        content = bytearray(array.read_bytes())
        content[-3] ^= 1
        array.write_bytes(content)
    elif damage == "manifest":
        manifest.write_text(manifest.read_text()[:40])
    else:
        array.unlink()
    with pytest.raises(UserError, match=r"scores holds no scores or damaged ones.*remove it"):
        read_scores(tmp_path / "scores")


def test_scores_cannot_be_mapped_from_afar():
    with pytest.raises(UserError, match="expected a local directory, not gs://bucket/scores"):
        score("gs://bucket/scores", solver(), TEST, TRAIN, {})


def test_the_baselines_are_products_of_gradients():
    found = gradient_kernel(TEST, TRAIN)
    np.testing.assert_allclose(found, gradients(TEST) @ gradients(TRAIN).T, rtol=1e-12)
    np.testing.assert_allclose(self_gradient(TRAIN), (gradients(TRAIN) ** 2).sum(1), rtol=1e-12)


def test_the_largest_come_first_and_of_equals_the_earlier():
    values = np.array([[1.0, 3.0, 2.0, 3.0], [-1.0, -2.0, 0.0, -2.0]])
    np.testing.assert_array_equal(top_k(values, 3), [[1, 3, 2], [2, 0, 1]])
