"""AutoAttack: an ensemble of parameter-free attacks, the standard robustness evaluation.

Croce and Hein (2020; 2021 for L1). Each attack runs on the images that the previous ones did not
break. An image's random numbers follow from the key and its index, and its search ends
independently of the others, so results depend neither on the division into batches nor on the
number of devices.
"""

import contextlib
import dataclasses
import re
import typing
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from etils import epath
from jax.tree_util import Partial

from rtl_jax.attacks import checks
from rtl_jax.attacks.adversarial import Adversarial
from rtl_jax.attacks.apgd import APGD
from rtl_jax.attacks.base import LogitsFn
from rtl_jax.attacks.batches import ACCELERATOR_BATCH, CPU_BATCH, AttackBatches
from rtl_jax.attacks.checks import EvaluationWarning
from rtl_jax.attacks.randomised import RandomLogitsFn
from rtl_jax.attacks.registry import attack_names, make_attack, register
from rtl_jax.attacks.restarts import RestartedAttack
from rtl_jax.attacks.structure import lowered
from rtl_jax.attacks.threats import L1, Threat, as_threat
from rtl_jax.errors import UserError, require, require_choice, require_whole
from rtl_jax.runtime import devices
from rtl_jax.runtime.digest import digest
from rtl_jax.runtime.paths import absolute

Version = Literal["standard", "plus", "rand"]

# Square comes last, for `check_square`; the others keep the authors' order.
VERSIONS: dict[Version, tuple[str, ...]] = {
    "standard": ("apgd-ce", "apgd-t", "fab-t", "square"),
    "plus": ("apgd-ce", "apgd-dlr", "fab", "apgd-t", "fab-t", "square"),
    "rand": ("apgd-ce", "apgd-dlr"),
}
RAND_PASSES = 20

# The authors' settings where they differ from one restart or nine target classes.
Changes = dict[str, dict[str, Any]]
PLUS: Changes = {name: {"restarts": 5} for name in ("apgd-ce", "apgd-dlr", "fab")}
STANDARD_L1: Changes = {
    "apgd-ce": {"restarts": 5},
    "apgd-dlr": {"restarts": 5},
    "apgd-t": {"targets": 5},
}


@register("autoattack", accepts=("norm", "version", "attacks"))
@dataclasses.dataclass(frozen=True)
class AutoAttack:
    """The ensemble of attacks.

    Attributes:
      norm: 'linf', 'l2' or 'l1'.
      version: 'standard'; 'plus', with more attacks and five restarts of the untargeted ones; or
        'rand', for randomised networks, called as `logits_fn(images, key)` and averaged over 20
        draws.
      attacks: the attacks to run, in this order, instead of the version's: apgd-ce, apgd-dlr,
        apgd-t, fab, fab-t, square or any other registered `RestartedAttack`.
      steps: the steps of APGD and FAB; published numbers use 100.
      queries: the queries of Square; published numbers use 5,000.

    Example:
        >>> from rtl_jax.attacks import AutoAttack
        >>> AutoAttack("linf", attacks=("apgd-ce", "square")).version
        'standard'
    """

    norm: Threat | str
    version: Version = "standard"
    attacks: tuple[str, ...] = ()
    steps: int = 100
    queries: int = 5000

    def __post_init__(self) -> None:
        object.__setattr__(self, "norm", as_threat(self.norm, "AutoAttack: norm"))
        require_choice(self.version, Version, "AutoAttack: version")
        known = attack_names(RestartedAttack)
        for name in self.attacks:
            expected = f"one of {', '.join(map(repr, known))}"
            require(name in known, "AutoAttack: attacks", expected, name)
        unique = len(set(self.attacks)) == len(self.attacks)
        require(unique, "AutoAttack: attacks", "different names", self.attacks)
        averaging = self.version != "rand" or set(self.attacks) <= set(VERSIONS["rand"])
        expected = "apgd-ce and apgd-dlr, which alone average draws"
        require(averaging, "AutoAttack: attacks of the version 'rand'", expected, self.attacks)
        for name in ("steps", "queries"):
            value = require_whole(getattr(self, name), f"AutoAttack: {name}")
            object.__setattr__(self, name, value)
        try:
            self.members()
        except UserError as error:
            raise UserError(f"AutoAttack: {error}") from error

    @property
    def threat(self) -> Threat:
        """The threat model that `norm` names."""
        return as_threat(self.norm)

    @property
    def display_name(self) -> str:
        """The name used in papers."""
        return "AutoAttack"

    @property
    def passes(self) -> int | None:
        """The number of draws to average for 'rand', else None."""
        return RAND_PASSES if self.version == "rand" else None

    def members(self) -> dict[str, RestartedAttack]:
        """Make the attacks, keyed by name, in the order in which they run."""
        changes: Changes = PLUS if self.version == "plus" else {}
        if self.version == "standard" and isinstance(self.threat, L1):
            changes = STANDARD_L1
        settings = {"steps": self.steps, "queries": self.queries, "passes": self.passes}
        return {
            name: make_attack(name, norm=self.norm, **settings).replace(**changes.get(name, {}))
            for name in self.attacks or VERSIONS[self.version]
        }

    def members_for(
        self, num_classes: int
    ) -> tuple[dict[str, RestartedAttack], list[EvaluationWarning]]:
        """Make the attacks that are defined for this number of classes.

        A version omits the others and returns a warning. Raises UserError if an attack named in
        `attacks` is not defined.
        """
        members = self.members()
        short = {n: one for n, one in members.items() if one.min_classes > num_classes}
        if not short:
            return members, []
        needs = ", ".join(f"{name} needs {one.min_classes} classes" for name, one in short.items())
        kept = {name: one for name, one in members.items() if name not in short}
        if self.attacks:
            choice = ",".join(kept) or "apgd-ce,fab-t,square"
            raise UserError(
                f"AutoAttack: {needs}, and the network has {num_classes}: choose other attacks, "
                f"such as {choice}"
            )
        message = f"{needs}, and the network has {num_classes}: only {', '.join(kept)} were run"
        return kept, [EvaluationWarning("reduced_ensemble", message)]


class Evaluation(NamedTuple):
    """The result of AutoAttack on N images.

    Attributes:
      adversarial: the result as from `attack`, in NumPy arrays. Images that were not broken are the
        originals. Losses are cross-entropy.
      broken_by: for each image, the name of the attack that broke it, 'clean' if the original is
        misclassified, '' if it withstood all attacks.
      accuracies: robust accuracy in [0, 1] after each attack, 'clean' first.
      warnings: the checks that failed and the attacks that were omitted.
      seconds: the duration of the attacks, including compilation and interrupted earlier calls.
    """

    adversarial: Adversarial
    broken_by: tuple[str, ...]
    accuracies: dict[str, float]
    warnings: tuple[EvaluationWarning, ...]
    seconds: float

    @property
    def robust_accuracy(self) -> float:
        """The fraction of images that withstood every attack, in [0, 1]."""
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
    num_parallel: int | None = None,
    directory: epath.PathLike | None = None,
) -> Evaluation:
    """Evaluate a model with AutoAttack (Croce and Hein, 2020).

    Args:
      logits_fn: as for `attack`; for the version 'rand', `logits_fn(images, key)`.
      images: float [N, ...] in [0, 1]; Square needs [N, H, W, C].
      labels: int [N].
      eps: the radius, for pixels in [0, 1].
      settings: the attacks and their norm. A version omits attacks that need more classes than the
        network has, with a warning.
      key: determines all random numbers.
      batch_size: the number of images per batch; by default 16 on a CPU, 256 on an accelerator. It
        is rounded up to a multiple of the number of devices, which share each batch.
      num_parallel: the number of restarts to run in parallel; memory grows in proportion. By
        default one on a CPU, so that broken images are dropped between restarts; on an accelerator,
        as many as make up 1,024 images with a batch.
      directory: where to save finished batches with their adversarial images, so that the same call
        resumes from them. Saved images are evaluated again before they count.

    Returns:
      An `Evaluation`: robust accuracy after each attack, adversarial images, and warnings.

    Raises:
      UserError: as `attack`; if an attack named in `settings.attacks` needs more classes than the
        network has; or if `directory` is given but the model's pytree has no arrays to identify it.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from rtl_jax.attacks import AutoAttack, autoattack
        >>> images = jnp.linspace(0.2, 0.8, 2 * 4 * 4 * 3).reshape(2, 4, 4, 3)
        >>> def logits_fn(images):
        ...     mean = images.mean((1, 2, 3))[:, None]
        ...     return jnp.array([1.0, -1.0]) * (0.5 - mean)
        >>> settings = AutoAttack("linf", attacks=("apgd-ce",), steps=10)
        >>> labels, key = jnp.array([0, 1]), jax.random.key(0)
        >>> autoattack(logits_fn, images, labels, 0.01, settings, key).robust_accuracy
        1.0
    """
    batches = _batches(logits_fn, images, labels, eps, settings, key)
    batches = _placed(batches, settings, batch_size, num_parallel, directory)
    members, warnings = settings.members_for(batches.num_classes)
    if settings.version != "rand":
        network = typing.cast(LogitsFn, logits_fn)
        warnings += checks.check_network(network, batches.images[:16])
    clean = batches.reevaluate(batches.images)
    broken = np.where(clean.success, "clean", "").astype(object)
    found, accuracies, seconds = batches.images.copy(), {"clean": _share(broken)}, 0.0
    for name, member in members.items():
        left = np.flatnonzero(broken == "")
        # Batch the most vulnerable images together: their batches end early.
        left = left[np.argsort(-clean.losses[left], kind="stable")]
        outcome = batches.attack(name, member, left if eps > 0 else left[:0])
        broken[outcome.broken] = name
        found[outcome.broken] = outcome.images
        accuracies[name] = _share(broken)
        seconds += outcome.seconds
        number = member.num_restarts(batches.num_classes)
        warnings += checks.check_gradients(name, outcome.zero_gradient)
        warnings += checks.check_ascent(name, outcome.ended_worse, number)
    warnings += checks.check_square(list(broken), list(members))
    adversarial = batches.reevaluate(found)
    return Evaluation(adversarial, tuple(broken), accuracies, tuple(warnings), seconds)


def _batches(
    logits_fn: LogitsFn | RandomLogitsFn,
    images: jax.Array | np.ndarray,
    labels: jax.Array | np.ndarray,
    eps: float,
    settings: AutoAttack,
    key: jax.Array,
) -> AttackBatches:
    """Check the arguments of `autoattack` that the attacks do not check themselves."""
    images, labels = np.asarray(images, np.float32), np.asarray(labels)
    if labels.ndim != 1 or images.ndim < 2 or len(images) != len(labels) or not len(labels):
        raise UserError(
            "autoattack: expected images [N, ...] and labels [N], at least one; "
            f"got {images.shape} and {labels.shape}"
        )
    good = eps is not None and np.ndim(eps) == 0 and 0 <= eps < float("inf")
    require(good, "autoattack: eps", "a radius of 0 or more", eps)
    judge = APGD(settings.norm, passes=settings.passes)
    return AttackBatches(logits_fn, images, labels, float(eps), key, judge=judge)


def _placed(
    batches: AttackBatches,
    settings: AutoAttack,
    batch_size: int | None,
    num_parallel: int | None,
    directory: epath.PathLike | None,
) -> AttackBatches:
    """Set the batch size and the directory in which batches are saved."""
    for name, value in (("batch_size", batch_size), ("num_parallel", num_parallel)):
        if value is not None:
            require_whole(value, f"autoattack: {name}")
    on_cpu, number = devices.platform() == "cpu", jax.device_count()
    default = CPU_BATCH if on_cpu else ACCELERATOR_BATCH
    size = min(batch_size or default, len(batches.labels))
    size = -(-size // number) * number
    if directory is not None:
        directory = absolute(directory) / _content(batches, settings)
    return dataclasses.replace(batches, size=size, num_parallel=num_parallel, directory=directory)


def _content(batches: AttackBatches, settings: AutoAttack) -> str:
    """Return a directory name by content, so that other models or images never share files."""
    leaves, kinds = jax.tree.leaves(batches.logits_fn), jax.Array | np.ndarray
    weights = [leaf for leaf in leaves if isinstance(leaf, kinds)]
    expected = "a model that is a pytree, such as Partial(apply, params), to recognise it by"
    require(bool(weights), "autoattack: directory", expected, batches.logits_fn)
    content = batches.images, batches.labels, jax.random.key_data(batches.key), weights
    chosen = {one.name: getattr(settings, one.name) for one in dataclasses.fields(settings)}
    # A network of this package is recognised by its weights and description, so that another
    # version of JAX, whose program differs, resumes too.
    module = getattr(getattr(batches.logits_fn, "func", None), "__module__", "")
    if not module.startswith("rtl_jax."):
        chosen["program"] = _programs(batches)
    else:
        # Without the addresses of functions in this process.
        described = str(jax.tree.structure(batches.logits_fn))
        chosen["program"] = re.sub("0x[0-9a-f]+", "", described)
    return digest(content, {"eps": batches.eps, **chosen, "norm": str(settings.threat)})[:16]


def _programs(batches: AttackBatches) -> list[str]:
    """Return the programs of the model's logits and, if it has one, of their gradient."""
    keys = () if batches.judge.passes is None else (batches.key,)
    inputs = batches.images[:1], *keys
    programs = [lowered(batches.logits_fn, *inputs)]
    # Functions without a gradient can still be attacked by Square.
    with contextlib.suppress(TypeError, ValueError, NotImplementedError):
        programs.append(lowered(Partial(_gradient, batches.logits_fn), *inputs))
    return [program.as_text() for program in programs]


def _gradient(logits_fn: Callable, images: jax.Array, *keys: jax.Array) -> jax.Array:
    return jax.grad(lambda images: logits_fn(images, *keys).sum())(images)


def _share(broken: np.ndarray) -> float:
    return float((broken == "").mean())
