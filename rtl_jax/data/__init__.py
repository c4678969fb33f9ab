"""Images and labels: datasets, and the subsets that runs use."""

from rtl_jax.data.dataset import Dataset, ImageSet
from rtl_jax.data.sources import load_dataset
from rtl_jax.data.stream import decoded_bytes, open_stream
from rtl_jax.data.subset import draw_subset, draw_test_subset, seed_for

__all__ = [
    "Dataset",
    "ImageSet",
    "decoded_bytes",
    "draw_subset",
    "draw_test_subset",
    "load_dataset",
    "open_stream",
    "seed_for",
]
