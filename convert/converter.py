"""Conversion of a torch checkpoint to a network on disk."""

import contextlib
import errno
import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rtl_jax.convert import hub, network
from rtl_jax.convert.checkpoint import open_checkpoint, translated
from rtl_jax.convert.choices import Choices
from rtl_jax.convert.inert import shown
from rtl_jax.convert.layouts import layout_of
from rtl_jax.convert.reference import Reference, compare_reference
from rtl_jax.convert.timm_config import config_beside
from rtl_jax.errors import UserError
from rtl_jax.models.network import DEFAULT_IMAGE_SIZE, Network
from rtl_jax.models.storage import is_network
from rtl_jax.runtime.program import typed
from rtl_jax.runtime.progress import each

# Part of the manifest and the cache's keys: increment it when the same file gives other values.
VERSION = 2


def convert(
    source: str | os.PathLike,
    destination: str | os.PathLike,
    *,
    reference: Reference | None = None,
    report: Callable[[str], Any] = print,
    **choices: Any,
) -> Path:
    """Convert a torch checkpoint to a network that `Network.load` reads; return `destination`.

    Args:
      source: a path or 'hf:REPO/FILE'.
      destination: a directory that does not exist.
      reference: images with the logits that the network's author's own code gives for them.
      report: called with a line for everything that was found, skipped or assumed.
      choices: the fields of `Choices` and options of layouts, which override what the file says.

    Raises:
      UserError: if the source is not a checkpoint of a known family, names a way to run code, does
        not fit, or does not give the reference's logits, or if the destination exists or cannot be
        written. Nothing is written then.
    """
    chosen = Choices.of(**choices)
    destination = free_destination(destination)
    path = hub.locate(source, report)
    stamp = _stamp(path)
    with open_checkpoint(path) as checkpoint, translated(path):
        digest = file_sha256(path)
        report(f"{path}: {checkpoint.format}, {path.stat().st_size:,} bytes, sha256 {digest}")
        found = network.find(checkpoint, chosen)
        network.file_size_check(found, path)
        _report(found, report)
        network.compare_copies(found, report)
        variables = _variables(found)
        if _stamp(path) != stamp:
            raise UserError("changed while it was read: run the same command again")
    arch_found, normalization = found.architecture, found.normalization
    _check_room(destination, sum(v.nbytes for part in variables.values() for v in part.values()))
    provenance = {
        "kind": "converted",
        "source": os.fspath(source) if os.fspath(source).startswith("hf:") else path.name,
        "sha256": digest,
        "format": checkpoint.format,
        "key": shown(found.key),
        "prefix": shown(found.prefix),
        "normalization": normalization.origin,
        "placeholders": list(checkpoint.placeholders),
        "converter": VERSION,
    }
    if found.layout is not layout_of(arch_found):
        provenance["layout"] = found.layout.name
    if (size := _image_size(found, report)) is not None:
        provenance["image_size"] = size
    if found.made_head is not None:
        # Names that no data set has, seen by anyone who predicts with this network.
        names = [f"(no head: {label})" for label in range(arch_found.num_classes)]
        provenance |= {"head": found.made_head, "class_names": names}
    converted = Network(arch_found, variables["params"], variables["batch_stats"], provenance)
    if reference is not None:
        provenance["reference"] = compare_reference(converted, reference, report)
    converted.save(destination.absolute())
    report(f"wrote {destination}")
    return destination


def free_destination(destination: str | os.PathLike) -> Path:
    """Return the path of a directory to create. Raises UserError if something is there already."""
    destination = hub.expanded(destination)
    if destination.exists() or destination.is_symlink():
        raise UserError(f"{destination} exists already: remove it or choose another destination")
    return destination


def ensure_converted(source: str, cache_dir: str | os.PathLike) -> Path:
    """Return the converted network of a source, converting it into the cache if needed.

    The cache is keyed by the sha256 of the file, that of any config.json beside it, and the
    converter's version; a file with unchanged path, size and times is not hashed again. Concurrent
    processes convert a source only once, and a damaged entry is converted anew. Raises as `convert`
    does.
    """
    cache = hub.expanded(cache_dir)
    path = hub.locate(source, print)
    try:
        if is_network(path):
            return path
        if not path.exists():
            raise UserError(f"{path}: there is no such file")
        if path.is_dir():
            raise UserError(f"{path}: is a directory that holds no converted network")
        if not path.is_file():
            raise UserError(f"{path}: is not a regular file")
        cache.mkdir(parents=True, exist_ok=True)
        return _from_cache(path, cache)
    except OSError as error:
        where = error.filename or cache
        raise UserError(f"{where}: cannot be used ({error.strerror or error})") from error


def _from_cache(path: Path, cache: Path) -> Path:
    with _locked(cache / ".lock"):
        index = cache / "index.json"
        known = _read_index(index)
        place = str(path.resolve())
        stamp = _stamp(path)
        entry = known.get(place)
        if isinstance(entry, dict) and entry.get("stamp") == stamp:
            digest = str(entry.get("sha256"))
        else:
            digest = file_sha256(path)
            known[place] = {"stamp": stamp, "sha256": digest}
            temporary = index.with_suffix(f".{os.getpid()}.tmp")
            temporary.write_text(json.dumps(known, indent=1))
            temporary.replace(index)
    config = config_beside(path)
    said = "" if config is None else f"-{file_sha256(config)[:16]}"
    destination = cache / f"{path.stem[:40]}-{digest[:16]}{said}-v{VERSION}"
    with _locked(cache / f".{digest[:16]}.lock"):
        if not _is_whole(destination, digest):
            # It is damaged, or was left by a killed process, since we hold the lock.
            for remains in (destination, *cache.glob(f".{glob.escape(destination.name)}.*.tmp")):
                if remains.exists():
                    shutil.rmtree(remains)
            try:
                convert(path, destination)
            except UserError as error:
                # A source named in a config has no options; the command does.
                command = f"{typed('convert')} {path} DESTINATION"
                hint = f"\nThese are options of: {command}" if " --" in str(error) else ""
                raise UserError(f"{error}{hint}") from error
    return destination


def _is_whole(destination: Path, digest: str) -> bool:
    """Whether the cache's entry can be loaded and was made from the file with this sha256."""
    if not destination.exists():
        return False
    try:
        return Network.load(destination).provenance.get("sha256") == digest
    except UserError as error:
        print(f"converting again: {error}")
        return False


def _stamp(path: Path) -> list[int]:
    """Return values that change when a file is replaced or written; [] if it does not exist."""
    if not path.exists():
        return []
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _variables(found: network.Found) -> dict[str, dict[str, np.ndarray]]:
    """Read every tensor of the network, one at a time, into our layout."""
    variables: dict[str, dict[str, np.ndarray]] = {"params": {}, "batch_stats": {}}
    table = found.layout.entries(found.architecture)
    for entry in each(list(table), "reading", "tensors"):
        values = network.load(found.tensors[entry.torch_name], entry.torch_name)
        variables[entry.collection][entry.path] = entry.to_flax(values)
    return variables


def _report(found: network.Found, report: Callable[[str], Any]) -> None:
    arch, normalization, layout = found.architecture, found.normalization, found.layout
    stem = f"{words}; " if (words := layout.stem_words(arch)) else ""
    for note in found.notes:
        report(note)
    report(
        f"{arch.name}, {arch.num_classes} classes; {stem}"
        f"names under {shown(found.prefix) or 'no prefix'}"
    )
    if described := layout.described(arch):
        report(f"{described}: no tensor shows these; --reference FILE.npz tells whether they fit")
    numbers = f"mean {arch.mean}, std {arch.std}"
    if normalization.origin == "assumed":
        report(
            f"{numbers}: ImageNet's, ASSUMED, since the file has none; pass --mean and --std if "
            "it was trained with others (0,0,0 and 1,1,1 for none)"
        )
    else:
        report(f"{numbers} ({normalization.origin})")
    dtypes = {found.tensors[entry.torch_name].dtype.name for entry in layout.entries(arch)}
    if dtypes != {"float32"}:
        report(f"values of {', '.join(sorted(dtypes))} are written as float32")


def _image_size(found: network.Found, report: Callable[[str], Any]) -> int | None:
    """Return the image size that the file states, or else that of the layout, unless ImageNet's."""
    if found.image_size is not None:
        return found.image_size
    size = found.layout.image_size(found.architecture)
    if size == DEFAULT_IMAGE_SIZE:  # networks of any size look like these
        return None
    report(f"images are resized to {size} px, as such networks take them: the file states no size")
    return size


def _check_room(destination: Path, num_bytes: int) -> None:
    """Raise UserError unless space, quota, limits and permissions allow writing these bytes.

    This is tested by reserving them in an unnamed temporary file.
    """
    parent = destination.absolute().parent
    while not parent.exists():
        parent = parent.parent
    try:
        with tempfile.TemporaryFile(dir=parent) as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, num_bytes + (1 << 20))
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):  # a file system that cannot reserve
            return
        raise UserError(
            f"{destination}: cannot write {num_bytes:,} bytes there ({error.strerror}): make room "
            "or choose another place"
        ) from error


def _read_index(index: Path) -> dict[str, Any]:
    try:
        known = json.loads(index.read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock between processes; the system releases it if this one dies."""
    import fcntl

    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
