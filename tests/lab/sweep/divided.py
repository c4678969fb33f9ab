"""Print the losses of four seeds, and how many devices hold parts of their state, as JSON."""

import json
import sys

import jax

from rtl_jax.train.trainer import begin
from tests.lab.sweep.test_members import SEEDS, experiment, jobs_of, losses

FOUR = (*SEEDS, 20_300_000)


def main(mode: str) -> None:
    """Print them for a mode of frozen BatchNorm."""
    jobs = jobs_of(experiment(frozen_batch_norm=mode, blocks=1), FOUR)
    _, state = begin(jobs)
    devices = {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(state.params)}
    print(json.dumps({"devices": sorted(devices), "losses": losses(jobs).tolist()}))


if __name__ == "__main__":
    main(sys.argv[1])
