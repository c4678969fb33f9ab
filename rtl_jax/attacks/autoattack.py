"""AutoAttack: an ensemble of attacks without settings to choose, whose survivors are believed.

Croce and Hein (2020; 2021 for L1). Each attack takes on what the ones before it left over. The
random numbers of an image follow from the key and its number, and its search ends by itself, so
no result depends on how images are put into batches, or on how many devices share one.
"""

import dataclasses
import typing
from collections.abc import Collection
from typing import Literal, NamedTuple

import jax
import numpy as np
from etils import epath

from rtl_jax.attacks import honesty
from rtl_jax.attacks.adversarial import Adversarial
from rtl_jax.attacks.apgd import APGD
from rtl_jax.attacks.batches import ACCELERATOR_BATCH, CPU_BATCH, Batches
from rtl_jax.attacks.fab import FAB
from rtl_jax.attacks.honesty import Doubt
from rtl_jax.attacks.pgd import LogitsFn
from rtl_jax.attacks.randomised import RandomLogitsFn
from rtl_jax.attacks.runs import Runs
from rtl_jax.attacks.square import Square
from rtl_jax.attacks.threat import Ball
from rtl_jax.errors import UserError, require, require_choice
from rtl_jax.runtime.digest import digest
from rtl_jax.runtime.paths import absolute

AttackName = Literal["apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t", "square"]
Version = Literal["standard", "plus", "rand"]

# Square comes last, for the honesty check; the order of the others is the authors'.
VERSIONS: dict[Version, tuple[AttackName, ...]] = {
    "standard": ("apgd-ce", "apgd-t", "fab-t", "square"),
    "plus": ("apgd-ce", "apgd-dlr", "fab", "apgd-t", "fab-t", "square"),
    "rand": ("apgd-ce", "apgd-dlr"),
}
TARGETS = 9
RAND_PASSES = 20


@dataclasses.dataclass(frozen=True)
class AutoAttack:
    """Which attacks an evaluation consists of.

    norm: 'linf', 'l2' or 'l1'.
    version: 'standard'; 'plus' has more attacks and five restarts of those without targets;
        'rand' is for networks that draw random numbers, called as `logits_fn(images, key)`, and
        averages 20 draws.
    attacks: those to run, in this order, instead of the version's: of apgd-ce, apgd-dlr, apgd-t,
        fab, fab-t and square.
    steps: of APGD and FAB. queries: of Square. Published numbers have 100 and 5,000.
    """

    norm: Ball
    version: Version = "standard"
    attacks: tuple[AttackName, ...] = ()
    steps: int = 100
    queries: int = 5000

    def __post_init__(self) -> None:
        require_choice(self.norm, Ball, "AutoAttack: norm")
        require_choice(self.version, Version, "AutoAttack: version")
        for name in self.attacks:
            require_choice(name, AttackName, "AutoAttack: attacks")
        unique = len(set(self.attacks)) == len(self.attacks)
        require(unique, "AutoAttack: attacks", "different names", self.attacks)
        known = self.version != "rand" or set(self.attacks) <= set(VERSIONS["rand"])
        expected = "apgd-ce and apgd-dlr, which alone average draws"
        require(known, "AutoAttack: attacks of the version 'rand'", expected, self.attacks)

    @property
    def passes(self) -> int | None:
        """Draws to average."""
        return RAND_PASSES if self.version == "rand" else None

    def members(self) -> dict[AttackName, Runs]:
        """Every attack by its name, in the order in which they run."""
        restarts = 5 if self.version == "plus" else 1
        # The authors' choice for L1, whose radii make runs dearer to begin.
        l1 = self.norm == "l1" and self.version == "standard"
        apgd = APGD(self.norm, steps=self.steps, restarts=5 if l1 else restarts, passes=self.passes)
        dlr = dataclasses.replace(apgd, loss="dlr")
        every: dict[AttackName, Runs] = {
            "apgd-ce": apgd,
            "apgd-dlr": dlr,
            "apgd-t": dataclasses.replace(dlr, restarts=1, targets=5 if l1 else TARGETS),
            "fab": FAB(self.norm, targets=0, steps=self.steps, restarts=restarts),
            "fab-t": FAB(self.norm, targets=TARGETS, steps=self.steps),
            "square": Square(self.norm, self.queries),
        }
        return {name: every[name] for name in self.attacks or VERSIONS[self.version]}


class Evaluation(NamedTuple):
    """What AutoAttack found on N images.

    adversarial: as `attack` returns it, NumPy arrays; the images are the originals where nothing
        was found, and losses are cross-entropy.
    broken_by: for each image the name of the attack that broke it, 'clean' where it was
        misclassified before, '' where it withstood them all.
    accuracies: robust accuracy in [0, 1] behind each attack, 'clean' first.
    warnings: the honesty checks that failed.
    seconds: that the attacks took, those of earlier sessions and compilation included.
    """

    adversarial: Adversarial
    broken_by: tuple[str, ...]
    accuracies: dict[str, float]
    warnings: tuple[Doubt, ...]
    seconds: float

    @property
    def robust_accuracy(self) -> float:
        """The share of images that withstood every attack, in [0, 1]."""
        return sum(name == "" for name in self.broken_by) / len(self.broken_by)


def autoattack(
    logits_fn: LogitsFn | RandomLogitsFn,
    images: jax.Array | np.ndarray,
    labels: jax.Array | np.ndarray,
    eps: float,
    settings: AutoAttack,
    key: jax.Array,
    *,
    batch_size: int | None = None,
    together: int | None = None,
    directory: epath.PathLike | None = None,
) -> Evaluation:
    """Evaluate a model as AutoAttack does.

    Args:
      logits_fn: as for `attack`; for the version 'rand', `logits_fn(images, key)`.
      images: float [N, ...] in [0, 1]; Square wants [N, H, W, C].
      labels: int [N].
      eps: the radius, for pixels in [0, 1].
      settings: which attacks, in which norm.
      key: of everything random.
      batch_size: images in a program; by default 16 on a CPU, 256 on an accelerator. It is
        rounded up to a multiple of the devices, which share it.
      together: runs (restarts, targets) side by side, at so many times the memory. By default
        one on a CPU, where images leave between runs; on an accelerator as many as make up
        1,024 images with a batch.
      directory: where finished batches and the adversarial images in them are kept, for the same
        call to go on from. They are evaluated again before they count.

    Raises:
      UserError: as `attack`; where an attack needs more classes than there are; and where there
        is a directory and no array in the model's pytree by which to know it again.
    """
    batches = _batches(
        logits_fn, images, labels, eps, settings, key, batch_size, together, directory
    )
    members = settings.members()
    _require_classes(batches.classes, members)
    random = settings.version == "rand"
    doubts = [] if random else honesty.look(typing.cast(LogitsFn, logits_fn), batches.images[:16])
    clean = batches.reevaluate(batches.images)
    broken = np.where(clean.success, "clean", "").astype(object)
    found, accuracies, seconds = batches.images.copy(), {"clean": _share(broken)}, 0.0
    for name, member in members.items():
        left = np.flatnonzero(broken == "")
        # Those that are likely to fall come together, so that their batches end early.
        left = left[np.argsort(-clean.losses[left], kind="stable")]
        outcome = batches.attack(name, member, left if eps > 0 else left[:0])
        broken[outcome.fallen] = name
        found[outcome.fallen] = outcome.images
        accuracies[name] = _share(broken)
        seconds += outcome.seconds
        if isinstance(member, APGD):
            doubts += honesty.flat(name, outcome.zero_gradient)
            doubts += honesty.worse(name, outcome.ended_worse, member.runs(batches.classes))
    doubts += honesty.outdone(list(broken), list(members))
    adversarial = batches.reevaluate(found)
    return Evaluation(adversarial, tuple(broken), accuracies, tuple(doubts), seconds)


def _batches(
    logits_fn: LogitsFn | RandomLogitsFn,
    images: jax.Array | np.ndarray,
    labels: jax.Array | np.ndarray,
    eps: float,
    settings: AutoAttack,
    key: jax.Array,
    batch_size: int | None,
    together: int | None,
    directory: epath.PathLike | None,
) -> Batches:
    """The arguments of `autoattack`, checked as far as the attacks themselves do not."""
    images, labels = np.asarray(images, np.float32), np.asarray(labels)
    if labels.ndim != 1 or images.ndim < 2 or len(images) != len(labels) or not len(labels):
        raise UserError(
            "autoattack: expected images [N, ...] and labels [N], at least one; "
            f"got {images.shape} and {labels.shape}"
        )
    for name, value in (("batch_size", batch_size), ("together", together)):
        require(value is None or value >= 1, f"autoattack: {name}", "1 or more", value)
    require(0 <= eps < float("inf"), "autoattack: eps", "a radius of 0 or more", eps)
    on_cpu, number = jax.default_backend() == "cpu", jax.device_count()
    size = min(batch_size or (CPU_BATCH if on_cpu else ACCELERATOR_BATCH), len(labels))
    judge = APGD(settings.norm, passes=settings.passes)
    if directory is not None:
        # By content, so that another model or another image never meets these files.
        kinds = jax.Array | np.ndarray
        weights = [leaf for leaf in jax.tree.leaves(logits_fn) if isinstance(leaf, kinds)]
        expected = "a model that is a pytree, such as Partial(apply, params), to know it again"
        require(bool(weights), "autoattack: directory", expected, logits_fn)
        content = images, labels, jax.random.key_data(key), weights
        name = digest(content, {"eps": eps, **dataclasses.asdict(settings)})[:16]
        directory = absolute(directory) / name
    return Batches(
        logits_fn, images, labels, eps, key, judge, -(-size // number) * number, together, directory
    )


def _share(broken: np.ndarray) -> float:
    return float((broken == "").mean())


def _require_classes(classes: int, names: Collection[AttackName]) -> None:
    """Raise UserError for a loss that so few classes do not have."""
    for name, least in (("apgd-t", 4), ("apgd-dlr", 3)):
        if name in names and classes < least:
            kept = ",".join(other for other in names if other != name) or "apgd-ce,fab-t,square"
            raise UserError(
                f"AutoAttack: {name} needs {least} classes, and the network tells {classes} apart: "
                f"choose other attacks, such as {kept}"
            )
