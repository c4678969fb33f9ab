"""An experiment: a task, its groups of settings, and the name that these give to a run."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from rtl_jax.data.augmentation import PRESETS, Augmentation, augmentation
from rtl_jax.errors import UserError, require, require_choice
from rtl_jax.lab import settings
from rtl_jax.lab.config.attack import Attack
from rtl_jax.lab.config.images import MyImages, Predict
from rtl_jax.lab.config.influence import Influence
from rtl_jax.lab.config.pretraining import Pretraining
from rtl_jax.lab.config.slurm import Slurm
from rtl_jax.lab.config.source import Source
from rtl_jax.lab.config.sweep import Sweep
from rtl_jax.lab.config.target import Target
from rtl_jax.lab.config.visualize import Visualize
from rtl_jax.train.recipe import Recipe
from rtl_jax.train.settings import FREQUENCY_FIELDS, PERTURBATION_FIELDS

if TYPE_CHECKING:
    from ml_collections import ConfigDict

FIRST_SEED = 20_000_000  # the authors' seeds are 20000000 + 100000 i

# The tasks, and the groups of settings that name a run of each, beside `task` and `seed`. A run of
# a sweep is a fine-tuning, whatever the grid around it; some tasks make no runs of their own.
GROUPS = {
    "finetune": ("source", "target", "augmentation", "transfer"),
    "sweep": ("source", "target", "augmentation", "transfer"),
    "attack": ("source", "target", "attack"),
    "influence": ("source", "target", "augmentation", "transfer", "influence"),
    "pretrain": ("source", "target", "augmentation", "pretraining", "attack"),
    "visualize": ("source", "target", "visualize"),
    "choose": ("source", "target"),
    "my_images": (),
    "predict": (),
    "report": (),
}

# Settings that say where data lie, how work is divided and how often it is kept, but change no
# number: a run has the same name whatever they are.
WITHOUT_EFFECT = (
    "target.data_dir",
    "transfer.checkpoint_seconds",
    "transfer.feature_store",
    "transfer.feature_cache_mib",
    "transfer.eval_batch_size",
    "transfer.baseline",
    "attack.runs",
    "attack.seeds",
    "pretraining.checkpoint_seconds",
    "pretraining.memory_mib",
    "pretraining.decoding_threads",
    "pretraining.decoding_processes",
    "influence.memory_gib",
)

# Settings of a training that came later than names that are published: at their defaults, which
# change nothing, they are not part of a name.
_LATER = (
    "optimizer",
    "optimizer_options",
    "schedule_options",
    "schedule_epochs",
    "clip_norm",
    "layer_decay",
    "average_from",
    "mixup",
    "randaugment",
    "randaugment_magnitude",
    "warm_up_epochs",
    "beta",
)
_LATER_IN_TRANSFER = (
    "head_fit",
    "schedule",
    "warm_up",
    "label_smoothing",
    "class_weights",
    "average_decay",
    "perturbation",
    *PERTURBATION_FIELDS,
    "num_attacked",
)
_LATER_IN_ATTACK = ("samples", "selection_samples", "alpha", "severities", *FREQUENCY_FIELDS)
_LATER_IN_INFLUENCE = ("perturb", "perturb_eps", "perturb_steps")
LATER = (
    *(f"{group}.{name}" for group in ("transfer", "pretraining") for name in _LATER),
    *(f"pretraining.{name}" for name in FREQUENCY_FIELDS),
    *(f"transfer.{name}" for name in _LATER_IN_TRANSFER),
    *(f"attack.{name}" for name in _LATER_IN_ATTACK),
    *(f"influence.{name}" for name in _LATER_IN_INFLUENCE),
)

Executor = Literal["local", "ray", "slurm"]


@dataclasses.dataclass(frozen=True)
class Experiment:
    """All settings of an experiment."""

    # finetune, sweep, attack, influence, pretrain, visualize, choose, my_images, predict or report
    task: str = "finetune"
    source: Source = dataclasses.field(default_factory=Source)
    target: Target = dataclasses.field(default_factory=Target)
    augmentation: Augmentation = dataclasses.field(default_factory=lambda: PRESETS["paper"])
    transfer: Recipe = dataclasses.field(default_factory=Recipe)
    attack: Attack = dataclasses.field(default_factory=Attack)
    pretraining: Pretraining = dataclasses.field(default_factory=Pretraining)
    influence: Influence = dataclasses.field(default_factory=Influence)
    sweep: Sweep = dataclasses.field(default_factory=Sweep)
    visualize: Visualize = dataclasses.field(default_factory=Visualize)
    my_images: MyImages = dataclasses.field(default_factory=MyImages)
    predict: Predict = dataclasses.field(default_factory=Predict)
    seed: int = FIRST_SEED  # Seed of the subset, the head, the batches and the augmentation
    dry_run: bool = False  # Only say what a sweep or my_images would do
    # What runs the cells of a sweep: this process, the workers of a Ray cluster (the one at
    # RAY_ADDRESS, or else a local one), or jobs of a Slurm cluster
    executor: Executor = "local"
    slurm: Slurm = dataclasses.field(default_factory=Slurm)
    # Where to send the rows of finished runs as well: tensorboard, wandb, mlflow, or the name of an
    # installed plugin
    trackers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(self.task in GROUPS, "task", f"one of {', '.join(map(repr, GROUPS))}", self.task)
        require_choice(self.executor, Executor, "executor")
        good = all(self.trackers) and len(set(self.trackers)) == len(self.trackers)
        require(good, "trackers", "different names", self.trackers)
        # JAX's keys are made of 32 bits: a larger seed would repeat a smaller one's.
        require(0 <= self.seed < 2**32, "seed", "a number from 0 to 2**32 - 1", self.seed)
        if self.task == "influence" and self.transfer.blocks == 0 and self.influence.run is None:
            # Influence expands the cross-entropy, of which a ridge regression is no optimum.
            solved = self.transfer.head_fit == "ridge"
            expected = "'sgd' or 'logistic' where a head alone is to be explained"
            require(not solved, "transfer.head_fit", expected, self.transfer.head_fit)
        alone = self.attack.method in ("smoothing", "corruptions")
        expected = f"another than {self.attack.method!r} unless the task is 'attack'"
        good = not alone or self.task == "attack"
        require(good, "attack.method", expected, self.attack.method)
        self._check_corruption()
        if self.task == "my_images":
            # A candidate is a source, a number of blocks, a head, a rate and a number of epochs.
            axes = ("targets", "num_images", "epochs", "folds", "weight_decays", "eps", "betas")
            for name in axes:
                values = getattr(self.sweep, name)
                require(not values, f"sweep.{name}", "none with my_images", values)
            expected = "none with my_images, which uses the whole folder"
            for name in ("num_images", "classes", "fold"):
                value = getattr(self.target, name)
                require(value is None, f"target.{name}", expected, value)
        if self.task == "sweep":
            perturbs, trades = self.transfer.perturbs, self.transfer.beta is not None
            expected = "none without transfer.perturbation"
            require(not self.sweep.eps or perturbs, "sweep.eps", expected, self.sweep.eps)
            expected = "none without transfer.beta"
            require(not self.sweep.betas or trades, "sweep.betas", expected, self.sweep.betas)

    def _check_corruption(self) -> None:
        """Require a task that tests images, and that does not apply every corruption anyway."""
        given = self.target.corruption
        tested = self.task in ("finetune", "sweep", "attack", "influence")
        expected = f"none with task {self.task!r}, which tests no images"
        require(given is None or tested, "target.corruption", expected, given)
        every = self.task == "attack" and self.attack.method == "corruptions"
        expected = "none with attack.method 'corruptions', which applies them all"
        require(given is None or not every, "target.corruption", expected, given)

    def to_dict(self) -> dict[str, Any]:
        """Return all settings as nested dictionaries."""
        return dataclasses.asdict(self)

    def fingerprint(self, **extra: Any) -> str:
        """Return 16 hex digits of a sha256 of the settings that can change a result, and `extra`.

        Settings WITHOUT_EFFECT cannot, nor can the groups that the task does not read. What is
        None, False or empty is left out: a setting that later versions add, and that does nothing
        until it is set, leaves runs their names.
        """
        every, usual = self.to_dict(), _usual()
        groups = GROUPS[self.task]
        if "transfer" in groups and self.transfer.num_attacked:
            groups = (*groups, "attack")
        read = {name: every[name] for name in ("seed", *groups)}
        # A fine-tuning is the same run by itself and in a sweep.
        read["task"] = "sweep" if self.task == "finetune" else self.task
        for key in WITHOUT_EFFECT:
            group, _, name = key.partition(".")
            if group in read:
                # At its default where names that are published contain it.
                read[group][name] = usual[group][name] if key in _NAMED else None
        for key in LATER:
            group, _, name = key.partition(".")
            if group in read and read[group][name] == usual[group][name]:
                read[group][name] = None
        said = _without_nothing(read)
        text = json.dumps({"settings": said, "extra": extra}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


_NAMED = ("transfer.feature_store", "transfer.feature_cache_mib", "transfer.eval_batch_size")


@functools.cache
def _usual() -> dict[str, Any]:
    return Experiment().to_dict()


def _without_nothing(group: Mapping[str, Any]) -> dict[str, Any]:
    kept = {}
    for name, value in group.items():
        value = _without_nothing(value) if isinstance(value, Mapping) else value
        empty = isinstance(value, str | tuple) and not value
        if not (value is None or value is False or empty):  # 0 is a number
            kept[name] = value
    return kept


def defaults() -> "ConfigDict":
    """Return all settings with their defaults, to be edited in a config file.

    An unknown name or a value of another type fails where it is written.
    """
    return settings.editable(Experiment())


def preset(name: str) -> "ConfigDict":
    """Return the augmentation settings of that name ('paper' or 'none'), for a config file."""
    return settings.editable(augmentation(name))


def freeze(config: Mapping[str, Any] | Experiment) -> Experiment:
    """Check a config and make it immutable; raise UserError naming the setting that is wrong."""
    if isinstance(config, Experiment):
        return config
    if hasattr(config, "to_dict"):
        config = config.to_dict()
    if not isinstance(config, Mapping):
        raise UserError(f"get_config() must return a ConfigDict, received {type(config).__name__}")
    return settings.merge(Experiment(), config)


def expected(key: str) -> str:
    """Describe what a setting such as 'transfer.blocks' takes; UserError if there is none."""
    return settings.expected(Experiment, key)


def choices(key: str) -> tuple[str, ...]:
    """Return the values that a setting may have, if enumerated; UserError if it is unknown."""
    return settings.choices(Experiment, key)


def takes_names(key: str) -> bool:
    """Whether a setting is a list of names, such as 'sweep.sources'; UserError if there is none."""
    return settings.takes_names(Experiment, key)
