"""A local HTTP server with the faults of real ones."""

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class FileServer:
    """Serves `files` (name -> bytes). `requests` lists (name, Range header or None).

    `cut_after`: a transfer breaks off after this many bytes, `cuts` times.
    `ranges`: False ignores Range headers and always sends the whole file.
    `announces`: False sends no Content-Length. `status` and `headers`: of every response.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.cut_after = 0
        self.cuts = 0
        self.ranges = True
        self.announces = True
        self.status = 200
        self.headers: dict[str, str] = {}
        self.url = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        name = handler.path.rpartition("/")[2]
        asked = handler.headers.get("Range")
        self.requests.append((name, asked))
        if self.status != 200 or name not in self.files:
            handler.send_response(404 if self.status == 200 else self.status)
            for header in self.headers.items():
                handler.send_header(*header)
            handler.end_headers()
            return
        content = self.files[name]
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and self.ranges else 0
        handler.send_response(206 if start else 200)
        if start:
            total = len(content)
            handler.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        if self.announces:
            handler.send_header("Content-Length", str(len(content) - start))
        for header in self.headers.items():
            handler.send_header(*header)
        handler.end_headers()
        body = content[start:]
        if self.cuts:
            self.cuts -= 1
            body = body[: self.cut_after]
        handler.wfile.write(body)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    files = FileServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            files.answer(self)

        def log_message(self, *args: object) -> None:
            pass

    monkeypatch.setenv("no_proxy", "*")
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    files.url = f"http://127.0.0.1:{httpd.server_port}/"
    yield files
    httpd.shutdown()
    thread.join()
    httpd.server_close()
