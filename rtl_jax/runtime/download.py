"""Download a file once: resumed where it broke off, checked by sha256, renamed when whole.

No library does as much: pooch and fsspec start a broken transfer over, and huggingface_hub resumes
only its own hub's files.
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

# Seconds for name lookup, connection and the first byte together, and for each later read.
TIMEOUT = 6.0
# A broken transfer is resumed until this many attempts in a row bring no byte.
IDLE_ATTEMPTS = 3
MAX_BYTES = 8 << 30  # of a file whose size is not known beforehand
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
    """Bring `url` to `path`, unless it is there; other processes may do so at the same time.

    Bytes gather in `path` + '.part'. With a `sha256` the next call goes on with what has arrived;
    without one nothing would show that it is a part of the same file, and it is removed.

    Args:
        url: of a file, http or https.
        path: of the file here; its directory is made.
        sha256: of the file, in hexadecimal, where it is known.
        size: of the file in bytes, where it is known.
        otherwise: what to do where the file does not come, by default to fetch it by other means.
        setting: the environment variable that names another place, for the message on a full disk.

    Raises:
        UserError: within 10 seconds if the server cannot be reached; for a server's refusal or a
            page in place of a file, a full or read-only disk, a file of more than MAX_BYTES, or
            another sha256 than expected (an existing `path` is never touched).
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
                # Nothing arrived, or nothing that could be gone on with: leave nothing behind.
                if not whole and not (transfer.resumable and part.stat().st_size):
                    part.unlink()
            transfer.check(part)
            os.replace(part, path)
    except OSError as error:
        raise transfer.disk_error(error, setting) from error


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


def within(seconds: float, call: Callable[[], Any]) -> Any:
    """Call and return what it returns, or raise TimeoutError after `seconds`.

    Looking up a name has no time limit of its own and can take a minute without a network, so the
    call runs in a thread, which is left behind if it takes too long.
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
    """One file on its way; `size` is None until somebody says it."""

    def __init__(
        self, url: str, path: Path, sha256: str | None, size: int | None, otherwise: str | None
    ) -> None:
        self.url, self.path, self.sha256, self.size = url, path, sha256, size
        self.resumable = sha256 is not None
        kept = " (what has arrived is kept)" if self.resumable else ""
        self.by_hand = otherwise or f"fetch {path.name} by other means and put it at {path}"
        self.advice = f"{self.by_hand}, or run again with a network{kept}"

    def run(self, file: IO[bytes]) -> None:
        """Append to `file`, which may hold a beginning, until it is whole."""
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
        """One attempt: whether the file is whole now; raises where no connection can be had."""
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
                # The server ignores ranges, or sends another one: from the beginning, then.
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
                    return self.size is None  # else the connection broke
                file.write(chunk)
                start += len(chunk)
                progress.update(len(chunk))
        if self.size is None:
            raise UserError(f"{self.url} sends more than {MAX_BYTES} bytes: {self.by_hand}")
        return True

    def require_file(self, response: Any) -> None:
        """Raise UserError for a page: what logins and notices are sent as, with status 200."""
        if self.sha256 is None and "text/html" in response.headers.get("Content-Type", ""):
            raise UserError(f"{self.url} answers with a page instead of a file: {self.by_hand}")

    def require_room(self, start: int) -> None:
        """Raise unless the disk has room for the rest, where its size is known."""
        if self.size is None:
            return
        if self.sha256 is None and self.size > MAX_BYTES:
            raise UserError(f"{self.url} announces {self.size} bytes: {self.by_hand}")
        if shutil.disk_usage(self.path.parent).free < self.size - start:
            raise OSError(errno.ENOSPC, "No space left on device")

    def check(self, part: Path) -> None:
        """Raise UserError and remove a file whose sha256 is another one."""
        if self.sha256 is None or (actual := sha256_of(part)) == self.sha256:
            return
        part.unlink()
        raise UserError(
            f"{self.url} sent other bytes than expected (sha256 {actual}, expected {self.sha256}): "
            f"try again later, or {self.by_hand}"
        )

    def disk_error(self, error: OSError, setting: str) -> UserError:
        """What to say where the system refuses to write."""
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
    """No connection could be had; another run may have one."""


def _refusal(error: urllib.error.HTTPError) -> str:
    """Status and reason, and how long to wait where the server limits the rate of requests."""
    said = f"{error.code} {error.reason}".rstrip()
    if error.code != 429:
        return said
    after = error.headers.get("Retry-After", "")
    return f"{said} (wait {f'{after} s' if after.isdecimal() else 'some minutes'})"


def _open(url: str, headers: dict[str, str]) -> Any:
    """urlopen that gives up after TIMEOUT, name lookup included."""
    request = urllib.request.Request(url, headers={"User-Agent": "rtl_jax", **headers})
    return within(TIMEOUT, lambda: urllib.request.urlopen(request, timeout=TIMEOUT))


def _reason(error: BaseException) -> str:
    reason = getattr(error, "reason", None) or error
    return str(reason) or type(error).__name__


def _end(file: IO[bytes]) -> int:
    return file.seek(0, os.SEEK_END)


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
