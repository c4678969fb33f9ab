"""Data for the final network's prediction sets and outlier p-values, and how well these do."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from rtl_jax.conformal import Conformal, Guarantees, Neighbours, Score, energy
from rtl_jax.conformal.draws import uniforms_of
from rtl_jax.conformal.outliers import NEIGHBOURS, references
from rtl_jax.lab.finetune.job import Job
from rtl_jax.lab.my_images.accuracy import Accuracy
from rtl_jax.lab.my_images.choice import honest_choices
from rtl_jax.lab.my_images.held_out import HeldOut
from rtl_jax.lab.predict.calibration import fit_temperature
from rtl_jax.models.network import Network

COVERAGES = (0.8, 0.9, 0.95)  # on the page
FLAGGED = 0.05  # the p-value at which outliers are flagged


@dataclasses.dataclass(frozen=True)
class Coverage:
    """How many prediction sets contained the true class, and their mean size.

    `asked` is in [0, 1]; `least` is the smallest coverage of any class, in percent.
    """

    asked: float
    by_class: bool
    held: Accuracy
    size: float
    least: float

    @classmethod
    def of(cls, asked: float, by_class: bool, sets: np.ndarray, labels: np.ndarray) -> "Coverage":
        """Measure the coverage of sets, bool [N, C], given labels, int [N]."""
        hits = sets[np.arange(len(labels)), labels]
        least = min(float(hits[labels == one].mean()) for one in np.unique(labels))
        held = Accuracy.of(hits)
        return cls(asked, by_class, held, float(sets.sum(1).mean()), 100 * least)


@dataclasses.dataclass(frozen=True)
class Measured:
    """Coverage of held-out pictures and, if the folder has test/, the final network's results.

    The latter are coverage and, by score, the share flagged as outliers at a p-value of `FLAGGED`.
    """

    held_out: list[Coverage]
    tested: list[Coverage] | None = None
    flagged: dict[str, Accuracy] | None = None


def collect(job: Job, network: Network, chosen: HeldOut, temperature: float) -> Guarantees:
    """Collect the held-out scores at the network's temperature, and features of frozen layers.

    The features are taken at the deepest split point with only frozen layers before it, where the
    folds' networks and the final one agree; there are none if all blocks train.
    """
    images = job.training_images.images
    images = images[references(len(images))]
    score = Score(job.experiment.my_images.set_score)
    uniforms = uniforms_of(job.dataset.train.images)
    split = job.program.network.split
    near = None
    if split >= 0 and len(images) > NEIGHBOURS:
        near = Neighbours.of(network.features_at(images, split)[1])
    return Guarantees(
        Conformal.fit(chosen.probabilities(temperature), chosen.labels, score, uniforms),
        energy(chosen.logits[0]),
        near,
        None if near is None else split,
        folds=len(np.unique(chosen.folds)),
    )


def held_out_coverage(
    candidates: Sequence[HeldOut], margin: float, score: Score, images: np.ndarray
) -> list[Coverage]:
    """Measure the coverage of each fold's images by the other folds' sets, for all `COVERAGES`.

    The choice among candidates, the temperature and the scores come from the other folds. `images`
    are uint8 [N, H, W, C].
    """
    uniforms, labels = uniforms_of(images), candidates[0].labels
    kinds = [(asked, by_class) for asked in COVERAGES for by_class in (False, True)]
    sets = {kind: np.zeros(candidates[0].logits.shape[1:], bool) for kind in kinds}
    for inside, chosen in honest_choices(candidates, margin):
        temperature = fit_temperature(chosen.logits[0][~inside], labels[~inside])
        probabilities = chosen.probabilities(temperature)
        others = Conformal.fit(probabilities[~inside], labels[~inside], score, uniforms[~inside])
        for asked, by_class in kinds:
            sets[asked, by_class][inside] = others.sets(
                probabilities[inside],
                asked,
                by_class=by_class,
                uniforms=uniforms[inside],
                nonempty=True,
            )
    return [Coverage.of(*kind, found, labels) for kind, found in sets.items()]


def measure(job: Job, network: Network, candidates: Sequence[HeldOut], divided: bool) -> Measured:
    """Measure the guarantees on held-out pictures and, if `divided`, on those of test/."""
    settings = job.experiment.my_images
    held_out = held_out_coverage(
        candidates, settings.margin, Score(settings.set_score), job.dataset.train.images
    )
    if not divided:
        return Measured(held_out)
    kept, test = network.guarantees, job.test_images
    assert kept is not None
    uniforms, probabilities = uniforms_of(test.images), network.predict_proba(test.images)
    found = [
        Coverage.of(
            one.asked,
            one.by_class,
            kept.sets(probabilities, one.asked, by_class=one.by_class, uniforms=uniforms),
            test.labels,
        )
        for one in held_out
    ]
    p_values = network.outlier_p_values(test.images)
    return Measured(
        held_out, found, {name: Accuracy.of(each <= FLAGGED) for name, each in p_values.items()}
    )
