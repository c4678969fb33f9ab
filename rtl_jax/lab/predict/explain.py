"""The training images that support a prediction most, by their influence through the head."""

import dataclasses
from typing import Any

import numpy as np
from etils import epath

from rtl_jax.errors import UserError
from rtl_jax.influence_functions.head import Examples
from rtl_jax.influence_functions.method import solver_for
from rtl_jax.influence_functions.scores import influence_kernel, top_k
from rtl_jax.influence_functions.solve import Solver
from rtl_jax.lab.config import Experiment
from rtl_jax.lab.influence.finetuned import explained, method, recorded
from rtl_jax.lab.influence.wrong_labels import image_files
from rtl_jax.lab.predict.predictor import Predictor


@dataclasses.dataclass(frozen=True, eq=False)
class Explainer:
    """The training images of a network as its head sees them, and a solver for its Hessian."""

    predictor: Predictor
    train: Examples
    solver: Solver
    files: list[str]  # of the training images, or their rows if they are not files
    labels: list[str]
    number: int
    method: dict[str, Any]  # the solver's settings that change scores

    @classmethod
    def load(
        cls,
        experiment: Experiment,
        predictor: Predictor,
        workdir: epath.Path,
    ) -> "Explainer":
        """Load the training images of the network that `source.checkpoint` names.

        Raises UserError if it was not fine-tuned here or its images no longer exist.
        """
        run = dataclasses.replace(
            experiment.influence, run=experiment.source.checkpoint, compare=None
        )
        try:
            (one,) = explained(dataclasses.replace(experiment, influence=run), workdir)
        except UserError as error:
            raise UserError(
                "predict.explain: the network's training images are needed and cannot be loaded; "
                f"0 explains nothing: {error}"
            ) from error
        train = one.examples(one.job.training_images, "training images")
        files = image_files(one.job) or [f"row {row}" for row in one.job.train_indices]
        labels = [predictor.class_names[label] for label in one.job.training_images.labels]
        number = min(experiment.predict.explain, len(labels))
        chosen = method(experiment.influence, one.network)
        solver = solver_for(one.head, train, **chosen)
        return cls(predictor, train, solver, files, labels, number, recorded(chosen))

    def rows(self, features: np.ndarray, predicted: np.ndarray) -> list[dict[str, Any]]:
        """Return the columns of images, given features [N, d] and predicted classes, int [N]."""
        examples = self.predictor.head.examples(features, predicted)
        scores_TN = influence_kernel(self.solver)(self.train, examples).T
        best_TK = top_k(scores_TN, self.number)
        return [
            {
                key: value
                for rank, image in enumerate(best, start=1)
                for key, value in (
                    (f"training_image_{rank}", self.files[image]),
                    (f"training_label_{rank}", self.labels[image]),
                    (f"influence_{rank}", float(scores[image])),
                )
            }
            for scores, best in zip(scores_TN, best_TK, strict=True)
        ]
