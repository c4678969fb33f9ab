"""Every setting, with values that it takes and values that it refuses."""

import dataclasses
import typing
from collections.abc import Iterator
from typing import Any

from rtl_jax.lab.config import (
    Experiment,
    freeze,
)


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
    "target.corruption": ([None, "fog:3"], ["fog", "mist:1", "fog:6"]),
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
    "transfer.views": ([None], [0, -1, 8]),  # which needs cached features
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
    "attack.seeds": ([()], [(0,), (-1,), (2**32,)]),  # a seed needs attack.runs
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
    "attack.corruptions": ([(), ("fog", "snow")], [("mist",), ("fog", "fog")]),
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
    "pretraining.decoding_threads": ([None, 1, 16], [0, -1]),
    "pretraining.decoding_processes": ([0, 4], [-1]),
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
    "influence.damping": ([None, 0.0, 0.5], [-1e-9]),
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
