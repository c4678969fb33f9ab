"""The task `influence`, dispatched by its question."""

import pandas as pd
from etils import epath

from rtl_jax.lab.config import Experiment
from rtl_jax.lab.influence.explain import explain_predictions
from rtl_jax.lab.influence.wrong_labels import find_wrong_labels

_QUESTIONS = {"predictions": explain_predictions, "wrong_labels": find_wrong_labels}


def run_influence(experiment: Experiment, workdir: epath.PathLike) -> pd.DataFrame:
    """Answer `influence.question` and return the rows; raise UserError for user-fixable errors."""
    return _QUESTIONS[experiment.influence.question](experiment, workdir)
