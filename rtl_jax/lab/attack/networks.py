"""The networks under attack: that of the settings, or all those in a work directory."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from etils import epath

from rtl_jax.errors import UserError
from rtl_jax.lab.compatibility import at_own_size
from rtl_jax.lab.config import Experiment, freeze
from rtl_jax.lab.finetune.rows import training_columns
from rtl_jax.lab.inputs import load_network
from rtl_jax.lab.results import blocks_name
from rtl_jax.models.network import Network
from rtl_jax.models.storage import networks_in, read_manifest


class NetworkUnderAttack(NamedTuple):
    """A network, the settings of its attack, and further columns of its rows.

    name: for messages.
    columns: how a fine-tuned network was trained; empty for others.
    """

    name: str
    network: Network
    experiment: Experiment
    columns: dict[str, Any]


def networks_under_attack(experiment: Experiment) -> Iterator[NetworkUnderAttack]:
    """Yield the network of `source` or, with `attack.runs`, each fine-tuned one of that directory,
    or of those the ones with a seed in `attack.seeds`.

    The latter keep the settings of their fine-tuning, including target and seed, except for
    `target.num_test_images` and `target.data_dir`, which the experiment may override, and
    `target.corruption`, which is always the experiment's. Raises UserError if there is no such
    network.
    """
    if experiment.attack.runs is None:
        name, network = (
            experiment.source.checkpoint,
            load_network(experiment.source, experiment.seed),
        )
        target = at_own_size(experiment.target, {name: network})
        yield NetworkUnderAttack(name, network, dataclasses.replace(experiment, target=target), {})
        return
    workdir = epath.Path(experiment.attack.runs).expanduser()
    found = networks_in(workdir)
    if not found:
        raise UserError(
            f"attack.runs: {workdir} holds no networks: name the work directory of fine-tunings "
            "that have finished (of a sweep, one with sweep.keep_networks=True)"
        )
    for place in _with_seeds(found, experiment.attack.seeds):
        yield _fine_tuned(place, experiment)


def _with_seeds(found: Sequence[epath.Path], seeds: Sequence[int]) -> Sequence[epath.Path]:
    """Choose networks by the seed of their fine-tuning; UserError if there is none of a seed."""
    if not seeds:
        return found
    trained = [read_manifest(place)["provenance"].get("settings") for place in found]
    own = [settings.get("seed") if settings else None for settings in trained]
    missing = set(seeds) - set(own)
    if missing:
        there = ", ".join(map(str, sorted({seed for seed in own if seed is not None})))
        raise UserError(
            f"attack.seeds: no network of seed {min(missing)} in attack.runs, "
            f"only of {there or 'none'}"
        )
    return [place for place, seed in zip(found, own, strict=True) if seed in seeds]


def _fine_tuned(place: epath.Path, experiment: Experiment) -> NetworkUnderAttack:
    network = Network.load(place)
    known = network.provenance
    # A network saved from Python has no task settings.
    if known.get("kind") != "fine-tuned" or "settings" not in known:
        raise UserError(
            f"attack.runs: {place} is not a network that a run fine-tuned: attack it as "
            "source.checkpoint"
        )
    tuned = freeze(known["settings"])
    asked = experiment.target
    target = dataclasses.replace(
        tuned.target,
        num_test_images=asked.num_test_images or tuned.target.num_test_images,
        data_dir=asked.data_dir or tuned.target.data_dir,
        corruption=asked.corruption,
    )
    settings = dataclasses.replace(
        experiment,
        source=tuned.source,
        target=target,
        augmentation=tuned.augmentation,
        transfer=tuned.transfer,
        # A row describes one network.
        attack=dataclasses.replace(experiment.attack, runs=None, seeds=()),
        seed=tuned.seed,
    )
    columns = {
        "blocks": tuned.transfer.blocks,
        "num_images": tuned.target.num_images,
        "frozen_batch_norm": tuned.transfer.frozen_batch_norm,
        "head_fit": tuned.transfer.head_fit,
        **training_columns(tuned.transfer),
    }
    trained = blocks_name(tuned.transfer.blocks)
    # Networks of a sweep may differ in any of its axes.
    run = place.parent.name
    name = f"{tuned.source.checkpoint}, {trained}, seed {tuned.seed}, run {run}"
    return NetworkUnderAttack(name, network, settings, columns)
