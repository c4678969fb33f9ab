"""`folder:PATH`: pictures in a folder per class (see `rtl_jax.data.folder`)."""

from pathlib import Path

from rtl_jax.data import cache, depth, folder, pictures
from rtl_jax.data.dataset import Decoded
from rtl_jax.data.records import Files, Halves
from rtl_jax.data.source import SPLIT_SEED, DataSource, local, register
from rtl_jax.runtime.paths import printable

_SAMPLED = 64


@register("folder", takes="PATH")
class Folder(DataSource):
    """Pictures in files, decoded according to their plan."""

    def __init__(self, spec: str, rest: str, data_dir: Path):
        super().__init__(spec, rest, data_dir)
        self.path = local(rest)
        self._plans: dict[int | None, folder.FolderPlan] = {}

    def list_files(self, seed: int | None) -> folder.FolderPlan:
        """Find the files; `plan` stores the result."""
        return folder.plan_folder(self.path, seed)

    def plan(self, seed: int | None) -> folder.FolderPlan:
        """See `DataSource.plan`."""
        if seed not in self._plans:
            self._plans[seed] = self.list_files(seed)
        return self._plans[seed]

    def cache_key(self, image_size: int, seed: int | None) -> str:
        """See `DataSource.cache_key`."""
        plan = self.plan(seed)
        return cache.key(self.spec, files=plan.files, settings=(image_size, plan.split_seed))

    def read(self, image_size: int, seed: int | None) -> Decoded:
        """See `DataSource.read`."""
        return folder.read_folder(self.plan(seed), image_size)

    def decoded_bytes(self, image_size: int) -> int:
        """See `DataSource.decoded_bytes`; sizes are read from up to 64 headers."""
        common = pictures.common_size(self._sample())
        return len(self.plan(SPLIT_SEED).files) * folder.edge(common, image_size) ** 2 * 3

    def records(self) -> Halves:
        """See `DataSource.records`."""
        plan = self.plan(SPLIT_SEED)
        depth.check_files(self._sample(), printable(self.path))
        return Halves(Files(plan.train), Files(plan.test), plan.class_names, self.order)

    def _sample(self) -> list[Path]:
        files = self.plan(SPLIT_SEED).files
        return files[:: -(-len(files) // _SAMPLED) or 1]
