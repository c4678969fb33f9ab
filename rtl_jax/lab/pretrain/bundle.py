"""From a finished pre-training to a bundled source: round, measure, write the card.

    python -m rtl_jax.lab.pretrain.bundle l2 --config configs/sources/tiny_l2.py \\
      --workdir runs/tiny_l2 --machine "2 cores of a laptop"

replaces rtl_jax/models/bundled/l2.safetensors. Settings from the command line of the training have
to be repeated (--config.pretraining.epochs=24). --figure FILE draws the input gradients of all
bundled sources. The network is measured as it is stored, in 16 bits.
"""

import argparse
import sys
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from rtl_jax.attacks.adversarial import attack
from rtl_jax.attacks.pgd import PGD
from rtl_jax.data import ImageSet, draw_test_subset
from rtl_jax.data.transforms import prepare
from rtl_jax.errors import UserError
from rtl_jax.lab import cli, results
from rtl_jax.lab.compatibility import draw_test_images
from rtl_jax.lab.config import Experiment, freeze
from rtl_jax.lab.inputs import load_target
from rtl_jax.lab.visualize.plots import Row, draw_rows
from rtl_jax.lab.visualize.saliency import gradients, prepared, total_variation, visible
from rtl_jax.models import bundled
from rtl_jax.models.network import Network
from rtl_jax.models.sources import load_source
from rtl_jax.runtime.output import run_and_exit
from rtl_jax.runtime.progress import bar

COMMON: tuple[str, float] = ("l2", 0.5)  # the ball in which all are attacked, besides their own
NUM_ATTACKED = 1000
NUM_GRADIENTS = 256


def card(
    experiment: Experiment, workdir: str, network: Network, command: str, machine: str
) -> dict[str, Any]:
    """Measure a source and return its card; attacking its validation images takes minutes."""
    settings = experiment.pretraining
    rows = results.read_rows(workdir)
    last = rows[rows["run"] == network.provenance["run"]].iloc[-1]
    images = _validation(experiment)
    few = images.take(
        draw_test_subset(images.labels, NUM_ATTACKED, network.architecture.num_classes)
    )
    own: tuple[str, float] = (settings.norm, settings.eps)
    if settings.perturbation == "none":
        own = COMMON
    robust = robust_accuracy(network, experiment, few, *COMMON)
    return {
        "perturbation": _perturbation(experiment),
        "command": command,
        "epochs": settings.epochs,
        "hours": round(float(last["seconds"]) / 3600, 3),
        "machine": machine,
        "date": str(last["time"])[:10],
        "versions": str(last["versions"]),
        "num_classes": network.architecture.num_classes,
        "clean_accuracy": round(clean_accuracy(network, experiment, images), 2),
        "num_validation_images": len(images),
        "attack": f"PGD(20), {COMMON[0]} {COMMON[1]}, best iterate, {NUM_ATTACKED} images",
        "robust_accuracy": robust,
        "own_attack": f"PGD(20), {own[0]} {own[1]:.4g}, best iterate, {NUM_ATTACKED} images",
        "own_robust_accuracy": (
            robust if own == COMMON else robust_accuracy(network, experiment, few, *own)
        ),
        "total_variation": round(float(np.mean(_roughness(network, experiment, few))), 3),
        "class_names": network.provenance["class_names"],
        "settings": network.provenance["settings"],
    }


def clean_accuracy(network: Network, experiment: Experiment, images: ImageSet) -> float:
    """Return top-1 accuracy in percent."""
    logits_fn = jax.jit(_logits_fn(network))
    hits = [
        np.asarray(logits_fn(pixels)).argmax(1) == labels
        for pixels, labels in _batches(experiment, images)
    ]
    return 100 * float(np.concatenate(hits).mean())


def robust_accuracy(
    network: Network, experiment: Experiment, images: ImageSet, norm: str, eps: float
) -> float:
    """Return top-1 accuracy in percent under PGD(20) from the image, with the best iterates."""
    logits_fn, settings = _logits_fn(network), PGD(norm, steps=20)
    held = 0
    with bar("attacking", len(images)) as progress:
        for pixels, labels in _batches(experiment, images):
            held += int((~attack(logits_fn, pixels, labels, eps, settings).success).sum())
            progress.update(len(labels))
    return round(100 * held / len(images), 2)


def draw_gradients(path: str, names: list[str], number: int = 6) -> None:
    """Draw images and their input gradients for each bundled source, as PNG."""
    rows: list[Row] = []
    for name in names:
        network = bundled.load(name)
        experiment = _experiment(network)
        images = _validation(experiment)
        few = images.take(draw_test_subset(images.labels, 100, network.architecture.num_classes))
        few = few.take(np.arange(number))
        if not rows:
            rows.append(
                Row("images", np.asarray(prepare(few.images, experiment.target.image_size)))
            )
        rows.append(Row(name, visible(_gradients(network, experiment, few))))
    draw_rows(epath.Path(path), rows)


def main(arguments: list[str]) -> int:
    """Bundle a run, or draw the figure; return 0, or 2 for user-fixable errors."""
    parser = argparse.ArgumentParser(prog="python -m rtl_jax.lab.pretrain.bundle")
    parser.add_argument("name", nargs="?", help="what bundled:NAME will be")
    parser.add_argument("--config", help="the config file that trained it")
    parser.add_argument("--workdir", help="where it was trained")
    parser.add_argument("--machine", help="what it was trained on, in words")
    parser.add_argument("--figure", help="draw all input gradients to this file")
    given, overrides = parser.parse_known_args(arguments)
    if overrides and not given.name:
        parser.error(f"unrecognized arguments: {' '.join(overrides)}")
    try:
        if given.name:
            _bundle(given, overrides)
        if given.figure:
            draw_gradients(given.figure, bundled.names())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _bundle(given: argparse.Namespace, overrides: list[str]) -> None:
    if not (given.config and given.workdir and given.machine):
        raise UserError("--config, --workdir and --machine are needed to bundle a source")
    experiment, _ = cli.parse(["--config", given.config, *overrides])
    network = load_source(given.workdir)
    _require_trained_by(experiment, network, given)
    stored = Network(
        network.architecture,
        {path: bundled.stored(path, leaf) for path, leaf in network.params.items()},
        network.batch_stats,
        network.provenance,
    )
    command = " ".join([f"python run.py --config {given.config}", *overrides])
    known = card(experiment, given.workdir, stored, command, given.machine)
    bundled.write(
        bundled.DIRECTORY / f"{given.name}.safetensors", network.replace(provenance=known)
    )
    print(f"bundled:{given.name}", *(f"  {name}: {known[name]}" for name in _SHOWN), sep="\n")


_SHOWN = ("clean_accuracy", "robust_accuracy", "own_robust_accuracy", "total_variation", "hours")


def _require_trained_by(
    experiment: Experiment, network: Network, given: argparse.Namespace
) -> None:
    """Raise UserError unless the network was trained with the config's settings."""
    wanted, found = experiment.to_dict(), network.provenance.get("settings", {})
    for group in ("source", "target", "augmentation", "pretraining"):
        for name, value in found.get(group, {"": None}).items():
            if _plain(wanted[group].get(name)) != _plain(value):
                raise UserError(
                    f"{given.workdir} was not trained by {given.config}: {group}.{name} differs"
                )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _experiment(network: Network) -> Experiment:
    """Return the settings in a card that are needed to evaluate its network."""
    settings = network.provenance["settings"]
    return freeze({group: settings[group] for group in ("task", "target", "pretraining")})


def _validation(experiment: Experiment) -> ImageSet:
    target = experiment.target
    dataset = load_target(target)
    return dataset.test.take(draw_test_images(target, dataset))


def _perturbation(experiment: Experiment) -> str:
    settings = experiment.pretraining
    if settings.perturbation == "none":
        return "nothing"
    search = f"PGD({settings.steps})"
    words = {"pgd": search, "fourier": f"{search} in frequencies", "gaussian": "Gaussian"}
    steps = words[settings.perturbation]
    return f"{steps}, {settings.norm} {settings.eps:.4g}"


def _logits_fn(network: Network) -> Any:
    params, stats = (
        {path: jnp.asarray(leaf, jnp.float32) for path, leaf in tree.items()}
        for tree in (network.params, network.batch_stats)
    )
    return Network(network.architecture, params, stats).logits_fn()


def _batches(experiment: Experiment, images: ImageSet) -> Iterator[tuple[jax.Array, jax.Array]]:
    return prepared(images, experiment.target.image_size)


def _gradients(network: Network, experiment: Experiment, images: ImageSet) -> np.ndarray:
    parts = gradients(_logits_fn(network), _batches(experiment, images))
    return np.concatenate(list(parts))


def _roughness(network: Network, experiment: Experiment, images: ImageSet) -> np.ndarray:
    found = _gradients(network, experiment, images.take(np.arange(NUM_GRADIENTS)))
    return np.asarray(total_variation(jnp.asarray(found)))


if __name__ == "__main__":
    run_and_exit(main, sys.argv[1:])
