"""Attack images in full batches of one shape, on all devices, and save each finished batch."""

import dataclasses
import time
from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from rtl_jax.attacks import batch_cache
from rtl_jax.attacks.adversarial import Adversarial, attack, reevaluate
from rtl_jax.attacks.base import Attack, LogitsFn
from rtl_jax.attacks.randomised import RandomLogitsFn
from rtl_jax.attacks.restarts import RestartedAttack
from rtl_jax.data.batching import padded_rows
from rtl_jax.runtime import devices
from rtl_jax.runtime.progress import bar

CPU_BATCH, ACCELERATOR_BATCH = 16, 256  # larger batches are no faster per image on two cores
MAX_PARALLEL = 1024  # images times parallel restarts in a program on an accelerator


class Outcome(NamedTuple):
    """The result of an attack on M images.

    broken: int [K], the indices of broken images. images: [K, ...], their adversarial images.
    zero_gradient: int [M]; ended_worse: int [M - K], for images that withstood. See `Diagnostics`;
        0 if the attack collects none.
    seconds: the duration of the attack, in this call or an earlier one.
    """

    broken: np.ndarray
    images: np.ndarray
    zero_gradient: np.ndarray
    ended_worse: np.ndarray
    seconds: float


@dataclasses.dataclass(frozen=True)
class AttackBatches:
    """A model and the images to attack.

    logits_fn: the model; if `judge.passes` is set, it takes a key too.
    images: float32 [N, ...]. labels: int [N]. eps: the radius. key: determines all random numbers.
    judge: the attack whose norm, loss and passes decide success and losses.
    size: the batch size. num_parallel: restarts in parallel; None: chosen for the platform.
    directory: where to save batches; None: they are not saved.
    """

    logits_fn: LogitsFn | RandomLogitsFn
    images: np.ndarray
    labels: np.ndarray
    eps: float
    key: jax.Array
    judge: Attack
    size: int = CPU_BATCH
    num_parallel: int | None = None
    directory: epath.Path | None = None

    @cached_property
    def num_classes(self) -> int:
        """The number of classes of the model."""
        keys = () if self.judge.passes is None else (self.key,)
        return jax.eval_shape(self.logits_fn, jnp.asarray(self.images[:1]), *keys).shape[-1]

    @cached_property
    def divided(self) -> bool:
        """Whether devices share a batch. On multiple hosts they do not: each host does all work."""
        return jax.device_count() > 1 and jax.process_count() == 1

    @cached_property
    def model(self) -> Any:
        """The model with its arrays replicated on all devices."""
        if not self.divided:
            return self.logits_fn
        mesh = devices.batch_mesh()
        leaves, structure = jax.tree.flatten(self.logits_fn)
        kinds = jax.Array | np.ndarray
        leaves = [devices.replicate(mesh, x) if isinstance(x, kinds) else x for x in leaves]
        return jax.tree.unflatten(structure, leaves)

    def reevaluate(self, found: np.ndarray, rows: np.ndarray | None = None) -> Adversarial:
        """Evaluate images `found` [M, ...] of these rows (default: all) to NumPy arrays."""
        rows = np.arange(len(self.labels)) if rows is None else rows
        parts = []
        for start in range(0, len(rows), self.size):
            place, number, _ = padded_rows(len(rows), self.size, start)
            images, labels, indices, again = self._put(rows[place], found[place])
            part = reevaluate(
                self.model,
                images,
                labels,
                self.eps,
                self.judge,
                again,
                key=self.key,
                indices=indices,
            )
            parts.append(jax.tree.map(lambda leaf, n=number: np.asarray(leaf)[:n], part))
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)

    def attack(self, name: str, settings: RestartedAttack, rows: np.ndarray) -> Outcome:
        """Attack rows restart by restart, repacking unbroken images into full batches."""
        parts: list[dict[str, np.ndarray]] = []
        zero, worse = (np.zeros(len(self.labels), int) for _ in range(2))
        left, groups = rows, self._groups(settings.num_restarts(self.num_classes))
        with bar(name, len(rows) * len(groups)) as progress:
            for restarts in groups:
                standing = [left[:0]]
                progress.update(len(rows) - len(left))
                for start in range(0, len(left), self.size):
                    part = self._batch(name, settings, restarts, left, start)
                    parts.append(part)
                    zero[part["rows"]] += part["zero_gradient"]
                    worse[part["rows"]] += part["ended_worse"]
                    standing.append(part["rows"][~part["success"]])
                    progress.update(len(part["rows"]))
                left = np.concatenate(standing)
        return Outcome(
            np.concatenate([rows[:0], *(part["rows"][part["success"]] for part in parts)]),
            np.concatenate([self.images[:0], *(part["images"] for part in parts)]),
            zero[rows],
            worse[left],
            float(sum(part["seconds"] for part in parts)),
        )

    def _groups(self, num_restarts: int) -> list[np.ndarray]:
        """Divide restarts into groups of equal size that run in parallel.

        The last group is padded with the last restart, so that one compiled program suffices.
        """
        on_cpu = devices.platform() == "cpu"
        most = self.num_parallel or (1 if on_cpu else max(1, MAX_PARALLEL // self.size))
        number = -(-num_restarts // most)
        size = -(-num_restarts // number)
        return list(np.minimum(np.arange(number * size), num_restarts - 1).reshape(number, size))

    def _batch(
        self,
        name: str,
        settings: RestartedAttack,
        restarts: np.ndarray,
        left: np.ndarray,
        start: int,
    ) -> dict[str, np.ndarray]:
        """Load or attack one batch of `left`, and evaluate its images before they count."""
        rows = left[start : start + self.size]
        path = self.directory and self.directory / f"{name}-{restarts[0]:03d}-{start:08d}.npz"
        part = batch_cache.read(path) if path and path.exists() else None
        if part is None or not _holds(part, rows, restarts):
            part = self._attacked(settings, restarts, rows)
            if path:
                batch_cache.keep(path, part)
        images = self.images[rows]
        images[part["success"]] = part["images"]
        success = part["success"] & self.reevaluate(images, rows).success
        return {**part, "success": success, "images": images[success]}

    def _attacked(
        self, settings: RestartedAttack, restarts: np.ndarray, rows: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Attack a batch; return success and diagnostics per image, and the adversarial images."""
        began = time.monotonic()
        place, number, _ = padded_rows(len(rows), self.size)
        images, labels, indices, _ = self._put(rows[place], self.images[rows[place]])
        found = attack(
            self.model,
            images,
            labels,
            self.eps,
            settings,
            self.key,
            indices=indices,
            num_parallel=len(restarts),
            restart_indices=jax.device_put(restarts),
        )
        success = np.asarray(found.success)[:number]
        none = np.zeros(number, int)
        diagnostics = (none, none) if found.diagnostics is None else found.diagnostics
        zero, worse = (np.asarray(counts)[:number] for counts in diagnostics)
        return {
            "rows": rows,
            "restarts": restarts,
            "success": success,
            "images": np.asarray(found.images)[:number][success],
            "zero_gradient": zero,
            "ended_worse": worse,
            "seconds": np.asarray(time.monotonic() - began),
        }

    def _put(self, rows: np.ndarray, found: np.ndarray) -> tuple[jax.Array, ...]:
        """Shard the images, labels and indices of rows, and the images found, over the devices."""
        parts = self.images[rows], self.labels[rows], rows, found
        if not self.divided:
            return jax.device_put(parts)
        return devices.divide(devices.batch_mesh(), parts)


def _holds(part: Mapping[str, np.ndarray], rows: np.ndarray, restarts: np.ndarray) -> bool:
    """Return whether a saved batch is of these rows and these restarts.

    Otherwise it is of another batch size, or of another number of parallel restarts. One that does
    not name its restarts has only the first.
    """
    same = np.array_equal(part["rows"], rows)
    return same and np.array_equal(part.get("restarts", restarts[:1]), restarts)
