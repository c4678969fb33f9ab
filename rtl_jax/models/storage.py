"""Networks on disk: a manifest and variables, written by Orbax.

A network is a directory: `manifest.json` (architecture, provenance) beside `variables/` (Orbax,
flat dictionaries `params` and `batch_stats`). `Network.save` and `Network.load` are the interface;
any path that `etils.epath` opens works.
"""

import contextlib
import errno
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts
from etils import epath

from rtl_jax.errors import UserError
from rtl_jax.models import manifest as manifests
from rtl_jax.runtime import limits
from rtl_jax.runtime.digest import digest
from rtl_jax.runtime.documents import parse_json, read_bytes
from rtl_jax.runtime.interruption import undisturbed
from rtl_jax.runtime.paths import absolute, complete_or_absent
from rtl_jax.runtime.program import typed

_MANIFEST = "manifest.json"

Trees = dict[str, dict[str, np.ndarray]]  # 'params' and 'batch_stats'


def is_network(directory: epath.PathLike) -> bool:
    """Return whether a directory holds a network that `Network.load` can read."""
    return (epath.Path(directory) / _MANIFEST).exists()


def network_path(workdir: epath.PathLike, run: str) -> epath.Path:
    """Return where a run leaves its network in a work directory."""
    return epath.Path(workdir) / "runs" / run / "network"


def networks_in(workdir: epath.PathLike) -> list[epath.Path]:
    """List, in order, the networks that finished runs left in a work directory."""
    found = epath.Path(workdir).glob("runs/*/network")
    return sorted(directory for directory in found if is_network(directory))


def write_network(directory: epath.PathLike, known: Mapping[str, Any], variables: Trees) -> None:
    """Write variables and a manifest with the entries `known`, atomically.

    On multiple hosts, only the first writes. Raises UserError if something exists already, if
    `read_network` would reject `known`, or if the disk cannot be written.
    """
    if jax.process_index() != 0:
        return
    directory = absolute(directory)
    require_absent(directory)
    manifest = {
        "format": manifests.FORMAT,
        "version": manifests.FORMAT_VERSION,
        **known,
        "digest": digest(variables),
    }
    text = json.dumps(manifest, indent=2) + "\n"
    try:
        _checked(text)
    except (UserError, ValueError) as error:
        raise UserError(
            f"{directory} is not written, because it could not be read back: {error}"
        ) from error
    with complete_or_absent(directory) as temporary:
        require_room(temporary.parent, variables)
        temporary.mkdir(parents=True)
        (temporary / _MANIFEST).write_text(text)
        try:
            with (
                undisturbed(),
                ocp.StandardCheckpointer(multiprocessing_options=this_host_alone()) as checkpointer,
            ):
                checkpointer.save(temporary / "variables", variables)
        except ValueError as error:  # tensorstore's error for a full disk
            raise UserError(f"cannot write {directory}: {error}") from error


def rename_classes(directory: epath.PathLike, class_names: Sequence[str]) -> None:
    """Write class names to a network's manifest, unless these are there already.

    A finished run is found again by images and label numbers: its folders may have new names since.
    Raises UserError as `read_manifest`, or if the disk cannot be written.
    """
    manifest, names = read_manifest(directory), list(class_names)
    if manifest["provenance"].get("class_names") == names or jax.process_index() != 0:
        return
    manifest["provenance"]["class_names"] = names
    with complete_or_absent(absolute(directory) / _MANIFEST, replace=True) as temporary:
        temporary.write_text(json.dumps(manifest, indent=2) + "\n")


def require_absent(directory: epath.Path) -> None:
    """Raise UserError if something exists already."""
    if directory.exists():
        raise UserError(f"{directory} exists already: remove it or choose another destination")


def read_manifest(directory: epath.PathLike) -> dict[str, Any]:
    """Read the manifest of a network. Raises UserError if it is missing or damaged."""
    directory = absolute(directory)
    path = directory / _MANIFEST
    if not path.exists():
        raise UserError(
            f"{directory} holds no network: expected {_MANIFEST} in it. "
            f"Convert a torch checkpoint with: {typed('convert')} SOURCE DESTINATION"
        )
    with _damage_is_named(path):
        return _checked(read_bytes(path, limits.MANIFEST_BYTES).decode())


def read_network(
    directory: epath.PathLike, shapes: Callable[[Mapping[str, Any]], Mapping[str, Any]]
) -> tuple[dict[str, Any], Trees]:
    """Read the manifest and the variables of a directory.

    `shapes` maps the manifest to the variables' names and shapes, {'params': {...}, 'batch_stats':
    {...}}. Raises UserError if the network is missing, damaged or has changed since it was written.
    """
    manifest = read_manifest(directory)
    directory = absolute(directory)
    with _damage_is_named(directory / _MANIFEST):
        wanted = shapes(manifest)
    try:
        _require_files(directory / "variables")
        verify(directory / "variables", _elements(wanted))
        specs = {name: _specs(tree) for name, tree in wanted.items()}
        variables = _restore(directory / "variables", specs)
    except Exception as error:
        raise UserError(
            f"the variables in {directory} are damaged or do not fit its manifest "
            f"({first_line(error)}): convert or train it again"
        ) from error
    if manifest.get("digest") not in (None, digest(variables)):
        raise UserError(
            f"the variables in {directory} are damaged: they are not those that were written "
            "(the digest differs). Convert or train it again"
        )
    return manifest, variables


@contextlib.contextmanager
def _damage_is_named(path: epath.Path) -> Iterator[None]:
    """Turn errors about what a manifest contains into UserErrors that name it."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} is damaged ({type(error).__name__}: {first_line(error)}): "
            "convert or train it again"
        ) from error


def _checked(text: str) -> dict[str, Any]:
    """Parse and validate a manifest. Raises UserError or ValueError if it is invalid."""
    if len(text) > limits.MANIFEST_BYTES:
        raise ValueError(f"its manifest has more than {limits.MANIFEST_BYTES:,} bytes")
    manifest = parse_json(text)
    manifests.check(manifest)
    return manifest


def _require_files(directory: epath.Path) -> None:
    """Raise ValueError if something below a local directory is neither a file nor a directory.

    Reading a pipe would never end, and a link may lead to one.
    """
    place = os.fspath(directory)
    if "://" in place:
        return
    for folder, folders, files in os.walk(place):
        odd = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        odd += [name for name in files if not os.path.isfile(os.path.join(folder, name))]
        if odd:
            raise ValueError(f"{odd[0]} is neither a regular file nor a directory")


def _elements(wanted: Mapping[str, Any]) -> int:
    """Return the number of elements of the largest variable."""
    return max(math.prod(leaf.shape) for tree in wanted.values() for leaf in tree.values())


def this_host_alone() -> ocp.options.MultiprocessingOptions:
    """Return options without barriers: all hosts have the same data, and one writes it."""
    own = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=own,
        active_processes={own} if jax.process_count() > 1 else None,
        barrier_sync_key_prefix=f"host{own}" if jax.process_count() > 1 else None,
    )


def require_room(directory: epath.Path, arrays: Any) -> None:
    """Raise OSError if the disk is too full for `arrays`, instead of Orbax's lengthy error."""
    if "://" in os.fspath(directory):
        return
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(arrays)) + (1 << 20)
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise OSError(errno.ENOSPC, f"{needed:,} bytes are needed and the disk has {free:,} left")


def verify(path: epath.Path, most: int | None = None) -> None:
    """Read all arrays that Orbax wrote to `path` sequentially; raise ValueError if one fails.

    Orbax itself reads them concurrently: if one is damaged, the threads that read the others each
    print a traceback. Arrays that claim more than `most` elements are not read.
    """
    place = os.fspath(path)
    base = place if "://" in place else {"driver": "file", "path": os.path.join(place, "")}
    store = {"driver": "ocdbt", "base": base}
    keys = [key.decode() for key in ts.KvStore.open(store).result().list().result()]
    names = [key.removesuffix(".zarray") for key in keys if key.endswith("/.zarray")]
    if not names:
        raise ValueError("it holds no arrays")
    for name in names:
        array = ts.open({"driver": "zarr", "kvstore": {**store, "path": name}}).result()
        chunk: Any = array.chunk_layout.read_chunk.shape
        sizes = [math.prod(array.shape), math.prod(chunk or ())]
        if most is not None and max(sizes) > most:
            raise ValueError(f"{name} claims {max(sizes):,} numbers, expected at most {most:,}")
        array.read().result()


def _specs(tree: Mapping[str, Any]) -> dict[str, ocp.RestoreArgs]:
    return {path: ocp.RestoreArgs(restore_type=np.ndarray, dtype=np.float32) for path in tree}


def _restore(path: epath.Path, restore_args: Any) -> Any:
    with undisturbed(), ocp.PyTreeCheckpointer() as checkpointer:
        return checkpointer.restore(path, ocp.args.PyTreeRestore(restore_args=restore_args))


def first_line(error: BaseException) -> str:
    """Return the message of an exception in one line."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
