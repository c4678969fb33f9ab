"""The defaults compared with the paper, and the check of every setting."""

import copy
import dataclasses
import subprocess
import sys
import typing
from collections.abc import Iterator
from typing import Any

import pytest
from ml_collections import ConfigDict

from rtl_jax.data.augmentation import PRESETS, Augmentation, augmentation
from rtl_jax.errors import UserError
from rtl_jax.lab import settings
from rtl_jax.lab.config import (
    GROUPS,
    WITHOUT_EFFECT,
    Experiment,
    Source,
    Sweep,
    Target,
    defaults,
    freeze,
    preset,
)
from rtl_jax.train.recipe import Recipe

pytestmark = pytest.mark.slow


def leaves(settings: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """List (key, value, type hint) of every setting."""
    hints = typing.get_type_hints(type(settings))
    for field in dataclasses.fields(settings):
        value, key = getattr(settings, field.name), f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value):
            yield from leaves(value, f"{key}.")
        else:
            yield key, value, hints[field.name]


KEYS = {key: (value, hint) for key, value, hint in leaves(Experiment())}


def nested(key: str, value: Any) -> dict[str, Any]:
    """Return {'transfer': {'blocks': value}} for 'transfer.blocks'."""
    for name in reversed(key.split(".")):
        value = {name: value}
    return value


def frozen(key: str, value: Any) -> Any:
    """Freeze a config that sets only this setting; return its value."""
    settings: Any = freeze(nested(key, value))
    for name in key.split("."):
        settings = getattr(settings, name)
    return settings


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


# ---- Every setting is checked --------------------------------------------------------------------

# Of each setting: values that it takes, and values of the right type that it refuses.
VALUES: dict[str, tuple[list[Any], list[Any]]] = {
    "task": (["finetune", "sweep", "attack", "pretrain", "report"], ["tune", ""]),
    "dry_run": ([True, False], []),
    "executor": (["local", "ray", "slurm"], ["pbs", ""]),
    "slurm.cluster": (["slurm", "local"], ["debug", ""]),
    "slurm.partition": ([None, "gpu"], [""]),
    "slurm.account": ([None, "me"], [""]),
    "slurm.minutes": ([1, 1440], [0, -1]),
    "slurm.gpus": ([0, 1], [-1]),
    "slurm.cpus": ([1, 8], [0, -1]),
    "slurm.memory_gib": ([1, 32], [0, -1]),
    "slurm.at_once": ([1, 64], [0, -1]),
    "trackers": ([(), ("wandb", "mlflow")], [("",), ("mlflow", "mlflow")]),
    "source.checkpoint": (["random", "a/b.pt"], [""]),
    "source.arch": (["", "resnet18"], []),
    "source.stem": (["imagenet", "small", "small_stride2"], ["large", ""]),
    "source.stage_sizes": ([None, (1,), (1, 2)], [(), (0,), (1, -1)]),
    "source.stage_widths": ([None, (1,), (8, 16)], [(), (0,), (1, -1)]),
    "target.dataset": (["digits", "folder:x"], [""]),
    "target.data_dir": ([None, "/d"], []),
    "target.image_size": ([8, 224], [7, 0, -1]),
    "target.num_images": ([None, 1], [0, -1]),
    "target.num_test_images": ([None, 1], [0, -1]),
    "target.classes": ([None, (0, 1), (3, 1)], [(), (1,), (1, 1), (0, -1)]),
    "target.test_dataset": ([None, "folder:y"], [""]),
    "target.folds": ([None, 2, 5], [1, 0, -1]),
    "target.fold": ([None], [0, -1]),  # 0 needs target.folds
    "target.low_resolution": ([None, 1, 32], [0, -1, 224]),
    "target.low_pass": ([None, 1, 1024], [0, -1, 224**2]),
    "target.corruption": ([None, "fog:3"], ["fog", "frost:1", "fog:6"]),
    "target.low_pass_share": ([None, 0.14], [0.0, 1e-9, 1.0, -0.1]),
    "augmentation.crop_padding": ([0, 4], [-1]),
    "augmentation.flip": ([True, False], []),
    "augmentation.brightness": ([0.0, 1.0], [-0.1, 1.1]),
    "augmentation.contrast": ([0.0, 1.0], [-0.1, 1.1]),
    "augmentation.saturation": ([0.0, 1.0], [-0.1, 1.1]),
    "augmentation.rotation": ([0.0, 180.0], [-0.1, 181.0]),
    "augmentation.resized_crop": ([0.0, 0.25, 1.0], [-0.1, 1.1]),
    "transfer.blocks": ([None, 0, 16], [-1]),
    "transfer.frozen_batch_norm": (["batch", "source", "adapt"], ["frozen"]),
    "transfer.epochs": ([None, 1], [0, -1]),
    "transfer.batch_size": ([1, 128], [0, -1]),
    "transfer.learning_rate": ([1e-9, 10.0], [0.0, -0.1]),
    "transfer.momentum": ([0.0, 0.99], [-0.1, 1.0]),
    "transfer.weight_decay": ([0.0, 1.0], [-1e-9]),
    "transfer.learning_rate_drop": ([0.1, 1.0], [0.0, -1.0]),
    "transfer.drop_every": ([None, 1], [0, -1]),
    "transfer.head": (["normal", "uniform"], ["zero"]),
    "transfer.head_fit": (["sgd", "ridge", "logistic"], ["svm"]),
    "transfer.eval_every": ([None, 1], [0, -1]),
    "transfer.eval_batch_size": ([1, 64], [0, -1]),
    "transfer.precision": (["float32", "tf32", "bfloat16"], ["float16", "float64"]),
    "transfer.feature_cache_mib": ([0, 1], [-1]),
    "transfer.feature_store": (["auto", "device", "host", "disk", "none"], ["tape"]),
    "transfer.feature_bits": ([16, 32], [8, 64]),
    "transfer.views": ([None, 1, 8], [0, -1]),
    "transfer.optimizer": (["sgd", "adamw"], [""]),
    "transfer.optimizer_options": ([(), ("b1=0.9", "eps=1e-8")], [("b1",)]),
    "transfer.schedule_options": ([(), ("decay_rate=0.5",)], [("decay_rate",)]),
    "transfer.schedule_epochs": ([None, 200], [0, -1]),
    "transfer.mixup": ([None, 0.2], [0.0, -1.0]),
    "transfer.randaugment": ([0, 2], [-1]),
    "transfer.randaugment_magnitude": ([0, 30], [-1, 31]),
    "transfer.warm_up_epochs": ([0.0, 2.5], [-1.0]),
    "transfer.clip_norm": ([None, 1.0], [0.0, -1.0]),
    "transfer.layer_decay": ([0.5, 1.0], [0.0, 1.1]),
    "transfer.average_from": ([None, 1], [0, -1]),
    "transfer.beta": ([None], [-1.0, 6.0]),  # which needs PGD
    "transfer.perturbation": (["none", "pgd", "fourier", "gaussian"], ["fgsm"]),
    "transfer.low_frequency": ([0.0, 0.2], [-0.1, 1.1]),
    "transfer.high_frequency": ([0.25, 1.0], [-0.1, 1.1]),
    "transfer.budget": (["flat", "1/f", "f"], ["1/f2"]),
    "transfer.budget_weights": ([(), (1.0, 0.5)], [(1.0,), (0.0, 0.0), (1.0, -0.1)]),
    "transfer.norm": (["linf", "l2"], ["l1", "unconstrained"]),
    "transfer.eps": ([0.0, 3.0], [-0.1, float("nan")]),
    "transfer.steps": ([1, 20], [0, -1]),
    "transfer.relative_step": ([0.5, 2.5], [0.0, -1.0]),
    "transfer.random_start": ([True, False], []),
    "transfer.keep": (["loss", "last"], ["best"]),
    "transfer.sigma": ([0.5, 1.0], [0.0, -1.0]),
    "transfer.schedule": (["step", "one_cycle", "cosine", "exponential_decay"], [""]),
    "transfer.warm_up": ([0.1, 0.9], [0.0, 1.0]),
    "transfer.label_smoothing": ([0.0, 0.5], [-0.1, 1.0]),
    "transfer.average_decay": ([None, 0.0, 0.99], [-0.1, 1.0]),
    "transfer.num_attacked": ([0, 512], [-1]),
    "transfer.checkpoint_seconds": ([0.0, 60.0], [-1.0]),
    "transfer.class_weights": (["none", "balanced"], ["heavy"]),
    "transfer.baseline": ([True, False], []),
    "attack.runs": ([None, "runs/x"], [""]),
    "attack.method": (["pgd", "gaussian", "autoattack"], ["fgsm", "corruptions"]),  # a task's
    "attack.low_frequency": ([0.0, 0.2], [-0.1, 1.1]),
    "attack.high_frequency": ([0.25, 1.0], [-0.1, 1.1]),
    "attack.budget": (["flat", "1/f", "f"], ["1/f2"]),
    "attack.budget_weights": ([(), (1.0, 0.5)], [(1.0,), (0.0, 0.0), (1.0, -0.1)]),
    "attack.norm": (["linf", "l2"], ["l1", "unconstrained"]),  # l1 needs autoattack
    "attack.eps": ([(0.0,), (0.5, 1.0)], [(), (-0.1,), (0.5, 0.5), (float("nan"),)]),
    "attack.steps": ([1, 20], [0, -1]),
    "attack.relative_step": ([0.5, 2.5], [0.0, -1.0]),
    "attack.random_start": ([True, False], []),
    "attack.restarts": ([1], [0, -1, 2]),  # 2 need random starts
    "attack.loss": (["cross_entropy", "margin", "dlr"], ["hinge"]),
    "attack.keep": (["best", "last"], ["first"]),
    "attack.sigma": ([0.5, 1.0], [0.0, -1.0]),
    "attack.batch_size": ([1, 64], [0, -1]),
    "attack.precision": (["float32", "tf32", "bfloat16"], ["float16"]),
    "attack.num_shown": ([0, 8], [-1]),
    "attack.version": (["standard", "plus"], ["rand"]),
    "attack.attacks": ([(), ("fab-t", "square")], [("pgd",), ("fab", "fab")]),
    "attack.save_images": ([True, False], []),
    "attack.samples": ([1, 100_000], [0, 10**8]),
    "attack.selection_samples": ([1, 100], [0, 10**8]),
    "attack.alpha": ([0.001, 0.5], [0.0, 1.0, float("nan")]),
    "attack.corruptions": ([(), ("fog", "snow")], [("frost",), ("fog", "fog")]),
    "attack.severities": ([(1,), (3, 5)], [(), (0,), (6,), (1, 1)]),
    "pretraining.optimizer": (["sgd", "adamw"], [""]),
    "pretraining.optimizer_options": ([(), ("b1=0.9", "eps=1e-8")], [("b1",)]),
    "pretraining.schedule_options": ([(), ("decay_rate=0.5",)], [("decay_rate",)]),
    "pretraining.schedule_epochs": ([None, 200], [0, -1]),
    "pretraining.mixup": ([None, 0.2], [0.0, -1.0]),
    "pretraining.randaugment": ([0, 2], [-1]),
    "pretraining.randaugment_magnitude": ([0, 30], [-1, 31]),
    "pretraining.warm_up_epochs": ([0.0, 2.5], [-1.0]),
    "pretraining.clip_norm": ([None, 1.0], [0.0, -1.0]),
    "pretraining.layer_decay": ([0.5, 1.0], [0.0, 1.1]),
    "pretraining.average_from": ([None, 1], [0, -1]),
    "pretraining.beta": ([None], [-1.0, 6.0]),  # which needs PGD
    "pretraining.perturbation": (["none", "pgd", "fourier", "gaussian"], ["fgsm"]),
    "pretraining.low_frequency": ([0.0, 0.2], [-0.1, 1.1]),
    "pretraining.high_frequency": ([0.25, 1.0], [-0.1, 1.1]),
    "pretraining.budget": (["flat", "1/f", "f"], ["1/f2"]),
    "pretraining.budget_weights": ([(), (1.0, 0.5)], [(1.0,), (0.0, 0.0), (1.0, -0.1)]),
    "pretraining.norm": (["linf", "l2"], ["l1", "unconstrained"]),
    "pretraining.eps": ([0.0, 3.0], [-0.1, float("nan")]),
    "pretraining.steps": ([1, 20], [0, -1]),
    "pretraining.relative_step": ([0.5, 2.5], [0.0, -1.0]),
    "pretraining.random_start": ([True, False], []),
    "pretraining.keep": (["loss", "last"], ["best"]),
    "pretraining.sigma": ([0.5, 1.0], [0.0, -1.0]),
    "pretraining.epochs": ([1, 90], [0, -1]),
    "pretraining.batch_size": ([1, 256], [0, -1]),
    "pretraining.schedule": (["step", "one_cycle", "cosine", "exponential_decay"], [""]),
    "pretraining.learning_rate": ([1e-9, 10.0], [0.0, -0.1]),
    "pretraining.learning_rate_drop": ([0.1, 1.0], [0.0, -1.0]),
    "pretraining.drop_every": ([None, 1], [0, -1]),
    "pretraining.warm_up": ([0.1, 0.9], [0.0, 1.0]),
    "pretraining.momentum": ([0.0, 0.99], [-0.1, 1.0]),
    "pretraining.weight_decay": ([0.0, 1.0], [-1e-9]),
    "pretraining.label_smoothing": ([0.0, 0.5], [-0.1, 1.0]),
    "pretraining.average_decay": ([None, 0.0, 0.99], [-0.1, 1.0]),
    "pretraining.eval_every": ([1, 5], [0, -1]),
    "pretraining.eval_batch_size": ([1, 64], [0, -1]),
    "pretraining.num_attacked": ([0, 512], [-1]),
    "pretraining.precision": (["float32", "tf32", "bfloat16"], ["float16"]),
    "pretraining.memory_mib": ([0, 8192], [-1]),
    "pretraining.decoding_threads": ([1, 16], [0, -1]),
    "pretraining.checkpoint_seconds": ([0.0, 60.0], [-1.0]),
    "influence.question": (["predictions", "wrong_labels"], ["why"]),
    "influence.run": ([None, "runs/x"], [""]),
    "influence.compare": ([None, "a/b.pt"], [""]),
    "influence.parameters": (["head", "trainable"], ["body"]),
    "influence.rank": ([1, 50], [0, -1]),
    "influence.curvature": (["hessian", "empirical_fisher"], ["fisher"]),
    "influence.hessian": (["closed_form", "autodiff"], ["exact"]),
    "influence.batch_size": ([1, 5], [0, -1]),
    "influence.solver": (["cholesky", "pseudo_inverse", "conjugate_gradient"], ["lissa"]),
    "influence.damping": ([0.0, 0.5], [-1e-9]),
    "influence.cutoff": ([0.0, 0.5], [-1e-9]),
    "influence.cutoff_kind": (["absolute", "relative"], ["both"]),
    "influence.tolerance": ([1e-9, 1.0], [0.0, -1.0]),
    "influence.flip_labels": ([0.0], [-0.1, 0.1, 1.0]),  # 0.1 needs the other question
    "influence.num_shown": ([1, 3], [0, -1]),
    "influence.perturb": ([0, 10], [-1]),
    "influence.perturb_eps": ([0.05, 3.0], [0.0, -1.0]),
    "influence.perturb_steps": ([1, 10], [0, -1]),
    "influence.memory_gib": ([None, 1], [0, -1]),
    "sweep.sources": ([(), ("a/b.pt", "random")], [("a", "a"), ("",)]),
    "sweep.targets": ([(), ("digits", "tfds:mnist")], [("digits", "digits"), ("",)]),
    "sweep.blocks": ([(), (0, 1, 3, 9)], [(-1,), (1, 1)]),
    "sweep.num_images": ([(), (100, 0)], [(-1,), (100, 100)]),
    "sweep.epochs": ([()], [(60,), (0,)]),  # as many as sweep.num_images, which are none
    "sweep.folds": ([(), (0, 4)], [(-1,), (1, 1)]),
    "sweep.learning_rates": ([(), (0.1, 0.03)], [(0.0,), (0.1, 0.1)]),
    "sweep.weight_decays": ([(), (0.0, 5e-4)], [(-1e-9,), (0.1, 0.1)]),
    "sweep.eps": ([(), (0.25, 0.5)], [(-0.1,), (0.5, 0.5)]),
    "sweep.head_fits": ([(), ("sgd", "ridge", "logistic")], [("svm",), ("sgd", "sgd")]),
    "sweep.betas": ([(), (1.0, 6.0)], [(-1.0,), (1.0, 1.0)]),
    "sweep.seeds": ([None, 1, 20], [0, -1]),
    "sweep.seeds_by": (["text", "table4"], ["figure"]),
    "sweep.seeds_at_once": ([None, 1], [0, -1]),
    "sweep.skip_missing": ([True, False], []),
    "sweep.measure": ([True, False], []),
    "sweep.keep_networks": ([True, False], []),
    "sweep.keep_logits": ([True, False], []),
    "sweep.keep_every_logits": ([True, False], []),
    "visualize.show": (["features", "gradients"], ["dreams"]),
    "visualize.sources": ([(), ("a/b.pt", "random")], [("a", "a"), ("",)]),
    "visualize.num_shown": ([1, 6], [0, -1]),
    "visualize.units": ([(), (0, 7)], [(-1,), (1, 1)]),
    "visualize.num_units": ([1, 2], [0, -1]),
    "visualize.label": ([None, 0, 9], [-1]),
    "visualize.eps": ([0.5, 1000.0], [0.0, -1.0]),
    "visualize.steps": ([1, 200], [0, -1]),
    "visualize.relative_step": ([0.2, 2.5], [0.0, -1.0]),
    "visualize.loss": (["cross_entropy", "logit"], ["margin"]),
    "my_images.margin": ([0.0, 1.0], [-0.1, float("inf")]),
    "my_images.robustness": ([True, False], []),
    "my_images.num_shown": ([1, 24], [0, -1]),
    "my_images.set_score": (["lac", "aps", "raps"], ["thr", ""]),
    "predict.images": (["", "photos/*.jpg"], []),
    "predict.output": (["", "a.parquet"], []),
    "predict.top": ([1, 5], [0, -1]),
    "predict.batch_size": ([1, 64], [0, -1]),
    "predict.explain": ([0, 3], [-1]),
    "predict.coverage": ([0.9, None], [0.0, 1.0, -0.5, float("nan")]),
    "predict.coverage_by_class": ([False, True], []),
    "predict.outliers": ([True, False], []),
    # JAX's keys have 32 bits: the seeds 0 and 2**32 would draw the same.
    "seed": ([0, 2**32 - 1], [-1, 2**32, 2**63, 2**70]),
}

# More than any use asks for: would be gigabytes, hours or a traceback.
ABSURD = [2**53, 10**26, 10**400]


def numbers(key: str) -> bool:
    """Whether a setting, or each item of it, is an integer without a natural bound."""
    _, hint = KEYS[key]
    return settings._plain_type(hint) is int or int in settings._item_types(hint)


@pytest.mark.parametrize("value", ABSURD, ids=["2**53", "1e26", "1e400"])
@pytest.mark.parametrize("key", [key for key in VALUES if numbers(key)])
def test_absurd_numbers_are_refused_by_name(key: str, value: int) -> None:
    if key in ("source.stage_sizes", "source.stage_widths"):
        pytest.skip("the architecture is what bounds them")
    several = (0, value) if settings._plain_type(KEYS[key][1]) is tuple else value
    with pytest.raises(UserError) as caught:
        freeze(nested(key, several))
    assert str(caught.value).startswith(f"{key}: expected ")
    assert len(str(caught.value)) < 450


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("target.image_size", 100_000), ("target.folds", 10**6), ("sweep.seeds", 2**32)],
        *[("augmentation.crop_padding", 5000), ("attack.eps", (1e300,)), ("attack.sigma", 1e38)],
        *[("visualize.eps", 1e30), ("pretraining.eps", 1e30), ("transfer.blocks", 5000)],
    ],
)
def test_absurd_sizes_are_refused_by_name(key: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"{key}: expected at most"):
        freeze(nested(key, value))


def test_a_sweep_of_too_many_runs() -> None:
    with pytest.raises(UserError, match=r"a grid of at most 200,000 runs, received 3000000"):
        Sweep(targets=tuple(f"folder:{number}" for number in range(300)), seeds=10_000)


WRONG_TYPE: dict[type, list[Any]] = {
    bool: [0, 1, "true", 1.0],
    int: [True, False, 1.0, 1.5, "1", (1,), {}],
    float: [True, "0.5", (0.5,), float("nan"), float("inf"), float("-inf")],
    str: [1, True, b"x", ("x",)],
    tuple: ["1,2", (1.0, 2.0), (True, False), ("1", "2"), 1.5],
}


def test_every_setting_has_values_here() -> None:
    assert VALUES.keys() == KEYS.keys()


def wrong_types(key: str) -> list[Any]:
    _, hint = KEYS[key]
    optional = type(None) in typing.get_args(hint)
    wrong = WRONG_TYPE[settings._plain_type(hint)]
    if float in settings._item_types(hint):
        wrong = ["1,2", (True, False), ("1", "2"), "x"]
    if str in settings._item_types(hint):
        wrong = [(1, 2), (True, False), ("a", 1), 1]
    return wrong if optional else [*wrong, None]


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, (good, _) in VALUES.items() for value in good]
)
def test_good_values_are_taken(key: str, value: Any) -> None:
    assert frozen(key, value) == value


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, (_, bad) in VALUES.items() for value in bad]
)
def test_bad_values_are_refused_by_name(key: str, value: Any) -> None:
    with pytest.raises(UserError) as caught:
        freeze(nested(key, value))
    message = str(caught.value)
    assert message.startswith(f"{key}: expected ")
    assert message.endswith(f"received {value!r}")


@pytest.mark.parametrize(("key", "value"), [(key, v) for key in KEYS for v in wrong_types(key)])
def test_wrong_types_are_refused_by_name(key: str, value: Any) -> None:
    with pytest.raises(UserError) as caught:
        freeze(nested(key, value))
    assert str(caught.value).startswith(f"{key}: expected ")
    assert repr(value) in str(caught.value)


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


# ---- Fingerprints --------------------------------------------------------------------------------


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


def run_python(script: str) -> str:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", script], check=True, capture_output=True, text=True
    ).stdout


@pytest.mark.parametrize("module", ["rtl_jax.lab.config", "rtl_jax.lab.results"])
def test_importing_needs_neither_jax_nor_ml_collections(module: str) -> None:
    loaded = run_python(f"import sys, {module}; print(*sys.modules)").split()
    assert module in loaded
    assert not {"jax", "jaxlib", "flax", "orbax", "ml_collections", "absl"} & set(loaded)


def test_settings_of_a_source_are_its_own() -> None:
    assert Source() == Experiment().source
    assert Source().checkpoint == "random"
