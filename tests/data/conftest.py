"""A local HTTP server, a missing network, and a separate data directory."""

from pathlib import Path

import pytest

from tests.file_server import server

__all__ = ["data_dir", "no_network", "server"]


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let any name lookup fail, as without a network."""
    import socket

    def refuse(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data directory, with the cache beside it."""
    path = tmp_path / "data"
    path.mkdir()
    monkeypatch.setenv("RTL_JAX_DATA_DIR", str(path))
    monkeypatch.setenv("RTL_JAX_CACHE_DIR", str(tmp_path / "cache"))
    return path
