"""What a fine-tuned network says of pictures: a row for each, CSV or Parquet.

    python run.py --config configs/predict.py --workdir runs/new \
        --config.source.checkpoint=runs/photos/network --config.predict.images=new_photos

`predict.images` is a folder, a pattern in quotation marks, or a .txt file with a path on each line;
`predict.output` is runs/new/predictions.csv unless it is set. A broken picture is a row with its
error, and the exit code is then 3. With --config.predict.explain=3 each row also names the training
images that speak most for it. About 100 pictures a second on two cores. See docs/predict.md.
"""

from ml_collections import ConfigDict

from rtl_jax.lab.config import defaults


def get_config() -> ConfigDict:
    """Image size, classes and temperature are the network's own."""
    config = defaults()
    config.task = "predict"
    return config
