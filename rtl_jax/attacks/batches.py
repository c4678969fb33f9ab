"""Images in full batches of one shape, over all devices, each kept on disk when it is done."""

import dataclasses
import time
from collections.abc import Iterator
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from rtl_jax.attacks import batch_cache as store
from rtl_jax.attacks.adversarial import Adversarial, attack, reevaluate
from rtl_jax.attacks.apgd import APGD
from rtl_jax.attacks.pgd import LogitsFn
from rtl_jax.attacks.randomised import RandomLogitsFn
from rtl_jax.attacks.runs import Runs
from rtl_jax.runtime import devices
from rtl_jax.runtime.progress import bar

CPU_BATCH, ACCELERATOR_BATCH = 16, 256  # on two cores larger ones are no faster an image
SIDE_BY_SIDE = 1024  # images in a program on an accelerator, over the runs that share it


class Outcome(NamedTuple):
    """What an attack did to M images that it was given.

    fallen: int [K], the rows of those that it broke. images: [K, ...], what they fell to.
    zero_gradient: int [M]; ended_worse: int [M - K], of those that withstood: see `Signs`.
    seconds: that it took, in this session or an earlier one.
    """

    fallen: np.ndarray
    images: np.ndarray
    zero_gradient: np.ndarray
    ended_worse: np.ndarray
    seconds: float


@dataclasses.dataclass(frozen=True)
class Batches:
    """A model and the images to attack it with.

    logits_fn: the model; with `passes`, one that takes a key too.
    images: float32 [N, ...]. labels: int [N]. eps: the radius. key: of everything random.
    judge: by its norm, loss and passes success and losses are told.
    size: images in a batch. together: runs side by side; None: as many as pay.
    directory: where batches are kept; None: nowhere.
    """

    logits_fn: LogitsFn | RandomLogitsFn
    images: np.ndarray
    labels: np.ndarray
    eps: float
    key: jax.Array
    judge: APGD
    size: int
    together: int | None
    directory: epath.Path | None

    @cached_property
    def classes(self) -> int:
        """How many the model tells apart."""
        keys = () if self.judge.passes is None else (self.key,)
        return jax.eval_shape(self.logits_fn, jnp.asarray(self.images[:1]), *keys).shape[-1]

    @cached_property
    def divided(self) -> bool:
        """Whether several devices share a batch; several hosts do not, and each does everything."""
        return jax.device_count() > 1 and jax.process_count() == 1

    @cached_property
    def model(self) -> Any:
        """The model with its arrays on every device."""
        if not self.divided:
            return self.logits_fn
        mesh = devices.batch_mesh()
        leaves, structure = jax.tree.flatten(self.logits_fn)
        kinds = jax.Array | np.ndarray
        leaves = [devices.replicate(mesh, x) if isinstance(x, kinds) else x for x in leaves]
        return jax.tree.unflatten(structure, leaves)

    def reevaluate(self, found: np.ndarray, rows: np.ndarray | None = None) -> Adversarial:
        """What images `found` [M, ...] for these rows, by default all, are worth; NumPy arrays."""
        rows = np.arange(len(self.labels)) if rows is None else rows
        parts = []
        for start, number in self._starts(len(rows)):
            place = np.minimum(np.arange(start, start + self.size), len(rows) - 1)
            images, labels, indices, again = self._put(rows[place], found[place])
            part = reevaluate(
                self.model, images, labels, self.eps, self.judge, again, self.key, indices=indices
            )
            parts.append(jax.tree.map(lambda leaf, n=number: np.asarray(leaf)[:n], part))
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)

    def attack(self, name: str, settings: Runs, rows: np.ndarray) -> Outcome:
        """Attack rows, run after run: what has fallen leaves, and the rest fill batches again."""
        parts: list[dict[str, np.ndarray]] = []
        zero, worse = (np.zeros(len(self.labels), int) for _ in range(2))
        left, blocks = rows, self._blocks(settings.runs(self.classes))
        with bar(name, len(rows) * len(blocks)) as progress:
            for numbers in blocks:
                standing = [left[:0]]
                progress.update(len(rows) - len(left))
                for start, number in self._starts(len(left)):
                    part = self._kept(name, settings, numbers, left, start)
                    parts.append(part)
                    zero[part["rows"]] += part["zero_gradient"]
                    worse[part["rows"]] += part["ended_worse"]
                    standing.append(part["rows"][~part["success"]])
                    progress.update(number)
                left = np.concatenate(standing)
        return Outcome(
            np.concatenate([rows[:0], *(part["rows"][part["success"]] for part in parts)]),
            np.concatenate([self.images[:0], *(part["images"] for part in parts)]),
            zero[rows],
            worse[left],
            float(sum(part["seconds"] for part in parts)),
        )

    def _blocks(self, runs: int) -> list[np.ndarray]:
        """The numbers of the runs, those that go side by side together, in equal parts.

        The last part is filled up with the last number, so that one program does for all.
        """
        on_cpu = jax.default_backend() == "cpu"
        most = self.together or (1 if on_cpu else max(1, SIDE_BY_SIDE // self.size))
        parts = -(-runs // most)
        size = -(-runs // parts)
        return list(np.minimum(np.arange(parts * size), runs - 1).reshape(parts, size))

    def _kept(
        self, name: str, settings: Runs, numbers: np.ndarray, left: np.ndarray, start: int
    ) -> dict[str, np.ndarray]:
        """A batch of `left`, from disk if it is there; its images evaluated before they count."""
        rows = left[start : start + self.size]
        path = self.directory and self.directory / f"{name}-{numbers[0]:03d}-{start:08d}.npz"
        part = store.read(path) if path and path.exists() else None
        if part is None or not np.array_equal(part["rows"], rows):  # of another batch size
            part = self._attacked(settings, numbers, rows)
            if path:
                store.keep(path, part)
        images = self.images[rows]
        images[part["success"]] = part["images"]
        success = part["success"] & self.reevaluate(images, rows).success
        return {**part, "success": success, "images": images[success]}

    def _attacked(
        self, settings: Runs, numbers: np.ndarray, rows: np.ndarray
    ) -> dict[str, np.ndarray]:
        """These runs on a batch: success and signs for each image, images of those that fell."""
        began, number = time.monotonic(), len(rows)
        place = np.minimum(np.arange(self.size), number - 1)
        images, labels, indices, _ = self._put(rows[place], self.images[rows[place]])
        found = attack(
            self.model,
            images,
            labels,
            self.eps,
            settings,
            self.key,
            indices=indices,
            together=len(numbers),
            runs=jnp.asarray(numbers),
        )
        success = np.asarray(found.success)[:number]
        none = np.zeros(number, int)
        signs = (none, none) if found.signs is None else found.signs
        zero, worse = (np.asarray(sign)[:number] for sign in signs)
        return {
            "rows": rows,
            "success": success,
            "images": np.asarray(found.images)[:number][success],
            "zero_gradient": zero,
            "ended_worse": worse,
            "seconds": np.asarray(time.monotonic() - began),
        }

    def _put(self, rows: np.ndarray, found: np.ndarray) -> tuple[jax.Array, ...]:
        """Images, labels and numbers of rows, and what was found, divided over the devices."""
        parts = self.images[rows], self.labels[rows], rows, found
        if not self.divided:
            return tuple(map(jnp.asarray, parts))
        return devices.divide(devices.batch_mesh(), parts)

    def _starts(self, total: int) -> Iterator[tuple[int, int]]:
        """Where batches begin, and how many images are in each."""
        for start in range(0, total, self.size):
            yield start, min(self.size, total - start)
