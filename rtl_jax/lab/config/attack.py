"""Settings of an attack."""

import dataclasses
import typing
from typing import Literal

from rtl_jax.data.corruptions.severities import CORRUPTIONS, SEVERITIES
from rtl_jax.errors import require
from rtl_jax.runtime import limits
from rtl_jax.runtime.frequencies import Budget, require_frequencies
from rtl_jax.runtime.hints import require_choices
from rtl_jax.runtime.precision import Precision

AttackName = Literal["apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t", "square"]


@dataclasses.dataclass(frozen=True)
class Attack:
    """How to measure robustness: with PGD or Gaussian noise (paper, sections 3 and 7), AutoAttack,
    certificates by randomised smoothing, or common corruptions."""

    # Work directory whose fine-tuned networks are attacked, each on the test images of its own
    # target; their rows carry the settings of the fine-tuning. none: attack the network of `source`
    # on `target`.
    runs: str | None = None
    # With `runs`: seeds of the networks to attack, 20000000 being a sweep's first; empty: all
    seeds: tuple[int, ...] = ()
    # PGD, PGD limited in frequency ('fourier'), Gaussian noise, AutoAttack, certificates by
    # randomised smoothing, or common corruptions
    method: Literal["pgd", "fourier", "gaussian", "autoattack", "smoothing", "corruptions"] = "pgd"
    norm: Literal["linf", "l2", "l1"] = "linf"  # Norm of the ball; 'l1' only for AutoAttack
    # Radii, for pixels in [0, 1]; 0 gives the accuracy without an attack
    eps: tuple[float, ...] = (0.0, 1 / 255, 2 / 255, 4 / 255, 8 / 255)
    steps: int = 20  # Number of PGD steps
    relative_step: float = 2.5  # Step size c: a step of PGD has length c * eps / steps
    random_start: bool = False  # Start PGD from a random point of the ball instead of the image
    # Number of restarts, all of which an image must withstand; more than 1 needs `random_start`
    restarts: int = 1
    loss: Literal["cross_entropy", "margin", "dlr"] = "cross_entropy"  # Loss that PGD maximises
    # Which iterate of PGD counts: the best one of each image, or the last, as in most published
    # results
    keep: Literal["best", "last"] = "best"
    # Lower end of the frequency band of 'fourier', inclusive, as a fraction of the highest
    # frequency
    low_frequency: float = 0.0
    high_frequency: float = 0.25  # Upper end of the frequency band of 'fourier', inclusive
    # Budget of 'fourier' by frequency f: the same for all, '1/f' as in natural images, or 'f'
    budget: Budget = "flat"
    # Weights to use instead of the budget: two or more, equally spaced from frequency 0 to the
    # highest
    budget_weights: tuple[float, ...] = ()
    # Standard deviation of Gaussian noise, before projection onto the ball; for smoothing, without
    # a projection
    sigma: float = 1.0
    batch_size: int = 64  # Images attacked at once
    # Precision of matrix products; tf32 and bfloat16 are for accelerators
    precision: Precision = "float32"
    num_shown: int = 8  # Images in the figure; 0: no figure
    # Version of AutoAttack. AutoAttack ignores the settings from `steps` to `sigma`.
    version: Literal["standard", "plus"] = "standard"
    # Attacks to run instead of those of the version: apgd-ce, apgd-dlr, apgd-t, fab, fab-t, square
    attacks: tuple[str, ...] = ()
    save_images: bool = False  # Keep the adversarial images that AutoAttack finds
    selection_samples: int = 100  # Smoothing: noisy copies used to select the class of an image
    samples: int = 10_000  # Smoothing: noisy copies used to bound the probability of that class
    # Smoothing: probability that the certificate of an image is wrong, at most
    alpha: float = 0.001
    # Corruptions to apply, such as fog,snow; empty: all except frost
    corruptions: tuple[str, ...] = ()
    severities: tuple[int, ...] = SEVERITIES  # Severities of the corruptions

    def __post_init__(self) -> None:
        require_choices(self, "attack", "method", "norm", "loss", "keep", "precision", "version")
        require(self.runs != "", "attack.runs", "a work directory, or none", self.runs)
        unique = len(set(self.seeds)) == len(self.seeds)
        known = unique and all(0 <= seed < 2**32 for seed in self.seeds)
        require(known, "attack.seeds", "different numbers from 0 to 2**32 - 1", self.seeds)
        expected = "none without attack.runs"
        require(not self.seeds or self.runs is not None, "attack.seeds", expected, self.seeds)
        names = typing.get_args(AttackName)
        known = len(set(self.attacks)) == len(self.attacks) and set(self.attacks) <= set(names)
        require(known, "attack.attacks", f"different ones of {', '.join(names)}", self.attacks)
        known = self.norm != "l1" or self.method == "autoattack"
        require(known, "attack.norm", "'l1' with attack.method 'autoattack' alone", self.norm)
        known = self.norm == "l2" or self.method not in ("smoothing", "fourier")
        require(known, "attack.norm", f"'l2' with attack.method {self.method!r}", self.norm)
        require_frequencies(self, "attack.")
        radii = len(self.eps) > 0 and all(0 <= eps < float("inf") for eps in self.eps)
        require(radii, "attack.eps", "one radius or more, each 0 or more", self.eps)
        limits.require_pixel_units(self.norm, max(self.eps), "attack.eps")
        unique = len(set(self.eps)) == len(self.eps)
        require(unique, "attack.eps", "different radii", self.eps)
        names = self.corruptions
        known = len(set(names)) == len(names) and set(names) <= set(CORRUPTIONS)
        expected = f"different ones of {', '.join(CORRUPTIONS)}"
        require(known, "attack.corruptions", expected, names)
        given = self.severities
        known = 0 < len(given) == len(set(given)) and set(given) <= set(SEVERITIES)
        require(known, "attack.severities", "different ones of 1, 2, 3, 4, 5", given)
        require(0 < self.alpha < 1, "attack.alpha", "a number between 0 and 1", self.alpha)
        for field in ("steps", "restarts", "batch_size", "samples", "selection_samples"):
            value = getattr(self, field)
            require(value > 0, f"attack.{field}", "a positive number", value)
        for field in ("relative_step", "sigma"):
            value = getattr(self, field)
            require(0 < value < float("inf"), f"attack.{field}", "a positive number", value)
        require(self.num_shown >= 0, "attack.num_shown", "0 or more", self.num_shown)
        limits.require_within(
            self,
            "attack",
            eps=limits.RADIUS,
            steps=limits.STEPS,
            relative_step=limits.STEPS,
            restarts=limits.RESTARTS,
            sigma=limits.RADIUS,
            batch_size=limits.BATCH_SIZE,
            num_shown=limits.SHOWN,
            samples=limits.SAMPLES,
            selection_samples=limits.SAMPLES,
        )
        searched = self.restarts == 1 or self.random_start
        require(searched, "attack.restarts", "1 without attack.random_start", self.restarts)
