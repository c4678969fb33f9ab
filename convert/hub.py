"""Location of a source: a path, or `hf:REPO/FILE` or `hf:REPO` on the Hugging Face hub."""

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rtl_jax.errors import UserError
from rtl_jax.runtime.download import within
from rtl_jax.runtime.program import typed

# The hub must answer within this time, so that a missing connection fails quickly.
_PROBE_SECONDS = 6.0

# For a repository without a file: its weights, the likeliest first, and timm's config.
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_CONFIG = "config.json"

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)


def locate(source: str | os.PathLike, report: Callable[[str], Any]) -> Path:
    """Return the local path of a source, downloading it if it is on the hub.

    For `hf:REPO` alone, it is the weights file of timm's repositories, with its config beside it.

    Raises UserError for an address that is malformed, absent or unreachable.
    """
    source = os.fspath(source)
    if not source.startswith("hf:"):
        return expanded(source)
    parts = source.removeprefix("hf:").strip("/").split("/")
    if len(parts) < 2 or {"", ".", ".."} & set(parts):
        raise UserError(
            f"{source}: expected hf:OWNER/REPO/FILE, for instance "
            "hf:madrylab/robust-imagenet-models/resnet50_l2_eps3.ckpt, or hf:OWNER/REPO"
        )
    if len(parts) == 2:
        return _whole(source, "/".join(parts), report)
    return _download(source, "/".join(parts[:2]), "/".join(parts[2:]), report)


def _whole(source: str, repo: str, report: Callable[[str], Any]) -> Path:
    """Download a repository's config and then its weights, next to it in the cache."""
    with contextlib.suppress(_AbsentError):
        _download(source, repo, _CONFIG, report)
    for file in _WEIGHTS:
        with contextlib.suppress(_AbsentError):
            return _download(source, repo, file, report)
    raise UserError(
        f"{source}: has none of {', '.join(_WEIGHTS)}: name its file, hf:{repo}/FILE (see "
        f"https://huggingface.co/{repo}/tree/main)"
    )


class _AbsentError(UserError):
    """The repository exists but does not contain the file."""


def expanded(path: str | os.PathLike) -> Path:
    """Return a path with `~` resolved. Raises UserError for an unknown user's home."""
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
        raise UserError(f"{source}: needs huggingface_hub: pip install huggingface_hub") from error
    try:
        cached = huggingface_hub.try_to_load_from_cache(repo, file)
    except ValueError as error:
        raise UserError(f"{source}: is not an address on the hub ({error})") from error
    if isinstance(cached, str):
        report(f"found in the hub's cache: {cached}")
        return Path(cached)
    address = huggingface_hub.hf_hub_url(repo, file)
    try:
        within(_PROBE_SECONDS, lambda: huggingface_hub.get_hf_file_metadata(address, timeout=5))
        report(f"downloading {address}")
        return Path(huggingface_hub.hf_hub_download(repo, file, etag_timeout=5))
    except errors.HFValidationError as error:
        raise UserError(f"{source}: {repo} is not a repository name") from error
    # The hub's client raises its HTTP library's errors, whichever library that is.
    except Exception as error:
        absent = isinstance(error, errors.EntryNotFoundError) and not isinstance(
            error, errors.LocalEntryNotFoundError
        )
        kind = _AbsentError if absent else UserError
        raise kind(f"{source}: {_advice(error, repo, file, address)}") from error


_TOKEN = "log in again (hf auth login), or give another token in HF_TOKEN"


def _advice(error: Exception, repo: str, file: str, address: str) -> str:
    """Explain why access to the hub failed, and what to do about it."""
    from huggingface_hub import errors, get_token

    by_hand = (
        f"download {address} by hand on a machine that reaches it, and give its path: "
        f"{typed('convert')} {Path(file).name} DESTINATION"
    )
    # A failed download is reported as a file missing from the cache, with its cause.
    cause = error.__cause__
    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(cause, Exception):
        return _advice(cause, repo, file, address)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return f"HF_HUB_OFFLINE is set, and the file is not in the cache: unset it, or {by_hand}"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError):
        first = "" if get_token() else "log in (hf auth login) and "
        return f"the hub asks for permission (HTTP {status}): {first}accept its terms at {address}"
    if isinstance(error, errors.RepositoryNotFoundError):
        who = "with your token" if get_token() else "without a token (private ones need one)"
        return f"the hub shows no repository {repo} {who} (HTTP {status}): check its name. {_TOKEN}"
    if isinstance(error, errors.EntryNotFoundError) and status is not None:
        return f"{repo} has no file {file} (HTTP {status}): see https://huggingface.co/{repo}/tree/main"
    if status in (401, 403):
        said = "has expired or is wrong" if status == 401 else "may not read this repository"
        token = f"your token {said}" if get_token() else "it needs a token"
        return f"the hub refuses access (HTTP {status}); {token}: {_TOKEN}"
    if status == 404:
        return f"the hub has no {repo}/{file} (HTTP 404): check the names of repository and file"
    if status == 429:
        after = error.response.headers.get("Retry-After", "")  # type: ignore[attr-defined]
        wait = f"{after} s" if after.isdecimal() else "some minutes"
        return (
            f"the hub limits the rate of requests (HTTP 429): wait {wait} and run this again; "
            "requests with a token (hf auth login) have a higher limit"
        )
    if status is not None and status >= 500:
        return (
            f"the hub has an internal error (HTTP {status}): try again later "
            f"(https://status.huggingface.co), or {by_hand}"
        )
    if status is not None:
        return f"the hub answers HTTP {status}: {by_hand}"
    if isinstance(error, OSError) and error.errno in _DISK:
        return (
            f"cannot be written to the hub's cache ({error.strerror}): make room, or name another "
            "place in HF_HUB_CACHE"
        )
    return f"the Hugging Face hub cannot be reached ({type(error).__name__}): {by_hand}"
