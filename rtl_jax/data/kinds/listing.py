"""`list:PATH`: pictures that a CSV file names (see `rtl_jax.data.listing`)."""

import hashlib
import json

from rtl_jax.data import cache
from rtl_jax.data.folder import FolderPlan
from rtl_jax.data.kinds.folder import Folder
from rtl_jax.data.listing import plan_list
from rtl_jax.data.source import register


@register("list", takes="PATH")
class Listing(Folder):
    """As a folder's pictures, but the list says which file is which image."""

    def list_files(self, seed: int | None) -> FolderPlan:
        """As `Folder.list_files`; the list's own split holds, whatever the seed."""
        return plan_list(self.path)

    def cache_key(self, image_size: int, seed: int | None) -> str:
        """As `DataSource.cache_key`: of what the list says too, whenever it was written."""
        plan = self.plan(seed)
        labels = [[label for _, label in half] for half in (plan.train, plan.test)]
        said = hashlib.sha256(json.dumps([plan.class_names, labels]).encode()).hexdigest()
        return cache.key(self.spec, files=plan.files, settings=(image_size, said))
