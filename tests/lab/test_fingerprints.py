"""A run's name changes with every setting that changes its numbers, and with no other."""

import dataclasses

import pytest

from rtl_jax.errors import UserError
from rtl_jax.lab.config import (
    GROUPS,
    WITHOUT_EFFECT,
    Experiment,
    defaults,
    freeze,
)
from rtl_jax.train.recipe import Recipe
from tests.lab.settings_values import KEYS, VALUES, nested
from tests.processes import run_python

pytestmark = pytest.mark.slow


# Tasks whose runs have names, a sweep's being those of its fine-tunings.
NAMED = [task for task, groups in GROUPS.items() if groups and task != "sweep"]

# Tasks that test no images.
REFUSED_WITH = {"target.corruption": ("pretrain", "visualize", "choose")}


def test_settings_without_effect_are_settings() -> None:
    assert set(WITHOUT_EFFECT) <= set(KEYS)
    # The three of these that a fine-tuning's own words say change nothing.
    assert {"transfer.feature_store", "transfer.eval_batch_size", "transfer.baseline"} <= set(
        WITHOUT_EFFECT
    )


@pytest.mark.parametrize("task", NAMED)
def test_fingerprint_changes_with_every_setting_that_matters(task: str) -> None:
    base = freeze({"task": task}).fingerprint()
    seen = {base}
    for key, (good, _) in VALUES.items():
        value, _ = KEYS[key]
        read = key == "seed" or key.partition(".")[0] in GROUPS[task]
        for other in good:
            if key == "task" or other == value:
                continue
            if task in REFUSED_WITH.get(key, ()):
                with pytest.raises(UserError, match=key):
                    freeze({"task": task, **nested(key, other)})
                continue
            fingerprint = freeze({"task": task, **nested(key, other)}).fingerprint()
            if key in WITHOUT_EFFECT or not read:
                assert fingerprint == base, key
            else:
                assert fingerprint not in seen, key
                seen.add(fingerprint)
    assert len(seen) > 12


def test_fingerprints_of_tasks_differ() -> None:
    assert len({freeze({"task": task}).fingerprint() for task in NAMED}) == len(NAMED)


def test_a_fine_tuning_has_one_name_by_itself_and_in_a_sweep() -> None:
    one, other = freeze({"task": "finetune"}), freeze({"task": "sweep"})
    assert one.fingerprint(network="a") == other.fingerprint(network="a")
    # The name that published rows have.
    assert freeze({"task": "sweep"}).fingerprint() == "6c47356d337f8c00"


def test_a_setting_added_later_that_does_nothing_leaves_runs_their_names() -> None:
    fields = [("limit", int | None, None), ("fast", bool, False), ("names", tuple, ())]
    later = dataclasses.make_dataclass("Later", fields, bases=(Recipe,), frozen=True)
    before = Experiment().fingerprint()
    assert Experiment(transfer=later()).fingerprint() == before
    for name, value in (("limit", 0), ("fast", True), ("names", ("a",))):
        assert Experiment(transfer=later(**{name: value})).fingerprint() != before
    # Nothing is not 0: every block against none.
    every, head = (Experiment(transfer=Recipe(blocks=blocks)) for blocks in (None, 0))
    assert every.fingerprint() != head.fingerprint()


def test_fingerprint_is_stable_and_takes_more() -> None:
    assert Experiment().fingerprint() == freeze(defaults()).fingerprint()
    assert len(Experiment().fingerprint()) == 16
    int(Experiment().fingerprint(), 16)
    extra = {Experiment().fingerprint(**extra) for extra in ({}, {"a": 1}, {"a": 2}, {"b": 1})}
    assert len(extra) == 4
    # A finished run is found again by this: change it only with the settings themselves.
    script = "from rtl_jax.lab.config import Experiment; print(Experiment().fingerprint())"
    assert run_python(script).strip() == Experiment().fingerprint()


# ---- What importing costs ------------------------------------------------------------------------
