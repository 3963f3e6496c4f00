"""Run the stand-in Ollama as a process of its own."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from app.export.targets.ollama_api import Ollama


@contextmanager
def running() -> Iterator[str]:
    """Give the address of a stand-in Ollama for as long as it is needed."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-m", "tests.export.targets.stand_in_ollama", str(port)])
    ollama, limit = Ollama("127.0.0.1", port), time.monotonic() + 60
    while not ollama.is_here():
        assert server.poll() is None and time.monotonic() < limit
        time.sleep(0.1)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()
