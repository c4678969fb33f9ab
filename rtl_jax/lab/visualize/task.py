"""The task `visualize`: pictures of what several networks see, next to each other."""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pandas as pd
from etils import epath

from rtl_jax.data import Dataset, ImageSet, draw_test_subset
from rtl_jax.data.transforms import prepare, prepare_to_attack
from rtl_jax.lab import results
from rtl_jax.lab.compatibility import at_own_size, draw_test_images, name_seen, with_own_labels
from rtl_jax.lab.config import Experiment, Visualize
from rtl_jax.lab.inputs import load_network, load_target
from rtl_jax.lab.memory import Batch, require_memory
from rtl_jax.lab.run import open_run
from rtl_jax.lab.visualize import saliency
from rtl_jax.lab.visualize.features import raise_features, require_units
from rtl_jax.lab.visualize.plots import Row, draw_rows
from rtl_jax.models.network import Network
from rtl_jax.runtime import devices
from rtl_jax.runtime.digest import digest
from rtl_jax.runtime.paths import complete_or_absent, short_names
from rtl_jax.runtime.progress import bar


class Seen(NamedTuple):
    """What a network sees in images: rows of the figure, arrays for the archive, and roughness.

    The roughness is the mean `total_variation` of the gradients, or of the changes that raise a
    feature; it is nan if no image was changed.
    """

    rows: list[Row]
    arrays: dict[str, np.ndarray]
    roughness: float


def run_visualize(experiment: Experiment, workdir: epath.PathLike) -> pd.DataFrame:
    """Draw what each of `visualize.sources` sees in test images; return a row for each source.

    Rows go to WORKDIR/rows, the figure and the arrays that it shows to WORKDIR/runs/RUN. A finished
    run is not repeated. Raises UserError for user-fixable errors.
    """
    started = time.monotonic()
    with devices.matmul_precision("float32"):
        networks = _load_sources(experiment)
        target = at_own_size(experiment.target, networks)
        experiment = dataclasses.replace(experiment, target=target)
        dataset = load_target(target)
        images = _draw(experiment, dataset)
        name = experiment.fingerprint(
            networks=[one.digest for one in networks.values()],
            images=digest((images.images, images.labels)),
        )
        with open_run(workdir, name) as run:
            if run.pending:
                seen = _look(experiment, networks, dataset, images)
                _write(run.directory, experiment, dataset, images, seen)
                known = {
                    "run": run.name,
                    "data_order": dataset.order,
                    "num_test_images": len(images),
                    "seconds": time.monotonic() - started,
                }
                pairs = zip(networks.items(), seen, strict=True)
                run.finish(_row(experiment, source, one, **known) for source, one in pairs)
        print(f"figures are in {run.directory}")
    return run.rows()


def _load_sources(experiment: Experiment) -> dict[str, Network]:
    """Load the networks by `source.checkpoint`, in the settings' order."""
    names = experiment.visualize.sources or (experiment.source.checkpoint,)
    sources = {name: dataclasses.replace(experiment.source, checkpoint=name) for name in names}
    return {name: load_network(source, experiment.seed) for name, source in sources.items()}


def _draw(experiment: Experiment, dataset: Dataset) -> ImageSet:
    """Draw the test images to use, those of the figure first."""
    target, settings, test = experiment.target, experiment.visualize, dataset.test
    rows = draw_test_images(target, dataset)
    shown = draw_test_subset(test.labels[rows], settings.num_shown, dataset.num_classes)
    if settings.show == "features":
        return test.take(rows[shown])
    return test.take(np.concatenate([rows[shown], np.delete(rows, shown)]))


def _look(
    experiment: Experiment, networks: dict[str, Network], dataset: Dataset, images: ImageSet
) -> list[Seen]:
    """Return what each network sees."""
    settings, size = experiment.visualize, experiment.target.image_size
    labelled = {}
    for name, network in networks.items():  # all of them, before any work
        if settings.show == "features":
            require_units(network.architecture, settings, name)
            labelled[name] = images
        else:
            labelled[name] = with_own_labels(name, network, dataset, images)
        name_seen(name, network, images, "their figures show what it has learned from them")
        require_memory(network.architecture, size, _batch(settings, len(images)))
    seen = []
    with bar(settings.show, len(images) * len(networks)) as progress:
        for label, (name, network) in zip(
            short_names(list(networks)), networks.items(), strict=True
        ):
            look = _features if settings.show == "features" else _gradients
            seen.append(look(settings, size, network, labelled[name], label))
            progress.update(len(images))
    return seen


def _batch(settings: Visualize, number: int) -> Batch:
    """Return the largest batch of images that passes through a network at once."""
    if settings.show == "features":
        return Batch("visualize.num_shown", number, "attack")
    return Batch("target.num_test_images", min(saliency.BATCH, number), "attack")


def _features(
    settings: Visualize, size: int, network: Network, images: ImageSet, name: str
) -> Seen:
    """Find images that raise the network's features, and the roughness of the changes."""
    originals = prepare_to_attack(images.images, size)
    raised = raise_features(network, originals, settings, name)
    rows = [Row(name, pictures, raised.titles(rank)) for rank, pictures in enumerate(raised.images)]
    changes = (raised.images - np.asarray(originals)).reshape(-1, *originals.shape[1:])
    values, changed = _roughness(changes)
    if not changed.all():
        print(f"{name}: {(~changed).sum()} of {len(values)} images are unchanged, since their "
              "feature is 0 everywhere")  # fmt: skip
    return Seen(rows, raised._asdict(), _mean(values[changed]))


def _gradients(
    settings: Visualize, size: int, network: Network, images: ImageSet, name: str
) -> Seen:
    """Compute input gradients of the first images, for the figure, and the roughness of all."""
    logits_fn = network.logits_fn()
    kept: list[np.ndarray] = []
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for part in saliency.gradients(logits_fn, saliency.prepared(images, size), settings.loss):
        kept += list(part[: settings.num_shown - len(kept)])
        found.append(_roughness(part))
    shown = np.stack(kept)
    values, sloped = map(np.concatenate, zip(*found, strict=True))
    if not sloped.all():
        print(f"{name}: {(~sloped).sum()} of {len(values)} gradients are 0 in every pixel and have "
              "no roughness: a loss of 0 has none; visualize.loss=logit does")  # fmt: skip
    return Seen([Row(name, saliency.visible(shown))], {"gradients": shown}, _mean(values[sloped]))


def _roughness(found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the roughness of gradients or changes [N, H, W, C], and which are not 0, bool [N]."""
    values = saliency.total_variation(jnp.asarray(found))
    return np.asarray(values), np.asarray(found.any((1, 2, 3)))


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _write(
    directory: epath.Path,
    experiment: Experiment,
    dataset: Dataset,
    images: ImageSet,
    seen: Sequence[Seen],
) -> None:
    """Write the figure, images first and every source below, and an archive of its arrays."""
    first = images.take(np.arange(experiment.visualize.num_shown))
    originals = np.asarray(prepare(first.images, experiment.target.image_size))
    titles = [dataset.class_names[label] for label in first.labels]
    rows = [Row("images", originals, titles), *(row for one in seen for row in one.rows)]
    name = experiment.visualize.show
    draw_rows(directory / f"{name}.png", rows)
    arrays = {key: np.stack([one.arrays[key] for one in seen]) for key in seen[0].arrays}
    arrays |= {"originals": originals, "labels": first.labels}
    archive = directory / f"{name}.npz"
    with complete_or_absent(archive, replace=True) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def _row(
    experiment: Experiment, source: tuple[str, Network], seen: Seen, **columns: Any
) -> dict[str, Any]:
    """Return a source's row."""
    (name, network), settings = source, experiment.visualize
    ball = {"norm": "l2", "eps": settings.eps} if settings.show == "features" else {}
    return results.row(
        experiment,
        method=settings.show,
        source=name,
        roughness=seen.roughness,
        **network.columns(),
        **ball,
        **columns,
        **devices.describe(),
    )
