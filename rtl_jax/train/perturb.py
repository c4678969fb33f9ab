"""Perturbation of training images before a step, by an attack or by noise."""

import dataclasses

import jax
import jax.numpy as jnp

from rtl_jax.attacks.base import Attack, Iterate, LogitsFn, Problem, require_key
from rtl_jax.attacks.fourier import FourierPGD
from rtl_jax.attacks.gaussian import Gaussian
from rtl_jax.attacks.pgd import PGD
from rtl_jax.train.settings import FREQUENCY_FIELDS, TrainingSettings


def perturbation_of(settings: TrainingSettings) -> Attack | None:
    """Return the attack that the settings name, without its radius; None: no perturbation."""
    if settings.perturbation == "none":
        return None
    if settings.perturbation == "gaussian":
        return Gaussian(settings.norm, sigma=settings.sigma)
    search: type[PGD] = PGD if settings.beta is None else DivergenceSearch
    names = ["norm", "steps", "relative_step", "random_start", "keep"]
    if settings.perturbation == "fourier":
        search = FourierPGD
        names += FREQUENCY_FIELDS
    return search(**{name: getattr(settings, name) for name in names})


def perturb(
    attack: Attack | None,
    logits_fn: LogitsFn,
    images: jax.Array,
    labels: jax.Array,
    eps: jax.Array,
    keys: jax.Array,
) -> jax.Array:
    """Perturb float images [N, H, W, 3] for training; `eps` is a scalar, `keys` one per image.

    `logits_fn` is the network in evaluation mode, with the running statistics, as in `robustness`.
    """
    if attack is None:
        return images
    radius = jnp.full(len(labels), eps, images.dtype)
    if isinstance(attack, Gaussian):  # whose search would evaluate the network needlessly
        return attack.perturb(images, radius, keys)
    return attack.search(Problem(logits_fn, images, labels, radius, keys)).images


@dataclasses.dataclass(frozen=True)
class DivergenceSearch(PGD):
    """PGD on the divergence from the clean prediction, as in TRADES (Zhang et al., 2019).

    As in the authors' code, it starts near the image, since the gradient of the divergence
    vanishes at the image itself; with `random_start`, at a random point of the ball.
    """

    noise: float = 1e-3  # standard deviation of the start's noise, for pixels in [0, 1]

    @property
    def needs_key(self) -> bool:
        """True: the start is always random."""
        return True

    def search(self, problem: Problem) -> Iterate:
        """Maximise KL(p(image) || p(x)) over x in the ball."""
        own = jax.nn.log_softmax(problem.logits_fn(problem.images))

        def divergences(x: jax.Array) -> jax.Array:
            """Return a single logit per image, whose negative is the loss 'logit'."""
            return -divergence(own, jax.nn.log_softmax(problem.logits_fn(x)))[:, None]

        alike = problem._replace(logits_fn=divergences, labels=jnp.zeros_like(problem.labels))
        if self.random_start:
            return PGD.search(self.replace(loss="logit"), alike)
        keys = require_key(problem)

        def beside(key: jax.Array, image: jax.Array) -> jax.Array:
            return image + self.noise * jax.random.normal(key, image.shape, image.dtype)

        start = jax.vmap(beside)(keys, problem.images)
        found = self.replace(loss="logit")._search_from(start, alike, None)
        # The start, which may lie outside a small ball and outside [0, 1], can be the best iterate.
        inside = jax.vmap(self.threat.project)(found.images, problem.images, problem.eps)
        return found._replace(images=inside)


def divergence(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    """Return KL(p || q) in nats, [N], from log-probabilities [N, C]."""
    return (jnp.exp(log_p) * (log_p - log_q)).sum(-1)
