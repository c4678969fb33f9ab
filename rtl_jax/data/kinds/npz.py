"""`npz:PATH`: four arrays in a file (see `rtl_jax.data.npz`)."""

from pathlib import Path

from rtl_jax.data import cache, npz
from rtl_jax.data.dataset import Decoded
from rtl_jax.data.source import DataSource, local, register


@register("npz", takes="PATH")
class Npz(DataSource):
    """The arrays of a Keras dataset."""

    def __init__(self, spec: str, rest: str, data_dir: Path):
        super().__init__(spec, rest, data_dir)
        self.path = local(rest)

    def cache_key(self, image_size: int, seed: int | None) -> str:
        """See `DataSource.cache_key`."""
        return cache.key(self.spec, files=[self.path])

    def read(self, image_size: int, seed: int | None) -> Decoded:
        """See `DataSource.read`."""
        return npz.read_npz(self.path)

    def decoded_bytes(self, image_size: int) -> int:
        """See `DataSource.decoded_bytes`."""
        return npz.decoded_bytes(self.path)
