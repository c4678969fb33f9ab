"""Influence scores of training on test images, computed in chunks into a memory-mapped array.

Sign: the score is g_test^T H^-1 g_train. Positive means that the training image lowers the test
image's loss: removing it is predicted to raise that loss by score / n. Koh and Liang's
I_up,loss, the effect of upweighting, and the paper's equation (9) are its negative; the paper's
figures rank by the largest scores in this sign.
"""

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath

from rtl_jax.errors import UserError, require
from rtl_jax.influence_functions.head import Examples
from rtl_jax.influence_functions.solve import Solver
from rtl_jax.runtime.digest import digest
from rtl_jax.runtime.progress import Progress

CONVENTION = "g_test^T H^-1 g_train; positive: the training image lowers the test image's loss"
FORMAT = "rtl_jax influence scores"

# Scores [left, right] of two sets of examples; the cost grows with the size of the right one.
Kernel = Callable[[Examples, Examples], np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Scores:
    """Influence scores.

    Attributes:
      values: float64 [T, n], memory-mapped: test images by training images.
      record: the manifest: solver, damping, residual, ...
    """

    values: np.ndarray
    record: dict[str, Any]


def influence_kernel(solver: Solver) -> Kernel:
    """Return a function that computes g^T H^-1 g' for all pairs, with the solver's H."""

    def kernel(left: Examples, right: Examples) -> np.ndarray:
        solved = solver.solve(right)
        errors = left.errors @ solver.basis
        total = np.zeros((left.num_examples, right.num_examples))
        for vector in range(solver.basis.shape[1]):
            products = left.inputs @ solved[:, vector].T
            products *= errors[:, [vector]]
            total += products
        return total

    return kernel


def gradient_kernel(left: Examples, right: Examples) -> np.ndarray:
    """Compute g^T g' for all pairs, [N, M]: the baseline without a Hessian.

    It is the product of two small Gram matrices.
    """
    return (left.inputs @ right.inputs.T) * (left.errors @ right.errors.T)


def self_influence(
    solver: Solver, examples: Examples, progress: Progress = lambda done: None
) -> np.ndarray:
    """Compute g^T H^-1 g of each example, [N]: large if the other examples do not predict it."""
    found = np.empty(examples.num_examples)
    for rows in _chunks(examples.num_examples, solver.chunk):
        part = examples.take(rows)
        errors = part.errors @ solver.basis
        found[rows] = np.einsum("nkd,nk,nd->n", solver.solve(part), errors, part.inputs)
        progress(part.num_examples)
    return found


def self_gradient(examples: Examples) -> np.ndarray:
    """Compute g^T g of each example, [N], the baseline of `self_influence`."""
    return (examples.inputs**2).sum(1) * (examples.errors**2).sum(1)


def score(
    directory: epath.PathLike,
    solver: Solver,
    test: Examples,
    train: Examples,
    record: Mapping[str, Any],
    progress: Progress = lambda done: None,
    *,
    replace: bool = False,
) -> Scores:
    """Write the influence scores of all pairs to a directory; resume if interrupted.

    Args:
      directory: a local directory, complete or absent.
      solver: from `solver_for`.
      test: T examples to explain.
      train: n training examples.
      record: what the scores depend on besides the examples and the kind of solver, such as the
        damping; part of the manifest.
      progress: called with the number of examples of the smaller set done since the last call.
      replace: whether to replace scores of other examples or another record. Features computed on
        another machine differ in their last bits, and count as others.

    Returns:
      The scores, memory-mapped.

    Raises:
      UserError: the directory cannot be written, or holds damaged scores or those of other
        examples or another record.
    """
    block, axis = _blocks(solver, test, train)
    return write_scores(
        directory,
        block,
        (test.num_examples, train.num_examples),
        axis=axis,
        chunk=solver.chunk,
        identity=digest((*test, *train), {**record, "kind of solver": type(solver).__name__}),
        record=lambda: {**record, **solver.record},
        progress=progress,
        replace=replace,
    )


def influence_scores(solver: Solver, test: Examples, train: Examples) -> np.ndarray:
    """Compute the influence scores of all pairs in memory, float64 [T, n], equal to `score`."""
    block, axis = _blocks(solver, test, train)
    total = (test, train)[axis].num_examples
    return np.concatenate([block(rows) for rows in _chunks(total, solver.chunk)], axis)


def _blocks(
    solver: Solver, test: Examples, train: Examples
) -> tuple[Callable[[slice], np.ndarray], int]:
    """Return a function that scores part of the smaller set against the other, and its axis."""
    kernel, by_train = influence_kernel(solver), train.num_examples <= test.num_examples

    def block(rows: slice) -> np.ndarray:
        return kernel(test, train.take(rows)) if by_train else kernel(train, test.take(rows)).T

    return block, int(by_train)


def write_scores(
    directory: epath.PathLike,
    block: Callable[[slice], np.ndarray],
    shape: tuple[int, int],
    *,
    axis: int,
    chunk: int,
    identity: str,
    record: Callable[[], Mapping[str, Any]],
    progress: Progress = lambda done: None,
    replace: bool = False,
) -> Scores:
    """Write scores [T, n] and a manifest to `directory`, which is complete or absent.

    `block` computes the scores of some test images (axis 0) or training images (axis 1), `chunk` of
    them at a time. Until all are done, they are in a directory beside it, from which a second call
    with the same `identity` resumes. `record` returns the content of the manifest. Raises UserError
    if writing fails or, without `replace`, the directory holds scores of another identity.
    """
    directory = local(directory)
    if directory.exists():
        known = read_scores(directory)
        if known.record.get("identity") == identity:
            return known
        if not replace:
            raise UserError(
                f"{directory} holds the scores of other examples or settings: remove it or choose "
                "another directory"
            )
        del known  # it is mapped into memory
        shutil.rmtree(directory)
    partial = directory.with_name(f".{directory.name}.partial")
    try:
        values, done, earlier = _open_partial(partial, identity, shape)
        progress(done)
        for rows in _chunks(shape[axis], chunk, done):
            values[(slice(None),) * axis + (rows,)] = block(rows)
            values.flush()
            state = {"identity": identity, "done": rows.stop, "record": _worst(record(), earlier)}
            _write_json(partial / "progress.json", state)
            progress(rows.stop - rows.start)
        manifest = {"format": FORMAT, "convention": CONVENTION, "shape": shape}
        manifest |= {"identity": identity, **_worst(record(), earlier)}
        _write_json(partial / "manifest.json", {**manifest, "digest": digest(values)})
        (partial / "progress.json").unlink(missing_ok=True)
        partial.rename(directory)
    except OSError as error:
        raise UserError(
            f"cannot write the scores to {directory} ({error}): make room or choose another work "
            "directory. What is done is kept, and the same command resumes"
        ) from error
    return read_scores(directory)


def read_scores(directory: epath.PathLike) -> Scores:
    """Memory-map the scores in a directory.

    Raises:
      UserError: there are none, or they are damaged.
    """
    directory = local(directory)
    try:
        record = json.loads((directory / "manifest.json").read_text())
        values = np.load(directory / "scores.npy", mmap_mode="r", allow_pickle=False)
        if record["format"] != FORMAT or record["digest"] != digest(values):
            raise ValueError("they are not those that were written")
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise UserError(
            f"{directory} holds no scores or damaged ones ({error}): remove it and run the "
            "command that wrote it again"
        ) from error
    return Scores(values, record)


def local(path: epath.PathLike) -> Path:
    """Return a local `path`. Raises UserError for a remote one, which cannot be memory-mapped."""
    if "://" in str(path):
        raise UserError(f"scores are mapped into memory: expected a local directory, not {path}")
    return Path(path)


def top_k(values: np.ndarray, k: int) -> np.ndarray:
    """Return the k most influential training images of each test image, int64 [T, k].

    They are in descending order of score; of equal scores, the earlier image comes first.

    Example:
        >>> import numpy as np
        >>> from rtl_jax.influence_functions import top_k
        >>> top_k(np.array([[0.1, 0.3, 0.2]]), 2).tolist()
        [[1, 2]]
    """
    require(0 <= k <= values.shape[1], "top_k: k", f"at most {values.shape[1]} images", k)
    found = np.empty((len(values), k), np.int64)
    for rows in _chunks(len(values), 1024):
        found[rows] = np.argsort(-values[rows], axis=1, kind="stable")[:, :k]
    return found


def _worst(record: Mapping[str, Any], earlier: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record with the accuracy of solutions also in an interrupted call."""
    known = {name: earlier[name] for name in _ACCURACY if name in earlier}
    return {**record, **{name: max(record[name], value) for name, value in known.items()}}


_ACCURACY = ("relative_residual", "iterations")


def _open_partial(
    partial: Path, identity: str, shape: tuple[int, int]
) -> tuple[np.memmap, int, dict[str, Any]]:
    """Open what an interrupted call left, its progress and record, or create a new array."""
    scores, progress = partial / "scores.npy", partial / "progress.json"
    if progress.exists():
        record = json.loads(progress.read_text())
        if record["identity"] == identity:
            found = np.lib.format.open_memmap(scores, mode="r+")
            return found, record["done"], record.get("record", {})
    partial.mkdir(parents=True, exist_ok=True)
    progress.unlink(missing_ok=True)
    return np.lib.format.open_memmap(scores, mode="w+", dtype=np.float64, shape=shape), 0, {}


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON atomically, replacing an older file."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(value, indent=2) + "\n")
    temporary.replace(path)


def _chunks(total: int, size: int, start: int = 0) -> list[slice]:
    return [slice(at, min(at + size, total)) for at in range(start, total, size)]
