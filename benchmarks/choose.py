"""Accuracy of `choose` at predicting the best source, on the study's published rows.

    RTL_JAX_DATA_DIR=DATA python -m benchmarks.choose [--sizes 100,400] [--draws 3] [--output CSV]

For every target and number of images in docs/study, each score ranks the six bundled sources
with 0, 1 and 3 blocks on the subsets on which the study trained. A score's regret is the mean
accuracy (percent, over the study's seeds) of the best source and number of blocks minus that of the
score's first choice; `source regret` is the same among sources at three blocks. Kendall's tau is
between the score and the fine-tuned accuracies. For scores that do not depend on the number of
blocks, the largest number is used. Baselines: always the natural source, always l2, and a random
one.
"""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from rtl_jax.data.sources import load_dataset
from rtl_jax.data.subset import draw_subset, seed_for
from rtl_jax.errors import UserError
from rtl_jax.lab.results import last_epochs, read_rows
from rtl_jax.models.sources import load_source
from rtl_jax.transferability import Candidate, choose

STUDY = Path(__file__).parents[1] / "docs" / "study"
BLOCKS = (0, 1, 3)
# Scores that depend on the number of blocks.
BY_SPLIT = ("ridge", "split_ridge", "accuracy")

Key = tuple[str, int]  # a source and a number of blocks


def main() -> None:
    """Rank all cases, compare, and print a table by score and one by target."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="100,400")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    found = pd.DataFrame(list(compare(sizes, options.draws)))
    if options.output:
        found.to_csv(options.output, index=False)
    numbers = ["regret", "source_regret", "tau"]
    print(found.groupby("score")[numbers].mean().sort_values("regret").round(2).to_string())
    print(found.pivot_table(index="score", columns="target", values="regret").round(2).to_string())
    print(f"{found.groupby(['target', 'images', 'draw']).ngroups} rankings")


def compare(sizes: list[int], draws: int) -> Iterator[dict]:
    """Yield, for each ranking and score, its regrets and Kendall's tau."""
    accuracies = fine_tuned()
    sources = {name: load_source(name) for name in accuracies.index.unique("source")}
    for target in accuracies.index.unique("dataset"):
        try:
            dataset = load_dataset(target, data_dir=None, image_size=32)
        except UserError as error:
            print(f"left out: {error}")
            continue
        for size in sizes:
            truth = {
                (source, blocks): accuracies.get((target, size, source, blocks))
                for source in sources
                for blocks in BLOCKS
            }
            if None in truth.values():
                continue
            for draw in range(draws):
                rows = draw_subset(dataset.train.labels, size, seed_for(draw), dataset.num_classes)
                ranked = choose(sources, dataset.train.take(rows), dataset.num_classes, BLOCKS)
                place = {"target": target, "images": size, "draw": draw}
                for score, measured in measures(ranked, truth):
                    yield {**place, "score": score, **measured}


def fine_tuned() -> pd.Series:
    """Return mean accuracy by dataset, number of images, source and number of blocks."""
    rows = last_epochs(read_rows(STUDY))
    rows = rows[
        (rows.task == "sweep") & rows.variant.isna() & rows.source.str.startswith("bundled")
    ]
    by = ["dataset", "num_images", "source", "blocks"]
    return rows[rows.blocks.isin(BLOCKS)].groupby(by).accuracy.mean()


def measures(
    ranked: list[Candidate], truth: Mapping[Key, float]
) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield the regrets and tau of each score, and the regrets of the baselines."""
    values = {(one.source, one.blocks): scores_of(one) for one in ranked}
    best, most = max(truth.values()), max(BLOCKS)
    deep = {key: value for key, value in truth.items() if key[1] == most}
    for score in next(iter(values.values())):
        # Break ties in favour of the most blocks.
        first = max(values, key=lambda key, score=score: (values[key][score], key[1]))
        source = max(deep, key=lambda key, score=score: values[key][score])
        by = truth if score in BY_SPLIT else deep
        tau = kendalltau([values[key][score] for key in by], list(by.values())).statistic
        measured = {
            "regret": best - truth[first],
            "source_regret": max(deep.values()) - deep[source],
        }
        yield score, {**measured, "tau": tau}
    for name, accuracy in (
        ("always natural", deep["bundled:natural", most]),
        ("always l2", deep["bundled:l2", most]),
        ("a random source", float(np.mean(list(deep.values())))),
    ):
        behind = max(deep.values()) - accuracy
        yield name, {"regret": best - accuracy, "source_regret": behind, "tau": float("nan")}


def scores_of(one: Candidate) -> dict[str, float]:
    """Return every score of a candidate; higher is better."""
    return {"ridge": -one.loss, "accuracy": one.accuracy, **one.scores}


if __name__ == "__main__":
    main()
