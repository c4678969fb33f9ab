"""The kinds of datasets, one class per file. Importing this package registers them."""

from rtl_jax.data.kinds import digits, folder, listing, npz, tfds

__all__ = ["digits", "folder", "listing", "npz", "tfds"]
