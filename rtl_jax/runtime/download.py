"""Download a file once, with resumption, a sha256 check and an atomic rename.

No library does all of this: pooch and fsspec restart broken transfers, and huggingface_hub resumes
only files of its own hub.
"""

import contextlib
import errno
import hashlib
import http.client
import logging
import os
import queue
import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from rtl_jax.errors import UserError
from rtl_jax.runtime.progress import bar

# Seconds for name lookup, connection and first byte together, and for each later read.
TIMEOUT = 6.0
# A broken transfer is resumed until this many consecutive attempts yield no byte.
IDLE_ATTEMPTS = 3
MAX_BYTES = 8 << 30  # of a file of unknown size
_CHUNK = 1 << 18

logger = logging.getLogger(__name__)


def download(
    url: str,
    path: Path,
    *,
    sha256: str | None = None,
    size: int | None = None,
    otherwise: str | None = None,
    setting: str = "RTL_JAX_DATA_DIR",
) -> None:
    """Download `url` to `path` unless it exists; other processes may do so concurrently.

    Data are written to `path` + '.part'. With a `sha256`, the next call resumes from it; without
    one, nothing would show that it is part of the same file, so it is removed.

    Args:
        url: the http or https address of the file.
        path: the destination; its directory is created.
        sha256: the sha256 of the file in hexadecimal, if known.
        size: the size of the file in bytes, if known.
        otherwise: the advice if the download fails, by default to fetch the file by other means.
        setting: the environment variable for another location, for the message on a full disk.

    Raises:
        UserError: within 10 seconds if the server cannot be reached; if the server refuses or
            returns a web page instead of a file, the disk is full or read-only, the file has more
            than MAX_BYTES, or the sha256 differs (an existing `path` is never touched).
    """
    transfer = _Transfer(url, path, sha256, size, otherwise)
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _exclusive(part) as file:
            if path.exists():  # Another process finished while this one waited.
                part.unlink(missing_ok=True)
                return
            logger.info("downloading %s to %s", url, path)
            whole = False
            try:
                transfer.run(file)
                file.flush()
                whole = True
            finally:
                # Remove a file that is empty or cannot be resumed.
                if not whole and not (transfer.resumable and part.stat().st_size):
                    part.unlink()
            transfer.check(part)
            os.replace(part, path)
    except OSError as error:
        raise transfer.disk_error(error, setting) from error


def check_reachable(url: str, *, what: str) -> None:
    """Raise UserError, within 10 seconds, unless the server of `url` responds at all."""
    try:
        _open(url, {}).close()
    except urllib.error.HTTPError as error:
        error.close()  # An error is a response too.
    except OSError as error:
        raise UserError(
            f"{what} needs the network, and {url} cannot be reached ({_reason(error)})"
        ) from error


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def within(seconds: float, call: Callable[[], Any]) -> Any:
    """Return the result of `call`, or raise TimeoutError after `seconds`.

    Name lookup has no timeout of its own and can take a minute without a network, so the call runs
    in a thread, which is abandoned if it takes too long.
    """
    results: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue()

    def run() -> None:
        try:
            results.put((call(), None))
        except BaseException as error:
            results.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        result, error = results.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer in {seconds:g} s") from None
    if error is not None:
        raise error
    return result


class _Transfer:
    """The transfer of a file; `size` is None until known."""

    def __init__(
        self, url: str, path: Path, sha256: str | None, size: int | None, otherwise: str | None
    ) -> None:
        self.url, self.path, self.sha256, self.size = url, path, sha256, size
        self.resumable = sha256 is not None
        kept = " (what has arrived is kept)" if self.resumable else ""
        self.by_hand = otherwise or f"fetch {path.name} by other means and put it at {path}"
        self.advice = f"{self.by_hand}, or run again with a network{kept}"

    def run(self, file: IO[bytes]) -> None:
        """Append to `file`, which may contain a first part, until it is complete."""
        if not self.resumable or (self.size is not None and _end(file) > self.size):
            file.truncate(0)
        self.require_room(_end(file))
        idle, whole = 0, _end(file) == self.size
        with bar(self.path.name, self.size, unit="B") as progress:
            while not whole:
                start = progress.n = _end(file)
                try:
                    whole = self.append(file, start, progress)
                except urllib.error.HTTPError as error:
                    error.close()
                    raise UserError(
                        f"{self.url} answers {_refusal(error)}: {self.advice}"
                    ) from error
                except _NetworkError as error:
                    raise UserError(
                        f"{self.url} cannot be reached ({error}): {self.advice}"
                    ) from error
                idle = 0 if _end(file) > start else idle + 1
                if not whole and idle == IDLE_ATTEMPTS:
                    of = "" if self.size is None else f" of {self.size}"
                    raise UserError(
                        f"{self.url} stopped sending after {start}{of} bytes: {self.advice}"
                    )

    def append(self, file: IO[bytes], start: int, progress: Any) -> bool:
        """Make one attempt; return whether the file is complete. Raises without a connection."""
        try:
            response = _open(self.url, {"Range": f"bytes={start}-"} if start else {})
        except urllib.error.HTTPError:
            raise
        except (OSError, http.client.HTTPException) as error:
            raise _NetworkError(_reason(error)) from error
        with contextlib.closing(response):
            self.require_file(response)
            content_range = response.headers.get("Content-Range", "")
            if start and not (
                response.status == 206 and content_range.startswith(f"bytes {start}-")
            ):
                # The server ignores ranges, or sends another one: start over.
                file.truncate(0)
                start = progress.n = 0
                if response.status == 206:
                    return False
            announced = response.headers.get("Content-Length", "")
            if self.size is None and announced.isdecimal():
                self.size = progress.total = start + int(announced)
                self.require_room(start)
            limit = MAX_BYTES if self.size is None else self.size
            while start < limit:
                try:
                    chunk = response.read(min(_CHUNK, limit - start))
                except (OSError, http.client.HTTPException):
                    return False
                if not chunk:
                    return self.size is None  # otherwise the connection broke
                file.write(chunk)
                start += len(chunk)
                progress.update(len(chunk))
        if self.size is None:
            raise UserError(f"{self.url} sends more than {MAX_BYTES} bytes: {self.by_hand}")
        return True

    def require_file(self, response: Any) -> None:
        """Raise UserError for a web page, such as a login or notice sent with status 200."""
        if self.sha256 is None and "text/html" in response.headers.get("Content-Type", ""):
            raise UserError(f"{self.url} answers with a page instead of a file: {self.by_hand}")

    def require_room(self, start: int) -> None:
        """Raise an error if the disk has no room for the rest, if the size is known."""
        if self.size is None:
            return
        if self.sha256 is None and self.size > MAX_BYTES:
            raise UserError(f"{self.url} announces {self.size} bytes: {self.by_hand}")
        if shutil.disk_usage(self.path.parent).free < self.size - start:
            raise OSError(errno.ENOSPC, "No space left on device")

    def check(self, part: Path) -> None:
        """Remove a file with the wrong sha256 and raise UserError."""
        if self.sha256 is None or (actual := sha256_of(part)) == self.sha256:
            return
        part.unlink()
        raise UserError(
            f"{self.url} sent a different file (sha256 {actual}, expected {self.sha256}): "
            f"try again later, or {self.by_hand}"
        )

    def disk_error(self, error: OSError, setting: str) -> UserError:
        """Return the error to raise if writing fails."""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            needed = "" if self.size is None else f" ({self.size / 2**20:.0f} MiB are needed)"
            kept = ", the part that has arrived is kept" if self.resumable else ""
            return UserError(
                f"the disk of {self.path.parent} is full, there is no room for {self.path.name}"
                f"{needed}: free some space and run again{kept}; or name another directory in "
                f"{setting}"
            )
        return UserError(
            f"{self.path} cannot be written ({error.strerror or error}): name a directory that can "
            f"be written in {setting}, or {self.by_hand} ({self.url})"
        )


class _NetworkError(Exception):
    """No connection could be established; a later run may succeed."""


def _refusal(error: urllib.error.HTTPError) -> str:
    """Return status and reason, and how long to wait if the server limits the request rate."""
    said = f"{error.code} {error.reason}".rstrip()
    if error.code != 429:
        return said
    after = error.headers.get("Retry-After", "")
    return f"{said} (wait {f'{after} s' if after.isdecimal() else 'some minutes'})"


def _open(url: str, headers: dict[str, str]) -> Any:
    """Call urlopen with TIMEOUT, including name lookup."""
    request = urllib.request.Request(url, headers={"User-Agent": "rtl_jax", **headers})
    return within(TIMEOUT, lambda: urllib.request.urlopen(request, timeout=TIMEOUT))


def _reason(error: BaseException) -> str:
    reason = getattr(error, "reason", None) or error
    return str(reason) or type(error).__name__


def _end(file: IO[bytes]) -> int:
    return file.seek(0, os.SEEK_END)


@contextlib.contextmanager
def _exclusive(part: Path) -> Iterator[IO[bytes]]:
    """Open `part` for appending, exclusively among processes if there are file locks."""
    with open(part, "ab") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        except (ImportError, OSError):  # Windows, or a network disk: continue without a lock.
            pass
        # The process that held the lock may have renamed the file opened here.
        if part.exists() and os.path.samestat(os.fstat(file.fileno()), part.stat()):
            yield file
            return
    with open(part, "ab") as file:
        yield file
