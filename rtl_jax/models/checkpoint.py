"""Networks and interrupted trainings on disk, written by Orbax.

A network is a directory: `manifest.json` (architecture, provenance) beside `variables/`
(Orbax, flat dictionaries `params` and `batch_stats`). Conversion writes one, fine-tuning
reads one and writes another, and every path that `etils.epath` opens will do.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts
from etils import epath

from rtl_jax.errors import UserError
from rtl_jax.models.architecture import Architecture
from rtl_jax.models.resnet import variable_shapes
from rtl_jax.runtime.paths import absolute, complete_or_absent

FORMAT = "rtl_jax network"
FORMAT_VERSION = 1
_MANIFEST = "manifest.json"


class Network(NamedTuple):
    """A network's description and its variables, as read from disk.

    `params` and `batch_stats` are flat dictionaries of float32 NumPy arrays; `provenance` is
    what its writer knew: source file, sha256, how it was trained.
    """

    architecture: Architecture
    params: dict[str, np.ndarray]
    batch_stats: dict[str, np.ndarray]
    provenance: dict[str, Any]


def is_network(directory: epath.PathLike) -> bool:
    """Whether a directory holds a network that `load_network` can read."""
    return (epath.Path(directory) / _MANIFEST).exists()


def networks_in(workdir: epath.PathLike) -> list[epath.Path]:
    """The directories of the networks that finished runs left in a work directory, sorted."""
    found = epath.Path(workdir).glob("runs/*/network")
    return sorted(directory for directory in found if is_network(directory))


def save_network(
    directory: epath.PathLike,
    architecture: Architecture,
    params: Mapping[str, Any],
    batch_stats: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> None:
    """Write a network; complete or not at all. Of several hosts the first does it.

    Raises UserError where something exists already, where a variable is missing, left over
    or of another shape, and where the disk refuses.
    """
    if jax.process_index() != 0:
        return
    directory = absolute(directory)
    if directory.exists():
        raise UserError(f"{directory} exists already: remove it or choose another destination")
    check_variables(architecture, params, batch_stats, str(directory))
    variables = {
        collection: {path: np.asarray(value, np.float32) for path, value in tree.items()}
        for collection, tree in (("params", params), ("batch_stats", batch_stats))
    }
    manifest = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "architecture": architecture.to_dict(),
        "provenance": dict(provenance),
        "digest": digest(variables),
    }
    with complete_or_absent(directory) as temporary:
        _require_room(temporary.parent, variables)
        temporary.mkdir(parents=True)
        (temporary / _MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
        try:
            with ocp.StandardCheckpointer(
                multiprocessing_options=_this_host_alone()
            ) as checkpointer:
                checkpointer.save(temporary / "variables", variables)
        except ValueError as error:  # how tensorstore reports a full disk
            raise UserError(f"cannot write {directory}: {error}") from error


def load_network(directory: epath.PathLike) -> Network:
    """Read a network; raise UserError where it is absent, damaged or does not fit together."""
    directory = absolute(directory)
    path = directory / _MANIFEST
    if not path.exists():
        raise UserError(
            f"{directory} holds no network: expected {_MANIFEST} in it. "
            "Convert a torch checkpoint with: python -m convert SOURCE DESTINATION"
        )
    try:
        manifest = json.loads(path.read_text())
        if manifest["format"] != FORMAT:
            raise UserError(f"{path} describes a {manifest['format']!r}, expected {FORMAT!r}")
        if manifest["version"] > FORMAT_VERSION:
            raise UserError(
                f"{path} has version {manifest['version']}, this code reads up to "
                f"{FORMAT_VERSION}: update rtl_jax"
            )
        provenance, written = dict(manifest["provenance"]), manifest.get("digest")
        architecture = _architecture(manifest["architecture"], path)
        params, batch_stats = (_specs(tree) for tree in variable_shapes(architecture))
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise UserError(
            f"{path} is damaged ({type(error).__name__}: {_first_line(error)}): "
            "convert or train it again"
        ) from error
    try:
        _verify(directory / "variables")
        variables = _restore(
            directory / "variables", {"params": params, "batch_stats": batch_stats}
        )
    except Exception as error:
        raise UserError(
            f"the variables in {directory} are damaged or do not fit its manifest "
            f"({_first_line(error)}): convert or train it again"
        ) from error
    check_variables(architecture, variables["params"], variables["batch_stats"], str(directory))
    if written not in (None, digest(variables)):
        raise UserError(
            f"the variables in {directory} are damaged: they are not those that were written "
            "(the digest differs). Convert or train it again"
        )
    return Network(architecture, variables["params"], variables["batch_stats"], provenance)


def digest(arrays: Any, record: Mapping[str, Any] | None = None) -> str:
    """sha256, in hex, of a pytree's names, dtypes, shapes and values, and of a JSON record.

    It names runs by content, and finds what Orbax, which keeps no checksums, would let pass.
    """
    total = hashlib.sha256(json.dumps(record, sort_keys=True).encode())
    leaves = jax.tree_util.tree_leaves_with_path(arrays)
    for name, leaf in sorted((jax.tree_util.keystr(path), leaf) for path, leaf in leaves):
        array = np.asarray(leaf)
        values: Any = array.reshape(-1).view(np.uint8)
        total.update(f"{name}{array.dtype}{array.shape}".encode())
        total.update(values)
    return total.hexdigest()


def check_variables(
    architecture: Architecture, params: Mapping, batch_stats: Mapping, where: str
) -> None:
    """Raise UserError naming every variable that is missing, left over or of the wrong shape."""
    wanted_params, wanted_stats = variable_shapes(architecture)
    problems = []
    for wanted, received in ((wanted_params, params), (wanted_stats, batch_stats)):
        problems += [f"missing: {path} {wanted[path].shape}" for path in wanted.keys() - received]
        problems += [
            f"left over: {path} {np.shape(received[path])}" for path in received.keys() - wanted
        ]
        problems += [
            f"{path}: expected {wanted[path].shape}, received {np.shape(received[path])}"
            for path in wanted.keys() & received
            if wanted[path].shape != np.shape(received[path])
        ]
    if problems:
        raise UserError(
            f"{where} does not fit {architecture.name} with {architecture.num_classes} classes:\n  "
            + "\n  ".join(sorted(problems))
        )


class TrainingCheckpoints:
    """The checkpoints of one training: arrays and a JSON record per epoch, the newest two kept.

    An epoch (or a step, as `unit` calls it) is there whole or not at all, whenever the process is
    killed. Of several hosts, all of which have the same state, the first writes, and all read.
    """

    def __init__(self, directory: epath.PathLike, unit: str = "epoch"):
        self._directory, self._unit = absolute(directory), unit
        self._directory.mkdir(parents=True, exist_ok=True)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=2,
            create=False,
            enable_async_checkpointing=False,
            multiprocessing_options=_this_host_alone(),
        )
        self._manager = ocp.CheckpointManager(self._directory, options=options)

    def save(self, epoch: int, arrays: Any, record: Mapping[str, Any]) -> None:
        """Write the state behind `epoch`: a pytree of arrays and what JSON can hold."""
        if jax.process_index() != 0:
            return
        arrays = jax.tree.map(np.asarray, arrays)
        args = ocp.args.Composite(
            arrays=ocp.args.StandardSave(arrays),
            record=ocp.args.JsonSave({"record": dict(record), "digest": digest(arrays, record)}),
        )
        try:
            _require_room(self._directory, arrays)
            self._manager.save(epoch, args=args, force=True)
        except (OSError, ValueError) as error:
            raise UserError(
                f"cannot write the checkpoint of {self._unit} {epoch} to {self._directory}: "
                f"{_first_line(error)}. Earlier {self._unit}s are kept; make room and run the "
                "same command again"
            ) from error

    def latest(self) -> int | None:
        """The newest complete epoch, or None."""
        return self._manager.latest_step()

    def restore(self, epoch: int, like: Any) -> tuple[Any, dict[str, Any]]:
        """Read an epoch's arrays, structured as `like`, and its record."""
        args = ocp.args.Composite(
            arrays=ocp.args.StandardRestore(jax.tree.map(ocp.utils.to_shape_dtype_struct, like)),
            record=ocp.args.JsonRestore(),
        )
        try:
            _verify(self._directory / str(epoch) / "arrays")
            restored = self._manager.restore(epoch, args=args)
            arrays, record = restored["arrays"], restored["record"]
            if record["digest"] != digest(arrays, record["record"]):
                raise ValueError("it is not what was written: the digest differs")
            return arrays, record["record"]
        except Exception as error:
            raise UserError(
                f"the checkpoint {self._directory / str(epoch)} cannot be read "
                f"({_first_line(error)}): remove that directory to go on from the one before it"
            ) from error

    def close(self) -> None:
        """Finish what is being written."""
        self._manager.close()

    def __enter__(self) -> "TrainingCheckpoints":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def named(tree: Any) -> dict[str, Any]:
    """The leaves of a pytree under names that sort as they come: what a checkpoint keeps."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        f"{index:04d}{jax.tree_util.keystr(path)}": leaf
        for index, (path, leaf) in enumerate(leaves)
    }


def unnamed(leaves: Mapping[str, Any], like: Any) -> Any:
    """The inverse of `named`: a pytree structured as `like`."""
    return jax.tree.unflatten(jax.tree.structure(like), [leaves[name] for name in sorted(leaves)])


def _this_host_alone() -> ocp.options.MultiprocessingOptions:
    """No barriers: what is written is the same on every host, and one host writes it."""
    own = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=own,
        active_processes={own} if jax.process_count() > 1 else None,
        barrier_sync_key_prefix=f"host{own}" if jax.process_count() > 1 else None,
    )


def _architecture(fields: Mapping[str, Any], path: epath.Path) -> Architecture:
    try:
        return Architecture.from_dict(fields)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _require_room(directory: epath.Path, arrays: Any) -> None:
    """Raise OSError if the disk is too full for `arrays`: Orbax would say so at great length."""
    if "://" in os.fspath(directory):
        return
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(arrays)) + (1 << 20)
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise OSError(errno.ENOSPC, f"{needed:,} bytes are needed and the disk has {free:,} left")


def _verify(path: epath.Path) -> None:
    """Read all arrays that Orbax wrote to `path`, one after the other; ValueError if one fails.

    Orbax reads them all at once; where one is damaged, the others end in background threads
    that print a traceback each.
    """
    place = os.fspath(path)
    base = place if "://" in place else {"driver": "file", "path": os.path.join(place, "")}
    store = {"driver": "ocdbt", "base": base}
    keys = [key.decode() for key in ts.KvStore.open(store).result().list().result()]
    names = [key.removesuffix(".zarray") for key in keys if key.endswith("/.zarray")]
    if not names:
        raise ValueError("it holds no arrays")
    for name in names:
        ts.open({"driver": "zarr", "kvstore": {**store, "path": name}}).result().read().result()


def _specs(tree: Mapping[str, Any]) -> dict[str, ocp.RestoreArgs]:
    return {path: ocp.RestoreArgs(restore_type=np.ndarray, dtype=np.float32) for path in tree}


def _restore(path: epath.Path, restore_args: Any) -> Any:
    with ocp.PyTreeCheckpointer() as checkpointer:
        return checkpointer.restore(path, ocp.args.PyTreeRestore(restore_args=restore_args))


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
