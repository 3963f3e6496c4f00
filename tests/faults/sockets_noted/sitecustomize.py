"""Loaded by every Python that finds this folder on its path: notes each address that a socket is asked to reach."""

import os
import socket
from pathlib import Path
from typing import Any

_FILE = Path(os.environ["SOCKETS_NOTED_IN"])


def _note(address: Any) -> None:
    with _FILE.open("a", encoding="utf-8") as file:
        file.write(f"{address}\n")


class _NotedSocket(socket.socket):
    def connect(self, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            _note(address[0])
        super().connect(address)

    def connect_ex(self, address: Any) -> int:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            _note(address[0])
        return super().connect_ex(address)


_resolve = socket.getaddrinfo


def _noted_resolve(host: Any, *arguments: Any, **named: Any) -> Any:
    _note(host)
    return _resolve(host, *arguments, **named)


socket.socket = _NotedSocket  # type: ignore[misc]
socket.getaddrinfo = _noted_resolve
