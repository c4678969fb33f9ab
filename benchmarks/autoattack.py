"""AutoAttack compared with torch: `python -m benchmarks.autoattack NORM EPS [--output FILE]`.

On the same network, images and labels: the ensemble 'standard', then each of its attacks alone on
correctly classified images. Reports robust accuracies in percent and CPU seconds for both sides;
compilation is measured separately beforehand, on initially misclassified images. The torch side is
pyautoattack, with its own random seed.
"""

import argparse
import functools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks import machine
from rtl_jax.attacks import AutoAttack, attack, autoattack
from rtl_jax.attacks.base import LogitsFn
from rtl_jax.attacks.batches import CPU_BATCH
from rtl_jax.convert.state_dicts import state_dict
from rtl_jax.convert.torch_resnet import TorchResNet, torch_resnet
from rtl_jax.data import draw_test_subset, load_dataset
from rtl_jax.data.transforms import prepare
from rtl_jax.models import bundled
from rtl_jax.models.network import Network
from rtl_jax.runtime.resources import cores
from tests.torch_networks import nchw

Row = dict[str, Any]


def load(source: str, dataset: str, number: int) -> tuple[LogitsFn, TorchResNet, Any, Any]:
    """Load a bundled network in both frameworks, and test images [N, 32, 32, 3] and labels [N]."""
    network = bundled.load(source)
    state = state_dict(network.architecture, network.params, network.batch_stats)
    theirs = torch_resnet(network.architecture).eval().requires_grad_(False)
    theirs.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    variables = jax.tree.map(jnp.asarray, (network.params, network.batch_stats))
    ours = Network(network.architecture, *variables).logits_fn()
    # The network knows the first classes of the dataset.
    classes = range(network.architecture.num_classes)
    data = load_dataset(dataset, data_dir=None, image_size=32, classes=classes)
    test = data.test.take(draw_test_subset(data.test.labels, number, data.num_classes))
    return ours, theirs, np.asarray(prepare(test.images, 32)), test.labels


def compile_seconds(
    logits_fn: LogitsFn, images: np.ndarray, labels: np.ndarray, settings: AutoAttack
) -> float:
    """Return the CPU seconds of compiling every attack's program."""
    began = time.process_time()
    size = min(CPU_BATCH, len(images))
    wrong = (np.asarray(logits_fn(images[:size])).argmax(1) + 1).astype(np.int32)
    wrong = np.where(wrong < jax.eval_shape(logits_fn, images[:1]).shape[-1], wrong, 0)
    for member in settings.members().values():
        key, rows = jax.random.key(0), jnp.arange(size)
        attack(
            logits_fn,
            jnp.asarray(images[:size]),
            jnp.asarray(wrong),
            0.1,
            member,
            key,
            indices=rows,
            num_parallel=1,
            restart_indices=jnp.arange(1),
        )
    return time.process_time() - began


def timed(run: Callable[[], np.ndarray]) -> tuple[float, float, float]:
    """Time `run`; return the percentage of images that withstood, wall seconds and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    withstood = run()
    return 100 * float(withstood.mean()), time.perf_counter() - wall, time.process_time() - cpu


def in_torch(
    network: TorchResNet,
    images: np.ndarray,
    labels: np.ndarray,
    eps: float,
    settings: AutoAttack,
) -> np.ndarray:
    """Run pyautoattack on the same inputs; return which images withstood, bool [N]."""
    from pyautoattack import AutoAttack as Theirs

    version = "custom" if settings.attacks else settings.version
    chosen = list(settings.attacks) or None
    theirs = Theirs(
        network, norm=settings.threat.display_name, eps=eps, seed=0, version=version, attacks=chosen
    )
    theirs.square.n_queries = settings.queries
    if settings.attacks:  # as in 'standard'
        theirs.apgd.n_restarts = theirs.fab.n_restarts = 1
    # pyautoattack uses views that require NCHW in memory, too.
    found, _ = theirs.run_standard_evaluation(nchw(images), torch.tensor(labels).long())
    with torch.no_grad():
        return network(found).argmax(1).numpy() == labels


def compare(
    ours: LogitsFn,
    theirs: TorchResNet,
    images: np.ndarray,
    labels: np.ndarray,
    eps: float,
    settings: AutoAttack,
) -> Row:
    """Evaluate in both frameworks."""

    def jax_run() -> np.ndarray:
        found = autoattack(ours, images, labels, eps, settings, jax.random.key(0))
        for warning in found.warnings:
            print(f"warning: {warning.name}: {warning.message}", flush=True)
        return np.asarray(found.broken_by) == ""

    ours_found = timed(jax_run)
    print(f"jax: {ours_found[0]:.3g} %, {ours_found[2]:.3g} s of the processor", flush=True)
    theirs_found = timed(functools.partial(in_torch, theirs, images, labels, eps, settings))
    return {
        "attacks": ",".join(settings.attacks) or settings.version,
        "jax": ours_found[0],
        "torch": theirs_found[0],
        "jax_s": ours_found[1],
        "torch_s": theirs_found[1],
        "ratio": ours_found[1] / theirs_found[1],
        "cpu_ratio": ours_found[2] / theirs_found[2],
        "jax_cpu_s": ours_found[2],
        "torch_cpu_s": theirs_found[2],
    }


def main() -> None:
    """Measure, print, and optionally write JSON after every row."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.autoattack", description=__doc__)
    parser.add_argument("norm", choices=("linf", "l2", "l1"))
    parser.add_argument("eps", type=float)
    parser.add_argument("--source", default="l2", metavar="NAME", help="of a bundled network")
    parser.add_argument("--dataset", default="tfds:tiny_imagenet32", metavar="NAME")
    parser.add_argument("--images", type=int, default=200, metavar="N")
    parser.add_argument("--queries", type=int, default=1000, metavar="N", help="of Square, in both")
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write JSON here")
    options = parser.parse_args()
    torch.set_num_threads(cores())
    described = machine.describe()
    print(", ".join(f"{name} {value}" for name, value in described.items()), flush=True)
    ours, theirs, images, labels = load(options.source, options.dataset, options.images)
    whole = AutoAttack(options.norm, queries=options.queries)
    compiling = compile_seconds(ours, images, labels, whole)
    print(f"compiled in {compiling:.1f} s of the processor", flush=True)
    rows: list[Row] = []
    for names in ((), *((name,) for name in whole.members())):
        settings = AutoAttack(options.norm, attacks=names, queries=options.queries)
        row = compare(ours, theirs, images, labels, options.eps, settings)
        print(
            ", ".join(f"{k} {v if isinstance(v, str) else f'{v:.3g}'}" for k, v in row.items()),
            flush=True,
        )
        rows.append(row)
        if options.output:
            report = {"machine": described, "compile_cpu_s": compiling, "rows": rows}
            options.output.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
