"""Predictions of a fine-tuned network: one row per image, as CSV or Parquet.

    python run.py --config configs/predict.py --workdir runs/new \
        --config.source.checkpoint=runs/photos/network --config.predict.images=new_photos

`predict.images` is a folder, a quoted glob pattern, or a .txt file with one path per line;
`predict.output` defaults to runs/new/predictions.csv. The row of a broken image contains the
error, and the exit code is then 3. With --config.predict.explain=3, each row also names the
training images with the largest influence in its favour. About 100 images per second on two cores.
See docs/predict.md.
"""

from ml_collections import ConfigDict

from rtl_jax.lab.config import defaults


def get_config() -> ConfigDict:
    """Return the settings; image size, classes and temperature are the network's own."""
    config = defaults()
    config.task = "predict"
    return config
