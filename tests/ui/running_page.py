"""The page as a user starts it: its own process, its own workspace, a free port."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

HOUSE = Path(__file__).resolve().parents[2]
TOKEN = "a-long-test-token"
# Far above the seconds of a quiet machine: a loaded one took more than 60.
_START_TIMEOUT_S = 300


def free_port() -> int:
    """Return a port that nobody listens on."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Answer:
    """One raw HTTP answer."""

    status: int
    headers: dict[str, list[str]]
    body: bytes


class RunningPage:
    """`python -m app.cli ui` in a process of its own; use it as a context."""

    def __init__(
        self, workspace: Path, *arguments: str, environment: dict[str, str] | None = None, port: int | None = None
    ) -> None:
        self.port = port or free_port()
        self.workspace = workspace
        self.log = workspace.parent / f"page-{self.port}.log"
        self._command = [sys.executable, "-m", "app.cli", "ui", "--no-browser", "--port", str(self.port)]
        self._command += ["--workspace", str(workspace), *arguments]
        self._environment = {**os.environ, **(environment or {})}
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}/"

    @property
    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def start(self) -> subprocess.Popen[bytes]:
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                self._command, stdout=output, stderr=subprocess.STDOUT, cwd=HOUSE, env=self._environment
            )
        return self.process

    def __enter__(self) -> RunningPage:
        process = self.start()
        end = time.monotonic() + _START_TIMEOUT_S
        while "is ready at" not in self.said:
            assert process.poll() is None, f"the page ended with {process.returncode}: {self.said}"
            if time.monotonic() > end:
                process.kill()
                process.wait()
                raise AssertionError(f"the page was not ready within {_START_TIMEOUT_S} s: {self.said}")
            time.sleep(0.05)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=20)

    def request(self, raw: bytes, timeout_s: float = 10.0) -> Answer:
        """Send bytes as they are and read one answer; of an endless stream only what has come so far."""
        with closing(socket.create_connection(("127.0.0.1", self.port), timeout=timeout_s)) as connection:
            # The page may answer and close before it was given everything.
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(raw)
            return parse(_received(connection))

    def get(self, path: str, *headers: str, method: str = "GET", host: str | None = None, body: bytes = b"") -> Answer:
        """Send one plain request with these extra header lines."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.address if host is None else host}", "Connection: close"]
        if body or method == "POST":
            lines.append(f"Content-Length: {len(body)}")
        return self.request("\r\n".join([*lines, *headers, "", ""]).encode("latin-1") + body)


def _received(connection: socket.socket) -> bytes:
    data = b""
    while True:
        try:
            piece = connection.recv(65536)
        except (TimeoutError, ConnectionResetError):
            return data
        data += piece
        if not piece or len(data) > 1 << 22:
            return data
        head, end, _ = data.partition(b"\r\n\r\n")
        if end and b"text/event-stream" in head.lower():
            return data


def parse(data: bytes) -> Answer:
    """Read an HTTP/1.1 answer."""
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    assert first.startswith("HTTP/1.1 "), f"no HTTP answer: {data[:80]!r}"
    headers: dict[str, list[str]] = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers.setdefault(name.strip().lower(), []).append(value.strip())
    return Answer(int(first.split()[1]), headers, body)
