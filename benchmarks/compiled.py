"""The programs compiled for an accelerator that is not there: operations, bytes, memory.

    python -m benchmarks.compiled [--programs 'step' ...] [--output FILE.json]

Compiles what a fine-tuning, a sweep, an attack and a source's training run, with ResNet-50 on
batches of 128 images of 224 px in bfloat16, for a TPU v5e, and prints what the compiler says of
each: operations, bytes moved, memory beside arguments and results, and the time that either would
take at the accelerator's peak. Nothing runs. It needs the package libtpu (extra `tpu`), and a few
minutes on two cores.
"""

import argparse
import dataclasses
import importlib.util
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

# Before JAX is imported: no TPU is looked for, on this machine or in the cloud.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-8")
os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

from benchmarks import machine
from rtl_jax.attacks.base import Problem
from rtl_jax.attacks.pgd import PGD
from rtl_jax.data.augmentation import PRESETS, Augmentation
from rtl_jax.models.architecture import architecture
from rtl_jax.models.model import Weights, variable_shapes
from rtl_jax.models.registry import Architecture
from rtl_jax.train import features
from rtl_jax.train.metrics import Metrics
from rtl_jax.train.program import Program
from rtl_jax.train.recipe import FrozenBatchNorm, Recipe
from rtl_jax.train.settings import PerturbationName
from rtl_jax.train.side_by_side import Images, Rows, train_steps
from rtl_jax.train.split import SplitNetwork
from rtl_jax.train.step import Hyper, Keys


@dataclasses.dataclass(frozen=True)
class Chip:
    """An accelerator: what it can do in a second, by its makers (TPU) or measured."""

    topology: str
    operations: float
    bytes: float


CHIPS = {"v5e": Chip("v5e:2x4", 197e12, 0.82e12)}


@dataclasses.dataclass(frozen=True)
class Case:
    """A program by name, jitted, and shapes of its arguments."""

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    keywords: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What the compiler says of a program."""

    name: str
    operations: float
    bytes: float
    temporaries: int
    seconds: float  # of compiling

    def line(self, chip: Chip) -> str:
        """One row of the table."""
        compute, moving = self.operations / chip.operations, self.bytes / chip.bytes
        longest = max(compute, moving)
        return (
            f"{self.name:44} {self.operations / 1e12:7.2f} T {self.bytes / 2**30:8.2f} GiB "
            f"{self.temporaries / 2**30:7.2f} GiB {1e3 * longest:8.1f} ms {compute / longest:6.0%}"
        )


def main() -> None:
    """Compile all of them and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chip", choices=CHIPS, default="v5e")
    parser.add_argument("--programs", default="", help="a regular expression of their names")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    chip = CHIPS[options.chip]
    device = device_of(chip)
    programs = Programs(architecture("resnet50", num_classes=10), 224, batch=128, stored=1600)
    print(device.device_kind, machine.describe())
    header = "{:>9} {:>12} {:>11} {:>11} {}"
    names = header.format("operations", "bytes", "temporaries", "roofline", "compute")
    print(f"{'program':44} {names}")
    found = []
    for case in programs.every():
        if re.search(options.programs, case.name):
            found.append(compile_for(device, case))
            print(found[-1].line(chip), f"  ({found[-1].seconds:.0f} s to compile)", flush=True)
    if options.output:
        content = [dataclasses.asdict(one) for one in found]
        options.output.write_text(json.dumps({"machine": machine.describe(), "programs": content}))


def device_of(chip: Chip) -> jax.Device:
    """A device to compile for, which need not be there. Raises SystemExit without libtpu."""
    try:
        return topologies.get_topology_desc(topology_name=chip.topology, platform="tpu").devices[0]
    except Exception as error:
        if importlib.util.find_spec("libtpu") is None:
            raise SystemExit("the compiler for TPUs is missing: pip install -e '.[tpu]'") from error
        raise


def compile_for(device: jax.Device, case: Case) -> Compiled:
    """Compile a program for a device that need not be there."""
    place = SingleDeviceSharding(device)

    def on_device(leaf: Any) -> Any:
        if not isinstance(leaf, jax.ShapeDtypeStruct):
            return leaf
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)

    started = time.monotonic()
    arguments, keywords = jax.tree.map(on_device, (case.arguments, case.keywords))
    # What chooses a form by its platform takes this one's.
    with jax.default_device(device), jax.default_matmul_precision("default"):
        compiled = case.function.lower(*arguments, **keywords).compile()
    costs: Any = compiled.cost_analysis()
    memory: Any = compiled.memory_analysis()
    return Compiled(
        case.name,
        costs["flops"],
        costs["bytes accessed"],
        memory.temp_size_in_bytes,
        time.monotonic() - started,
    )


# ---- The programs -------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Programs:
    """The programs of one network on batches of one size; `stored` images lie on the device."""

    architecture: Architecture
    pixels: int
    batch: int
    stored: int
    dtype: jnp.dtype = dataclasses.field(default_factory=lambda: jnp.dtype(jnp.bfloat16))

    def every(self) -> Iterator[Case]:
        """Those of the table."""
        for blocks in (0, 1, 3, 9, None):
            for seeds in (1, 8, 20):
                yield self.training(blocks, seeds)
        yield self.training(3, 1, mode="batch", augmentation=PRESETS["paper"])
        yield self.training(3, 1, perturbation="pgd")
        yield self.features(3)
        yield self.attack(PGD("l2", steps=20))

    def training(
        self,
        blocks: int | None,
        seeds: int,
        mode: FrozenBatchNorm = "source",
        *,
        augmentation: Augmentation = PRESETS["none"],
        perturbation: PerturbationName = "none",
    ) -> Case:
        """A step of a fine-tuning on images, or features, that lie on the device."""
        recipe = Recipe(blocks=blocks, frozen_batch_norm=mode, perturbation=perturbation)
        network = self._split(recipe).replace(many=seeds > 1)
        program = Program(network, recipe, augmentation, epochs=1)
        kept = program.trains_on_features
        shape, stored = (self.pixels, self.pixels, 3), jnp.dtype(jnp.uint8)
        if kept:
            shape, stored = features.feature_shape(network).shape, self.dtype
        step = program.replace(network=network.replace(features=kept)).step()
        trained, frozen = step.divide(*variable_shapes(network.architecture))
        state = _side_by_side(seeds, jax.eval_shape(step.start, *trained))
        number, count = _shape(seeds), _shape(seeds, dtype=jnp.int32)
        rows, keys = _shape(seeds, 1, self.batch, dtype=jnp.int32), _keys(seeds)
        what = "features" if kept else "images"
        what += f", PGD({recipe.steps})" if program.perturb or perturbation != "none" else ""
        what += "" if augmentation.is_identity else f", {mode}, augmented"
        return Case(
            f"step, {what}, {'all' if blocks is None else blocks} blocks, {seeds} seeds",
            train_steps,
            (
                step,
                self.dtype if kept else stored,
                state,
                Metrics(number, count, count),
                frozen,
                Images(_shape(self.stored, *shape, dtype=stored), self._labels(self.stored)),
            ),
            {
                "rows": Rows(rows, rows),
                "keys": Keys(keys, keys, keys),
                "epoch": _shape(dtype=jnp.int32),
                "hyper": Hyper(_shape(seeds, 1), number, number, number),
            },
        )

    def features(self, blocks: int) -> Case:
        """What frozen layers make of a batch."""
        network = self._split(Recipe(blocks=blocks, frozen_batch_norm="source"))
        images = _shape(self.batch, self.pixels, self.pixels, 3, dtype=jnp.uint8)
        arguments = (*variable_shapes(self.architecture), images)
        return Case(
            f"features in front of {blocks} blocks",
            features.batch_features,
            (network, PRESETS["none"], *arguments),
            {"rows": self._labels(self.batch), "view": _shape(dtype=jnp.int32)},
        )

    def attack(self, attack: PGD) -> Case:
        """An attack on the whole network."""
        network = self._split(Recipe(blocks=0, frozen_batch_norm="source"))

        @jax.jit
        def search(params: Any, batch_stats: Any, *problem: Any) -> Any:
            logits_fn = partial(network.apply, params, batch_stats, Weights({}, {}))
            return attack.search(Problem(logits_fn, *problem))

        images = _shape(self.batch, self.pixels, self.pixels, 3)
        problem = (images, self._labels(self.batch), _shape(self.batch), _keys(self.batch))
        name = f"{type(attack).__name__}({attack.steps}), {attack.threat.name}"
        return Case(name, search, (*variable_shapes(self.architecture), *problem))

    def _split(self, recipe: Recipe) -> SplitNetwork:
        return SplitNetwork.of(self.architecture, recipe, self.pixels).replace(dtype=self.dtype)

    def _labels(self, number: int) -> jax.ShapeDtypeStruct:
        return _shape(number, dtype=jnp.int32)


def _shape(*shape: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def _keys(number: int) -> jax.ShapeDtypeStruct:
    return jax.eval_shape(lambda: jax.random.split(jax.random.key(0), number))


def _side_by_side(seeds: int, tree: Any) -> Any:
    """The shapes of a pytree with an axis of seeds."""
    return jax.tree.map(lambda leaf: _shape(seeds, *leaf.shape, dtype=leaf.dtype), tree)


if __name__ == "__main__":
    main()
