"""What training images are changed by before the step: an attack's search, or noise."""

import dataclasses

import jax
import jax.numpy as jnp

from rtl_jax.attacks.base import Attack, Iterate, LogitsFn, Problem, require_key
from rtl_jax.attacks.fourier import FourierPGD
from rtl_jax.attacks.gaussian import Gaussian
from rtl_jax.attacks.pgd import PGD
from rtl_jax.train.settings import TrainingSettings


def perturbation_of(settings: TrainingSettings) -> Attack | None:
    """The attack that the settings name, without its radius; None: images stay as they are."""
    if settings.perturbation == "none":
        return None
    if settings.perturbation == "gaussian":
        return Gaussian(settings.norm, sigma=settings.sigma)
    search: type[PGD] = PGD if settings.beta is None else DivergenceSearch
    names = ["norm", "steps", "relative_step", "random_start", "keep"]
    if settings.perturbation == "fourier":
        search = FourierPGD
        names += ["low_frequency", "high_frequency", "budget", "budget_weights"]
    return search(**{name: getattr(settings, name) for name in names})


def perturb(
    attack: Attack | None,
    logits_fn: LogitsFn,
    images: jax.Array,
    labels: jax.Array,
    eps: jax.Array,
    keys: jax.Array,
) -> jax.Array:
    """Float images [N, H, W, 3] as training shall see them; `eps` a number, one key an image.

    `logits_fn` is the network in evaluation mode, with the running statistics, as `robustness` has
    it while it attacks.
    """
    if attack is None:
        return images
    radius = jnp.full(len(labels), eps, images.dtype)
    if isinstance(attack, Gaussian):  # whose search would evaluate the network, for its verdict
        return attack.perturb(images, radius, keys)
    return attack.search(Problem(logits_fn, images, labels, radius, keys)).images


@dataclasses.dataclass(frozen=True)
class DivergenceSearch(PGD):
    """TRADES' search (Zhang et al., 2019): PGD on the divergence from the images' own prediction.

    It begins beside the image, as the authors' code does, for the divergence's gradient vanishes at
    the image itself; with `random_start` somewhere in the ball.
    """

    noise: float = 1e-3  # of the beginning, the standard deviation in pixels of [0, 1]

    @property
    def needs_key(self) -> bool:
        """It always begins at random."""
        return True

    def search(self, problem: Problem) -> Iterate:
        """Maximise KL(p(image) || p(x)) over x in the ball."""
        own = jax.nn.log_softmax(problem.logits_fn(problem.images))

        def divergences(x: jax.Array) -> jax.Array:
            """A single logit for each image, which the loss 'logit' takes the negative of."""
            return -divergence(own, jax.nn.log_softmax(problem.logits_fn(x)))[:, None]

        alike = problem._replace(logits_fn=divergences, labels=jnp.zeros_like(problem.labels))
        if self.random_start:
            return PGD.search(self.replace(loss="logit"), alike)
        keys = require_key(problem)

        def beside(key: jax.Array, image: jax.Array) -> jax.Array:
            return image + self.noise * jax.random.normal(key, image.shape, image.dtype)

        start = jax.vmap(beside)(keys, problem.images)
        return self.replace(loss="logit")._search_from(start, alike, None)


def divergence(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    """KL(p || q) in nats, [N], of log-probabilities [N, C]."""
    return (jnp.exp(log_p) * (log_p - log_q)).sum(-1)
