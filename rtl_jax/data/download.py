"""Download a file once: resumed where it broke off, checked by sha256, renamed when whole."""

import contextlib
import errno
import hashlib
import http.client
import logging
import os
import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from rtl_jax.errors import UserError

# Seconds for name lookup, connection and the first byte together, and for each later read.
TIMEOUT = 6.0
# A broken transfer is resumed until this many attempts in a row bring no byte.
IDLE_ATTEMPTS = 3
_CHUNK = 1 << 18

logger = logging.getLogger(__name__)


def download(url: str, path: Path, *, sha256: str, size: int) -> None:
    """Bring `url` to `path`, unless it is there; other processes may do so at the same time.

    Bytes gather in `path` + '.part', which the next call goes on with.

    Raises UserError, within 10 seconds if the server cannot be reached, for: no network,
    a server's refusal, a full or read-only disk, or content of another sha256 than
    expected (then the .part is removed; an existing `path` is never touched).
    """
    part = path.with_name(path.name + ".part")
    advice = f"fetch it by other means and put it at {path}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _exclusive(part) as file:
            if path.exists():  # Another process finished while this one waited.
                part.unlink(missing_ok=True)
                return
            logger.info("downloading %s to %s", url, path)
            try:
                _transfer(url, file, size, path)
                file.flush()
            finally:
                if not part.stat().st_size:  # Nothing arrived: leave nothing behind.
                    part.unlink()
            actual = sha256_of(part)
            if actual != sha256:
                part.unlink()
                raise UserError(
                    f"{url} sent other bytes than expected (sha256 {actual}, expected {sha256}): "
                    f"try again later, or {advice}"
                )
            os.replace(part, path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"the disk of {path.parent} is full ({size / 2**20:.0f} MiB are needed for "
                f"{path.name}): free some space and run again, the part that has arrived is kept; "
                "or name another data directory in RTL_JAX_DATA_DIR"
            ) from error
        raise UserError(
            f"{path} cannot be written ({error.strerror or error}): name a data directory that "
            f"can be written in RTL_JAX_DATA_DIR, or {advice} ({url})"
        ) from error


def check_reachable(url: str, *, what: str) -> None:
    """Raise UserError, within 10 seconds, unless the server of `url` answers anything."""
    try:
        _open(url, {}).close()
    except urllib.error.HTTPError as error:
        error.close()  # An answer.
    except OSError as error:
        raise UserError(
            f"{what} needs the network, and {url} cannot be reached ({_reason(error)})"
        ) from error


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _NetworkError(Exception):
    """The transfer broke off; another attempt may go on."""


def _transfer(url: str, file: IO[bytes], size: int, path: Path) -> None:
    """Append to `file`, which may hold a beginning, until it has `size` bytes."""
    advice = (
        f"Fetch {path.name} ({size} bytes) by other means and put it at {path}, or run again with "
        "a network (what has arrived is kept)."
    )
    if file.seek(0, os.SEEK_END) > size:
        file.truncate(0)
    missing = size - file.seek(0, os.SEEK_END)
    if shutil.disk_usage(path.parent).free < missing:
        raise OSError(errno.ENOSPC, "No space left on device")
    idle = 0
    with tqdm(total=size, desc=path.name, unit="B", unit_scale=True, disable=None) as progress:
        while (start := file.seek(0, os.SEEK_END)) < size:
            progress.n = start
            try:
                _append(url, file, start, size, progress)
            except urllib.error.HTTPError as error:
                error.close()
                raise UserError(f"{url} answers {error.code} {error.reason}. {advice}") from error
            except _NetworkError as error:
                raise UserError(f"{url} cannot be reached ({error}). {advice}") from error
            if file.seek(0, os.SEEK_END) > start:
                idle = 0
                continue
            idle += 1
            if idle == IDLE_ATTEMPTS:
                raise UserError(f"{url} stopped sending after {start} of {size} bytes. {advice}")


def _append(url: str, file: IO[bytes], start: int, size: int, progress: Any) -> None:
    """One attempt; returns where the connection breaks, raises where none can be had."""
    headers = {"Range": f"bytes={start}-"} if start else {}
    try:
        response = _open(url, headers)
    except urllib.error.HTTPError:
        raise
    except (OSError, http.client.HTTPException) as error:
        raise _NetworkError(_reason(error)) from error
    with contextlib.closing(response):
        content_range = response.headers.get("Content-Range", "")
        if start and not (response.status == 206 and content_range.startswith(f"bytes {start}-")):
            # The server ignores ranges, or sends another one: from the beginning, then.
            file.truncate(0)
            start = progress.n = 0
            if response.status == 206:
                return
        while start < size:
            try:
                chunk = response.read(min(_CHUNK, size - start))
            except (OSError, http.client.HTTPException):
                return
            if not chunk:
                return
            file.write(chunk)
            start += len(chunk)
            progress.update(len(chunk))


def _open(url: str, headers: dict[str, str]) -> Any:
    """urlopen that gives up after TIMEOUT, name lookup included.

    The lookup has no timeout of its own and can take a minute without a network, so the
    call runs in a thread, which is left behind if it takes too long.
    """
    request = urllib.request.Request(url, headers={"User-Agent": "rtl_jax", **headers})
    result: list[Any] = []

    def run() -> None:
        try:
            result.append(urllib.request.urlopen(request, timeout=TIMEOUT))
        except BaseException as error:
            result.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(TIMEOUT)
    if not result:
        raise TimeoutError(f"no answer in {TIMEOUT:.0f} seconds")
    if isinstance(result[0], BaseException):
        raise result[0]
    return result[0]


def _reason(error: BaseException) -> str:
    reason = getattr(error, "reason", None) or error
    return str(reason) or type(error).__name__


@contextlib.contextmanager
def _exclusive(part: Path) -> Iterator[IO[bytes]]:
    """Open `part` to append, alone among processes where the system has file locks."""
    with open(part, "ab") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        except (ImportError, OSError):  # Windows, or a network disk: then hope to be alone.
            pass
        # The one that held the lock may have renamed the file that was opened here.
        if part.exists() and os.path.samestat(os.fstat(file.fileno()), part.stat()):
            yield file
            return
    with open(part, "ab") as file:
        yield file
