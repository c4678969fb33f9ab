"""Run an attack on any model: one compiled program, its result confirmed and checked.

`images` are float in [0, 1], usually [N, H, W, C] (any [N, ...] works), `labels` int [N]; one
example is an image without the leading axis and a label of shape []. A model is a `logits_fn`:
a callable from images to logits [N, classes], normalisation included, in evaluation mode.

A `logits_fn` that is a pytree (`jax.tree_util.Partial(apply, params)`, an Equinox or NNX module)
has its arrays passed to the compiled program as arguments: other weights of the same shapes do
not compile again, and `jax.vmap` maps over them. A plain function is a constant of the program.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rtl_jax.attacks.base import Attack, Diagnostics, Iterate, LogitsFn, Problem
from rtl_jax.attacks.losses import judge
from rtl_jax.attacks.parallel import map_attacks
from rtl_jax.attacks.randomised import Randomised
from rtl_jax.attacks.restarts import RestartedAttack
from rtl_jax.attacks.structure import ModelStructure
from rtl_jax.errors import UserError


class Adversarial(NamedTuple):
    """The result of an attack on N images; for a single image, without the leading axis [N].

    Attributes:
      images: [N, ...], like the originals, within the ball and [0, 1].
      success: bool [N]: these images, evaluated once more, are misclassified (targeted: classified
        as the target).
      norms: float [N], of the change, in the attack's norm (L2 if there is none).
      losses: float [N], at `images`, in the attack's loss.
      valid: bool [N]: the given pixels are in [0, 1], the label is a class, and every logit and
        gradient was finite. Outside `jit` and `vmap` anything else raises an error; inside, check
        it. An invalid image is never a success.
      diagnostics: signs of masked gradients, if the attack collects them (`APGD`).
    """

    images: jax.Array
    success: jax.Array
    norms: jax.Array
    losses: jax.Array
    valid: jax.Array
    diagnostics: Diagnostics | None = None

    @property
    def robust_accuracy(self) -> jax.Array:
        """The share of images that the attack did not break, in [0, 1]; of one image, 0 or 1."""
        return 1 - self.success.mean(-1 if self.success.ndim else None)


class RobustnessCurve(Adversarial):
    """The results at E radii: every array has a leading axis [E]."""

    __slots__ = ()

    @property
    def robust_accuracy(self) -> jax.Array:
        """The share of images that the attack did not break at each radius, in [0, 1], [E]."""
        return 1 - self.success.mean(-1 if self.success.ndim > 1 else ())


def attack(
    logits_fn: LogitsFn,
    images: jax.Array,
    labels: jax.Array,
    eps: jax.Array | float | None,
    settings: Attack,
    key: jax.Array | None = None,
    *,
    indices: jax.Array | None = None,
    num_parallel: int | None = None,
    restart_indices: jax.Array | None = None,
) -> Adversarial:
    """Attack images and confirm what was found.

    Compiled once for each shape, `settings` and structure of `logits_fn`; eps may change. It also
    works inside `jit`, `vmap` (over seeds, for example) and `scan`, but cannot raise errors there
    that depend on values: see `Adversarial.valid`.

    Args:
      logits_fn: the model: float images [N, ...] in [0, 1] to logits [N, C].
      images: float [N, ...] in [0, 1], or one image [...].
      labels: int [N], or []; the target classes of a targeted attack.
      eps: the radius, for pixels in [0, 1]; one for all, or one per image [N]. None for
        'unconstrained'.
      settings: a `PGD`, a `Gaussian`, an `APGD`, a `FAB`, a `Square` or any other `Attack`.
      key: needed if the attack is random.
      indices: int [N], the index of each image in its data set (default: in this batch). With the
        key it determines the image's random numbers, whatever its batch.
      num_parallel: how many restarts to run in parallel under `vmap`, at as many times the memory;
        by default all, on a CPU as many as pay off. Results change only by rounding.
      restart_indices: int [M], which restarts of an `APGD`, a `FAB` or a `Square` to run; by
        default all.

    Returns:
      An `Adversarial`: images, success, norms and losses, and `robust_accuracy`.

    Raises:
      UserError: an argument is not as above, or a logit or gradient is not finite.

    Example:
        >>> import jax.numpy as jnp
        >>> from rtl_jax.attacks import PGD, attack
        >>> def logits_fn(images):  # dark images are class 0
        ...     mean = images.mean((1, 2, 3))[:, None]
        ...     return jnp.array([1.0, -1.0]) * (0.5 - mean)
        >>> images = jnp.stack([jnp.full((4, 4, 3), 0.2), jnp.full((4, 4, 3), 0.49)])
        >>> found = attack(logits_fn, images, jnp.array([0, 0]), 0.05, PGD("linf"))
        >>> found.success.tolist(), float(found.robust_accuracy)
        ([False, True], 0.5)
    """
    model, inputs = _prepare(logits_fn, images, labels, settings, key=key, indices=indices)
    program = _Program(settings, model, _require_parallel(num_parallel))
    radius = _radius(eps, settings)
    if radius.ndim > 0 and radius.shape != np.shape(labels):
        raise UserError(
            f"eps: expected one, or one per image {np.shape(labels)}; got {radius.shape}"
        )
    if restart_indices is not None and not isinstance(settings, RestartedAttack):
        raise UserError(f"restart_indices: {settings.display_name} has no restarts to choose from")
    result = _run(program, inputs, radius, restart_indices)
    return _checked(result, program, inputs)


def reevaluate(
    logits_fn: LogitsFn,
    images: jax.Array,
    labels: jax.Array,
    eps: float,
    settings: Attack,
    found: jax.Array,
    *,
    key: jax.Array | None = None,
    indices: jax.Array | None = None,
) -> Adversarial:
    """Evaluate images `found` by an attack, or read from a file, as `attack` evaluates its own.

    A success must be in its ball, to 1e-6, in [0, 1], and misclassified now.
    """
    model, inputs = _prepare(logits_fn, images, labels, settings, key=key, indices=indices)
    if np.shape(found) != np.shape(images):
        raise UserError(f"found: expected {np.shape(images)}, as images; got {np.shape(found)}")
    program = _Program(settings, model, None)
    result = _run_reevaluation(program, inputs, _radius(eps, settings), jnp.asarray(found))
    return _checked(result, program, inputs)


def robustness_curve(
    logits_fn: LogitsFn,
    images: jax.Array,
    labels: jax.Array,
    eps: Sequence[float] | jax.Array,
    settings: Attack,
    key: jax.Array | None = None,
    *,
    indices: jax.Array | None = None,
    num_parallel: int | None = None,
) -> RobustnessCurve:
    """Attack at every radius of a list [E] in one compiled call.

    Equal to separate calls with the same key, up to rounding; what they share (the gradient at the
    originals) is computed once. Another list of the same length does not compile again.

    Args:
      logits_fn: as for `attack`, like all other arguments not listed here.
      num_parallel: how many radii to run in parallel under `vmap`, at as many times the memory; by
        default all, on a CPU as many as pay off.

    Returns:
      A `RobustnessCurve`: the fields of `Adversarial`, each with a leading axis [E].

    Raises:
      UserError: as `attack`.
    """
    model, inputs = _prepare(logits_fn, images, labels, settings, key=key, indices=indices)
    program = _Program(settings, model, _require_parallel(num_parallel))
    if not settings.threat.has_radius:
        raise UserError("a robustness curve needs a norm: without one there is no eps")
    radii = _radius(eps, settings)
    if radii.ndim != 1 or len(radii) == 0:
        raise UserError(f"eps: expected a list of numbers; got shape {radii.shape}")
    return RobustnessCurve(*_checked(_run_curve(program, inputs, radii, None), program, inputs))


def example_keys(key: jax.Array, indices: jax.Array) -> jax.Array:
    """One key per image, [N], from the attack's key and the images' numbers [N]."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, indices)


# ---- The compiled program ----------------------------------------------------------------------


class _Program(NamedTuple):
    """The constants of a compiled program: hashable."""

    settings: Attack
    model: ModelStructure
    num_parallel: int | None


class _Inputs(NamedTuple):
    """The arrays of a call: the model's, and what users pass."""

    arrays: list
    images: jax.Array
    labels: jax.Array
    key: jax.Array | None
    indices: jax.Array | None

    @property
    def single(self) -> bool:
        """Whether this is one image, without a leading axis."""
        return self.labels.ndim == 0

    def batch(self) -> "_Inputs":
        """One image as a batch of one, indices for all, and images in float32 at least."""
        one = self
        if self.single:
            one = one._replace(images=self.images[None], labels=self.labels[None])
        # Balls are drawn in float32 at least: bfloat16 has no numbers near their edges.
        dtype = jnp.promote_types(one.images.dtype, jnp.float32)
        indices = jnp.arange(len(one.labels)) if self.indices is None else self.indices.reshape(-1)
        return one._replace(images=one.images.astype(dtype), indices=indices)


def _attack(settings: Attack, problem: Problem, restart_indices: jax.Array | None) -> Adversarial:
    """One radius, or one per image."""
    found = settings.search(_each(problem)._replace(restart_indices=restart_indices))
    return _confirmed(settings, problem, found)


def _reevaluation(settings: Attack, problem: Problem, found: jax.Array) -> Adversarial:
    """No attack: evaluate images found before."""
    _, images, labels, eps, *_ = _each(problem)
    yes = jnp.ones(labels.shape, bool)
    iterate = Iterate(found.reshape(images.shape).astype(images.dtype), yes, yes, yes)
    result = _confirmed(settings, problem, iterate)
    box = ((result.images >= 0) & (result.images <= 1)).reshape(len(labels), -1).all(-1)
    inside = box & (result.norms <= eps + 1e-6)
    return result._replace(success=result.success & inside)


def _curve(settings: Attack, problem: Problem, _: None) -> Adversarial:
    """Every radius [E], some of them in parallel."""
    radii, num_parallel = problem.eps, problem.num_parallel
    alone = problem._replace(num_parallel=None)
    shared = settings.prepare(alone)

    def one(eps: jax.Array) -> Adversarial:
        eps = jnp.full(problem.labels.shape, eps, problem.images.dtype)
        found = settings.search(alone._replace(eps=eps, shared=shared))
        return _confirmed(settings, problem, found)

    num_parallel = len(radii) if settings.unroll else num_parallel
    return map_attacks(one, radii, len(problem.labels), num_parallel)


def _confirmed(settings: Attack, problem: Problem, found: Iterate) -> Adversarial:
    """Evaluate the images found once more."""
    _, images, labels, *_ = problem
    logits = problem.logits_fn(found.images)
    verdict = judge(logits, labels, settings.loss, settings.targeted)
    inside = ((images >= 0) & (images <= 1)).reshape(len(labels), -1).all(-1)
    known = (labels >= 0) & (labels < logits.shape[-1])
    valid = found.finite & verdict.finite & inside & known
    norms = jax.vmap(settings.threat.norm)(found.images - images)
    success = verdict.success & valid
    return Adversarial(found.images, success, norms, verdict.losses, valid, found.diagnostics)


def _each(problem: Problem) -> Problem:
    """The same with one radius per image."""
    eps = problem.eps.astype(problem.images.dtype)
    return problem._replace(eps=jnp.broadcast_to(eps, problem.labels.shape))


def _bound(logits_fn: Callable, settings: Attack, keys: jax.Array | None) -> LogitsFn:
    """The model as a function of images alone, where it takes a key besides."""
    if settings.passes is None or keys is None:
        return logits_fn
    return Randomised(logits_fn, keys, settings.passes)


def _compiled(search: Callable[..., Adversarial], axis: int) -> Callable[..., Adversarial]:
    """Compile `search` for what users pass; `axis` is that of the images in its result."""

    def run(program: _Program, inputs: _Inputs, eps: jax.Array, more: Any) -> Adversarial:
        settings, batch = program.settings, inputs.batch()
        keys = None
        if settings.needs_key and batch.key is not None and batch.indices is not None:
            keys = example_keys(batch.key, batch.indices)
        logits_fn = _bound(program.model.join(batch.arrays), settings, keys)
        problem = Problem(logits_fn, batch.images, batch.labels, eps, keys)
        result = search(settings, problem._replace(num_parallel=program.num_parallel), more)
        if inputs.single:
            result = jax.tree.map(lambda leaf: leaf.squeeze(axis), result)
        return result

    return jax.jit(run, static_argnums=0)


_run, _run_reevaluation = _compiled(_attack, axis=0), _compiled(_reevaluation, axis=0)
_run_curve = _compiled(_curve, axis=1)


# ---- Checks ------------------------------------------------------------------------------------


def _prepare(
    logits_fn: LogitsFn,
    images: jax.Array,
    labels: jax.Array,
    settings: Attack,
    *,
    key: jax.Array | None,
    indices: jax.Array | None,
) -> tuple[ModelStructure, _Inputs]:
    """Check arguments, as far as shapes and types go, and split the model from its arrays."""
    if not callable(logits_fn):
        raise UserError(f"logits_fn: expected a callable; got {type(logits_fn).__name__}")
    images, labels = jnp.asarray(images), jnp.asarray(labels)
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise UserError(f"images: expected floats in [0, 1]; got {images.dtype}")
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise UserError(f"labels: expected integers; got {labels.dtype}")
    if labels.ndim > 1 or images.ndim <= labels.ndim or images.shape[: labels.ndim] != labels.shape:
        raise UserError(
            "expected images [N, ...] and labels [N], or one image and its label []; "
            f"got {images.shape} and {labels.shape}"
        )
    if labels.size == 0:
        raise UserError("expected at least one image; got none")
    if settings.needs_key and key is None:
        raise UserError("this attack is random: give it key=jax.random.key(SEED)")
    if indices is not None:
        indices = jnp.asarray(indices)
        if indices.shape != labels.shape:
            raise UserError(f"indices: expected {labels.shape}, as labels; got {indices.shape}")
    model, arrays = ModelStructure.split(logits_fn)
    try:
        hash(model)
    except TypeError as error:
        raise UserError(f"logits_fn cannot be hashed ({error}): wrap it in a function") from error
    return model, _Inputs(arrays, images, labels, key, indices)


def _require_parallel(number: int | None) -> int | None:
    if number is not None and number < 1:
        raise UserError(f"num_parallel: expected 1 or more; got {number}")
    return number


def _radius(eps: Any, settings: Attack) -> jax.Array:
    """eps as an array, checked if it is known; for a threat without a radius the step's size."""
    if not settings.threat.has_radius:
        if eps is not None:
            name = repr(str(settings.threat))
            raise UserError(f"eps: {name} has none; give None (and step_size to PGD)")
        return jnp.asarray(settings.step_size, float)
    if eps is None:
        raise UserError(f"eps: {str(settings.threat)!r} needs a radius")
    if not isinstance(eps, jax.core.Tracer):
        values = np.asarray(eps, float)
        if not (np.isfinite(values).all() and (values >= 0).all()):
            raise UserError(f"eps: expected numbers of 0 or more; got {eps}")
    return jnp.asarray(eps, float)


def _checked(result: Adversarial, program: _Program, inputs: _Inputs) -> Adversarial:
    """Return `result`, or raise an error for what was wrong; while tracing nothing is known."""
    if isinstance(result.valid, jax.core.Tracer):
        return result
    bad = ~np.asarray(result.valid)
    if not bad.any():
        return result
    pixels, classes = np.asarray(inputs.images, np.float32), np.asarray(inputs.labels)
    if not (pixels.min() >= 0 and pixels.max() <= 1):
        raise UserError(
            f"images: expected pixels in [0, 1], found {pixels.min():g} to {pixels.max():g}: "
            "scale them, and leave normalisation to logits_fn"
        )
    key = () if program.settings.passes is None else (jax.random.key(0),)
    logits_fn = program.model.join(inputs.arrays)
    number = jax.eval_shape(logits_fn, inputs.batch().images, *key).shape[-1]
    if not (classes.min() >= 0 and classes.max() < number):
        raise UserError(
            f"labels: expected 0 to {number - 1}, found {classes.min()} to {classes.max()}"
        )
    raise UserError(
        f"{bad.sum()} of {bad.size} images met logits or gradients that are not finite: that is "
        "a defect of the model (or of its precision), not a success of the attack"
    )
