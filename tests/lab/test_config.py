"""The defaults compared with the paper, and how configs become settings."""

import copy
import dataclasses
from typing import Any

import pytest
from ml_collections import ConfigDict

from rtl_jax.data.augmentation import PRESETS, Augmentation, augmentation
from rtl_jax.errors import UserError
from rtl_jax.lab.config import (
    Experiment,
    Source,
    Sweep,
    Target,
    defaults,
    freeze,
    preset,
)
from rtl_jax.train.recipe import Recipe
from tests.lab.settings_values import KEYS, VALUES, frozen, leaves, nested
from tests.processes import run_python

pytestmark = pytest.mark.slow


# ---- The paper's numbers -------------------------------------------------------------------------


def test_defaults_are_the_papers() -> None:
    transfer = Recipe()
    assert (transfer.learning_rate, transfer.momentum, transfer.weight_decay) == (0.1, 0.9, 5e-4)
    assert (transfer.batch_size, transfer.blocks, transfer.learning_rate_drop) == (128, 3, 0.1)
    assert transfer.frozen_batch_norm == "batch"
    assert (transfer.head, transfer.precision) == ("normal", "float32")
    assert Target().image_size == 224
    assert Experiment().seed == 20_000_000
    assert Experiment().augmentation == Augmentation(4, True, 0.25, 0.25, 0.25, 2.0)


@pytest.mark.parametrize(("rule", "total"), [("text", 14_400), ("table4", 12_576)])
def test_the_papers_grid_has_the_papers_number_of_runs(rule: str, total: int) -> None:
    """Sources, targets and blocks, times the seeds of each size (paper, section 3.2, Table 4)."""
    sizes = [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, None]
    seeds = [Sweep(seeds_by=rule).seeds_for(size) for size in sizes]
    assert 4 * 6 * 4 * sum(seeds) == total
    assert Sweep(seeds=3, seeds_by=rule).seeds_for(None) == 3


@pytest.mark.parametrize(
    ("num_images", "epochs"), [(1, 100), (100, 100), (1600, 100), (1601, 150), (12800, 150)]
)
def test_epochs_by_the_number_of_images(num_images: int, epochs: int) -> None:
    assert Recipe().epochs_for(num_images) == epochs
    assert Recipe(epochs=7).epochs_for(num_images) == 7


def test_evaluation_epochs_are_the_papers() -> None:
    assert Recipe().eval_epochs(100) == [1, 21, 41, 61, 81, 100]
    every_ten = [1, 11, 21, 31, 41, 51, 61, 71, 81, 91, 101, 111, 121, 131, 141, 150]
    assert Recipe().eval_epochs(150) == every_ten


def test_evaluation_epochs_of_other_lengths() -> None:
    assert Recipe().eval_epochs(1) == [1]
    assert Recipe().eval_epochs(21) == [1, 21]
    assert Recipe(eval_every=3).eval_epochs(8) == [1, 4, 7, 8]
    assert Recipe(eval_every=1).eval_epochs(3) == [1, 2, 3]


def test_augmentation_presets() -> None:
    assert augmentation("none").is_identity
    assert not augmentation("paper").is_identity
    assert freeze({"augmentation": preset("none").to_dict()}).augmentation == Augmentation()
    with pytest.raises(UserError, match=r"augmentation: .*none.*paper.*'strong'"):
        augmentation("strong")


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Augmentation)])
def test_any_augmentation_is_no_identity(name: str) -> None:
    value = getattr(dataclasses.replace(PRESETS["paper"], resized_crop=0.25), name)
    assert not Augmentation(**{name: value}).is_identity


# ---- From a config to settings ------------------------------------------------------------------


WHOLE = {
    key: int(value)
    for key, (_, hint) in KEYS.items()
    if hint is float
    for value in VALUES[key][0]
    if value == int(value)
}


@pytest.mark.parametrize("key", WHOLE)
def test_whole_numbers_become_floats(key: str) -> None:
    assert type(frozen(key, WHOLE[key])) is float


def test_lists_and_single_numbers_become_tuples() -> None:
    assert frozen("target.classes", [3, 1]) == (3, 1)
    assert frozen("source.stage_sizes", 2) == (2,)


def test_a_group_is_no_value() -> None:
    with pytest.raises(UserError, match=r"^transfer: expected a group of settings .*blocks"):
        freeze({"transfer": 3})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"tranfser": {}}, r"unknown setting tranfser"),
        ({"transfer": {"epoch": 3}}, r"transfer\.epoch \(did you mean transfer\.epochs\?\)"),
        ({"epochs": 3}, r"epochs \(did you mean transfer\.epochs\?\)"),
        ({"target": {"zzzz": 3}}, r"target\.zzzz"),
        ({3: 4}, r"unknown setting 3"),
    ],
)
def test_unknown_settings(config: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        freeze(config)


@pytest.mark.parametrize("config", [None, 3, "svhn", [("seed", 1)]])
def test_what_is_no_config(config: Any) -> None:
    with pytest.raises(UserError, match=r"get_config\(\) must return"):
        freeze(config)


def test_direct_construction_is_checked_too() -> None:
    with pytest.raises(UserError, match="transfer.batch_size"):
        Recipe(batch_size=0)
    with pytest.raises(UserError, match="transfer.weight_decay"):
        Recipe(weight_decay=float("inf"))
    with pytest.raises(UserError, match="augmentation.flip"):
        Augmentation(flip=1)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="augmentation.crop_padding"):
        Augmentation(crop_padding=1.5)  # type: ignore[arg-type]


# ---- Editable and frozen -------------------------------------------------------------------------


def test_defaults_freeze_to_the_defaults() -> None:
    assert freeze(defaults()) == Experiment()
    assert freeze(Experiment(seed=3)) == Experiment(seed=3)
    assert freeze({}) == Experiment()


def test_defaults_refuse_typos_and_other_types() -> None:
    config = defaults()
    with pytest.raises(AttributeError, match="epoch"):
        config.transfer.epoch = 3
    with pytest.raises(TypeError):
        config.transfer.batch_size = "many"
    with pytest.raises(TypeError):
        config.transfer.epochs = "many"


def test_every_setting_can_be_edited_to_a_good_value() -> None:
    for key, (good, _) in VALUES.items():
        for value in good:
            config = defaults()
            config.update_from_flattened_dict({key: value})
            assert freeze(config) == freeze(nested(key, value)), key


def test_defaults_do_not_share_state() -> None:
    first = defaults()
    first.transfer.blocks = 9
    first.augmentation.flip = False
    assert freeze(defaults()) == Experiment()


def test_a_partial_config_keeps_the_other_defaults() -> None:
    settings = freeze(ConfigDict({"transfer": {"blocks": 1}}))
    assert settings == Experiment(transfer=Recipe(blocks=1))
    # The default augmentation is the paper's, and not that of Augmentation().
    settings = freeze({"augmentation": {"flip": False}})
    paper = dataclasses.replace(PRESETS["paper"], flip=False)
    assert settings == Experiment(augmentation=paper)


def test_frozen_means_frozen() -> None:
    settings = freeze({"target": {"classes": [0, 1]}, "source": {"stage_sizes": [1, 2]}})
    for group in (settings, settings.transfer, settings.target, settings.source):
        for field in dataclasses.fields(group):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(group, field.name, getattr(group, field.name))
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.augmentation.flip = False  # type: ignore[misc]
    for _, value, _ in leaves(settings):
        hash(value)
    assert hash(settings) == hash(copy.deepcopy(settings))


def test_restarts_need_random_starts() -> None:
    settings = freeze({"attack": {"restarts": 3, "random_start": True}}).attack
    assert (settings.restarts, settings.random_start) == (3, True)


def test_smoothing_certifies_in_l2() -> None:
    smoothing = {"norm": "l2", "method": "smoothing"}
    assert freeze({"task": "attack", "attack": smoothing}).attack.method == "smoothing"
    with pytest.raises(UserError, match=r"attack\.norm: expected 'l2' with .*'smoothing'"):
        freeze({"task": "attack", "attack": {"method": "smoothing"}})
    with pytest.raises(UserError, match=r"attack\.method: .*unless the task is 'attack'"):
        freeze({"task": "pretrain", "attack": smoothing})


def test_a_band_of_frequencies_is_in_l2() -> None:
    assert freeze({"attack": {"norm": "l2", "method": "fourier"}}).attack.method == "fourier"
    with pytest.raises(UserError, match=r"attack\.norm: expected 'l2' with .*'fourier'"):
        freeze({"attack": {"method": "fourier"}})
    with pytest.raises(UserError, match=r"transfer\.norm: expected 'l2' with .*'fourier'"):
        freeze({"transfer": {"perturbation": "fourier", "norm": "linf"}})


def test_l1_is_for_autoattack() -> None:
    assert freeze({"attack": {"norm": "l1", "method": "autoattack"}}).attack.norm == "l1"


@pytest.mark.parametrize("module", ["rtl_jax.lab.config", "rtl_jax.lab.results"])
def test_importing_needs_neither_jax_nor_ml_collections(module: str) -> None:
    loaded = run_python(f"import sys, {module}; print(*sys.modules)").split()
    assert module in loaded
    assert not {"jax", "jaxlib", "flax", "orbax", "ml_collections", "absl"} & set(loaded)


def test_settings_of_a_source_are_its_own() -> None:
    assert Source() == Experiment().source
    assert Source().checkpoint == "random"


def test_radii_of_grey_levels_are_refused() -> None:
    """In linf, pixels of [0, 1] have no radius above 1; in l2 they do."""
    with pytest.raises(UserError, match=r"attack.eps: expected at most 1 in linf.*\(8/255 for"):
        freeze({"attack": {"norm": "linf", "eps": (4, 8)}})
    assert freeze({"attack": {"norm": "l2", "eps": (8,)}}).attack.eps == (8.0,)
    for group in ("transfer", "pretraining"):
        trained = {"norm": "linf", "perturbation": "pgd"}  # eps keeps its default of 3, for l2
        with pytest.raises(UserError, match=rf"{group}.eps: expected at most 1 in linf"):
            freeze({group: trained})
        freeze({group: {**trained, "eps": 8 / 255}})
