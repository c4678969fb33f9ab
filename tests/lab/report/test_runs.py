"""Fine-tunings of rows: cells, seeds, and what is told apart or left out."""

import json

import numpy as np
import pytest

from rtl_jax.errors import UserError
from rtl_jax.lab import results
from rtl_jax.lab.report.chapters import compose
from rtl_jax.lab.report.runs import Condition, finetunings
from tests.lab.report.rows import L2, cell, finetuning, frame, seed


def test_last_and_best_epochs():
    rows = frame(finetuning({1: 10.0, 21: 80.0, 40: 70.0}), finetuning({1: 20.0, 40: 60.0}, seed=7))
    found = finetunings(rows)
    place = Condition("SVHN", "natural", 3, 100)
    assert found.at(place).to_dict() == {str(seed(0)): 70, "7": 60}
    assert found.at(place, best=True).to_dict() == {str(seed(0)): 80, "7": 60}
    curve = found.by_epoch(place)
    assert curve.loc[1].to_dict() == {str(seed(0)): 10, "7": 20} and np.isnan(curve.loc[21, "7"])


def test_runs_with_other_settings_are_kept_apart():
    """Only the settings that differ are named, after the target on which they differ."""
    rows = frame(
        cell([50, 51], settings={"epochs": 5}),
        cell([60, 61], settings={"epochs": 9}),
        cell([70, 71], dataset="digits", settings={"epochs": 5}),
    )
    found = finetunings(rows)
    assert found.targets == ("SVHN, transfer.epochs=5", "SVHN, transfer.epochs=9", "digits")
    assert found.at(Condition(found.targets[1], "natural", 3, 100)).tolist() == [60, 61]
    assert set(found.paper_targets.values()) == {"SVHN"}


def test_settings_that_go_with_the_size_do_not_divide():
    rows = frame(
        cell([50], size=100, settings={"epochs": 5}), cell([60], size=200, settings={"epochs": 9})
    )
    assert finetunings(rows).targets == ("SVHN",)


def test_variants_of_the_images_are_other_targets():
    rows = frame(cell([50, 51]), cell([40, 41], variant="low_pass=9", run="low"))
    found = finetunings(rows)
    assert found.targets == ("SVHN", "SVHN, low_pass=9")
    assert list(found.paper_targets) == ["SVHN"]


def test_folds_count_like_seeds_however_many_seeds_they_have():
    accuracies = {(0, 0): 50.0, (0, 1): 54.0, (1, 0): 51.0, (1, 1): 56.0}
    rows = frame(
        *(
            finetuning({1: accuracy}, fold=fold, seed=seed(number), run=f"fold {fold}, {number}")
            for (fold, number), accuracy in accuracies.items()
        )
    )
    found = finetunings(rows)
    by_fold = {"fold 0": 52, "fold 1": 53.5}
    assert found.at(Condition("SVHN", "natural", 3, 100)).to_dict() == by_fold
    assert found.number == 4


def test_whole_folds_of_unequal_size_are_one_cell():
    folds = [
        finetuning(
            {1: accuracy}, fold=fold, num_images=images, run=f"fold {fold}",
            config=results.as_json({"target": {"folds": 2, "fold": fold, "num_images": None}}),
        )
        for fold, images, accuracy in ((0, 101, 52.0), (1, 100, 53.5))
    ]  # fmt: skip
    found = finetunings(frame(*folds))
    by_fold = {"fold 0": 52, "fold 1": 53.5}
    assert found.at(Condition("SVHN", "natural", 3, 100)).to_dict() == by_fold


def test_a_repeated_run_counts_once():
    old = finetuning({1: 10.0}, time="2026-01-01T00:00:00+00:00", run="old")
    new = finetuning({1: 30.0}, time="2026-02-01T00:00:00+00:00", run="new")
    found = finetunings(frame(new, old))
    assert found.at(Condition("SVHN", "natural", 3, 100)).tolist() == [30]
    assert "superseded by a later one with the same settings: 1" in " ".join(found.notes)


def test_what_was_not_measured_is_left_out_and_said():
    rows = frame(cell([50, np.nan, 52]))
    found = finetunings(rows)
    assert found.at(Condition("SVHN", "natural", 3, 100)).tolist() == [50, 52]
    assert "omitted for lack of an accuracy: 1" in " ".join(found.notes)


def test_different_numbers_of_epochs_side_by_side_are_said():
    rows = frame(finetuning({5: 50.0}), finetuning({9: 60.0}, source=L2))
    assert "SVHN on 100 images" in " ".join(finetunings(rows).notes)


def test_sources_that_were_fine_tuned_with_other_settings_are_said():
    """Their difference may be that of the settings."""
    rows = frame(
        cell([50, 51], settings={"learning_rate": 0.1}),
        cell([60, 61], source=L2, settings={"learning_rate": 0.3}),
        cell([70, 71], dataset="digits", settings={"learning_rate": 0.1}),
    )
    (note,) = finetunings(rows).notes
    assert note.endswith("with other settings: SVHN (transfer.learning_rate).")
    assert not finetunings(rows[rows["source"] != L2]).notes


def test_without_a_natural_source_the_first_in_time_is_the_reference():
    """Rows are read in the order of their runs' names, which are digests."""
    rows = frame(
        cell([50, 51], source="linf", run="a", time="2026-01-01T00:00:02+00:00"),
        cell([60, 61], source="l2", run="b", time="2026-01-01T00:00:01+00:00"),
    )
    found = finetunings(rows)
    assert found.reference == "l2" and found.sources == ("l2", "linf")


def test_settings_that_are_no_json_are_refused():
    with pytest.raises(UserError, match="not JSON"):
        compose(frame(finetuning({1: 50.0}, config="{")))


def test_settings_that_older_rows_lack_had_their_defaults():
    """A tuple is one of them."""
    config = json.loads(finetuning({1: 50.0})[0]["config"])
    for name in ("optimizer_options", "budget_weights", "clip_norm"):
        del config["transfer"][name]
    older = finetuning({1: 50.0}, run="older", config=json.dumps(config))
    found = finetunings(frame(older, finetuning({1: 52.0}, seed=seed(1))))
    assert found.targets == ("SVHN",)
    assert found.at(Condition("SVHN", "natural", 3, 100)).tolist() == [50, 52]


def test_fine_tunings_on_wrong_labels_are_left_out_and_said():
    noisy = json.dumps({"influence": {"flip_labels": 0.5}})
    rows = frame(cell([50, 52]), finetuning({1: 10.0}, run="noisy", config=noisy))
    found = finetunings(rows)
    assert found.at(Condition("SVHN", "natural", 3, 100)).tolist() == [50, 52]
    assert "omitted for labels that were made wrong: 1" in " ".join(found.notes)
