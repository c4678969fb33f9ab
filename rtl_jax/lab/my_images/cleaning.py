"""Whether heads gain without the pictures whose labels look wrong: simulated on frozen features."""

from functools import partial
from typing import NamedTuple

from rtl_jax.conformal.outliers import references
from rtl_jax.lab.finetune.job import Job
from rtl_jax.lab.my_images.held_out import HeldOut
from rtl_jax.transferability.cleaning import Cleaning, clean

SHARE = 0.05  # of the training pictures, left out
OTHER_SHARES = (0.02, 0.1)
PARTS = (0.25, 0.5)  # of them to train on, for the learning curve


class Cleanings(NamedTuple):
    """Results at `SHARE` by number of training pictures, the last with all; then other shares."""

    by_size: list[Cleaning]
    others: list[Cleaning]


def without_suspects(job: Job, chosen: HeldOut) -> Cleanings:
    """Cross-validate ridge heads with and without suspects, in the folds of the comparison.

    They are fitted to the last features of the chosen source as it is, of at most 1,000 pictures
    drawn at random, which takes seconds.
    """
    rows = references(len(chosen.labels))
    features = job.inputs.source.features(
        job.dataset.train.images[rows], image_size=job.experiment.target.image_size
    )
    labels, folds = chosen.labels[rows], chosen.folds[rows]
    simulate = partial(clean, features, labels, folds, job.dataset.num_classes)
    smaller = [one for part in PARTS for one in simulate(shares=(SHARE,), part=part)]
    whole, *others = simulate(shares=(SHARE, *OTHER_SHARES))
    return Cleanings([*smaller, whole], others)
