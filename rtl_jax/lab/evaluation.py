"""Evaluation of networks during training, on clean and attacked test images."""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from rtl_jax.attacks.adversarial import robustness_curve
from rtl_jax.attacks.autoattack import autoattack
from rtl_jax.attacks.base import Attack
from rtl_jax.attacks.registry import make_attack
from rtl_jax.data import ImageSet
from rtl_jax.data.batches import Batch
from rtl_jax.data.batching import padded_batches
from rtl_jax.data.transforms import prepare, prepare_to_attack
from rtl_jax.errors import UserError
from rtl_jax.lab import config
from rtl_jax.models.model import Weights
from rtl_jax.models.network import Network
from rtl_jax.runtime import devices
from rtl_jax.runtime.progress import bar
from rtl_jax.train.metrics import Metrics, measure
from rtl_jax.train.split import SplitNetwork


def method(settings: config.Attack) -> Attack:
    """Make the attack that the settings name; raise UserError if it is not a single attack."""
    if settings.method in ("autoattack", "smoothing", "corruptions"):
        raise UserError(
            f"attack.method: {settings.method!r} is not a single attack, and only the task "
            "'attack' runs it: expected 'pgd', 'fourier' or 'gaussian' here"
        )
    return make_attack(settings.method, **vars(settings))


class Attacked(NamedTuple):
    """Sums over images for each radius [E]: correct predictions and losses; and a check."""

    robust: jax.Array
    losses: jax.Array
    valid: jax.Array  # bool: every logit and gradient was finite


@partial(jax.jit, static_argnums=0)
def _measure(network: SplitNetwork, weights: Weights, batch: Batch, inside: jax.Array) -> Metrics:
    logits_fn = Network(network.architecture, *weights).logits_fn(dtype=network.dtype)
    logits = logits_fn(prepare(batch.images, network.image_size))
    return measure(logits, batch.labels, inside)


@partial(jax.jit, static_argnums=(0, 1))
def _attack(
    network: SplitNetwork,
    settings: config.Attack,
    weights: Weights,
    batch: Batch,
    inside: jax.Array,
    key: jax.Array,
) -> Attacked:
    found = robustness_curve(
        Network(network.architecture, *weights).logits_fn(dtype=network.dtype),
        prepare_to_attack(batch.images, network.image_size),
        batch.labels,
        jnp.asarray(settings.eps),
        method(settings),
        key,
        indices=batch.indices,
    )
    robust = (~found.success & inside).sum(1)
    return Attacked(robust, jnp.where(inside, found.losses, 0).sum(1), found.valid.all())


def clean(
    network: SplitNetwork, weights: Weights, images: ImageSet, mesh: Mesh, batch_size: int
) -> dict[str, float]:
    """Return accuracy (percent) and mean loss (nats) with the running statistics."""
    sums = Metrics.zero()
    with bar("validating", len(images)) as progress:
        for batch, inside, number in _batches(images, batch_size, mesh):
            sums = sums.add(_measure(network, weights, batch, inside))
            progress.update(number)
    return sums.means()


def attacked(
    network: SplitNetwork,
    settings: config.Attack,
    weights: Weights,
    images: ImageSet,
    mesh: Mesh,
    key: jax.Array,
) -> list[dict[str, float]]:
    """Return robust accuracy (percent) and mean loss at every radius of `settings.eps`.

    Raises UserError if logits or gradients are not finite.
    """
    robust, losses = np.zeros(len(settings.eps), int), np.zeros(len(settings.eps))
    with bar("attacking", len(images)) as progress:
        for batch, inside, number in _batches(images, settings.batch_size, mesh):
            found = _attack(network, settings, weights, batch, inside, key)
            if not found.valid:
                raise UserError("the attack met logits or gradients that are not finite")
            robust += np.asarray(found.robust)
            losses += np.asarray(found.losses)
            progress.update(number)
    return [
        {"eps": eps, "accuracy": 100 * int(right) / len(images), "loss": float(loss) / len(images)}
        for eps, right, loss in zip(settings.eps, robust, losses, strict=True)
    ]


def ensemble(
    network: SplitNetwork,
    settings: config.Attack,
    weights: Weights,
    images: ImageSet,
    key: jax.Array,
) -> list[dict[str, float]]:
    """Like `attacked`, but with AutoAttack, whose losses are cross-entropies."""
    logits_fn = Network(network.architecture, *weights).logits_fn(dtype=network.dtype)
    pixels = np.asarray(prepare_to_attack(images.images, network.image_size))
    members, found = make_attack("autoattack", **vars(settings)), []
    for eps in settings.eps:
        one = autoattack(
            logits_fn, pixels, images.labels, eps, members, key, batch_size=settings.batch_size
        )
        robust, loss = 100 * one.robust_accuracy, float(np.mean(one.adversarial.losses))
        found.append({"eps": eps, "accuracy": robust, "loss": loss})
    return found


def robustness(
    network: SplitNetwork,
    settings: config.Attack,
    weights: Weights,
    images: ImageSet,
    key: jax.Array,
    *,
    last: bool,
) -> list[dict[str, float]]:
    """Return robust accuracy during training.

    AutoAttack, which is slow, runs only after the last epoch; other attacks at every evaluation.
    """
    if settings.method == "autoattack":
        return ensemble(network, settings, weights, images, key) if last else []
    mesh = devices.batch_mesh()
    return attacked(network, settings, devices.replicate(mesh, weights), images, mesh, key)


def _batches(images: ImageSet, size: int, mesh: Mesh) -> Iterator[tuple[Batch, jax.Array, int]]:
    """Yield batches of one shape, divided over the devices, with their mask and number of images.

    The mask is false for padding.
    """
    for rows, number, inside in padded_batches(len(images), size, multiple=mesh.size):
        batch = Batch(images.images[rows], images.labels[rows], rows.astype(np.int32))
        yield (*devices.divide(mesh, (batch, inside)), number)
