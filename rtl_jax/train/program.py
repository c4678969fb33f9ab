"""The plan of a training: turns settings into a static `Step` and its hyperparameters."""

import dataclasses
from typing import Any

import numpy as np

from rtl_jax.attacks.base import Attack
from rtl_jax.data.augmentation import Augmentation
from rtl_jax.data.randaugment import RandAugment
from rtl_jax.errors import require
from rtl_jax.train.optimizers import Optimizer, rates, schedule_of
from rtl_jax.train.perturb import perturbation_of
from rtl_jax.train.settings import TrainingSettings
from rtl_jax.train.split import SplitNetwork
from rtl_jax.train.step import Average, Hyper, Step


@dataclasses.dataclass(frozen=True)
class Program:
    """The hashable description of a training, without data."""

    network: SplitNetwork
    settings: Any  # TrainingSettings, such as a Recipe
    augmentation: Augmentation
    epochs: int
    perturb: Attack | None = None  # any attack, instead of the one that the settings name

    def check(self) -> None:
        """Raise UserError early if the settings name something that optax does not have, or the
        schedule ends before the training.
        """
        self.step()
        settings: TrainingSettings = self.settings
        spanned = settings.schedule_epochs
        good = spanned is None or spanned >= self.epochs
        expected = f"{self.epochs} or more, the epochs that train, or none"
        require(good, f"{settings.GROUP}.schedule_epochs", expected, spanned)
        if self.epochs:
            for name, most in (
                ("average_from", self.epochs),
                ("warm_up_epochs", spanned or self.epochs),
            ):
                value = getattr(settings, name) or 0
                expected = f"at most {most}, the number of epochs"
                require(value <= most, f"{settings.GROUP}.{name}", expected, value)
        schedule_of(settings, max(self.epochs, 1), 1)

    @property
    def trains_on_features(self) -> bool:
        """Whether features of training images stay valid: the images do not change between epochs,
        or their augmented views are stored.
        """
        drawn_anew = not self.augmentation.is_identity and not getattr(self.settings, "views", None)
        return self.step().trains_on_features and not drawn_anew

    def step(self, steps_per_epoch: int = 1) -> Step:
        """Return the static part of a step; only SWA depends on `steps_per_epoch`.

        Raises UserError if the settings name something that optax does not have.
        """
        settings: TrainingSettings = self.settings
        average = None
        if settings.average_decay is not None:
            average = Average(settings.average_decay)
        elif settings.average_from is not None:
            average = Average(start=(settings.average_from - 1) * steps_per_epoch)
        randaugment = RandAugment(settings.randaugment, settings.randaugment_magnitude)
        return Step(
            self.network,
            self.augmentation,
            Optimizer.of(settings),
            self.perturb or perturbation_of(settings),
            trades=settings.beta is not None,
            label_smoothing=settings.label_smoothing,
            mixup=settings.mixup,
            randaugment=randaugment if randaugment.operations else None,
            average=average,
        )

    def hyper(self, steps_per_epoch: int) -> Hyper:
        """Return the hyperparameters: learning rates [epochs * steps_per_epoch], the others []."""
        settings: TrainingSettings = self.settings
        others = (settings.weight_decay, settings.eps, settings.beta or 0.0)
        every = rates(settings, settings.schedule_epochs or self.epochs, steps_per_epoch)
        return Hyper(
            every[: self.epochs * steps_per_epoch],
            *(np.asarray(number) for number in others),
        )

    def replace(self, **changes: object) -> "Program":
        """Return the same program with some fields changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]
