"""A better source, trained on a .npz file for as long as time allows."""

import dataclasses
import shlex
import sys
import tarfile
from pathlib import Path

from benchmarks.accelerator.results import Part
from rtl_jax.data.augmentation import Augmentation
from rtl_jax.errors import UserError
from rtl_jax.lab.config import Attack, Experiment, Pretraining, Source, Target
from rtl_jax.runtime.interruption import Stopped

# The settings of configs/sources/tiny_l2.py with more epochs.
EXPERIMENT = Experiment(
    task="pretrain",
    source=Source("random", "resnet26", stem="small_stride2", stage_widths=(32, 64, 128, 192)),
    target=Target(image_size=32),
    augmentation=Augmentation(crop_padding=4, flip=True),
    pretraining=Pretraining(
        perturbation="pgd",
        norm="l2",
        eps=0.5,
        steps=1,
        relative_step=1.25,
        random_start=True,
        keep="last",
        epochs=60,
        batch_size=128,
        schedule="one_cycle",
        learning_rate=0.2,
        weight_decay=5e-4,
        num_attacked=256,
        eval_every=5,
        precision="bfloat16",
        checkpoint_seconds=30.0,
    ),
    attack=Attack(norm="l2", eps=(0.25, 0.5)),
)


def experiment(data: str, *, tiny: bool) -> Experiment:
    """Return the settings for training on the images of a file."""
    settings = EXPERIMENT
    if tiny:
        few = settings.pretraining.replace(
            epochs=1, batch_size=16, num_attacked=0, precision="float32"
        )
        widths = dataclasses.replace(settings.source, stage_sizes=(1, 1), stage_widths=(8, 8))
        settings = dataclasses.replace(settings, pretraining=few, source=widths)
    return dataclasses.replace(
        settings, target=dataclasses.replace(settings.target, dataset=f"npz:{data}")
    )


def main() -> None:
    """Train until the end or until asked to stop, and pack the result."""
    part = Part.from_arguments(__doc__)
    part.results.put("seconds", part.seconds)
    part.results.put("command", shlex.join([sys.executable, "-m", __spec__.name, *sys.argv[1:]]))
    if not part.data:
        part.results.put("skipped", "no --data FILE.npz was given")
        return
    from rtl_jax.lab.pretrain.task import run_pretrain

    workdir = part.results.path.with_name("source")
    try:
        rows = run_pretrain(experiment(part.data, tiny=part.tiny), workdir)
        part.results.put("ended", "trained to the end")
        named = rows[["epoch", "method", "eps", "accuracy", "seconds"]]
        part.results.put("rows", named.astype(object).where(named.notna(), None).to_dict("records"))
    except Stopped as stopped:
        part.results.put("ended", f"{stopped}")
    except UserError as error:
        part.results.put("skipped", f"{error}")
        return
    _pack(workdir, part.results.path.with_name("source.tar.gz"))


def _pack(workdir: Path, file: Path) -> None:
    """Pack the work directory into one file; unpack it to resume from its checkpoint."""
    with tarfile.open(file, "w:gz") as archive:
        archive.add(workdir, workdir.name)


if __name__ == "__main__":
    main()
