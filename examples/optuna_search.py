"""Search learning rate, weight decay and number of blocks for your images with Optuna.

    pip install optuna
    python examples/optuna_search.py

Each trial is a 3-fold cross-validation with two seeds, which train side by side in one compiled
program. Rates and decays are inputs of that program, so it is compiled once for each number of
blocks and images, not for each trial. With several processes or machines, give the study a storage
(`optuna.create_study(storage="sqlite:///study.db", study_name="digits", load_if_exists=True)`) and
start this file in each.
"""

import argparse

import numpy as np
import optuna
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold

import rtl_jax as rtl

SEEDS = (0, 1)


def cross_validated(
    source: rtl.Network, images: np.ndarray, labels: np.ndarray, **recipe: float
) -> float:
    """Return the mean accuracy, in [0, 1], over three folds and the seeds."""
    hits = []
    for train, test in StratifiedKFold(3, shuffle=True, random_state=0).split(images, labels):
        networks = rtl.finetune(source, images[train], labels[train], seeds=SEEDS, **recipe)
        names = np.array(networks[0].class_names)
        hits += [
            names[one.predict_proba(images[test]).argmax(1)] == labels[test].astype(str)
            for one in networks
        ]
    return float(np.concatenate(hits).mean())


def search(
    source: rtl.Network, images: np.ndarray, labels: np.ndarray, *, trials: int, epochs: int = 10
) -> optuna.Study:
    """Search `trials` settings for the highest cross-validated accuracy."""

    def objective(trial: optuna.Trial) -> float:
        blocks = trial.suggest_int("blocks", 0, 1)
        rate = trial.suggest_float("learning_rate", 1e-3, 0.3, log=True)
        decay = trial.suggest_float("weight_decay", 1e-5, 1e-2, log=True)
        try:
            return cross_validated(
                source, images, labels,
                blocks=blocks, learning_rate=rate, weight_decay=decay, epochs=epochs,
            )  # fmt: skip
        except rtl.UserError as error:  # it diverged
            raise optuna.TrialPruned(str(error)) from error

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(objective, n_trials=trials)
    return study


def main() -> None:
    """Search on 90 handwritten digits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=20)
    trials = parser.parse_args().trials
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8)[:90] / 16
    study = search(rtl.load("bundled:l2"), images, labels[:90], trials=trials)
    print(f"{100 * study.best_value:.1f} % held out with {study.best_params}")
    print("of the best of many trials: measure it on images that took no part before you report it")


if __name__ == "__main__":
    main()
