"""Sweeps compared with the paper's loop in torch, and their cost by seeds and images.

    python -m benchmarks.sweep torch                 # both, in one run; hours on two cores
    python -m benchmarks.sweep torch --torch-seeds 2 --blocks 3 --modes source
    python -m benchmarks.sweep scaling               # seconds and memory, fitted exponents
    python -m benchmarks.sweep grid                  # hours of the paper's grid, steps measured
    python -m benchmarks.sweep grid --config.target.image_size=32    # or with other settings

Both use the same ResNet-50 and the same images in memory, on the same device; torch (channels_last)
runs one seed after another, as the paper's code does. Its seeds are independent and take equally
long, so --torch-seeds times only that many and multiplies. Compilation is measured separately, by a
preceding pass of one epoch. CPU seconds are printed as well, for machines with other load.
"""

import argparse
import dataclasses
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from rtl_jax.data import Dataset, ImageSet, seed_for
from rtl_jax.data.augmentation import PRESETS
from rtl_jax.lab import cli
from rtl_jax.lab.config import Experiment, Source, Sweep, Target
from rtl_jax.lab.finetune.job import Inputs, Job, assemble
from rtl_jax.lab.plotting import save, subplots
from rtl_jax.lab.sweep.cells import in_one_program
from rtl_jax.lab.sweep.estimate import flops
from rtl_jax.lab.sweep.plan import plan
from rtl_jax.models.architecture import ResNetArchitecture, architecture
from rtl_jax.models.model import initialize
from rtl_jax.models.network import Network
from rtl_jax.runtime import devices
from rtl_jax.train.recipe import Recipe
from rtl_jax.train.trainer import begin, caches_for

CLASSES = 10


@dataclasses.dataclass(frozen=True)
class Size:
    """The size of a benchmark."""

    seeds: int = 8
    images: int = 200
    epochs: int = 20
    tests: int = 1000
    stored: int = 5000  # images from which seeds draw theirs
    pixels: int = 64
    together: int | None = None
    torch_seeds: int | None = None
    precision: str = "float32"
    arch: str = "resnet50"

    @property
    def evaluations(self) -> list[int]:
        """The three evaluation epochs: first, middle and last."""
        return sorted({1, max(self.epochs // 2, 1), self.epochs})


class Clock:
    """Wall-clock and CPU seconds since its creation."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        """Return (wall, CPU)."""
        return time.perf_counter() - self._wall, time.process_time() - self._cpu


def pair_of(size: Size, arch: ResNetArchitecture | None = None) -> Inputs:
    """Make a random network and noise images, which cost as much as any others."""
    rng = np.random.default_rng(0)

    def noise(number: int) -> ImageSet:
        shape = (number, size.pixels, size.pixels, 3)
        labels = (np.arange(number) % CLASSES).astype(np.int32)
        return ImageSet(rng.integers(0, 256, shape, dtype=np.uint8), labels)

    names = tuple(map(str, range(CLASSES)))
    dataset = Dataset("noise", noise(size.stored), noise(size.tests), names, "original")
    arch = arch or architecture(size.arch)
    variables = jax.tree.map(np.asarray, initialize(arch, jax.random.key(0)))
    return Inputs(Network(arch, *variables, {"kind": "random"}), dataset)


def jobs_of(size: Size, mode: str, blocks: int, pair: Inputs) -> list[Job]:
    """Return one fine-tuning per seed, without augmentation."""
    experiment = Experiment(
        task="sweep",
        source=Source("noise"),
        target=Target("noise", image_size=size.pixels, num_images=size.images),
        augmentation=PRESETS["none"],
        transfer=Recipe(
            blocks=blocks, frozen_batch_norm=mode, epochs=size.epochs, precision=size.precision
        ),
        sweep=Sweep(),
    )
    seeds = map(seed_for, range(size.seeds))
    return [assemble(dataclasses.replace(experiment, seed=seed), pair) for seed in seeds]


def ours(size: Size, mode: str, blocks: int, pair: Inputs, epochs: int) -> None:
    """Compute features, train and evaluate all seeds for the first `epochs` epochs."""
    with devices.matmul_precision(size.precision):
        _ours(size, jobs_of(size, mode, blocks, pair), epochs)


def _ours(size: Size, jobs: Sequence[Job], epochs: int) -> None:
    shared = not jobs[0].program.network.own_statistics
    caches = caches_for(jobs) if shared else None
    for together in in_one_program(jobs, Sweep(seeds_at_once=size.together)):
        training, state = begin(together, caches)
        for epoch in range(1, epochs + 1):
            state, _ = training.epoch(state, epoch)
            if epoch in size.evaluations:
                training.evaluate(state).each()
        jax.block_until_ready(state)


def torch_network(arch: ResNetArchitecture, blocks: int, device: str) -> tuple[Any, Any]:
    """Return a torch network (channels_last) with frozen first blocks, and its optimizer."""
    import torch

    from rtl_jax.convert.torch_resnet import torch_resnet

    network = torch_resnet(arch).to(device, memory_format=torch.channels_last)
    trained = set(arch.block_names()[arch.num_blocks - blocks :] if blocks else [])
    for name, parameter in network.named_parameters():
        block = "/".join(name.split(".")[:2])
        parameter.requires_grad_(name.startswith("fc.") or block in trained)
    parameters = [p for p in network.parameters() if p.requires_grad]
    return network, torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=5e-4)


def torchs(size: Size, blocks: int, pair: Inputs, epochs: int, *, compiled: bool = False) -> None:
    """Run the paper's loop: train mode throughout, frozen layers without gradients."""
    import torch

    arch: ResNetArchitecture = pair.source.architecture.replace(num_classes=CLASSES)
    device = "cpu" if jax.default_backend() == "cpu" else "cuda"
    lower = torch.autocast(device, torch.bfloat16, enabled=size.precision == "bfloat16")

    def pixels(images: ImageSet) -> Any:
        scaled = torch.from_numpy(images.images.transpose(0, 3, 1, 2).astype(np.float32) / 255)
        scaled = scaled.contiguous(memory_format=torch.channels_last)
        return scaled.to(device), torch.from_numpy(images.labels.astype(np.int64)).to(device)

    test, test_labels = pixels(pair.dataset.test)
    for seed in range(size.torch_seeds or size.seeds):
        network, sgd = torch_network(arch, blocks, device)
        forward = torch.compile(network) if compiled else network
        chosen = np.random.default_rng(seed).permutation(len(pair.dataset.train))[: size.images]
        images, labels = pixels(pair.dataset.train.take(chosen))
        for epoch in range(1, epochs + 1):
            network.train()
            for rows in torch.randperm(size.images).split(128):
                sgd.zero_grad()
                with lower:
                    logits = forward(images[rows])
                    loss = torch.nn.functional.cross_entropy(logits, labels[rows])
                loss.backward()
                sgd.step()
            if epoch in size.evaluations:
                network.eval()
                with torch.no_grad(), lower:
                    for start in range(0, size.tests, 128):
                        found = forward(test[start : start + 128]).argmax(1)
                        hits = int((found == test_labels[start : start + 128]).sum())
                        assert 0 <= hits <= len(found)


def timed(run: Callable[[int], None], epochs: int) -> tuple[tuple[float, float], float]:
    """Return (wall, CPU) of `epochs` epochs, and the wall seconds of a first pass of one epoch."""
    clock = Clock()
    run(1)
    first = clock.read()[0]
    clock = Clock()
    run(epochs)
    return clock.read(), first


def needed(size: Size, jobs: Sequence[Job]) -> float:
    """Count the floating-point operations of a mode; a backward pass counts as two forward."""
    network = jobs[0].program.network
    before, behind = flops(network.architecture, size.pixels, network.split)
    epochs = jobs[0].program.epochs
    looks = len(size.evaluations)
    suffix = size.seeds * behind * (3 * size.images * epochs + looks * size.tests)
    if network.moving_prefix:
        return suffix + size.seeds * before * (size.images * epochs + looks * size.tests)
    if network.own_statistics:  # one pass for the statistics, one for the features
        return suffix + size.seeds * before * (2 * size.images + size.tests)
    distinct = len(np.unique(np.concatenate([job.train_indices for job in jobs])))
    return suffix + before * (distinct + size.tests)


def matrix_rate(dtype: jnp.dtype, size: int = 4096) -> float:
    """Measure operations per second of a large square matrix product, the best of five."""
    one = jnp.ones((size, size), dtype)
    product = jax.jit(jnp.matmul)
    product(one, one).block_until_ready()
    seconds = []
    for _ in range(5):
        clock = Clock()
        product(one, one).block_until_ready()
        seconds.append(clock.read()[0])
    return 2 * size**3 / min(seconds)


def against_torch(size: Size, modes: Sequence[str], blocks: Sequence[int]) -> Iterator[str]:
    """Yield a line for each mode and number of blocks."""
    pair = pair_of(size)
    with devices.matmul_precision(size.precision):
        rate = matrix_rate(devices.compute_dtype(size.precision))
    yield f"{size}; {devices.describe()}; matrix products {rate / 1e9:.0f} GFLOP/s"
    titles = f"{'torch s':>10}{'ours s':>9}{'ratio':>7}{'CPU ratio':>11}{'first':>8}"
    yield f"{'mode':8}{'blocks':>7}{titles}{'images/s':>10}{'GFLOP/s':>9}{'share':>7}"
    scale = size.seeds / (size.torch_seeds or size.seeds)
    for number in blocks:
        (wall, cpu), _ = timed(partial(torchs, size, number, pair), size.epochs)
        wall, cpu = scale * wall, scale * cpu
        for mode in modes:
            run = partial(ours, size, mode, number, pair)
            (our_wall, our_cpu), first = timed(run, size.epochs)
            speed = needed(size, jobs_of(size, mode, number, pair)) / our_wall
            seen = size.seeds * size.images * size.epochs / our_wall
            jax.clear_caches()
            yield (
                f"{mode:8}{number:7d}{wall:10.1f}{our_wall:9.1f}{wall / our_wall:7.2f}"
                f"{cpu / our_cpu:11.2f}{first:8.1f}"
                f"{seen:10.0f}{speed / 1e9:9.1f}{speed / rate:7.1%}"
            )


def grid(overrides: Sequence[str]) -> Iterator[str]:
    """Plan the paper's grid on this machine, with hours from measured steps."""
    settings = ["--config=configs/paper/table7.py", "--config.dry_run", "--config.sweep.measure"]
    experiment, _ = cli.parse([*settings, *overrides])
    yield str(devices.describe())
    with tempfile.TemporaryDirectory() as empty:
        yield plan(experiment, empty).describe()


class Cost(NamedTuple):
    """The cost of a sweep: wall-clock seconds, CPU seconds and peak memory."""

    value: int  # number of seeds or images
    wall: float
    cpu: float
    gib: float


def scaling(size: Size, mode: str, blocks: int, figure: Path | None) -> Iterator[str]:
    """Measure seconds and memory by seeds and by images; fit power laws to the CPU seconds.

    Each sweep runs in its own process, so that its peak memory is its own.
    """
    found: dict[str, list[Cost]] = {}
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as pool:
        for name, values in (("seeds", (1, 2, 4, 8, 16)), ("images", (100, 200, 400, 800, 1600))):
            found[name] = []
            for value in values:
                one = dataclasses.replace(size, **{name: value})
                cost = Cost(value, *pool.submit(_cost, one, mode, blocks).result())
                found[name].append(cost)
                yield (
                    f"{name} {value:6d}: {cost.wall:8.2f} s, {cost.cpu:8.2f} CPU s, "
                    f"peak {cost.gib:.2f} GiB"
                )
            yield f"CPU seconds grow as {name}^{_exponent(found[name]):.2f}"
    if figure:
        _draw(found, f"{mode}, {blocks} blocks", figure)
        yield f"a figure is in {figure}"


def _cost(size: Size, mode: str, blocks: int) -> tuple[float, float, float]:
    """Return wall seconds, CPU seconds and peak GiB of the device or, on a CPU, of the process."""
    (wall, cpu), _ = timed(partial(ours, size, mode, blocks, pair_of(size)), size.epochs)
    statistics = jax.local_devices()[0].memory_stats() or {}
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return wall, cpu, statistics.get("peak_bytes_in_use", usage) / 2**30


def _exponent(costs: Sequence[Cost]) -> float:
    logarithms = np.log([(one.value, one.cpu) for one in costs])
    return float(np.polyfit(*logarithms.T, 1)[0])


def _draw(found: Mapping[str, Sequence[Cost]], title: str, path: Path) -> None:
    """Plot CPU seconds and memory over seeds and over images, on logarithmic axes."""
    drawing, grid = subplots(8, 5, 2, 2)
    for (upper, lower), (name, costs) in zip(grid.T, found.items(), strict=True):
        values, _, seconds, gib = zip(*costs, strict=True)
        for axes, numbers, label in ((upper, seconds, "CPU seconds"), (lower, gib, "GiB at most")):
            axes.plot(values, numbers, marker="o")
            axes.set_xscale("log", base=2)
            axes.set_xticks(values, [f"{value:,}" for value in values], minor=False)
            axes.set_ylabel(label)
            axes.grid(alpha=0.3)
        upper.set_yscale("log")
        upper.set_title(f"{title}: {name}^{_exponent(costs):.2f}")
        lower.set_ylim(bottom=0)
        lower.set_xlabel(name)
    save(drawing, epath.Path(path))


def main() -> None:
    """Print the lines of the chosen benchmark as they come."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", choices=["torch", "scaling", "grid"])
    for field in dataclasses.fields(Size):
        kind = str if isinstance(field.default, str) else int
        name = field.name.replace("_", "-")
        parser.add_argument(f"--{name}", type=kind, default=field.default)
    parser.add_argument("--modes", nargs="+", default=["source", "adapt", "batch"])
    parser.add_argument("--blocks", nargs="+", type=int, default=[0, 1, 3, 9])
    parser.add_argument("--figure", type=Path, metavar="FILE", help="of scaling, .svg or .png")
    options, overrides = parser.parse_known_args()
    given = vars(options)
    study, modes, blocks, figure = (
        given.pop(name) for name in ("study", "modes", "blocks", "figure")
    )
    if overrides and study != "grid":
        parser.error(f"{study} takes no {' '.join(overrides)}; settings are for grid alone")
    size = Size(**given)
    lines = {
        "torch": lambda: against_torch(size, modes, blocks),
        "scaling": lambda: scaling(size, modes[0], blocks[0], figure),
        "grid": lambda: grid(overrides),
    }[study]()
    for line in lines:
        print(line, flush=True)


if __name__ == "__main__":
    main()
