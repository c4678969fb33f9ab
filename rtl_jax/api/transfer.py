"""Load and fine-tune networks, and choose what to fine-tune."""

import dataclasses
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, overload

import numpy as np

from rtl_jax import transferability
from rtl_jax.attacks.base import Attack
from rtl_jax.data.arrays import as_uint8, class_names_of, encode_labels
from rtl_jax.data.augmentation import Augmentation, augmentation
from rtl_jax.data.dataset import ImageSet
from rtl_jax.data.leaks import without_copies
from rtl_jax.errors import UserError, require
from rtl_jax.models.network import DEFAULT_IMAGE_SIZE, Network
from rtl_jax.models.sources import load_source
from rtl_jax.runtime.hints import checked, type_hints
from rtl_jax.runtime.limits import require_pixel_units, require_seed
from rtl_jax.runtime.switches import pinned
from rtl_jax.train.finetuning import FineTuning, start
from rtl_jax.train.loop import fit
from rtl_jax.train.recipe import Recipe
from rtl_jax.train.settings import PERTURBATION_FIELDS
from rtl_jax.transferability import Candidate
from rtl_jax.transferability.choose import DRAWS

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
def load(checkpoint: str | os.PathLike, *, arch: str = "", seed: int = 0, **shape: Any) -> Network:
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
    seed = require_seed(seed, "load: seed")
    return load_source(os.fspath(checkpoint), arch=arch, seed=seed, **shape)


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
      labels: [N], of any type; each distinct label is a class. With `class_names`, names or, if no
        name is a number, indices.
      seeds: seeds of the head and the batch order. Several seeds train in one compiled program (on
        an accelerator in as many as its memory requires) and yield a list of networks.
      class_names: the classes in the order of their indices; by default the sorted labels.
      image_size: the size to which images are resized; by default that of the source.
      augment: 'none', 'paper', or an `Augmentation`.
      perturb: an attack such as `rtl.PGD("l2", steps=5)`, with any threat model, that perturbs
        training images within the recipe's `eps`: adversarial fine-tuning (the paper's equation
        1). For PGD and noise, `perturbation="pgd", norm="l2", eps=0.5` is shorter; adding
        `beta=6.0` gives TRADES.
      recipe: all other settings; by default `FEW_LABELS`. `rtl.Recipe()` has the paper's.
      changes: fields of the recipe to change: `blocks`, `epochs`, `learning_rate`, `batch_size`...
        With `blocks=0` and a solved head (`head_fit`) nothing trains by steps, and those of the
        training have no effect.

    Returns:
      The fine-tuned network, with its classes, its image size and its training images; or a list
      with one network per seed.

    Warns:
      UserWarning: if all images are very dark, as if their values had another range.

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
    if not isinstance(source, Network):
        raise UserError(
            f"source: expected a network, such as rtl.load('bundled:l2'), received "
            f"{type(source).__name__}"
        )
    _require_kinds(recipe, augment, perturb)
    several = isinstance(seeds, Iterable) and not isinstance(seeds, str)
    each = [require_seed(one, "seeds") for one in (seeds if several else [seeds])]  # type: ignore[union-attr]
    chosen = _changed(recipe, changes)
    _require_effect(chosen, changes, perturb)
    good = image_size is None or (isinstance(image_size, int | np.integer) and image_size > 0)
    require(good, "image_size", "a positive whole number or none", image_size)
    if perturb is not None:
        require_pixel_units(perturb.threat, chosen.eps, "eps")
    names = class_names_of(labels) if class_names is None else tuple(map(str, class_names))
    train = ImageSet(as_uint8(images), encode_labels(labels, names))
    _warn_of_dark(train.images)
    tunings = [
        FineTuning(
            **start(
                source,
                train,
                class_names=names,
                image_size=image_size or source.image_size or DEFAULT_IMAGE_SIZE,
                recipe=chosen,
                augmentation=augmentation(augment) if isinstance(augment, str) else augment,
                seed=seed,
                perturb=perturb,
            )
        )
        for seed in each
    ]
    if not tunings:
        raise UserError("finetune: seeds: expected one or more, received none")
    networks = fit(tunings)
    return networks if several else networks[0]


def _require_kinds(recipe: Any, augment: Any, perturb: Any) -> None:
    """Raise UserError for arguments of other kinds, such as names or classes of what is meant."""
    for name, value, kinds, example in (
        ("recipe", recipe, Recipe, "a recipe, such as rtl.Recipe()"),
        ("augment", augment, str | Augmentation, "'none', 'paper' or an rtl.Augmentation"),
        ("perturb", perturb, Attack | None, 'an attack such as rtl.PGD("l2", steps=5), or none'),
    ):
        require(isinstance(value, kinds), f"finetune: {name}", example, value)


def _require_effect(chosen: Recipe, changes: Mapping[str, Any], perturb: Any) -> None:
    """Raise UserError for arguments on adversarial training that would do nothing or contradict."""
    if perturb is not None and chosen.solves_all:
        raise UserError(
            f"finetune: perturb: expected none with head_fit={chosen.head_fit!r} and blocks=0, "
            "which train on no batches"
        )
    given = [name for name in ("perturbation", *PERTURBATION_FIELDS) if name in changes]
    if perturb is not None:
        for name in ("mixup", "views"):
            value = getattr(chosen, name)
            require(value is None, name, "none with perturb=", value)
        for name in given:
            own, given_one = getattr(perturb, name, None), changes[name]
            same = name == "eps" or own == given_one or str(own) == str(given_one)
            same = same or (name == "perturbation" and given_one == "none")
            words = "none beside perturb=" + ("" if own is None else f", whose own is {own}")
            require(same, name, words, given_one)
    if given and perturb is None and not chosen.perturbs:
        raise UserError(
            f"finetune: {', '.join(given)}: expected perturb= or perturbation= beside "
            f"{'it' if len(given) == 1 else 'them'}, without which no image is perturbed"
        )


def _warn_of_dark(images: np.ndarray) -> None:
    top = int(images.max())
    if 0 < top < _DARK:
        warnings.warn(
            f"no pixel of the training images is brighter than {top} of 255: if the values have "
            "another range, scale them to 0..255, or to floats in [0, 1]",
            stacklevel=4,
        )


_DARK = 64


def _changed(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """Return the recipe with some fields changed; raise UserError for unknown or invalid ones."""
    hints = type_hints(Recipe)
    known = {field.name: getattr(recipe, field.name) for field in dataclasses.fields(Recipe)}
    if unknown := sorted(changes.keys() - known.keys()):
        raise UserError(f"finetune: there is no setting {', '.join(unknown)}: see rtl.Recipe")
    values = {}
    for name, value in {**known, **changes}.items():
        plain = value.item() if isinstance(value, np.generic) else value  # Python's number
        values[name] = checked(plain, hints[name], name)
    return dataclasses.replace(recipe, **values)


@pinned()
def choose(
    sources: Mapping[str, Network] | Iterable[str | os.PathLike],
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

    The criterion is the leave-one-out loss of closed-form heads on frozen features. Copies of
    images are left out.
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

    Warns:
      UserWarning: if some images are copies of others.

    Raises:
      UserError: if images, labels or sizes are not as above, or a network has fewer blocks.

    Example:
        >>> import numpy as np, rtl_jax as rtl
        >>> images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
        >>> ranked = rtl.choose(["bundled:l2", "bundled:natural"], images, ["cat", "dog"] * 4)
        >>> len(ranked), ranked[0].behind
        (6, 0.0)
    """
    named = sources if isinstance(sources, Mapping) else _loaded(sources)
    known = len(named) > 0 and all(isinstance(one, Network) for one in named.values())
    require(known, "choose: sources", "networks by name, one or more", sources)
    blocks, num_images = _whole("blocks", blocks), _whole("num_images", num_images)
    require(len(blocks) > 0, "choose: blocks", "one number or more", blocks)
    names = class_names_of(labels)
    train = ImageSet(as_uint8(images), encode_labels(labels, names))
    different = without_copies(train)
    if copies := len(train) - len(different):
        warnings.warn(
            f"{copies} of {len(train)} images repeat others, which would predict them: left out",
            stacklevel=3,
        )
    return transferability.choose(
        named,
        different,
        len(names),
        blocks,
        image_size=image_size,
        num_images=num_images,
        draws=draws,
        seed=require_seed(seed, "choose: seed"),
    )


def _whole(name: str, values: Any) -> Sequence[int]:
    """Return a list of whole numbers. Raises UserError for anything else."""
    listed = list(values) if isinstance(values, Iterable) else []
    whole = all(isinstance(one, int | np.integer) for one in listed)
    good = isinstance(values, Iterable) and whole
    require(good, f"choose: {name}", "a list of whole numbers", values)
    return listed


def _loaded(sources: Iterable[str | os.PathLike]) -> dict[str, Network]:
    """Load sources by name. Raises UserError for anything but a list of names."""
    given = [] if isinstance(sources, str) else list(sources)
    if not given or not all(isinstance(one, str | os.PathLike) for one in given):
        kinds = type(sources).__name__ if not given else f"a {type(given[0]).__name__}"
        raise UserError(
            "choose: sources: expected a list of names, such as ['bundled:l2'], or a mapping "
            f"from names to networks, such as {{'mine': network}}; received {kinds}"
        )
    return {os.fspath(one): load(one) for one in given}
