"""From a folder of photographs to a network in use, and a page that says how good it is.

    python run.py --config configs/my_images.py --workdir runs/photos \
        --config.target.dataset=folder:photos

`photos` has a folder for each class, or such folders under train/ and test/. The folder is looked
over first, and everything odd in it is named; then the bundled sources, with no block and with one
trained, are compared by cross-validation in five folds, the best is fine-tuned on everything, and
runs/photos/report/index.html tells what came out. The time is announced before it starts; with
--config.dry_run that is all. 300 photographs take minutes on two cores.

Beside the bundled sources, any other: --config.sweep.sources=bundled:l2,checkpoints/l2_3. On a GPU
three blocks and three seeds are tried by default. docs/my_images.md goes the whole way.
"""

from ml_collections import ConfigDict

from rtl_jax.lab.config import defaults, preset


def get_config() -> ConfigDict:
    """Frozen blocks keep their statistics, so that their features are computed once."""
    config = defaults()
    config.task = "my_images"
    config.target.image_size = 64
    config.target.folds = 5
    config.augmentation = preset("none")
    config.transfer.frozen_batch_norm = "source"
    config.transfer.head = "uniform"
    config.transfer.learning_rate = 0.03
    config.transfer.epochs = 30
    config.transfer.eval_every = 10  # what is measured on the way is a candidate, too
    config.transfer.batch_size = 32  # at most: the nearest that divides the folds is taken
    config.sweep.sources = ("bundled:natural", "bundled:l2")
    config.attack.norm = "l2"
    config.attack.eps = (0.0, 0.25, 0.5, 1.0)
    return config
