"""The task `attack`: a network's accuracy on attacked test images, radius by radius."""

from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd
from etils import epath

from rtl_jax.attacks import batch_cache
from rtl_jax.attacks.adversarial import robustness_curve
from rtl_jax.attacks.autoattack import Evaluation, autoattack
from rtl_jax.attacks.base import LogitsFn
from rtl_jax.attacks.registry import make_attack
from rtl_jax.data import ImageSet
from rtl_jax.data.batching import padded_batches
from rtl_jax.data.transforms import prepare_to_attack
from rtl_jax.lab import config, results
from rtl_jax.lab.attack.corruptions import corruption_rows
from rtl_jax.lab.attack.networks import NetworkUnderAttack, networks_under_attack
from rtl_jax.lab.attack.plots import draw_curve, draw_images
from rtl_jax.lab.compatibility import draw_test_images, unseen, with_own_labels
from rtl_jax.lab.config import Experiment
from rtl_jax.lab.evaluation import method
from rtl_jax.lab.inputs import as_tested, load_target
from rtl_jax.lab.memory import Batch, Use, require_memory
from rtl_jax.lab.run import Run, open_run
from rtl_jax.models.network import Network
from rtl_jax.runtime import devices
from rtl_jax.runtime.digest import digest
from rtl_jax.runtime.progress import bar
from rtl_jax.smoothing import Certified, Smoothing, certify


class Measured(NamedTuple):
    """Results of an attack, for radii [E] and images [N].

    success: bool [E, N], whether misclassified, confirmed by a second evaluation.
    losses: float [E, N], the attack's loss at the images found.
    norms: float [E, N], of the perturbations.
    shown: float16 [E, S, H, W, 3], the first images found, for the figure.
    """

    success: np.ndarray
    losses: np.ndarray
    norms: np.ndarray
    shown: np.ndarray


def run_attack(experiment: Experiment, workdir: epath.PathLike) -> pd.DataFrame:
    """Attack the test images with every radius of `attack.eps`; return a row for each.

    The network is `source.checkpoint`, and its classes are those of `target.dataset`; `attack.runs`
    instead attacks every fine-tuned network of a work directory, on its own target. Rows go to
    WORKDIR/rows, a curve and a grid of perturbed images to WORKDIR/runs/RUN. Images are attacked in
    batches, each saved when it is done, so that the same command resumes where it was interrupted.

    Images are taken at the network's own size, classes are matched by name, and the network's
    training images are left out. Raises UserError for user-fixable errors, including a network with
    other classes.
    """
    with devices.matmul_precision(experiment.attack.precision):
        runs = [
            measure(one, *_load(one), workdir).name for one in networks_under_attack(experiment)
        ]
    table = results.read_rows(workdir)
    return table[table["run"].isin(runs)].reset_index(drop=True)


def measure(
    subject: NetworkUnderAttack, images: ImageSet, order: str, workdir: epath.PathLike
) -> Run:
    """Attack one network on images, unless it has rows already; return the finished run.

    `order` is the order of the images' data set, for the rows.
    """
    run_name = subject.experiment.fingerprint(
        network=subject.network.digest, images=digest((images.images, images.labels))
    )
    with open_run(workdir, run_name, scratch="batches") as run:
        if run.pending:
            whole = subject.experiment.attack.method == "corruptions"
            run.finish((corruption_rows if whole else _rows)(subject, images, order, run))
    if any(run.directory.glob("*.png")):
        print(f"figures are in {run.directory}")
    return run


def _rows(
    subject: NetworkUnderAttack, images: ImageSet, order: str, run: Run
) -> list[dict[str, Any]]:
    """Attack the images, draw the figures, and return a row for each radius."""
    _, network, experiment, columns = subject
    settings = experiment.attack
    certified = settings.method == "smoothing"
    measured, seconds, warnings = _measure(experiment, network, images, run.directory)
    rows = [
        results.row(
            experiment,
            run=run.name,
            method=settings.method,
            data_order=order,
            num_test_images=len(images),
            norm=settings.norm,
            eps=eps,
            warnings=warnings[index],
            accuracy=100 * (1 - float(measured.success[index].mean())),
            loss=None if certified else float(measured.losses[index].mean()),
            seconds=seconds,
            **network.columns(),
            **columns,
            **devices.describe(),
        )
        for index, eps in enumerate(settings.eps)
    ]
    if measured.shown.shape[1]:
        draw_images(run.directory / "images.png", settings, measured.shown, measured.success)
    draw_curve(run.directory / "curve.png", settings, results.frame(rows))
    return rows


def _load(subject: NetworkUnderAttack) -> tuple[ImageSet, str]:
    """Load the test images that the network was not trained on, and their data set's order."""
    name, network, experiment, _ = subject
    target = experiment.target
    dataset = load_target(target)
    images = dataset.test.take(draw_test_images(target, dataset))
    images = with_own_labels(name, network, dataset, images)
    images = as_tested(images.take(unseen(name, network, images)), target)
    method = experiment.attack.method
    norm = "" if method == "corruptions" else f", {experiment.attack.norm}"
    print(
        f"{name} ({network.architecture.name}) under {method}{norm}: {len(images)} test images of "
        f"{target.dataset}, in {dataset.order} order, at {target.image_size} px"
    )
    return images, dataset.order


def _measure(
    experiment: Experiment, network: Network, images: ImageSet, directory: epath.Path
) -> tuple[Measured, float, list[str | None]]:
    """Attack the images; return the results, the seconds, and each radius's warnings by name."""
    settings, dtype = experiment.attack, devices.compute_dtype(experiment.attack.precision)
    use: Use = "look" if settings.method in ("gaussian", "smoothing") else "attack"
    # Smoothing fills its batches with noisy copies.
    size = settings.batch_size if settings.method == "smoothing" else len(images)
    batch = Batch("attack.batch_size", min(settings.batch_size, size), use)
    require_memory(network.architecture, experiment.target.image_size, batch, dtype=dtype)
    logits_fn = network.logits_fn(dtype=dtype)
    key, batches = jax.random.key(experiment.seed), directory / "batches"
    if settings.method == "smoothing":
        measured, seconds = _certify(experiment, logits_fn, images, key, batches)
        return measured, seconds, [None] * len(settings.eps)
    if settings.method != "autoattack":
        measured, seconds = _attack(experiment, logits_fn, images, key, batches)
        return measured, seconds, [None] * len(settings.eps)
    found = _autoattack(experiment, logits_fn, images, key, batches)
    if settings.save_images:
        every = np.stack([one.adversarial.images for one in found])
        broken = np.stack([one.adversarial.success for one in found])
        arrays = {"images": every, "success": broken, "labels": images.labels}
        batch_cache.keep(directory / "adversarial.npz", {"eps": np.asarray(settings.eps), **arrays})
    warnings = [",".join(sorted({warning.name for warning in one.warnings})) for one in found]
    return _gathered(found, settings), sum(one.seconds for one in found), list(warnings)


def _certify(
    experiment: Experiment,
    logits_fn: LogitsFn,
    images: ImageSet,
    key: jax.Array,
    directory: epath.Path,
) -> tuple[Measured, float]:
    """Certify all images; an attack succeeds if the class is wrong or the radius too small."""
    settings, parts, seconds = experiment.attack, [], 0.0
    size = experiment.target.image_size
    smoothing = Smoothing(
        settings.sigma, settings.samples, settings.selection_samples, settings.alpha
    )
    with bar("certifying", len(images), leave=True) as progress:
        for rows, number, _ in padded_batches(len(images), settings.batch_size):

            def found(rows: np.ndarray = rows, number: int = number) -> dict[str, np.ndarray]:
                one = certify(
                    logits_fn,
                    np.asarray(prepare_to_attack(images.images[rows], size)),
                    images.labels[rows],
                    smoothing,
                    key,
                    indices=rows,
                    batch_size=settings.batch_size,
                )
                return {name: values[:number] for name, values in vars(one).items()}

            stored = batch_cache.once(directory / f"{int(rows[0]):08d}.npz", found)
            seconds += float(stored.pop("seconds"))
            parts.append(Certified(**stored))
            progress.update(number)
    correct, radii = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("correct", "radii")
    )
    success = np.stack([~(correct & (radii >= eps)) for eps in settings.eps])
    nothing = np.full(success.shape, np.nan)
    shown = np.zeros((len(settings.eps), 0, 1, 1, 3), np.float16)
    return Measured(success, nothing, np.broadcast_to(radii, success.shape), shown), seconds


def _autoattack(
    experiment: Experiment,
    logits_fn: LogitsFn,
    images: ImageSet,
    key: jax.Array,
    directory: epath.Path,
) -> list[Evaluation]:
    """Run AutoAttack at every radius, printing each step's accuracy and the warnings."""
    settings, found = experiment.attack, []
    ensemble = make_attack("autoattack", **vars(settings))
    pixels = np.asarray(prepare_to_attack(images.images, experiment.target.image_size))
    for eps in settings.eps:
        one = autoattack(
            logits_fn,
            pixels,
            images.labels,
            eps,
            ensemble,
            key,
            batch_size=settings.batch_size,
            directory=directory,
        )
        steps = [f"{name} {100 * share:.1f}%" for name, share in one.accuracies.items()]
        print(f"eps {eps:.4g}: {', '.join(steps)}")
        for warning in one.warnings:
            print(f"warning: {warning.name}: {warning.message}")
        found.append(one)
    return found


def _gathered(found: list[Evaluation], settings: config.Attack) -> Measured:
    every = [one.adversarial for one in found]
    shown = np.stack([one.images[: settings.num_shown] for one in every]).astype(np.float16)
    success, losses, norms = (
        np.stack([getattr(one, name) for one in every]) for name in ("success", "losses", "norms")
    )
    return Measured(success, losses, norms, shown)


def _attack(
    experiment: Experiment,
    logits_fn: LogitsFn,
    images: ImageSet,
    key: jax.Array,
    directory: epath.Path,
) -> tuple[Measured, float]:
    """Attack all images, batch by batch; batches in `directory` are not attacked again."""
    settings, total = experiment.attack, len(images)
    parts: list[Measured] = []
    seconds = 0.0
    with bar("attacking", total, leave=True) as progress:
        for rows, number, _ in padded_batches(total, settings.batch_size):

            def found(rows: np.ndarray = rows, number: int = number) -> dict[str, np.ndarray]:
                one = robustness_curve(
                    logits_fn,
                    prepare_to_attack(images.images[rows], experiment.target.image_size),
                    jax.device_put(images.labels[rows]),
                    settings.eps,
                    method(settings),
                    key,
                    indices=jax.device_put(rows),
                )
                kept = max(min(settings.num_shown - int(rows[0]), number), 0)
                return {
                    "success": np.asarray(one.success)[:, :number],
                    "losses": np.asarray(one.losses, np.float32)[:, :number],
                    "norms": np.asarray(one.norms, np.float32)[:, :number],
                    "shown": np.asarray(one.images[:, :kept], np.float16),
                }

            stored = batch_cache.once(directory / f"{int(rows[0]):08d}.npz", found)
            part = Measured(*(stored[name] for name in Measured._fields))
            parts.append(part)
            seconds += float(stored["seconds"])
            progress.update(number)
            broken = np.concatenate([part.success for part in parts], axis=1).mean(1)
            pairs = zip(settings.eps, broken, strict=True)
            shown = {f"{eps:.3g}": f"{100 * (1 - share):.1f}%" for eps, share in pairs}
            progress.set_postfix(shown, refresh=False)
    whole = (np.concatenate(leaves, axis=1) for leaves in zip(*parts, strict=True))
    return Measured(*whole), seconds
