"""Images that raise a feature at the input of a network's head (paper, Figure 1b, appendix A.1).

The technique is that of Engstrom et al. (2019): PGD in an L2 ball around an image, with the
feature in place of the loss. Theirs also passes gradients through the last ReLU where it is zero;
here, a feature that is 0 at every position of an image has no gradient, and the image stays as it
is.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rtl_jax.attacks import PGD, attack
from rtl_jax.errors import UserError
from rtl_jax.lab.config import Visualize
from rtl_jax.models.network import Network
from rtl_jax.models.registry import Architecture


class Raised(NamedTuple):
    """Images that raise features, U of them for each of N originals.

    units: int [U, N], the features' numbers.
    images: float32 [U, N, H, W, 3] in [0, 1], within the ball.
    before, after: float32 [U, N], the features at the originals and at the images.
    """

    units: np.ndarray
    images: np.ndarray
    before: np.ndarray
    after: np.ndarray

    def titles(self, rank: int) -> list[str]:
        """Return each image's feature number in a row, and its values before and after."""
        ends = zip(self.units[rank], self.before[rank], self.after[rank], strict=True)
        return [f"{unit}: {low:.2f} to {high:.2f}" for unit, low, high in ends]


def raise_features(
    network: Network, originals: jax.Array, settings: Visualize, name: str = "the network"
) -> Raised:
    """Search for images near `originals`, float32 [N, H, W, 3] in [0, 1], with larger features.

    Raises UserError as `require_units` does.
    """
    require_units(network.architecture, settings, name)
    features_fn = network.features_fn()
    seen = np.asarray(jax.jit(lambda look, images: look(images))(features_fn, originals))
    units = choose_units(network, seen, settings)
    search = PGD(
        "l2",
        steps=settings.steps,
        relative_step=settings.relative_step,
        targeted=True,
        loss="logit",
        keep="last",
    )
    found = [
        attack(features_fn, originals, jnp.asarray(row), settings.eps, search) for row in units
    ]
    return Raised(
        units,
        np.stack([one.images for one in found]),
        np.stack([seen[np.arange(len(row)), row] for row in units]),
        np.stack([-one.losses for one in found]),
    )


def require_units(architecture: Architecture, settings: Visualize, name: str) -> None:
    """Raise UserError for a feature or a class that the network, called `name`, lacks."""
    width, classes = architecture.num_features, architecture.num_classes
    if max(settings.units, default=0) >= width:
        raise UserError(
            f"visualize.units: expected features from 0 to {width - 1}, since {name} has "
            f"{width}; received {max(settings.units)}"
        )
    if settings.num_units > width:
        raise UserError(
            f"visualize.num_units: expected at most the {width} features of {name}, received "
            f"{settings.num_units}"
        )
    if settings.label is not None and settings.label >= classes:
        raise UserError(
            f"visualize.label: expected a class from 0 to {classes - 1} of {name}, received "
            f"{settings.label}"
        )


def choose_units(network: Network, seen: np.ndarray, settings: Visualize) -> np.ndarray:
    """Return the features to raise at each image, int [U, N], as the settings choose them.

    `seen` are the features at the images, [N, D].
    """
    number = settings.num_units
    if settings.units:
        chosen = np.tile(settings.units, (len(seen), 1))
    elif settings.label is None:
        chosen = np.argsort(-seen, axis=1, kind="stable")[:, :number]
    else:
        weights = network.head.kernel[:, settings.label]
        chosen = np.tile(np.argsort(-weights, kind="stable")[:number], (len(seen), 1))
    return chosen.T.astype(np.int32)
