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
    """How robustness is measured: PGD, Gaussian noise (paper, sections 3 and 7), AutoAttack,
    certificates by randomised smoothing, or common corruptions."""

    # A work directory whose fine-tuned networks are attacked, each on its own target and in rows
    # with the settings of its fine-tuning; none: the one network of `source`, on `target`.
    runs: str | None = None
    # Projected gradient descent, the same in a band of frequencies, Gaussian noise, the ensemble
    # AutoAttack, certificates by randomised smoothing, or common corruptions.
    method: Literal["pgd", "fourier", "gaussian", "autoattack", "smoothing", "corruptions"] = "pgd"
    norm: Literal["linf", "l2", "l1"] = "linf"  # of the ball; l1 is for AutoAttack
    # Radii, for pixels in [0, 1]; 0 is accuracy without an attack.
    eps: tuple[float, ...] = (0.0, 1 / 255, 2 / 255, 4 / 255, 8 / 255)
    steps: int = 20  # of PGD
    relative_step: float = 2.5  # c: a step is c * eps / steps
    random_start: bool = False  # of PGD, in the ball, where it would start from the image
    restarts: int = 1  # from random starts; an image must withstand all of them
    loss: Literal["cross_entropy", "margin", "dlr"] = "cross_entropy"  # that PGD raises
    # Which iterate counts: each image's best, or the last, as in most published figures.
    keep: Literal["best", "last"] = "best"
    # Of 'fourier': the band's lower end, itself inside, as a share of the highest frequency.
    low_frequency: float = 0.0
    high_frequency: float = 0.25  # of 'fourier': the band's upper end, itself inside
    # Of 'fourier': how much each frequency f of the band may have: all alike, '1/f' as in natural
    # images, or 'f'.
    budget: Budget = "flat"
    # In place of the budget: two or more weights, from frequency 0 to the highest.
    budget_weights: tuple[float, ...] = ()
    # Of Gaussian noise, before it is brought into the ball; of smoothing, as it is.
    sigma: float = 1.0
    batch_size: int = 64  # images attacked at once
    precision: Precision = "float32"  # tf32 and bfloat16 are for accelerators
    num_shown: int = 8  # images in the figure; 0 draws none
    # AutoAttack's version; AutoAttack reads none of the settings from `steps` to `sigma`.
    version: Literal["standard", "plus"] = "standard"
    # The attacks of AutoAttack to run, in place of its version's: apgd-ce, apgd-dlr, apgd-t, fab,
    # fab-t, square.
    attacks: tuple[str, ...] = ()
    save_images: bool = False  # keep the adversarial images that AutoAttack finds
    selection_samples: int = 100  # of smoothing: noisy copies that choose an image's class
    samples: int = 10_000  # of smoothing: noisy copies that bound the probability of that class
    alpha: float = 0.001  # of smoothing: how probable a wrong certificate of an image may be
    corruptions: tuple[str, ...] = ()  # of 'corruptions': such as fog and snow; none: all but frost
    severities: tuple[int, ...] = SEVERITIES  # of 'corruptions'

    def __post_init__(self) -> None:
        require_choices(self, "attack", "method", "norm", "loss", "keep", "precision", "version")
        require(self.runs != "", "attack.runs", "a work directory, or none", self.runs)
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
