"""Does the comparison of sources depend on how long they were trained?

For E in 1, 2, 6 and 12, and for SOURCE natural and l2:

    python run.py --config configs/sources/tiny_SOURCE.py --workdir runs/sources/SOURCE_E \
      --config.pretraining.epochs=E

and then

    python run.py --config configs/study/source_epochs.py --workdir runs/study_source_epochs

The sources with 24 epochs are bundled; their cells are in configs/study/transfer.py.
"""

from ml_collections import ConfigDict

from rtl_jax.configs.study.transfer import get_config as transfer

EPOCHS = (1, 2, 6, 12)


def get_config() -> ConfigDict:
    """Return the study's settings for three targets, a head alone and one block."""
    config = transfer()
    config.sweep.sources = tuple(
        f"runs/sources/{name}_{epochs}" for epochs in EPOCHS for name in ("natural", "l2")
    )
    config.sweep.targets = ("tfds:cifar10_jpeg", "tfds:fashion_mnist", "tfds:mnist")
    config.sweep.blocks = (0, 1)
    return config
