"""A hub on this machine that gives one model and one dataset, both o/n, as the hub's own library asks for them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from tests.hub.stand_in import Silent, serving

STARTER = Path(__file__).parents[2] / "assets" / "starter"
SHA = "0123456789abcdef0123456789abcdef01234567"
_PIECE = 200_000
CARD = b"---\nlicense: mit\n---\n# A model\n"


def contents() -> dict[str, bytes]:
    """Return the files of a repository: the starter, its card, and what must not be fetched."""
    files = {path.name: path.read_bytes() for path in STARTER.iterdir() if path.name != "MODEL_CARD.md"}
    return {**files, "README.md": CARD, "pytorch_model.bin": b"x", "original/model.safetensors": b"x", "run.py": b"x"}


class Hub(Silent):
    """The few answers of a hub that a fetch asks for; where it is slow, the weights take their time."""

    files: ClassVar[dict[str, bytes]] = {}
    asked: ClassVar[list[str]] = []
    tokens: ClassVar[list[str]] = []
    slow: ClassVar[bool] = False

    def do_HEAD(self) -> None:
        self._answer(head=True)

    def do_GET(self) -> None:
        self._answer(head=False)

    def _answer(self, head: bool) -> None:
        if self.path.startswith("/api/models?"):
            body, name = json.dumps([{"id": "o/n"}]).encode(), ""
        elif self.path.startswith("/api/models/o/n/tree"):
            tree = [{"type": "file", "path": name, "size": len(data), "oid": "0"} for name, data in self.files.items()]
            body, name = json.dumps(tree).encode(), ""
        elif self.path.startswith(("/api/models/o/n", "/api/datasets/o/n")):
            siblings = [{"rfilename": name, "size": len(data)} for name, data in self.files.items()]
            body = json.dumps({"id": "o/n", "sha": SHA, "siblings": siblings, "cardData": {"license": "mit"}}).encode()
            name = ""
        else:
            name = self.path.rpartition("/resolve/")[2].partition("/")[2].partition("?")[0]
            body = self.files.get(name, b"")
        if "Authorization" in self.headers:
            Hub.tokens.append(self.headers["Authorization"])
        begin = 0
        wanted = self.headers.get("Range", "")
        if wanted.startswith("bytes="):
            begin = int(wanted.removeprefix("bytes=").split("-")[0])
        self.send_response(404 if name and not body else 206 if begin else 200)
        self.send_header("Content-Type", "application/octet-stream" if name else "application/json")
        self.send_header("Content-Length", str(len(body) - begin))
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(body) - 1}/{len(body)}")
        self.send_header("X-Repo-Commit", SHA)
        self.send_header("ETag", f'"{name.replace(".", "").replace("/", "") or "api"}"')
        self.end_headers()
        if not head:
            Hub.asked.append(f"{name}@{begin}")
            for place in range(begin, len(body), _PIECE):
                self.wfile.write(body[place : place + _PIECE])
                time.sleep(0.5 if Hub.slow and name in ("model.safetensors", "train-2.jsonl") else 0)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub's library, for this process and for the jobs that it starts."""
    folder = tmp_path / "hub-cache"
    folder.mkdir()
    monkeypatch.setenv("HF_HUB_CACHE", str(folder))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    return folder


@pytest.fixture
def hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A hub of one model and one dataset on this machine; its address."""
    Hub.files, Hub.asked, Hub.tokens, Hub.slow = contents(), [], [], False
    with serving(Hub, monkeypatch) as address:
        yield address
