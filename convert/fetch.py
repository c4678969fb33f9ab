"""Download a published checkpoint whose address is known, once."""

import contextlib
import http.client
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tqdm import tqdm

from rtl_jax.convert.hub import within
from rtl_jax.errors import UserError
from rtl_jax.runtime.paths import cache_path, complete_or_absent

_SECONDS = 10.0  # for an answer, and for each later read
_CHUNK = 1 << 18
_MAX_BYTES = 8 << 30


def fetch(address: str, by_hand: str, report: Callable[[str], Any]) -> Path:
    """The file at `address`, from the cache or downloaded to it.

    It is written whole or not at all. Raises UserError, with `by_hand` as what to do, where no
    file comes: no network, a refusal, a page instead of a file, fewer bytes than were announced.
    """
    file = cache_path() / "published" / Path(urlsplit(address).path).name
    if file.is_file():
        report(f"found in the cache: {file}")
        return file
    report(f"downloading {address}")
    try:
        with contextlib.closing(_answer(address)) as answer:
            if "text/html" in answer.headers.get("Content-Type", ""):
                raise UserError(f"{address}: answers with a page instead of a file: {by_hand}")
            with complete_or_absent(file, replace=True) as temporary, temporary.open("wb") as out:
                _copy(answer, out, file)
    except urllib.error.HTTPError as error:
        error.close()
        raise UserError(f"{address}: answers HTTP {error.code}: {by_hand}") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(f"{address}: cannot be reached ({reason}): {by_hand}") from error
    except _BrokenError as error:
        raise UserError(f"{address}: {error}: run this again, or {by_hand}") from error
    return file


class _BrokenError(Exception):
    """A transfer that broke off."""


def _answer(address: str) -> Any:
    request = urllib.request.Request(address, headers={"User-Agent": "rtl_jax"})
    answers: list[Any] = []
    within(_SECONDS, lambda: answers.append(urllib.request.urlopen(request, timeout=_SECONDS)))
    return answers[0]


def _copy(answer: Any, out: Any, file: Path) -> None:
    announced = answer.headers.get("Content-Length", "")
    size = int(announced) if announced.isdecimal() else None
    if max(size or 0, 1) > min(_MAX_BYTES, shutil.disk_usage(file.parent).free):
        raise UserError(
            f"{file}: needs {size:,} bytes: make room, or name another cache in RTL_JAX_CACHE_DIR"
        )
    received = 0
    with tqdm(total=size, desc=file.name, unit="B", unit_scale=True, disable=None) as progress:
        while True:
            try:
                chunk = answer.read(_CHUNK)
            except (OSError, http.client.HTTPException) as error:
                raise _BrokenError(f"broke off after {received:,} bytes ({error})") from error
            if not chunk:
                break
            received += len(chunk)
            if received > _MAX_BYTES:
                raise _BrokenError(f"sends more than {_MAX_BYTES:,} bytes")
            out.write(chunk)
            progress.update(len(chunk))
    if size is not None and received != size:
        raise _BrokenError(f"broke off after {received:,} of {size:,} bytes")
