"""From a folder of photographs to a trained network and a report on its accuracy.

    python run.py --config configs/my_images.py --workdir runs/photos \
        --config.target.dataset=folder:photos

`photos` contains a folder for each class, or such folders under train/ and test/. The folder is
checked first, and anything unusual is listed. Then two bundled sources, with no block or one block
trained, are compared by five-fold cross-validation, the best is fine-tuned on all images, and the
results are in runs/photos/report/index.html. The estimated time is printed at the start; with
--config.dry_run, nothing else happens. 300 photographs take a few minutes on two cores.

To compare other sources as well: --config.sweep.sources=bundled:l2,checkpoints/l2_3. On a GPU,
the defaults also include three blocks and three seeds. docs/my_images.md is a complete tutorial.
"""

from ml_collections import ConfigDict

from rtl_jax.lab.config import defaults, preset


def get_config() -> ConfigDict:
    """Return settings with fixed statistics in frozen blocks, whose features are computed once."""
    config = defaults()
    config.task = "my_images"
    config.target.image_size = 64
    config.target.folds = 5
    config.augmentation = preset("none")
    config.transfer.frozen_batch_norm = "source"
    config.transfer.head = "uniform"
    config.transfer.learning_rate = 0.03
    config.transfer.epochs = 30
    config.transfer.eval_every = 10  # intermediate results are candidates, too
    config.transfer.batch_size = 32  # at most; the nearest value that divides the folds is used
    config.sweep.sources = ("bundled:natural", "bundled:l2")
    config.attack.norm = "l2"
    config.attack.eps = (0.0, 0.25, 0.5, 1.0)
    return config
