"""Training checkpoints, written by Orbax."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from rtl_jax.errors import UserError
from rtl_jax.models.storage import first_line, require_room, this_host_alone, verify
from rtl_jax.runtime.digest import digest
from rtl_jax.runtime.interruption import undisturbed
from rtl_jax.runtime.paths import absolute


class TrainingCheckpoints:
    """The checkpoints of a training: arrays and a JSON record per epoch; the newest two are kept.

    Checkpoints of an epoch (or of a step; `unit` names it) are atomic, even if the process is
    killed. On multiple hosts, which all have the same state, only the first writes; all read.
    """

    def __init__(self, directory: epath.PathLike, unit: str = "epoch"):
        self._directory, self._unit = absolute(directory), unit
        self._directory.mkdir(parents=True, exist_ok=True)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=2,
            create=False,
            enable_async_checkpointing=False,
            multiprocessing_options=this_host_alone(),
        )
        with undisturbed():
            self._manager = ocp.CheckpointManager(self._directory, options=options)

    @property
    def directory(self) -> epath.Path:
        """The directory of the checkpoints."""
        return self._directory

    def save(self, epoch: int, arrays: Any, record: Mapping[str, Any]) -> None:
        """Write the state after `epoch`: a pytree of arrays and a JSON-serialisable record."""
        if jax.process_index() != 0:
            return
        arrays = jax.tree.map(np.asarray, arrays)
        args = ocp.args.Composite(
            arrays=ocp.args.StandardSave(arrays),
            record=ocp.args.JsonSave({"record": dict(record), "digest": digest(arrays, record)}),
        )
        try:
            require_room(self._directory, arrays)
            with undisturbed():
                self._manager.save(epoch, args=args, force=True)
        except (OSError, ValueError) as error:
            raise UserError(
                f"cannot write the checkpoint of {self._unit} {epoch} to {self._directory}: "
                f"{first_line(error)}. Earlier {self._unit}s are kept; make room and run the "
                "same command again"
            ) from error

    def latest(self) -> int | None:
        """Return the newest complete epoch, or None."""
        return self._manager.latest_step()

    def restore(self, epoch: int, like: Any) -> tuple[Any, dict[str, Any]]:
        """Read an epoch's arrays, structured as `like`, and its record."""
        args = ocp.args.Composite(
            arrays=ocp.args.StandardRestore(jax.tree.map(ocp.utils.to_shape_dtype_struct, like)),
            record=ocp.args.JsonRestore(),
        )
        try:
            verify(self._directory / str(epoch) / "arrays")
            with undisturbed():
                restored = self._manager.restore(epoch, args=args)
            arrays, record = restored["arrays"], restored["record"]
            if record["digest"] != digest(arrays, record["record"]):
                raise ValueError("it is not what was written: the digest differs")
            return arrays, record["record"]
        except Exception as error:
            raise UserError(
                f"the checkpoint {self._directory / str(epoch)} cannot be read "
                f"({first_line(error)}): remove that directory to resume from the one before it"
            ) from error

    def close(self) -> None:
        """Finish pending writes."""
        with undisturbed():
            self._manager.close()

    def __enter__(self) -> "TrainingCheckpoints":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def named(tree: Any) -> dict[str, Any]:
    """Return the leaves of a pytree, as saved, under names whose sorted order is theirs."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        f"{index:04d}{jax.tree_util.keystr(path)}": leaf
        for index, (path, leaf) in enumerate(leaves)
    }


def unnamed(leaves: Mapping[str, Any], like: Any) -> Any:
    """Invert `named`: return a pytree with the structure of `like`."""
    return jax.tree.unflatten(jax.tree.structure(like), [leaves[name] for name in sorted(leaves)])
