"""Downloads from a local server with the faults of real ones."""

import errno
import hashlib
import multiprocessing
import shutil
import socket
import threading
import time

import numpy as np
import pytest

from rtl_jax.errors import UserError
from rtl_jax.runtime import download as module
from rtl_jax.runtime.download import check_reachable, download
from tests.file_server import server

__all__ = ["server"]

CONTENT = np.random.default_rng(0).bytes(1_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def get(server, path, **options):
    facts = {"sha256": SHA256, "size": len(CONTENT)} | options
    download(server.url + "file.gz", path, **facts)


@pytest.fixture
def target(server, tmp_path):
    server.files["file.gz"] = CONTENT
    return tmp_path / "new" / "file.gz"


def test_a_whole_file(server, target):
    get(server, target)
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == ["file.gz"]
    assert server.requests == [("file.gz", None)]


def test_a_broken_connection_is_resumed_where_it_broke(server, target):
    server.cut_after, server.cuts = 300_000, 2
    get(server, target)
    assert target.read_bytes() == CONTENT
    assert server.requests == [
        ("file.gz", None),
        ("file.gz", "bytes=300000-"),
        ("file.gz", "bytes=600000-"),
    ]


def test_a_later_run_goes_on_with_the_part(server, target):
    server.cut_after, server.cuts = 0, 100
    target.parent.mkdir()
    part = target.with_name("file.gz.part")
    part.write_bytes(CONTENT[:700_000])
    with pytest.raises(UserError, match=r"stopped sending after 700000 of 1000000 bytes"):
        get(server, target)
    assert part.read_bytes() == CONTENT[:700_000]
    server.cuts = 0
    get(server, target)
    assert target.read_bytes() == CONTENT
    assert server.requests[-1] == ("file.gz", "bytes=700000-")


def test_a_server_that_ignores_ranges(server, target):
    server.ranges = False
    server.cut_after, server.cuts = 300_000, 1
    get(server, target)
    assert target.read_bytes() == CONTENT
    assert server.requests[1] == ("file.gz", "bytes=300000-")


@pytest.mark.parametrize("held", [len(CONTENT), len(CONTENT) + 5])
def test_a_part_that_is_whole_or_too_long(server, target, held):
    target.parent.mkdir()
    target.with_name("file.gz.part").write_bytes((CONTENT + bytes(5))[:held])
    get(server, target)
    assert target.read_bytes() == CONTENT
    assert len(server.requests) == (held != len(CONTENT))


def test_other_content_is_refused_and_the_next_run_starts_afresh(server, target):
    server.files["file.gz"] = bytes(len(CONTENT))
    with pytest.raises(UserError, match="a different file.*" + SHA256) as caught:
        get(server, target)
    assert str(target) in str(caught.value)
    assert list(target.parent.iterdir()) == []
    server.files["file.gz"] = CONTENT
    get(server, target)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("status", "headers", "said"),
    [
        (404, {}, "answers 404 Not Found: fetch"),
        (403, {}, "answers 403 Forbidden"),
        (429, {"Retry-After": "290"}, r"answers 429 Too Many Requests \(wait 290 s\)"),
        (429, {}, r"\(wait some minutes\)"),
        (503, {}, "answers 503"),
    ],
)
def test_a_server_that_refuses(server, target, status, headers, said):
    server.status, server.headers = status, headers
    with pytest.raises(UserError, match=said) as caught:
        get(server, target)
    assert str(target) in str(caught.value)
    assert list(target.parent.iterdir()) == []


def test_a_file_of_unknown_size_and_content(server, target):
    """It is resumed within a call; remains of an earlier call may be of another file."""
    target.parent.mkdir()
    part = target.with_name("file.gz.part")
    part.write_bytes(bytes(100))
    server.cut_after, server.cuts = 300_000, 2
    get(server, target, sha256=None, size=None)
    assert target.read_bytes() == CONTENT and not part.exists()
    assert server.requests == [
        ("file.gz", None),
        ("file.gz", "bytes=300000-"),
        ("file.gz", "bytes=600000-"),
    ]


def test_a_length_that_is_never_said(server, target):
    server.announces = False
    get(server, target, sha256=None, size=None)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("announces", [True, False])
def test_a_file_without_end(server, target, monkeypatch, announces):
    server.announces = announces
    monkeypatch.setattr(module, "MAX_BYTES", len(CONTENT) - 1)
    with pytest.raises(UserError, match=r"1000000 bytes: by hand|more than 999999 bytes: by hand"):
        get(server, target, sha256=None, size=None, otherwise="by hand")
    assert list(target.parent.iterdir()) == []


def test_a_page_in_place_of_a_file(server, target):
    server.headers = {"Content-Type": "text/html; charset=utf-8"}
    with pytest.raises(UserError, match="a page instead of a file: by hand"):
        get(server, target, sha256=None, size=None, otherwise="by hand")
    assert list(target.parent.iterdir()) == []


def test_nobody_listens(server, target):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/file.gz"
        with pytest.raises(UserError, match=r"cannot be reached.*refused") as caught:
            download(url, target, sha256=SHA256, size=len(CONTENT))
    assert "file.gz" in str(caught.value) and str(target) in str(caught.value)
    assert list(target.parent.iterdir()) == []


def test_a_silent_server_is_given_up_within_ten_seconds(target):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/file.gz"
        start = time.monotonic()
        with pytest.raises(UserError, match="cannot be reached"):
            download(url, target, sha256=SHA256, size=len(CONTENT))
        assert time.monotonic() - start < 10


def test_a_name_lookup_that_hangs_is_given_up(target, monkeypatch):
    released = threading.Event()

    def hang(*args: object, **kwargs: object) -> None:
        released.wait(20)
        raise socket.gaierror(-3, "late")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    monkeypatch.setattr(module, "TIMEOUT", 0.3)
    monkeypatch.setenv("no_proxy", "*")
    start = time.monotonic()
    with pytest.raises(UserError, match="no answer"):
        download("http://host.invalid/file.gz", target, sha256=SHA256, size=len(CONTENT))
    with pytest.raises(UserError, match=r"preparing x needs the network"):
        check_reachable("http://host.invalid/", what="preparing x")
    assert time.monotonic() - start < 5
    released.set()


def test_any_answer_is_reachable(server):
    check_reachable(server.url + "nothing", what="x")


def test_a_full_disk_is_refused_before_and_survived_during(server, target, monkeypatch):
    usage = shutil.disk_usage(target.parent.parent)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10))
        with pytest.raises(UserError, match=r"full.*free some space"):
            get(server, target)
    assert server.requests == []

    real = module._Transfer.append
    with monkeypatch.context() as patched:

        def fill_up(transfer, file, start, progress):
            server.cut_after, server.cuts = 400_000, 1
            real(transfer, file, start, progress)
            raise OSError(errno.ENOSPC, "No space left on device")

        patched.setattr(module._Transfer, "append", fill_up)
        with pytest.raises(UserError, match=r"full.*the part that has arrived is kept"):
            get(server, target)
    get(server, target)
    assert target.read_bytes() == CONTENT
    assert server.requests[-1] == ("file.gz", "bytes=400000-")


def test_a_place_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="RTL_JAX_DATA_DIR"):
        get(server, tmp_path / "file" / "file.gz")


def _in_a_process(url, path):
    download(url, path, sha256=SHA256, size=len(CONTENT))


def test_several_processes_want_the_same_file(server, target):
    context = multiprocessing.get_context("spawn")
    url = server.url + "file.gz"
    processes = [context.Process(target=_in_a_process, args=(url, target)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == ["file.gz"]
