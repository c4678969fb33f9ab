"""Measure robustness: attacks, certificates and common corruptions."""

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np

from rtl_jax import attacks, common_corruptions, smoothing
from rtl_jax.api.inputs import numbers_of, prepared
from rtl_jax.attacks import Adversarial, Attack, AutoAttack, Evaluation
from rtl_jax.common_corruptions import CorruptionAccuracy
from rtl_jax.data.arrays import as_uint8, checked_images
from rtl_jax.data.batching import padded_batches
from rtl_jax.data.corruptions.corrupt import content_indices
from rtl_jax.data.corruptions.corrupt import corrupt as corrupt_images
from rtl_jax.data.corruptions.severities import SEVERITIES, Corruption
from rtl_jax.data.dataset import ImageSet
from rtl_jax.data.variants import at_size
from rtl_jax.errors import UserError, require_whole
from rtl_jax.models.network import DEFAULT_IMAGE_SIZE, LogitsFn, Network
from rtl_jax.runtime.limits import require_pixel_units, require_seed
from rtl_jax.smoothing import Certified, Smoothing


def attack(
    model: Network | LogitsFn,
    images: Any,
    labels: Any,
    eps: float,
    settings: Any,
    *,
    seed: int = 0,
    batch_size: int = 64,
) -> Adversarial:
    """Search the ball around each image for a misclassified image (paper, section 3).

    Args:
      model: a network, or any function from images in [0, 1] to logits. Weights in a function's
        closure or object make it compile again when they change; those of a pytree such as
        `jax.tree_util.Partial(apply, params)` do not.
      images: as for `finetune` with a network, which resizes them to its own size; floats in [0, 1]
        with a function.
      labels: the true classes: names or numbers for a network, numbers for a function.
      eps: the radius, for pixels in [0, 1].
      settings: such as `rtl.PGD("l2")`.
      seed: the seed of the attack's random numbers.
      batch_size: images per program.

    Returns:
      NumPy arrays with the images found, their success, norms and losses; and `robust_accuracy`.

    Warns:
      UserWarning: if some images are training images of the network, or the attack changes none.

    Raises:
      UserError: if the arguments are inconsistent or logits are not finite.

    Example:
        >>> import numpy as np, rtl_jax as rtl
        >>> images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
        >>> found = rtl.attack(rtl.load("bundled:l2"), images, [0] * 4, 0.5, rtl.PGD("l2", steps=2))
        >>> found.images.shape, bool((found.norms <= 0.5).all())
        ((4, 32, 32, 3), True)
    """
    _require_kind(settings, Attack, 'rtl.PGD("l2")')
    batch_size = require_whole(batch_size, "batch_size")
    _check_units(settings.threat, eps)
    with numbers_of(model):
        key, parts = jax.random.key(require_seed(seed, "seed")), []
        keys = () if settings.passes is None else (key,)
        logits_fn, pixels, classes = prepared(model, images, labels, *keys, batch_size=batch_size)
        for rows, number, _ in padded_batches(len(classes), batch_size):
            found = attacks.attack(
                logits_fn,
                jax.device_put(pixels[rows]),
                jax.device_put(classes[rows]),
                eps,
                settings,
                key,
                indices=jax.device_put(rows),
            )
            parts.append(jax.tree.map(lambda leaf, n=number: np.asarray(leaf)[:n], found))
    found = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
    if np.any(eps) and not found.norms.any() and not found.success.all():
        warnings.warn(
            "the attack changed no image, as if no pixel had a gradient: the robust accuracy says "
            "nothing. Does the function return logits that depend smoothly on the pixels?",
            stacklevel=2,
        )
    return found


def autoattack(
    model: Network | LogitsFn,
    images: Any,
    labels: Any,
    eps: float,
    settings: AutoAttack,
    *,
    seed: int = 0,
    batch_size: int | None = None,
) -> Evaluation:
    """Evaluate robust accuracy with AutoAttack (Croce and Hein, 2020).

    Args:
      model: as for `attack`.
      images: as for `finetune`; a network resizes them to its own size.
      labels: the true classes: names or numbers for a network, numbers for a function.
      eps: the radius, for pixels in [0, 1].
      settings: such as `rtl.AutoAttack("linf")`.
      seed: the seed of all random numbers.
      batch_size: images per program; by default 16 on a CPU, 256 on an accelerator.

    Returns:
      `robust_accuracy`, `accuracies` after each attack, adversarial images, and warnings.

    Warns:
      UserWarning: if some images are training images of the network.

    Raises:
      UserError: if the arguments are inconsistent or logits are not finite.

    Example:
        >>> import numpy as np, rtl_jax as rtl
        >>> images = np.linspace(0.2, 0.8, 2 * 4 * 4 * 3).reshape(2, 4, 4, 3)
        >>> def logits_fn(images):  # of any JAX model
        ...     mean = images.mean((1, 2, 3))[:, None]
        ...     return np.array([1.0, -1.0]) * (0.5 - mean)
        >>> settings = rtl.AutoAttack("linf", attacks=("apgd-ce",), steps=10)
        >>> rtl.autoattack(logits_fn, images, np.array([0, 1]), 0.01, settings).robust_accuracy
        1.0
    """
    _require_kind(settings, AutoAttack, 'rtl.AutoAttack("linf")')
    _check_units(settings.threat, eps)
    with numbers_of(model):
        key = jax.random.key(require_seed(seed, "seed"))
        keys = () if settings.passes is None else (key,)
        inputs = prepared(model, images, labels, *keys)
        return attacks.autoattack(*inputs, eps, settings, key, batch_size=batch_size)


def certify(
    model: Network | LogitsFn,
    images: Any,
    labels: Any,
    settings: Smoothing,
    *,
    seed: int = 0,
    batch_size: int = 128,
) -> Certified:
    """Certify L2 radii by randomised smoothing (Cohen et al., 2019).

    The certificates are for the smoothed classifier, a majority vote over noisy copies of an image.
    Fine-tune on noise of the same sigma (`perturbation="gaussian"`), since other networks lose most
    of their accuracy under noise.

    Args:
      model: as for `attack`.
      images: as for `attack`.
      labels: as for `attack`.
      settings: such as `rtl.Smoothing(sigma=0.25)`.
      seed: the seed of the noise.
      batch_size: noisy images per program.

    Returns:
      Classes, radii, and `certified_accuracy(radius)`.

    Raises:
      UserError: if the arguments are inconsistent or logits are not finite.

    Example:
        >>> import numpy as np, rtl_jax as rtl
        >>> images = np.linspace(0.2, 0.8, 2 * 4 * 4 * 3).reshape(2, 4, 4, 3)
        >>> def logits_fn(images):  # of any JAX model
        ...     mean = images.mean((1, 2, 3))[:, None]
        ...     return np.array([1.0, -1.0]) * (0.5 - mean)
        >>> found = rtl.certify(logits_fn, images, np.array([0, 1]), rtl.Smoothing(samples=1000))
        >>> found.certified_accuracy(0.25)
        1.0
    """
    _require_kind(settings, Smoothing, "rtl.Smoothing(sigma=0.25)")
    with numbers_of(model):
        batch_size = require_whole(batch_size, "batch_size")
        key = jax.random.key(require_seed(seed, "seed"))
        inputs = prepared(model, images, labels, batch_size=batch_size)
        return smoothing.certify(*inputs, settings, key, batch_size=batch_size)


def corrupt(images: Any, name: str, severity: int = 3, *, seed: int = 0) -> np.ndarray:
    """Corrupt images as ImageNet-C and CIFAR-10-C are (Hendrycks and Dietterich, 2019).

    Args:
      images: uint8, or float in [0, 1], [N, H, W, 3], of 16 pixels or more. Parameters are those of
        CIFAR-10-C below 128 pixels, and of ImageNet-C from there on.
      name: gaussian_noise, shot_noise, impulse_noise, defocus_blur, glass_blur, motion_blur,
        zoom_blur, snow, frost, fog, brightness, contrast, elastic_transform, pixelate or
        jpeg_compression. Frost needs the photographs of the package imagecorruptions.
      severity: 1 to 5.
      seed: of what is random; an image's random numbers depend only on it and on the image's
        content, so another seed is needed for another draw.

    Returns:
      Images of the same shape and dtype.

    Raises:
      UserError: the arguments are not as above.

    Example:
        >>> import numpy as np, rtl_jax as rtl
        >>> images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
        >>> rtl.corrupt(images, "fog", severity=3).shape
        (2, 32, 32, 3)
    """
    array, corruption = checked_images(images), Corruption.of(name, severity)
    return corrupt_images(array, corruption, seed, indices=content_indices(array))


def corruption_accuracy(
    model: Network | LogitsFn,
    images: Any,
    labels: Any,
    *,
    names: Sequence[str] = (),
    severities: Sequence[int] = SEVERITIES,
    seed: int = 0,
    batch_size: int = 128,
) -> CorruptionAccuracy:
    """Measure accuracy under the common corruptions, each at five severities.

    Args:
      model: as for `attack`.
      images: as for `attack`.
      labels: as for `attack`.
      names: of the corruptions, as for `corrupt`; by default all but frost.
      severities: of 1 to 5.
      seed: of what is random in corruptions, as for `corrupt`; the command line's is 0.
      batch_size: images in a program.

    Returns:
      `clean` and `mean` accuracy, `by_corruption`, and `mean_error(reference)`: mCE in percent of
      another network's.

    Warns:
      UserWarning: some images are among those that the network was trained on.

    Raises:
      UserError: the arguments do not fit, or logits are not finite.

    Example:
        >>> import numpy as np, rtl_jax as rtl
        >>> images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
        >>> network = rtl.load("bundled:l2")
        >>> found = rtl.corruption_accuracy(
        ...     network, images, [0] * 4, names=["contrast"], severities=[5]
        ... )
        >>> found.by_corruption.keys(), found.mean_error(found)
        (dict_keys(['contrast']), 100.0)
    """
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise UserError(f"names: expected a list such as ['fog'], received {names!r}")
    batch_size = require_whole(batch_size, "batch_size")
    with numbers_of(model):
        logits_fn, _, classes = prepared(model, images, labels, batch_size=batch_size)
        levels = as_uint8(images)
        if isinstance(model, Network):
            size = model.image_size or DEFAULT_IMAGE_SIZE
            levels = at_size(ImageSet(levels, classes), size).images
        return common_corruptions.corruption_accuracy(
            logits_fn,
            levels,
            classes,
            corruptions=list(names),
            severities=severities,
            seed=seed,
            batch_size=batch_size,
        )


def _require_kind(settings: Any, kind: type, example: str) -> None:
    """Raise UserError for settings of another kind, such as a name or a class."""
    if not isinstance(settings, kind):
        given = settings.__name__ if isinstance(settings, type) else type(settings).__name__
        hint = "the class " if isinstance(settings, type) else ""
        other = "; rtl.autoattack takes these" if given == "AutoAttack" else ""
        raise UserError(f"settings: expected, say, {example}, received {hint}{given}{other}")


def _check_units(threat: Any, eps: Any) -> None:
    """Raise UserError for a radius that is no number or in grey levels; the attack checks more."""
    if eps is not None:
        if np.asarray(eps).dtype.kind not in "iuf" or not np.size(eps):
            raise UserError(f"eps: expected a number such as 8 / 255, received {eps!r}")
        require_pixel_units(threat, float(np.max(eps)), "eps")
