"""What the hub answers, by HTTP on this machine, becomes the advice that fits it."""

import errno
import http.server
import threading

import huggingface_hub
import pytest

from convert import hub as hub_module
from convert.__main__ import main
from convert.known import KNOWN
from rtl_jax.errors import UserError

FILE = "hf:owner/repo/model.ckpt"

# Status and headers as the hub sends them, whether there is a token, and what is said.
ANSWERS = {
    "expired": (401, {"X-Error-Message": "Invalid credentials"}, True, "has expired or is wrong"),
    "no token": (401, {}, False, "it needs a token"),
    "private": (401, {"X-Error-Code": "RepoNotFound"}, False, "private ones need one"),
    "no repository": (404, {"X-Error-Code": "RepoNotFound"}, True, "no repository owner/repo"),
    "forbidden": (403, {}, True, "may not read this repository"),
    "gated": (403, {"X-Error-Code": "GatedRepo"}, True, "accept its terms at"),
    "gated to all": (401, {"X-Error-Code": "GatedRepo"}, False, "hf auth login"),
    "no file": (404, {"X-Error-Code": "EntryNotFound"}, True, "has no file model.ckpt"),
    "nothing": (404, {}, True, "check the names"),
    "rate": (429, {"Retry-After": "290"}, False, "wait 290 s"),
    "rate, no time": (429, {"Retry-After": "soon"}, True, "wait some minutes"),
    "fault": (503, {}, True, "a fault of its own (HTTP 503)"),
    "odd": (418, {}, True, "HTTP 418"),
}


@pytest.fixture
def hub(monkeypatch):
    """Makes the hub answer with a status and headers, once called with them."""
    answer = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(answer["status"])
            for name, value in answer["headers"].items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/owner/repo/resolve/main/model.ckpt"
    monkeypatch.setattr(huggingface_hub, "hf_hub_url", lambda *_: address)

    def answering(status, headers, token):
        answer.update(status=status, headers=headers)
        monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_x" if token else None)

    yield answering
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("name", ANSWERS)
def test_every_status_has_its_advice(tmp_path, capsys, hub, name):
    status, headers, token, said = ANSWERS[name]
    hub(status, headers, token)
    assert main([FILE, str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"convert: {FILE}: ") and error.count("\n") == 1
    assert said in error and f"HTTP {status}" in error and "cannot be reached" not in error
    assert not (tmp_path / "out").exists()


def test_no_network_no_room_and_offline(tmp_path, capsys, monkeypatch):
    for error, said in [
        (ConnectionError("refused"), "cannot be reached (ConnectionError)"),
        (huggingface_hub.errors.OfflineModeIsEnabled("offline"), "HF_HUB_OFFLINE is set"),
        (OSError(errno.ENOSPC, "No space left on device"), "HF_HUB_CACHE"),
    ]:

        def fail(*_, error=error, **__):
            raise error

        monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", fail)
        assert main([FILE, str(tmp_path / "out")]) == 2
        assert said in capsys.readouterr().err


def test_a_download_that_fails_says_why(tmp_path, capsys, monkeypatch):
    """The library then says that the file is not in the cache, and keeps the reason as a cause."""

    def fail(*_, **__):
        raise huggingface_hub.errors.LocalEntryNotFoundError("absent") from ConnectionError("cut")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda *_, **__: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    assert main([FILE, str(tmp_path / "out")]) == 2
    assert "cannot be reached (ConnectionError)" in capsys.readouterr().err


def test_a_repository_alone_is_its_weights_and_its_config(monkeypatch, tmp_path):
    there = {"config.json": "{}", "pytorch_model.bin": "x"}

    def download(source, repo, file, report):
        assert repo == "owner/repo"
        if file not in there:
            raise hub_module._AbsentError(f"{source}: no file {file}")
        (tmp_path / file).write_text(there[file])
        return tmp_path / file

    monkeypatch.setattr(hub_module, "_download", download)
    found = hub_module.locate("hf:owner/repo", lambda _: None)
    assert found == tmp_path / "pytorch_model.bin" and (tmp_path / "config.json").exists()
    there.clear()
    with pytest.raises(UserError, match=r"has none of model.safetensors.*hf:owner/repo/FILE"):
        hub_module.locate("hf:owner/repo", lambda _: None)


def test_the_list_of_published_checkpoints(capsys):
    assert main(["list"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split()[:2] == ["name", "threat"] and len(rows) == len(KNOWN)
    assert len({each.name for each in KNOWN}) == len(KNOWN)
    assert all(row.endswith(each.source) for row, each in zip(rows, KNOWN, strict=True))
