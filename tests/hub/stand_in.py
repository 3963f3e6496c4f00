"""A hub on this machine: what its answers are is each test's own, how it is served and found is here."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class Silent(BaseHTTPRequestHandler):
    """Answers that are not written to the test's own output."""

    def log_message(self, *words: object) -> None:
        """Say nothing."""


@contextmanager
def serving(answers: type[Silent], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve a stand-in, and let the hub's library find it, in this process and in its children; yield its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("HF_ENDPOINT", address)
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield address
        server.shutdown()
