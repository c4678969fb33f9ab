"""The plan of a sweep: its cells, finished and missing runs, and the cost.

A plan needs neither data nor checkpoints. It considers a run finished if there are rows with its
settings; the sweep itself also compares the content of networks and images.
"""

import dataclasses
import json
from collections.abc import Iterable, Sequence

import pandas as pd
from etils import epath

from rtl_jax.data import originals, tfds
from rtl_jax.data.source import local
from rtl_jax.errors import UserError
from rtl_jax.lab import results
from rtl_jax.lab.config import Experiment, Source, Sweep, Target, freeze
from rtl_jax.lab.finetune.job import require_memory_for
from rtl_jax.lab.inputs import load_network
from rtl_jax.lab.sweep.estimate import Costs, operations
from rtl_jax.lab.sweep.grid import Cell, cells, groups
from rtl_jax.lab.sweep.kept import keeps
from rtl_jax.lab.sweep.measure import measure
from rtl_jax.models.registry import Architecture
from rtl_jax.runtime import devices
from rtl_jax.runtime.paths import data_path
from rtl_jax.train.abstract import Stored
from rtl_jax.train.parallel import memory, planned_at_once
from rtl_jax.train.program import Program
from rtl_jax.train.split import SplitNetwork


@dataclasses.dataclass(frozen=True)
class Sizes:
    """The size of a data set: training images, test images and classes."""

    train: int
    test: int
    classes: int


# The paper's Table 6, and the data set that comes with scikit-learn.
KNOWN = {
    "tfds:cifar10": Sizes(50_000, 10_000, 10),
    "tfds:cifar100": Sizes(50_000, 10_000, 100),
    "tfds:svhn_cropped": Sizes(73_257, 26_032, 10),
    "tfds:fashion_mnist": Sizes(60_000, 10_000, 10),
    "tfds:kmnist": Sizes(60_000, 10_000, 10),
    "tfds:mnist": Sizes(60_000, 10_000, 10),
    "digits": Sizes(1_197, 600, 10),
}


@dataclasses.dataclass(frozen=True)
class Planned:
    """A cell, the number of its finished runs, and the cost of the others, if known."""

    cell: Cell
    done: int
    parallel: int | None = None  # seeds in one program
    memory: int | None = None  # bytes, for these seeds
    seconds: float | None = None  # for all missing runs, extrapolated from timed steps
    work: float | None = None  # floating-point operations of all missing runs

    @property
    def missing(self) -> int:
        """Runs to do."""
        return len(self.cell.seeds) - self.done


_KINDS = ("source", "target")  # of a cell's pair, as in the names of what is absent


@dataclasses.dataclass(frozen=True)
class Plan:
    """All cells of a sweep, and the missing sources and targets."""

    planned: tuple[Planned, ...]
    absent: tuple[str, ...]

    def present(self) -> list[Cell]:
        """Return the cells whose source and target exist, in order."""
        return [
            one.cell
            for one in self.planned
            if not {f"{kind} {name}" for kind, name in zip(_KINDS, one.cell.pair, strict=True)}
            & set(self.absent)
        ]

    def works(self) -> dict[Cell, float | None]:
        """Return the floating-point operations of each cell's missing runs, or None if unknown."""
        return {one.cell: one.work if one.missing else 0.0 for one in self.planned}

    def describe(self) -> str:
        """Describe the plan: a line per number of blocks and of images, and the totals.

        In a dry run, the cost is included.
        """
        runs = sum(len(one.cell.seeds) for one in self.planned)
        done = sum(one.done for one in self.planned)
        priced = any(one.memory is not None for one in self.planned)
        head = f"{'blocks':>7}{'images':>9}{'cells':>7}{'runs':>8}{'done':>8}"
        lines = [f"{head}{'at once':>9}{'memory':>11}{'hours':>9}" if priced else head]
        kinds: dict[tuple, list[Planned]] = {}
        for one in self.planned:
            blocks = one.cell.experiment.transfer.blocks
            kinds.setdefault((blocks, one.cell.num_images), []).append(one)
        for (blocks, size), members in kinds.items():
            lines.append(
                f"{'every' if blocks is None else blocks:>7}{size or 'all':>9}{len(members):7d}"
                f"{sum(len(one.cell.seeds) for one in members):8d}"
                f"{sum(one.done for one in members):8d}" + (_cost(members) if priced else "")
            )
        lines.append(f"{len(self.planned)} cells, {runs} runs, {done} done, {runs - done} to do")
        lines += [f"missing: {what}" for what in self.absent]
        return "\n".join(lines)


def _cost(members: Sequence[Planned]) -> str:
    """Format cells' seeds at once (maximum), memory (maximum) and hours (sum); '?' if unknown."""
    memory = [one.memory for one in members if one.memory is not None]
    parallel = [one.parallel for one in members if one.parallel is not None]
    seconds = [one.seconds for one in members if one.seconds is not None]
    return (
        (f"{max(parallel):9d}" if parallel else f"{'?':>9}")
        + (f"{max(memory) / 2**30:7.2f} GiB" if memory else f"{'?':>11}")
        + (f"{sum(seconds) / 3600:9.2f}" if len(seconds) == len(members) else f"{'?':>9}")
    )


def plan(experiment: Experiment, workdir: epath.PathLike) -> Plan:
    """Plan a sweep in a work directory, with its work and, in a dry run, its memory and time.

    Raises UserError if batches would not fit in memory.
    """
    grid = cells(experiment)
    done = _done(experiment.sweep, workdir)
    architectures = _Architectures()
    planned = []
    for group in groups(grid):
        members = [
            Planned(cell, sum(cell.member(seed).fingerprint() in done for seed in cell.seeds))
            for cell in group
        ]
        images = _images_of_features([one for one in members if one.missing])
        for one in members:
            architecture = architectures.of(one.cell.experiment.source) if one.missing else None
            if architecture is not None:
                one = _priced(one, architecture, images, experiment)
            planned.append(one)
    sources = {cell.experiment.source.checkpoint: cell.experiment.source for cell in grid}
    targets = {cell.experiment.target.dataset: cell.experiment.target for cell in grid}
    absent = [f"source {name}" for name, source in sources.items() if not _has_source(source)]
    absent += [f"target {name}" for name, target in targets.items() if not _has_target(target)]
    other = experiment.target.test_dataset
    if other and not _has_target(dataclasses.replace(experiment.target, dataset=other)):
        absent.append(f"test images {other}")
    return Plan(tuple(planned), tuple(absent))


def shares(parts: Iterable[Iterable[float | None]]) -> list[float]:
    """Return each part's weight in the whole, from the works of its cells (`Plan.works`).

    If any of them is unknown, all unfinished cells count equally.
    """
    works = [tuple(part) for part in parts]
    known = all(None not in part for part in works)
    return [sum(float((work or 0) if known else work != 0) for work in part) for part in works]


def member_of(rows: pd.DataFrame, experiment: Experiment) -> pd.DataFrame:
    """Select the rows whose settings are those of a run of the sweep."""
    wanted = {cell.member(seed).fingerprint() for cell in cells(experiment) for seed in cell.seeds}
    settings = {config: _fingerprint(config) for config in rows["config"].unique()}
    return rows[rows["config"].map(settings).isin(wanted)].reset_index(drop=True)


def _done(sweep: Sweep, workdir: epath.PathLike) -> set[str | None]:
    """Return the fingerprints of the settings alone, without content, of all finished runs.

    These have rows, and the networks and logits that the sweep keeps.
    """
    known = results.recorded(workdir, ["run", "config"])
    kept = [config for run, config in known.itertuples(index=False) if keeps(run, sweep, workdir)]
    return {_fingerprint(config) for config in dict.fromkeys(kept)}


def _fingerprint(config: str) -> str | None:
    """Return the fingerprint of a row's settings, or None if another version wrote them."""
    try:
        return freeze(json.loads(config)).fingerprint()
    except UserError:
        return None


class _Architectures:
    """The architecture of each source: its checkpoint's or, if that is absent, the setting's."""

    def __init__(self) -> None:
        self._known: dict[Source, Architecture | None] = {}

    def of(self, source: Source) -> Architecture | None:
        if source not in self._known:
            self._known[source] = _architecture(source)
        return self._known[source]


def _architecture(source: Source) -> Architecture | None:
    named = dataclasses.replace(source, checkpoint="random")
    for one in (source, named):
        try:
            return load_network(one).architecture
        except UserError:
            continue  # absent or not converted, or no architecture is named
    return None


def _images(cell: Cell) -> tuple[int, int] | None:
    """Return the numbers of training and test images of each run; None if they are unknown."""
    target = cell.experiment.target
    sizes = KNOWN.get(target.dataset)
    number = cell.num_images or (sizes and sizes.train)
    tested = target.num_test_images or (sizes and sizes.test)
    if not number or not tested:
        return None
    return number, min(tested, sizes.test) if sizes else tested


def _images_of_features(members: Sequence[Planned]) -> float:
    """Estimate, per cell, the images whose features the cells of a group compute, each once.

    A seed's subset of one size nearly contains that of a smaller one, and other settings do not
    change it. Subsets of other seeds overlap by chance, or not at all if it is unknown of how many
    images they are drawn.
    """
    known = [images for one in members if (images := _images(one.cell))]
    if not known:
        return 0.0
    number, tested = (max(of) for of in zip(*known, strict=True))
    folds = {one.cell.experiment.target.fold for one in members}
    draws = len(folds) * max(one.missing for one in members)
    sizes = KNOWN.get(members[0].cell.experiment.target.dataset)
    different = float(draws * number)
    if sizes is not None:
        different = sizes.train * (1 - (1 - min(number / sizes.train, 1)) ** draws)
    return (different + tested) / len(members)


def _priced(
    one: Planned, architecture: Architecture, images: float, experiment: Experiment
) -> Planned:
    """Add its work and, in a dry run, its other costs; unchanged if the sizes are unknown.

    `images` is its share of the images whose features its group computes.
    """
    settings, known = one.cell.experiment, _images(one.cell)
    if known is None:
        return one
    number, tested = known
    sizes, classes = KNOWN.get(settings.target.dataset), settings.target.classes
    # If the number of classes is unknown, any will do: the head hardly counts.
    num_classes = len(classes) if classes else (sizes.classes if sizes else 10)
    network = SplitNetwork.of(
        architecture.replace(num_classes=num_classes), settings.transfer, settings.target.image_size
    ).replace(dtype=devices.compute_dtype(settings.transfer.precision))
    epochs = settings.transfer.epochs_for(number)
    program = Program(network, settings.transfer, settings.augmentation, epochs)
    require_memory_for(program, number, tested)
    one = dataclasses.replace(
        one, work=_extrapolate(operations(program), one, program, number, tested, images)
    )
    if not experiment.dry_run:
        return one
    own = one.cell.experiment.source.checkpoint == "random"  # each seed starts from another one
    planned = program.replace(network=network.replace(own_params=own))
    seeds, stored = len(one.cell.seeds), Stored.expected(planned, number)
    with devices.matmul_precision(settings.transfer.precision):
        parallel = experiment.sweep.seeds_at_once
        parallel = parallel or next(planned_at_once(planned, seeds, number, stored))
        priced = dataclasses.replace(
            one, parallel=parallel, memory=memory(planned, parallel, number, stored)
        )
        if not experiment.sweep.measure:
            return priced
        step = measure(program.replace(network=network.replace(many=parallel > 1)), parallel)
    seconds = _extrapolate(step, priced, program, number, tested, images)
    return dataclasses.replace(priced, seconds=seconds)


def _extrapolate(
    step: Costs, one: Planned, program: Program, number: int, tested: int, images: float
) -> float:
    """Extrapolate the cost of one image and seed to all missing runs of a cell.

    `images` is its share of the images whose features its group computes, unless each seed has
    features of its own.
    """
    if program.network.own_statistics or one.cell.experiment.source.checkpoint == "random":
        images = one.missing * (number + tested)
    return one.missing * step.run(program, number, tested) + images * step.prefix


def _has_source(source: Source) -> bool:
    name = source.checkpoint
    found_elsewhere = name == "random" or name.startswith(("hf:", "bundled:"))
    return found_elsewhere or epath.Path(name).expanduser().exists()


def _has_target(target: Target) -> bool:
    kind, _, rest = target.dataset.partition(":")
    if kind == "digits":
        return True
    if kind != "tfds":
        return local(rest).exists()
    directory = data_path(target.data_dir)
    known = originals.TARGETS.get(rest)
    if known is not None and originals.find(known, directory):
        return True
    return tfds.find_prepared(rest, directory) is not None
