"""`list:PATH`: pictures listed in a CSV file (see `rtl_jax.data.listing`)."""

import hashlib
import json

from rtl_jax.data import cache
from rtl_jax.data.folder import FolderPlan
from rtl_jax.data.kinds.folder import Folder
from rtl_jax.data.listing import plan_list
from rtl_jax.data.source import register


@register("list", takes="PATH")
class Listing(Folder):
    """Like `Folder`, with the files and labels given by a list."""

    def list_files(self, seed: int | None) -> FolderPlan:
        """See `Folder.list_files`; the split is the list's own, for any seed."""
        return plan_list(self.path)

    def cache_key(self, image_size: int, seed: int | None) -> str:
        """See `DataSource.cache_key`; the key includes the list's content, not its time."""
        plan = self.plan(seed)
        labels = [[label for _, label in half] for half in (plan.train, plan.test)]
        said = hashlib.sha256(json.dumps([plan.class_names, labels]).encode()).hexdigest()
        return cache.key(self.spec, files=plan.files, settings=(image_size, said))
