"""Run an attack on any model in one compiled program, then confirm and check the result.

`images` are float in [0, 1], usually [N, H, W, C] (any [N, ...] works), and `labels` are int [N].
A single example is an image without the leading axis and a label of shape []. A model is a
`logits_fn`: a callable from images to logits [N, classes] that includes normalisation and runs in
evaluation mode.

If `logits_fn` is a pytree (`jax.tree_util.Partial(apply, params)`, an Equinox or NNX module), its
arrays are arguments of the compiled program: other weights of the same shapes do not trigger
recompilation, and `jax.vmap` maps over them. A plain function is a constant of the program, with
the weights that it has when it is first called: those that it gets later are not seen.
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
      success: bool [N], whether these images are misclassified when evaluated again (targeted:
        classified as the target).
      norms: float [N], norms of the perturbations, in the attack's norm (L2 if there is none).
      losses: float [N], the attack's loss at `images`.
      valid: bool [N], whether the given pixels are in [0, 1], the label is a class, and every logit
        and gradient was finite. Outside `jit` and `vmap`, an invalid image raises an error; inside,
        check this field. An invalid image is never a success.
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
        """The fraction of images that the attack did not break; 0 or 1 for a single image.

        NaN inside `jit` if an image is not `valid`.
        """
        return _accuracy(self.success, self.valid, -1 if self.success.ndim else None)


class RobustnessCurve(Adversarial):
    """The results at E radii: every array has a leading axis [E]."""

    __slots__ = ()

    @property
    def robust_accuracy(self) -> jax.Array:
        """The fraction of images that the attack did not break at each radius, [E]; or NaN."""
        return _accuracy(self.success, self.valid, -1 if self.success.ndim > 1 else ())


def _accuracy(success: Any, valid: Any, axis: Any) -> Any:
    """Average over images. An invalid one, which never counts as a success, makes it NaN."""
    numpy = np if isinstance(success, np.ndarray | np.generic) else jnp
    return numpy.where(valid.all(axis), 1 - success.mean(axis), numpy.nan)[()]


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
    """Attack images and confirm the adversarial images found.

    Compiled once for each shape, `settings` and structure of `logits_fn`; eps may change. It also
    works inside `jit`, `vmap` (over seeds, for example) and `scan`, where it cannot raise errors
    that depend on values; see `Adversarial.valid`.

    Args:
      logits_fn: the model: float images [N, ...] in [0, 1] to logits [N, C].
      images: float [N, ...] in [0, 1], or one image [...].
      labels: int [N] or []; for a targeted attack, the target classes.
      eps: the radius, for pixels in [0, 1]: a scalar, or one per image [N]. None for
        'unconstrained'.
      settings: a `PGD`, a `Gaussian`, an `APGD`, a `FAB`, a `Square` or any other `Attack`.
      key: required if the attack is random.
      indices: int [N], the index of each image in its dataset (default: in this batch). Together
        with the key it determines the image's random numbers, independently of the batch.
      num_parallel: the number of restarts to run in parallel under `vmap`; memory grows in
        proportion. By default all, on a CPU as many as pay off. Results change only by rounding.
      restart_indices: int [M], the restarts of an `APGD`, a `FAB` or a `Square` to run; by default
        all.

    Returns:
      An `Adversarial`: images, success, norms, losses and `robust_accuracy`.

    Raises:
      UserError: if an argument is not as described above, or a logit or gradient is not finite.

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
            f"eps: expected one, or one per image {np.shape(labels)}; received {radius.shape}"
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
    """Evaluate images `found` by an attack, or read from a file, in the same way as `attack`.

    A success must lie in its ball (to 1e-6) and in [0, 1], and be misclassified now.
    """
    model, inputs = _prepare(logits_fn, images, labels, settings, key=key, indices=indices)
    if np.shape(found) != np.shape(images):
        raise UserError(f"found: expected the shape of images; received {np.shape(found)}")
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
    """Attack at several radii [E] in one compiled call.

    The results equal those of separate calls with the same key, up to rounding; shared work (the
    gradient at the originals) is done once. Another list of the same length does not recompile.

    Args:
      logits_fn: as for `attack`, like all other arguments not listed here.
      num_parallel: the number of radii to run in parallel under `vmap`; memory grows in proportion.
        By default all, on a CPU as many as pay off.

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
    """Return one key per image, [N], from the attack's key and the image indices [N]."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, indices)


# ---- The compiled program ----------------------------------------------------------------------


class _Program(NamedTuple):
    """The hashable constants of a compiled program."""

    settings: Attack
    model: ModelStructure
    num_parallel: int | None


class _Inputs(NamedTuple):
    """The arrays of a call: those of the model and those that users pass."""

    arrays: list
    images: jax.Array
    labels: jax.Array
    key: jax.Array | None
    indices: jax.Array | None

    @property
    def single(self) -> bool:
        """Whether this is a single image, without a leading axis."""
        return self.labels.ndim == 0

    def batch(self) -> "_Inputs":
        """Add the batch axis to a single image, fill in indices, and cast to at least float32."""
        one = self
        if self.single:
            one = one._replace(images=self.images[None], labels=self.labels[None])
        # Use at least float32: bfloat16 cannot represent points near the boundary of a ball.
        dtype = jnp.promote_types(one.images.dtype, jnp.float32)
        indices = jnp.arange(len(one.labels)) if self.indices is None else self.indices.reshape(-1)
        return one._replace(images=one.images.astype(dtype), indices=indices)


def _attack(settings: Attack, problem: Problem, restart_indices: jax.Array | None) -> Adversarial:
    """Attack with one radius, or with one per image."""
    found = settings.search(_each(problem)._replace(restart_indices=restart_indices))
    return _confirmed(settings, problem, found)


def _reevaluation(settings: Attack, problem: Problem, found: jax.Array) -> Adversarial:
    """Evaluate images found earlier, without an attack."""
    _, images, labels, eps, *_ = _each(problem)
    yes = jnp.ones(labels.shape, bool)
    iterate = Iterate(found.reshape(images.shape).astype(images.dtype), yes, yes, yes)
    result = _confirmed(settings, problem, iterate)
    box = ((result.images >= 0) & (result.images <= 1)).reshape(len(labels), -1).all(-1)
    inside = box & (result.norms <= eps + 1e-6)
    return result._replace(success=result.success & inside)


def _curve(settings: Attack, problem: Problem, _: None) -> Adversarial:
    """Attack at every radius [E], `num_parallel` of them at a time."""
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
    """Evaluate the images found again."""
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
    """Broadcast the radius to one per image."""
    eps = problem.eps.astype(problem.images.dtype)
    return problem._replace(eps=jnp.broadcast_to(eps, problem.labels.shape))


def _bound(logits_fn: Callable, settings: Attack, keys: jax.Array | None) -> LogitsFn:
    """Return the model as a function of images alone, also if it takes a key."""
    if settings.passes is None or keys is None:
        return logits_fn
    return Randomised(logits_fn, keys, settings.passes)


def _compiled(search: Callable[..., Adversarial], axis: int) -> Callable[..., Adversarial]:
    """Compile `search` for user inputs; `axis` is the axis of the images in its result."""

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
    """Check the shapes and types of the arguments, and split the model from its arrays."""
    if not callable(logits_fn):
        raise UserError(f"logits_fn: expected a callable; received {type(logits_fn).__name__}")
    images, labels = jnp.asarray(images), jnp.asarray(labels)
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise UserError(f"images: expected floats in [0, 1]; received {images.dtype}")
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise UserError(f"labels: expected integers; received {labels.dtype}")
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
            raise UserError(f"indices: expected the shape of labels; received {indices.shape}")
    model, arrays = ModelStructure.split(logits_fn)
    try:
        hash(model)
    except TypeError as error:
        raise UserError(f"logits_fn cannot be hashed ({error}): wrap it in a function") from error
    return model, _Inputs(arrays, images, labels, key, indices)


def _require_parallel(number: int | None) -> int | None:
    if number is not None and number < 1:
        raise UserError(f"num_parallel: expected 1 or more; received {number}")
    return number


def _radius(eps: Any, settings: Attack) -> jax.Array:
    """Return eps as an array, checked unless traced; without a radius, return the step size."""
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
            raise UserError(f"eps: expected numbers of 0 or more; received {eps}")
    return jnp.asarray(eps, float)


def _checked(result: Adversarial, program: _Program, inputs: _Inputs) -> Adversarial:
    """Return `result`, or raise an error that explains invalid images; no check while tracing."""
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
