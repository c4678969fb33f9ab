"""The library's main interface, from arrays to networks and arrays; `import rtl_jax as rtl`."""

import contextlib
import dataclasses
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, overload

import jax
import jax.numpy as jnp
import numpy as np

from rtl_jax import attacks, common_corruptions, smoothing, transferability
from rtl_jax.attacks import PGD, Adversarial, AutoAttack, Evaluation
from rtl_jax.common_corruptions import CorruptionAccuracy
from rtl_jax.conformal import Conformal, Guarantees, Neighbours, Score, energy
from rtl_jax.conformal.draws import uniforms_of
from rtl_jax.data.arrays import as_uint8, class_names_of, encode_labels
from rtl_jax.data.augmentation import Augmentation, augmentation
from rtl_jax.data.batching import padded_batches
from rtl_jax.data.corruptions.corrupt import corrupt as corrupt_images
from rtl_jax.data.corruptions.severities import SEVERITIES, Corruption
from rtl_jax.data.dataset import ImageSet
from rtl_jax.data.transforms import prepare
from rtl_jax.errors import UserError, require
from rtl_jax.influence_functions import (
    Examples,
    Perturbed,
    PixelInfluence,
    Solver,
    influence_scores,
    solver_for,
)
from rtl_jax.influence_functions.of_network import damping_of, head_of
from rtl_jax.influence_functions.pixels import SEARCH
from rtl_jax.models.network import DEFAULT_IMAGE_SIZE, LogitsFn, Network
from rtl_jax.models.sources import load_source
from rtl_jax.runtime.digest import image_digests
from rtl_jax.runtime.switches import pinned
from rtl_jax.smoothing import Certified, Smoothing
from rtl_jax.train.finetuning import FineTuning, start
from rtl_jax.train.loop import fit
from rtl_jax.train.recipe import Recipe
from rtl_jax.transferability import Candidate
from rtl_jax.transferability.choose import DRAWS

Labelled = tuple[Any, Any]  # images and labels

# For few labels: frozen blocks keep their statistics, so that their features are computed once.
# `Recipe()` is the paper's, with 100 epochs and batch statistics.
FEW_LABELS = Recipe(
    blocks=1,
    frozen_batch_norm="source",
    epochs=30,
    batch_size=32,
    learning_rate=0.03,
    head="uniform",
)


@pinned()
def load(checkpoint: str, *, arch: str = "", seed: int = 0, **shape: Any) -> Network:
    """Load a network.

    Args:
      checkpoint: 'bundled:NAME' (natural, l2, linf4, ...), the directory of a network or a finished
        run, a PyTorch file (.pt .pth .ckpt .safetensors), 'hf:OWNER/REPO/FILE' on the Hugging Face
        Hub, or 'random'.
      arch: the architecture to draw at random, or that the file must contain.
      seed: the seed of a random network.
      shape: options of a random network: `stem`, `stage_sizes`, `stage_widths`.

    Raises:
      UserError: if the checkpoint is missing (the message says where to get it), is damaged, or has
        another architecture.

    Example:
        >>> import rtl_jax as rtl
        >>> rtl.load("bundled:l2").architecture.num_blocks
        8
    """
    return load_source(checkpoint, arch=arch, seed=seed, **shape)


@overload
def finetune(
    source: Network, images: Any, labels: Any, *, seeds: int = 0, **settings: Any
) -> Network: ...
@overload
def finetune(
    source: Network, images: Any, labels: Any, *, seeds: Iterable[int], **settings: Any
) -> list[Network]: ...
@pinned()
def finetune(
    source: Network,
    images: Any,
    labels: Any,
    *,
    seeds: int | Iterable[int] = 0,
    class_names: Sequence[str] | None = None,
    image_size: int | None = None,
    augment: str | Augmentation = "none",
    perturb: Any = None,
    recipe: Recipe = FEW_LABELS,
    **changes: Any,
) -> Network | list[Network]:
    """Fine-tune a source on labelled images: a new head and the last blocks (paper, section 3.2).

    Args:
      source: the network to start from.
      images: uint8, or float in [0, 1], [N, H, W, 3], [N, H, W, 1] or [N, H, W].
      labels: [N], of any type; each distinct label is a class.
      seeds: seeds of the head and the batch order. Several seeds train in one compiled program and
        yield a list of networks.
      class_names: the classes in the order of their indices; by default the sorted labels.
      image_size: the size to which images are resized; by default that of the source.
      augment: 'none', 'paper', or an `Augmentation`.
      perturb: an attack such as `rtl.PGD("l2", steps=5)`, with any threat model, that perturbs
        training images within the recipe's `eps`: adversarial fine-tuning (the paper's equation
        1). For PGD and noise, `perturbation="pgd", norm="l2", eps=0.5` is shorter; adding
        `beta=6.0` gives TRADES.
      recipe: all other settings; by default `FEW_LABELS`. `rtl.Recipe()` has the paper's.
      changes: fields of the recipe to change: `blocks`, `epochs`, `learning_rate`, `batch_size`...

    Returns:
      The fine-tuned network, with its classes, its image size and its training images; or a list
      with one network per seed.

    Raises:
      UserError: if images, labels or settings are not as above, or training diverges.

    Example:
        >>> import numpy as np, rtl_jax as rtl
        >>> images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
        >>> labels = ["cat", "dog"] * 4
        >>> network = rtl.finetune(rtl.load("bundled:l2"), images, labels, blocks=0, epochs=2)
        >>> network.class_names, network.predict_proba(images).shape
        (('cat', 'dog'), (8, 2))
        >>> networks = rtl.finetune(
        ...     rtl.load("bundled:l2"), images, labels, seeds=range(3), blocks=0, epochs=1
        ... )
        >>> len(networks)
        3
    """
    fields = {field.name for field in dataclasses.fields(Recipe)}
    if unknown := sorted(changes.keys() - fields):
        raise UserError(f"finetune: there is no setting {', '.join(unknown)}: see rtl.Recipe")
    names = class_names_of(labels) if class_names is None else tuple(map(str, class_names))
    train = ImageSet(as_uint8(images), encode_labels(labels, names))
    chosen = dataclasses.replace(recipe, **changes)
    tunings = [
        FineTuning(
            **start(
                source,
                train,
                class_names=names,
                image_size=image_size or source.image_size or DEFAULT_IMAGE_SIZE,
                recipe=chosen,
                augmentation=augmentation(augment) if isinstance(augment, str) else augment,
                seed=int(seed),
                perturb=perturb,
            )
        )
        for seed in (seeds if isinstance(seeds, Iterable) else [seeds])
    ]
    if not tunings:
        raise UserError("finetune: seeds: expected one or more, received none")
    networks = fit(tunings)
    return networks if isinstance(seeds, Iterable) else networks[0]


@pinned()
def choose(
    sources: Mapping[str, Network] | Iterable[str],
    images: Any,
    labels: Any,
    *,
    blocks: Sequence[int] = (0, 1, 3),
    image_size: int | None = None,
    num_images: Sequence[int] = (),
    draws: int = DRAWS,
    seed: int = 0,
) -> list[Candidate]:
    """Rank sources and numbers of blocks for labelled images, without fine-tuning any network.

    The criterion is the leave-one-out loss of closed-form heads on frozen features.
    docs/choosing.md reports how well this predicts which source fine-tunes best.

    Args:
      sources: names as for `load`, or a mapping from any names to networks.
      images: as for `finetune`; at least two per class, and at most 2,000 in total.
      labels: as for `finetune`.
      blocks: the candidate numbers of last blocks to fine-tune.
      image_size: the size to which images are resized; by default each source's own size.
      num_images: sizes of random subsets, two of every class or more, for a learning curve of each
        candidate, `curve`: leave-one-out accuracy at each size with a 95 % interval.
      draws: the number of subsets of each size.
      seed: the seed of the subsets.

    Returns:
      A `Candidate` for each source and number of blocks, the most promising first.

    Raises:
      UserError: if images, labels or sizes are not as above, or a network has fewer blocks.

    Example:
        >>> import numpy as np, rtl_jax as rtl
        >>> images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
        >>> ranked = rtl.choose(["bundled:l2", "bundled:natural"], images, ["cat", "dog"] * 4)
        >>> len(ranked), ranked[0].behind
        (6, 0.0)
    """
    named = sources if isinstance(sources, Mapping) else {one: load(one) for one in sources}
    names = class_names_of(labels)
    train = ImageSet(as_uint8(images), encode_labels(labels, names))
    return transferability.choose(
        named,
        train,
        len(names),
        blocks,
        image_size=image_size,
        num_images=num_images,
        draws=draws,
        seed=seed,
    )


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
      model: a network, or any function from images in [0, 1] to logits.
      images: as for `finetune`; a network resizes them to its own size.
      labels: the true classes: names or numbers for a network, numbers for a function.
      eps: the radius, for pixels in [0, 1].
      settings: such as `rtl.PGD("l2")`.
      seed: the seed of the attack's random numbers.
      batch_size: images per program.

    Returns:
      NumPy arrays with the images found, their success, norms and losses; and `robust_accuracy`.

    Warns:
      UserWarning: if some images are training images of the network.

    Raises:
      UserError: if the arguments are inconsistent or logits are not finite.

    Example:
        >>> import numpy as np, rtl_jax as rtl
        >>> images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
        >>> found = rtl.attack(rtl.load("bundled:l2"), images, [0] * 4, 0.5, rtl.PGD("l2", steps=2))
        >>> found.images.shape, bool((found.norms <= 0.5).all())
        ((4, 32, 32, 3), True)
    """
    with _numbers_of(model):
        logits_fn, pixels, classes = _prepared(model, images, labels)
        key, parts = jax.random.key(seed), []
        for rows, number, _ in padded_batches(len(classes), batch_size):
            found = attacks.attack(
                logits_fn,
                jnp.asarray(pixels[rows]),
                jnp.asarray(classes[rows]),
                eps,
                settings,
                key,
                indices=jnp.asarray(rows),
            )
            parts.append(jax.tree.map(lambda leaf, n=number: np.asarray(leaf)[:n], found))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


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
      model: a network, or any function from images in [0, 1] to logits.
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
    with _numbers_of(model):
        prepared, key = _prepared(model, images, labels), jax.random.key(seed)
        return attacks.autoattack(*prepared, eps, settings, key, batch_size=batch_size)


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
    with _numbers_of(model):
        prepared, key = _prepared(model, images, labels), jax.random.key(seed)
        return smoothing.certify(*prepared, settings, key, batch_size=batch_size)


def corrupt(images: Any, name: str, severity: int = 3, *, seed: int = 0) -> np.ndarray:
    """Corrupt images as ImageNet-C and CIFAR-10-C are (Hendrycks and Dietterich, 2019).

    Args:
      images: uint8, or float in [0, 1], [N, H, W, 3], of 16 pixels or more. Parameters are those of
        CIFAR-10-C below 128 pixels, and of ImageNet-C from there on.
      name: gaussian_noise, shot_noise, impulse_noise, defocus_blur, glass_blur, motion_blur,
        zoom_blur, snow, fog, brightness, contrast, elastic_transform, pixelate or
        jpeg_compression. Frost is left out: docs/corruptions.md.
      severity: 1 to 5.
      seed: of what is random.

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
    as_uint8(images)  # checks shape and range; floats stay as they are
    return corrupt_images(np.asarray(images), Corruption.of(name, severity), seed)


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
      names: of the corruptions, as for `corrupt`; by default all fourteen.
      severities: of 1 to 5.
      seed: of what is random in corruptions.
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
    with _numbers_of(model):
        logits_fn, pixels, classes = _prepared(model, images, labels)
        return common_corruptions.corruption_accuracy(
            logits_fn,
            as_uint8(pixels),
            classes,
            corruptions=names,
            severities=severities,
            seed=seed,
            batch_size=batch_size,
        )


@pinned()
def conformalize(
    network: Network, images: Any, labels: Any, *, score: str | Score = "lac"
) -> Network:
    """Keep what held-out images say, for predictions with guarantees (split conformal prediction).

    Args:
      network: one that has not seen the images.
      images: as for `finetune`; about 100 or more.
      labels: their classes: names, or numbers where the network has no names.
      score: 'lac', 'aps' or 'raps', or an `rtl_jax.conformal.Score`.

    Returns:
      The same network with `predict_sets` and `outlier_p_values`, which it keeps when it is saved.
      On new images exchangeable with these, sets hold the true class with the probability asked
      for, and p-values are uniform.

    Warns:
      UserWarning: some images are among those that the network was trained on.

    Raises:
      UserError: the arguments do not fit.

    Example:
        >>> import numpy as np, rtl_jax as rtl
        >>> draw = np.random.default_rng(0)
        >>> images = draw.integers(0, 256, (32, 32, 32, 3), np.uint8)
        >>> labels = draw.choice(["cat", "dog"], 32)
        >>> network = rtl.finetune(rtl.load("bundled:l2"), images[:12], labels[:12], blocks=0)
        >>> network = rtl.conformalize(network, images[12:], labels[12:])
        >>> network.predict_sets(images[:3], coverage=0.9).shape
        (3, 2)
    """
    pixels = as_uint8(images)
    classes = encode_labels(labels, network.class_names or _numbers(network))
    _warn_of_training_images(network, pixels)
    features = network.features(images)
    chosen = Score(score) if isinstance(score, str) else score  # type: ignore[arg-type]
    kept = Guarantees(
        Conformal.fit(network.probabilities(features), classes, chosen, uniforms_of(pixels)),
        energy(network.logits(features)),
        Neighbours.of(features),
        network.architecture.num_blocks,
        folds=1,
    )
    return network.replace(provenance={**network.provenance, "guarantees": kept.to_dict()})


@pinned()
def influence(
    network: Network,
    train: Labelled,
    test: Labelled,
    *,
    damping: float | None = None,
    **settings: Any,
) -> np.ndarray:
    """Score the influence of every training image on every test image (paper, section 6).

    Scores are with respect to the parameters of the head.

    Args:
      network: usually fine-tuned on the training images.
      train: the training images and their labels.
      test: images and labels to explain.
      damping: added to the Hessian of the mean loss; None: the penalty of a fitted head
        (`head_fit='logistic'`, `blocks=0`), otherwise 0.001.
      settings: of `rtl_jax.influence_functions.solver_for`: `solver`, `curvature`, `cutoff`, ...

    Returns:
      float64 [test, train]: g_test^T H^-1 g_train. If positive, the training image lowers the loss
      of the test image; without it, that loss is predicted to rise by the score divided by the
      number of training images.

    Raises:
      UserError: for labels unknown to the network, a singular Hessian, too little memory, or a
        ridge-regression head.

    Example:
        >>> import numpy as np, rtl_jax as rtl
        >>> images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
        >>> labels = np.array([0, 1] * 4)
        >>> network = rtl.finetune(rtl.load("bundled:l2"), images, labels, blocks=0, epochs=2)
        >>> rtl.influence(network, (images, labels), (images[:3], labels[:3])).shape
        (3, 8)
    """
    return influence_scores(*_explained(network, train, test, damping, settings))


@pinned()
def perturb_training(
    network: Network,
    train: Labelled,
    test: Labelled,
    pairs: Any,
    eps: float,
    search: PGD = SEARCH,
    *,
    damping: float | None = None,
    seed: int = 0,
    **settings: Any,
) -> Perturbed:
    """Change training images so that retraining the head raises the loss of test images most.

    Along I_pert,loss, the influence of pixels (Koh and Liang, 2017, section 2.2; the paper's A.12):
    see `rtl_jax.influence_functions.PixelInfluence`, which has the gradients, too.

    Args:
      network: usually fine-tuned on the training images.
      train: their images and labels.
      test: images and labels whose losses are to rise.
      pairs: int [N, 2], a row of `train` and one of `test` each.
      eps: the radius, for pixels in [0, 1], at the network's image size.
      search: the ball and the steps in it, such as `rtl.PGD("linf", steps=20)`; by default ten in
        L2.
      damping: as for `influence`.
      seed: of random starts.
      settings: as for `influence`.

    Returns:
      `images`, float32 [N, S, S, 3] in [0, 1], and `changes`, float64 [N]: by how much retraining
      the head with that one image changed is predicted to raise the loss of its test image (nats);
      docs/influence.md has how well that holds for which eps.

    Raises:
      UserError: as `influence`; pairs of rows that are not there; or another kind of attack.

    Example:
        >>> import numpy as np, rtl_jax as rtl
        >>> images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
        >>> data = images, np.array([0, 1] * 4)
        >>> network = rtl.finetune(rtl.load("bundled:l2"), *data, blocks=0, head_fit="logistic")
        >>> found = rtl.perturb_training(network, data, data, [[0, 1]], 0.5)
        >>> found.images.shape, bool(found.changes[0] > 0)
        ((1, 32, 32, 3), True)
    """
    rows = np.asarray(pairs)
    sizes = [len(labels) for _, labels in (train, test)]
    good = rows.ndim == 2 and rows.shape[1] == 2 and len(rows) > 0
    good = good and np.issubdtype(rows.dtype, np.integer)
    good = good and bool(((rows >= 0) & (rows < sizes)).all())
    expected = f"rows [[train, test], ...] of {sizes[0]} training and {sizes[1]} test images"
    require(good, "perturb_training: pairs", expected, pairs)
    solver, seen_test, seen_train = _explained(network, train, test, damping, settings)
    chosen = np.asarray(train[0])[rows[:, 0]]
    pixels = PixelInfluence(network.features_fn(), head_of(network), solver, sizes[0])
    return pixels.perturb(
        _resized(network, chosen),
        seen_train.labels[rows[:, 0]],
        seen_test.take(rows[:, 1]),
        eps,
        search,
        seed=seed,
    )


def _explained(
    network: Network,
    train: Labelled,
    test: Labelled,
    damping: float | None,
    settings: Mapping[str, Any],
) -> tuple[Solver, Examples, Examples]:
    """A solver at the training images, and test and training images as the head sees them."""
    head = head_of(network)
    names = network.class_names or _numbers(network)
    seen_train, seen_test = (
        head.examples(network.features(as_uint8(images)), encode_labels(labels, names))
        for images, labels in (train, test)
    )
    chosen = damping_of(network) if damping is None else damping
    return solver_for(head, seen_train, damping=chosen, **settings), seen_test, seen_train


def _numbers_of(model: Network | LogitsFn) -> contextlib.AbstractContextManager[None]:
    """Pin JAX's switches for a network; a function keeps its caller's, such as float64."""
    return pinned() if isinstance(model, Network) else contextlib.nullcontext()


def _prepared(
    model: Network | LogitsFn, images: Any, labels: Any
) -> tuple[LogitsFn, np.ndarray, np.ndarray]:
    """Convert to the inputs of attacks: a function, float images and int labels."""
    if not isinstance(model, Network):
        return model, np.asarray(images), np.asarray(labels)
    names = model.class_names or _numbers(model)
    classes = encode_labels(labels, names)
    _warn_of_training_images(model, as_uint8(np.asarray(images)))
    return model.logits_fn(), _resized(model, images), classes


def _resized(network: Network, images: Any) -> np.ndarray:
    """Float images [N, S, S, 3] in [0, 1] of the network's size."""
    array = np.asarray(images)
    whole = as_uint8(array)  # checks shape and range; floats stay as they are
    pixels = whole if array.dtype == np.uint8 else np.clip(array, 0, 1).reshape(whole.shape)
    size = network.image_size or DEFAULT_IMAGE_SIZE
    parts = [
        np.asarray(prepare(jnp.asarray(pixels[start : start + 256]), size))
        for start in range(0, len(pixels), 256)
    ]
    # Resizing may leave [0, 1] by a rounding error.
    return np.clip(np.concatenate(parts), 0, 1)


def _warn_of_training_images(network: Network, images: np.ndarray) -> None:
    seen = network.training_images or frozenset()
    if number := sum(one in seen for one in image_digests(images)):
        warnings.warn(
            f"the network was trained on {number} of these {len(images)} images: accuracy on "
            "them says nothing about others",
            stacklevel=4,
        )


def _numbers(network: Network) -> tuple[str, ...]:
    return tuple(map(str, range(network.num_classes)))
