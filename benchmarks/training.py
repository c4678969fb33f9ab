"""New kinds of training, compared with torch and with their own components.

    python -m benchmarks.training adversarial   # 8 seeds of adversarial fine-tuning, beside torch
    python -m benchmarks.training rates         # 8 rates x 5 seeds, beside 40 seeds at one rate
    python -m benchmarks.training head          # a head alone: the loop, beside its compiled steps

All variants run in turn in one process, after an uncounted first pass of each; ratios are of the
summed times. Both wall-clock and CPU seconds are given, which reveals other load on the machine.
"""

import argparse
import dataclasses
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.machine import describe
from rtl_jax.data.augmentation import PRESETS
from rtl_jax.data.dataset import ImageSet
from rtl_jax.models.network import Network
from rtl_jax.models.sources import load_source
from rtl_jax.runtime import devices
from rtl_jax.train.feeds import InMemory
from rtl_jax.train.finetuning import FineTuning, start
from rtl_jax.train.loop import Loop, NoLog
from rtl_jax.train.parallel import in_groups, seeds_at_once
from rtl_jax.train.recipe import Recipe
from rtl_jax.train.side_by_side import Position, train_part
from rtl_jax.train.trainer import FeatureCaches, begin, caches_for

IMAGES, PIXELS, CLASSES = 200, 32, 10
ADVERSARIAL = Recipe(
    blocks=1,
    frozen_batch_norm="source",
    head="uniform",
    epochs=2,
    batch_size=50,
    learning_rate=0.03,
    perturbation="pgd",
    eps=0.5,
    steps=5,
    keep="last",  # as in torch here; keeping the iterate of the highest loss takes one more pass
)


def tunings(source: Network, recipes: Sequence[Recipe], seeds: int) -> list[FineTuning]:
    """Make a fine-tuning on noise for each recipe and seed."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (IMAGES, PIXELS, PIXELS, 3), dtype=np.uint8)
    train = ImageSet(images, (np.arange(IMAGES) % CLASSES).astype(np.int32))
    names = tuple(map(str, range(CLASSES)))
    return [
        FineTuning(
            **start(
                source,
                train,
                class_names=names,
                image_size=PIXELS,
                recipe=recipe,
                augmentation=PRESETS["none"],
                seed=seed,
            )
        )
        for recipe in recipes
        for seed in range(seeds)
    ]


def train(every: Sequence[FineTuning]) -> None:
    """Train as a sweep does: in one program or, if `seeds_at_once` says so, in several."""
    caches = caches_for(every) if len(every) > 1 else None
    for group in in_groups(every, seeds_at_once(every, caches)):
        train_together(group, caches)


def train_together(group: Sequence[FineTuning], caches: FeatureCaches | None = None) -> None:
    """Train a group in one program."""
    training, state = begin(group, caches)
    jax.block_until_ready(Loop(training, state, NoLog()).run())


def one_after_another(group: Sequence[FineTuning]) -> None:
    """Train each of a group separately, in the same compiled program."""
    for tuning in group:
        train_together([tuning])


def torch_adversarial(source: Network, recipe: Recipe, seeds: int) -> None:
    """Do the same in torch, one seed at a time: `robustness`'s loop on a frozen prefix."""
    import torch

    from rtl_jax.convert.torch_pgd import pgd
    from rtl_jax.convert.torch_resnet import torch_resnet

    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.random((IMAGES, 3, PIXELS, PIXELS), np.float32))
    labels = torch.arange(IMAGES) % CLASSES
    for _ in range(seeds):
        network = torch_resnet(source.architecture.replace(num_classes=CLASSES))
        network = network.to(memory_format=torch.channels_last)
        last = (
            f"layer{len(source.architecture.stage_sizes)}.{source.architecture.stage_sizes[-1] - 1}"
        )
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name.startswith((last, "fc.")))
        trained = [one for one in network.parameters() if one.requires_grad]
        sgd = torch.optim.SGD(trained, lr=0.03, momentum=0.9, weight_decay=5e-4)
        for _ in range(recipe.epochs or 1):
            for rows in torch.randperm(IMAGES).split(recipe.batch_size):
                batch = images[rows].contiguous(memory_format=torch.channels_last)
                network.eval()
                found = pgd(
                    network, batch, labels[rows], "l2", recipe.eps, steps=recipe.steps,
                    relative_step=recipe.relative_step,
                )  # fmt: skip
                network.train()
                for name, part in network.named_modules():  # the source's statistics, as in ours
                    if isinstance(part, torch.nn.BatchNorm2d) and not name.startswith(last):
                        part.eval()
                sgd.zero_grad()
                torch.nn.functional.cross_entropy(network(found), labels[rows]).backward()
                sgd.step()


def compare(pairs: dict[str, Callable[[], object]], rounds: int) -> None:
    """Run all in turn; print their seconds, and the ratio of the first one's to each."""
    spent = {name: np.zeros(2) for name in pairs}
    for turn in range(rounds + 1):
        for name, run in pairs.items():
            before = time.perf_counter(), time.process_time()
            run()
            after = time.perf_counter(), time.process_time()
            if turn:
                spent[name] += np.subtract(after, before)
    first = next(iter(spent.values()))
    print(describe())
    for name, (wall, cores) in spent.items():
        ratio, of_cores = first / (wall, cores)
        print(
            f"{name:44}{wall / rounds:9.2f} s {cores / rounds:9.2f} s of cores; "
            f"first / this {ratio:.2f} ({of_cores:.2f} of cores)"
        )


def adversarial(rounds: int) -> None:
    """Time 8 seeds with one block, PGD(5) on 200 images of 32 px, and the bundled architecture.

    As in a sweep, each of the processor's cores has a seed of its own.
    """
    devices.divide_cpu(8)
    source = load_source("bundled:l2")
    group = tunings(source, [ADVERSARIAL], 8)
    compare(
        {
            "torch, seed after seed": lambda: torch_adversarial(source, ADVERSARIAL, 8),
            "ours, seed after seed": lambda: one_after_another(group),
            "ours, a seed on each core": lambda: train(group),
        },
        rounds,
    )


def rates(rounds: int) -> None:
    """Time the training of a head alone, whose seeds run in parallel on a CPU."""
    source = load_source("bundled:l2")
    recipe = dataclasses.replace(ADVERSARIAL, blocks=0, perturbation="none", epochs=60)
    each = [recipe.replace(learning_rate=0.01 * 2**power) for power in range(8)]
    many, same = tunings(source, each, 5), tunings(source, [recipe], 40)
    compare(
        {
            "8 rates x 5 seeds": lambda: train_together(many),
            "40 seeds": lambda: train_together(same),
        },
        rounds,
    )


def head(rounds: int) -> None:
    """Time one seed: 200 epochs of eight steps on 25 images, each epoch a call."""
    source = load_source("bundled:l2")
    recipe = dataclasses.replace(
        ADVERSARIAL, blocks=0, perturbation="none", batch_size=25, epochs=200
    )
    (tuning,) = tunings(source, [recipe], 1)
    training, state = begin([tuning])
    feed, shape = training.feed, (IMAGES // 25, 25)
    assert isinstance(feed, InMemory)
    feed._drawn_for(1, on_device=True)
    fixed = {
        "images": feed._images,
        "drawn": feed._orders,
        "position": jnp.array(Position(0, 1, 0, 0)),
        "keys": feed._keys,
        "hyper": jax.tree.map(jnp.asarray, training.hyper),
    }
    fresh = jax.tree.map(np.asarray, state)

    def loop() -> None:
        jax.block_until_ready(Loop(training, jax.tree.map(jnp.asarray, fresh), NoLog()).run())

    def alone() -> None:
        now, sums = jax.tree.map(jnp.asarray, fresh), training.zero()
        for _ in range(200):
            arguments = (training.step, feed._cache.dtype, shape, now, sums, training.frozen)
            now, sums = train_part(*arguments, **fixed)
        jax.block_until_ready(now)

    compare({"the loop": loop, "its compiled steps alone": alone}, rounds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["adversarial", "rates", "head"])
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    globals()[arguments.what](arguments.rounds)
