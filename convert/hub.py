"""Where a source is: a path, or `hf:REPO/FILE` on the Hugging Face hub."""

import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rtl_jax.errors import UserError

# Whether the hub answers is known within this time, so that no network fails at once.
_PROBE_SECONDS = 6.0


def locate(source: str | os.PathLike, report: Callable[[str], Any]) -> Path:
    """The local path of a source, downloaded where it is `hf:REPO/FILE`.

    Raises UserError for an address that is malformed, absent or out of reach.
    """
    source = os.fspath(source)
    if not source.startswith("hf:"):
        return expanded(source)
    parts = source.removeprefix("hf:").strip("/").split("/")
    if len(parts) < 3 or {"", ".", ".."} & set(parts):
        raise UserError(
            f"{source}: expected hf:OWNER/REPO/FILE, for instance "
            "hf:madrylab/robust-imagenet-models/resnet50_l2_eps3.ckpt"
        )
    return _download(source, "/".join(parts[:2]), "/".join(parts[2:]), report)


def expanded(path: str | os.PathLike) -> Path:
    """A path with `~` resolved; UserError for the home of a user that is not known."""
    if "\0" in os.fspath(path):
        raise UserError(f"{os.fspath(path)!r} is no path")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"{path}: there is no such user") from error


def _download(source: str, repo: str, file: str, report: Callable[[str], Any]) -> Path:
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError as error:
        raise UserError(
            f"{source}: needs huggingface_hub: pip install 'rtl_jax[convert]'"
        ) from error
    try:
        cached = huggingface_hub.try_to_load_from_cache(repo, file)
    except ValueError as error:
        raise UserError(f"{source}: is no address on the hub ({error})") from error
    if isinstance(cached, str):
        report(f"found in the hub's cache: {cached}")
        return Path(cached)
    address = huggingface_hub.hf_hub_url(repo, file)
    by_hand = (
        f"download {address} by hand on a machine that reaches it, and give its path: "
        f"python -m convert {Path(file).name} DESTINATION"
    )
    try:
        _within(_PROBE_SECONDS, lambda: huggingface_hub.get_hf_file_metadata(address, timeout=5))
        report(f"downloading {address}")
        return Path(huggingface_hub.hf_hub_download(repo, file, etag_timeout=5))
    except errors.GatedRepoError as error:
        raise UserError(f"{source}: needs permission: accept its terms at {address}") from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(f"{source}: the hub has no repository {repo} that you can see") from error
    except errors.EntryNotFoundError as error:
        raise UserError(f"{source}: {repo} has no file {file}") from error
    except errors.HFValidationError as error:
        raise UserError(f"{source}: {repo} is no name of a repository") from error
    # The hub's client raises its HTTP library's errors, whichever library that is.
    except Exception as error:
        raise UserError(
            f"{source}: the Hugging Face hub cannot be reached ({type(error).__name__}): {by_hand}"
        ) from error


def _within(seconds: float, call: Callable[[], Any]) -> None:
    """Call, but wait no longer than `seconds`: resolving a name has no time limit of its own."""
    results: queue.Queue[BaseException | None] = queue.Queue()

    def run() -> None:
        try:
            call()
            results.put(None)
        except BaseException as error:
            results.put(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        error = results.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer in {seconds:g} s") from None
    if error is not None:
        raise error
