"""The hub's responses, from a local HTTP server, are turned into suitable advice."""

import errno
import http.server
import threading

import huggingface_hub
import pytest
from torch_files import BASIC, save, state

from rtl_jax.convert import hub as hub_module
from rtl_jax.convert import known as known_module
from rtl_jax.convert.choices import Choices
from rtl_jax.convert.command import main
from rtl_jax.convert.layouts import known_architectures
from rtl_jax.convert.published import KNOWN
from rtl_jax.convert.published.known import Known, on_drive
from rtl_jax.errors import UserError
from rtl_jax.models.network import Network

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
    "fault": (503, {}, True, "an internal error (HTTP 503)"),
    "odd": (418, {}, True, "HTTP 418"),
}


@pytest.fixture
def hub(monkeypatch):
    """Return a function that sets the status and headers of the hub's responses."""
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
    """The library then says that the file is not in the cache, and chains the actual reason."""

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
    rows = rows[: len(KNOWN)]
    assert head.split()[:4] == ["name", "network", "data", "threat"]
    assert len({each.name.lower() for each in KNOWN}) == len(KNOWN) > 100
    assert all(row.endswith(each.source) for row, each in zip(rows, KNOWN, strict=True))


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.name)
def test_what_is_listed_is_plausible_and_can_be_asked_for(known):
    Choices.of(**known.choices)
    assert known.source.startswith(("hf:", "https://"))
    accuracies = [value for value in (known.robust, known.clean) if value is not None]
    assert accuracies == sorted(accuracies) and all(10 < value < 100 for value in accuracies)
    every, name = known_architectures(), known.arch
    assert name in every or name.startswith("xcit_") or "small stem" in name


@pytest.fixture
def published(monkeypatch, tmp_path):
    """A published checkpoint on a local server, which sends the file of `answer`."""
    answer = {"body": b"", "type": "application/octet-stream", "status": 200, "missing": 0}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(answer["status"])
            self.send_header("Content-Type", answer["type"])
            self.send_header("Content-Length", str(len(answer["body"]) + answer["missing"]))
            self.end_headers()
            self.wfile.write(answer["body"])

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/some/net.pth?dl=1"
    known = Known("pub/net", "resnet", "CIFAR-10", "none", address, choices={"activation": "silu"})
    drive = Known("pub/far", "resnet", "CIFAR-10", "none", on_drive("x1"), choices=known.choices)
    monkeypatch.setattr(known_module, "KNOWN", (known, drive))
    monkeypatch.setattr(known_module, "_PUBLISHERS", ("pub/",))
    monkeypatch.setenv("RTL_JAX_CACHE_DIR", str(tmp_path / "cache"))
    yield answer
    server.shutdown()
    server.server_close()


def test_a_short_name_is_a_source(published, tmp_path, capsys):
    published["body"] = save(state(BASIC), tmp_path / "a.pth").read_bytes()
    assert main(["pub/net", str(tmp_path / "one")]) == 0
    assert Network.load(tmp_path / "one").architecture.activation == "silu"
    published["status"] = 500  # what was downloaded is not asked for again
    assert main(["PUB/net", str(tmp_path / "two"), "--activation", "gelu"]) == 0
    assert Network.load(tmp_path / "two").architecture.activation == "gelu"
    assert main(["pub/far", str(tmp_path / "three")]) == 2
    error = capsys.readouterr().err
    assert "https://drive.google.com/file/d/x1/view" in error
    assert "rtl-jax convert FILE DESTINATION --activation silu" in error
    assert main(["pub/nets", str(tmp_path / "three")]) == 2
    assert "is it pub/net" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"status": 404}, "answers 404"),
        ({"type": "text/html; charset=utf-8", "body": b"<html>"}, "a page instead of a file"),
        ({"body": b"1234", "missing": 4}, "stopped sending after 4 of 8"),
    ],
)
def test_a_published_file_that_does_not_come(published, tmp_path, capsys, changes, said):
    published |= changes
    assert main(["pub/net", str(tmp_path / "out")]) == 2
    # A busy machine has time for a line of progress before the message.
    lines = [line for line in capsys.readouterr().err.splitlines() if " left" not in line]
    assert len(lines) == 1 and said in lines[0] and "with a browser" in lines[0]
    assert not list((tmp_path / "cache").rglob("net.pth*")) and not (tmp_path / "out").exists()
