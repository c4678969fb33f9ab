"""Run an attack on any model: one compiled program, its result confirmed and checked.

`images` are float in [0, 1], usually [N, H, W, C] (any [N, ...] works), `labels` int [N]; one
example is an image without the leading axis and a label of shape []. A model is a `logits_fn`:
a callable from images to logits [N, classes], normalisation included, in evaluation mode.

A `logits_fn` that is a pytree (`jax.tree_util.Partial(apply, params)`, an Equinox or NNX module)
has its arrays passed to the compiled program as arguments: other weights of the same shapes do
not compile again, and `jax.vmap` maps over them. A plain function is a constant of the program.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from rtl_jax.attacks.losses import Loss, judge
from rtl_jax.attacks.parallel import map_attacks
from rtl_jax.attacks.pgd import Iterate, LogitsFn, Signs
from rtl_jax.attacks.randomised import Randomised
from rtl_jax.attacks.threat import THREATS, Norm
from rtl_jax.errors import UserError


class Attack(Protocol):
    """What `attack` runs: `PGD`, `Gaussian`, or any hashable with these."""

    @property
    def norm(self) -> Norm:
        """Whose ball eps is the radius of."""

    @property
    def loss(self) -> Loss:
        """What to report."""

    @property
    def targeted(self) -> bool:
        """Whether labels are targets."""

    @property
    def needs_key(self) -> bool:
        """Whether anything is random."""

    @property
    def step_size(self) -> float | None:
        """The step in pixel units, if it does not follow from eps."""

    @property
    def unroll(self) -> bool:
        """Whether to compile without loops."""

    @property
    def passes(self) -> int | None:
        """How many draws of a randomised network to average; None: it is not."""

    def begin(self, logits_fn: LogitsFn, images: jax.Array, labels: jax.Array) -> Any:
        """What searches with several eps share."""

    def search(
        self,
        logits_fn: LogitsFn,
        images: jax.Array,
        labels: jax.Array,
        eps: jax.Array,
        keys: jax.Array | None,
        shared: Any = None,
        together: int | None = None,
    ) -> Iterate:
        """The perturbed images, each within eps [N] of its original."""


class Adversarial(NamedTuple):
    """An attack's result; `robustness_curve` puts an axis for eps in front.

    images: [N, ...], like the originals, within the ball and [0, 1].
    success: bool [N]: these images, evaluated once more, are misclassified (targeted: classified
        as the target).
    norms: float [N], of the change, in the attack's norm (L2 if there is none).
    losses: float [N], at `images`, in the attack's loss.
    valid: bool [N]: the pixels given lie in [0, 1], the label is a class, and every logit and
        gradient on the way was finite. Outside of `jit` and `vmap` anything else has raised an
        error; inside, look at it. What is not valid is never a success.
    signs: what makes the attack doubtful, if it looks for that (`APGD`).
    """

    images: jax.Array
    success: jax.Array
    norms: jax.Array
    losses: jax.Array
    valid: jax.Array
    signs: Signs | None = None

    @property
    def robust_accuracy(self) -> jax.Array:
        """The share of images that the attack did not break, in [0, 1]; [E] for a curve."""
        return 1 - self.success.mean(-1)


def attack(
    logits_fn: LogitsFn,
    images: jax.Array,
    labels: jax.Array,
    eps: jax.Array | float | None,
    settings: Attack,
    key: jax.Array | None = None,
    *,
    indices: jax.Array | None = None,
    together: int | None = None,
    runs: jax.Array | None = None,
) -> Adversarial:
    """Attack images and confirm what was found.

    Compiled once for each shape, `settings` and structure of `logits_fn`; eps may change. Inside
    `jit`, `vmap` (over seeds, say) and `scan` it works too, but cannot raise for what is only
    known when the program runs: see `Adversarial.valid`.

    Args:
      logits_fn: the model, see above.
      images: float [N, ...] in [0, 1], or one image [...].
      labels: int [N], or []; the targets of a targeted attack.
      eps: the radius, in units of pixels in [0, 1]; one for all, or one per image [N]. None for
        'unconstrained'.
      settings: a `PGD`, a `Gaussian`, an `APGD`, a `FAB` or a `Square`.
      key: needed if the attack is random.
      indices: int [N], the number of each image in its data set (default: in this batch). With
        the key it decides the image's random numbers, whatever batch it comes in.
      together: how many restarts run side by side under `vmap`, at so many times the memory;
        by default all, on a CPU as many as pay. No number changes but for rounding.
      runs: int [M], of an attack of several runs (`APGD`, `FAB`, `Square`) the numbers of those
        to make; by default all.

    Raises:
      UserError: an argument is not as above, or a logit or a gradient is not finite.
    """
    program = _prepare(logits_fn, images, labels, settings, key, indices, together)
    radius = _radius(eps, settings)
    if radius.ndim > 0 and radius.shape != np.shape(labels):
        raise UserError(
            f"eps: expected one, or one per image {np.shape(labels)}; got {radius.shape}"
        )
    return _checked(_run(*program, radius, runs), settings, logits_fn, images, labels)


def reevaluate(
    logits_fn: LogitsFn,
    images: jax.Array,
    labels: jax.Array,
    eps: float,
    settings: Attack,
    found: jax.Array,
    key: jax.Array | None = None,
    *,
    indices: jax.Array | None = None,
) -> Adversarial:
    """What images `found` by an attack, or read from a file, are worth: as `attack`'s result.

    A success has to lie in its ball, to 1e-6, and in [0, 1], and to be misclassified now.
    """
    program = _prepare(logits_fn, images, labels, settings, key, indices, None)
    if np.shape(found) != np.shape(images):
        raise UserError(f"found: expected {np.shape(images)}, as images; got {np.shape(found)}")
    result = _run_again(*program, _radius(eps, settings), jnp.asarray(found))
    return _checked(result, settings, logits_fn, images, labels)


def robustness_curve(
    logits_fn: LogitsFn,
    images: jax.Array,
    labels: jax.Array,
    eps: Sequence[float] | jax.Array,
    settings: Attack,
    key: jax.Array | None = None,
    *,
    indices: jax.Array | None = None,
    together: int | None = None,
) -> Adversarial:
    """`attack` at every eps of a list [E], in one compiled call.

    Equal to separate calls with the same key, to rounding; what they share (the gradient at the
    originals) is computed once. Everything in the result has a leading axis [E]. Another list of
    the same length does not compile again.

    Args:
      together: how many eps run side by side under `vmap`, at so many times the memory; by
        default all, on a CPU as many as pay.
    """
    program = _prepare(logits_fn, images, labels, settings, key, indices, together)
    if settings.norm == "unconstrained":
        raise UserError("a robustness curve needs a norm: without one there is no eps")
    radii = _radius(eps, settings)
    if radii.ndim != 1 or len(radii) == 0:
        raise UserError(f"eps: expected a list of numbers; got shape {radii.shape}")
    return _checked(_run_curve(*program, radii, None), settings, logits_fn, images, labels)


def example_keys(key: jax.Array, indices: jax.Array) -> jax.Array:
    """One key per image, [N], from the attack's key and the images' numbers [N]."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, indices)


# ---- The compiled program ----------------------------------------------------------------------


def _attack(
    settings: Attack,
    static: "_Static",
    together: int | None,
    arrays: list,
    images: jax.Array,
    labels: jax.Array,
    keys: jax.Array | None,
    eps: jax.Array,
    runs: jax.Array | None,
) -> Adversarial:
    """One radius, or one per image."""
    eps = jnp.broadcast_to(eps.astype(images.dtype), labels.shape)
    logits_fn = _bound(static.join(arrays), settings, keys)
    chosen = {} if runs is None else {"numbers": runs}
    found = settings.search(logits_fn, images, labels, eps, keys, None, together, **chosen)
    return _confirmed(settings, logits_fn, images, labels, found)


def _again(
    settings: Attack,
    static: "_Static",
    together: None,
    arrays: list,
    images: jax.Array,
    labels: jax.Array,
    keys: jax.Array | None,
    eps: jax.Array,
    found: jax.Array,
) -> Adversarial:
    """No attack: images found before, looked at."""
    logits_fn = _bound(static.join(arrays), settings, keys)
    yes = jnp.ones(labels.shape, bool)
    iterate = Iterate(found.reshape(images.shape).astype(images.dtype), yes, yes, yes)
    result = _confirmed(settings, logits_fn, images, labels, iterate)
    box = ((result.images >= 0) & (result.images <= 1)).reshape(len(labels), -1).all(-1)
    inside = box & (result.norms <= eps + 1e-6)
    return result._replace(success=result.success & inside)


def _curve(
    settings: Attack,
    static: "_Static",
    together: int | None,
    arrays: list,
    images: jax.Array,
    labels: jax.Array,
    keys: jax.Array | None,
    radii: jax.Array,
    _: None,
) -> Adversarial:
    """Every radius [E] in turn, or together."""
    logits_fn = _bound(static.join(arrays), settings, keys)
    shared = settings.begin(logits_fn, images, labels)

    def one(eps: jax.Array) -> Adversarial:
        eps = jnp.full(labels.shape, eps, images.dtype)
        found = settings.search(logits_fn, images, labels, eps, keys, shared)
        return _confirmed(settings, logits_fn, images, labels, found)

    together = len(radii) if settings.unroll else together
    return map_attacks(one, radii, len(labels), together)


def _confirmed(
    settings: Attack, logits_fn: LogitsFn, images: jax.Array, labels: jax.Array, found: Iterate
) -> Adversarial:
    """What the network says of the images found, asked once more."""
    logits = logits_fn(found.images)
    verdict = judge(logits, labels, settings.loss, settings.targeted)
    inside = ((images >= 0) & (images <= 1)).reshape(len(labels), -1).all(-1)
    known = (labels >= 0) & (labels < logits.shape[-1])
    valid = found.finite & verdict.finite & inside & known
    norms = jax.vmap(THREATS[settings.norm].norm)(found.images - images)
    success = verdict.success & valid
    return Adversarial(found.images, success, norms, verdict.losses, valid, found.signs)


def _bound(logits_fn: Callable, settings: Attack, keys: jax.Array | None) -> LogitsFn:
    """The model as a function of images alone, where it takes a key besides."""
    if settings.passes is None or keys is None:
        return logits_fn
    return Randomised(logits_fn, keys, settings.passes)


def _compiled(program: Callable[..., Adversarial], axis: int) -> Callable[..., Adversarial]:
    """`program` on what users pass: one image or many, any float type, one key for all."""

    def run(
        settings: Attack,
        static: "_Static",
        together: int | None,
        arrays: list,
        images: jax.Array,
        labels: jax.Array,
        key: jax.Array | None,
        indices: jax.Array | None,
        eps: jax.Array,
        more: jax.Array | None,
    ) -> Adversarial:
        single = labels.ndim == 0
        if single:
            images, labels = images[None], labels[None]
        # Balls are drawn in float32 at least: bfloat16 has no numbers near their edges.
        images = images.astype(jnp.promote_types(images.dtype, jnp.float32))
        indices = jnp.arange(len(labels)) if indices is None else indices.reshape(-1)
        keys = example_keys(key, indices) if settings.needs_key and key is not None else None
        result = program(settings, static, together, arrays, images, labels, keys, eps, more)
        return jax.tree.map(lambda leaf: leaf.squeeze(axis), result) if single else result

    # The settings and the model's structure are constants of the program.
    return jax.jit(run, static_argnums=(0, 1, 2))


_run, _run_again = _compiled(_attack, axis=0), _compiled(_again, axis=0)
_run_curve = _compiled(_curve, axis=1)


class _Static(NamedTuple):
    """A model without its arrays: what a compiled program is made for."""

    structure: Any
    rest: tuple[Hashable, ...]

    @classmethod
    def split(cls, logits_fn: LogitsFn) -> tuple["_Static", list]:
        leaves, structure = jax.tree.flatten(logits_fn)
        arrays = [leaf if isinstance(leaf, jax.Array | np.ndarray) else None for leaf in leaves]
        pairs = zip(arrays, leaves, strict=True)
        rest = tuple(leaf if array is None else None for array, leaf in pairs)
        return cls(structure, rest), arrays

    def join(self, arrays: list) -> LogitsFn:
        pairs = zip(arrays, self.rest, strict=True)
        leaves = [leaf if array is None else array for array, leaf in pairs]
        return jax.tree.unflatten(self.structure, leaves)


# ---- Checks ------------------------------------------------------------------------------------


def _prepare(
    logits_fn: LogitsFn,
    images: jax.Array,
    labels: jax.Array,
    settings: Attack,
    key: jax.Array | None,
    indices: jax.Array | None,
    together: int | None,
) -> tuple:
    """The arguments of `_attack` but eps, checked as far as shapes and types go."""
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
    if together is not None and together < 1:
        raise UserError(f"together: expected 1 or more; got {together}")
    static, arrays = _Static.split(logits_fn)
    try:
        hash(static)
    except TypeError as error:
        raise UserError(f"logits_fn cannot be hashed ({error}): wrap it in a function") from error
    return settings, static, together, arrays, images, labels, key, indices


def _radius(eps: Any, settings: Attack) -> jax.Array:
    """eps as an array, checked if it is known; for 'unconstrained' the step's size."""
    if settings.norm == "unconstrained":
        if eps is not None:
            raise UserError("eps: 'unconstrained' has none; give None (and step_size to PGD)")
        return jnp.asarray(settings.step_size, float)
    if eps is None:
        raise UserError(f"eps: {settings.norm!r} needs a radius")
    if not isinstance(eps, jax.core.Tracer):
        values = np.asarray(eps, float)
        if not (np.isfinite(values).all() and (values >= 0).all()):
            raise UserError(f"eps: expected numbers of 0 or more; got {eps}")
    return jnp.asarray(eps, float)


def _checked(
    result: Adversarial,
    settings: Attack,
    logits_fn: LogitsFn,
    images: jax.Array,
    labels: jax.Array,
) -> Adversarial:
    """`result`, or an error that says what was wrong; while tracing nothing is known yet."""
    if isinstance(result.valid, jax.core.Tracer):
        return result
    bad = ~np.asarray(result.valid)
    if not bad.any():
        return result
    pixels, classes = np.asarray(images, np.float32), np.asarray(labels)
    if not (pixels.min() >= 0 and pixels.max() <= 1):
        raise UserError(
            f"images: expected pixels in [0, 1], found {pixels.min():g} to {pixels.max():g}: "
            "scale them, and leave normalisation to logits_fn"
        )
    batch = images if classes.ndim else jnp.asarray(images)[None]
    arguments = (batch,) if settings.passes is None else (batch, jax.random.key(0))
    number = jax.eval_shape(logits_fn, *arguments).shape[-1]
    if not (classes.min() >= 0 and classes.max() < number):
        raise UserError(
            f"labels: expected 0 to {number - 1}, found {classes.min()} to {classes.max()}"
        )
    raise UserError(
        f"{bad.sum()} of {bad.size} images met logits or gradients that are not finite: that is "
        "a defect of the model (or of its precision), not a success of the attack"
    )
