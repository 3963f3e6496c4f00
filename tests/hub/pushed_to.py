"""A hub on this machine that takes pushes and speaks the real one's API: repositories, blobs by hash, and commits."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from tests.hub.stand_in import Silent, serving

TOKEN = "hf_" + "a" * 34


class Hub(Silent):
    """Repositories, blobs under their hash, and commits that may name only blobs that are there."""

    protocol_version = "HTTP/1.1"
    repos: ClassVar[dict[str, bool]] = {}
    blobs: ClassVar[dict[str, bytes]] = {}
    files: ClassVar[dict[str, bytes]] = {}
    sent: ClassVar[list[str]] = []
    breaks: ClassVar[bool] = False
    refuses: ClassVar[int] = 0
    waits_s: ClassVar[float] = 0.0

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            pieces = []
            while size := int(self.rfile.readline(), 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(pieces)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _answer(self, status: int, body: object = None) -> None:
        data = json.dumps(body if body is not None else {}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        time.sleep(Hub.waits_s)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer(401, {"error": "who are you"})
        elif self.path == "/api/whoami-v2":
            self._answer(200, {"name": "me", "type": "user"})
        else:
            repo = self.path.removeprefix("/api/models/")
            found = {"id": repo, "sha": "0" * 40, "siblings": [], "private": Hub.repos.get(repo)}
            self._answer(200 if repo in Hub.repos else 404, found)

    def do_PUT(self) -> None:
        data, oid = self._body(), self.path.rpartition("/")[2]
        if Hub.breaks or hashlib.sha256(data).hexdigest() != oid:
            self._answer(400, {"error": "broken off"})
            return
        Hub.blobs[oid] = data
        Hub.sent.append(oid)
        self._answer(200)

    def do_POST(self) -> None:
        body = self._body()
        if self.headers.get("Authorization") not in (f"Bearer {TOKEN}", None) or (
            "Authorization" not in self.headers and "/blob/" not in self.path
        ):
            self._answer(401, {"error": "who are you"})
        elif Hub.refuses and "/blob/" not in self.path:
            self._answer(Hub.refuses, {"error": "you may not"})
        elif self.path == "/api/repos/create":
            self._create(json.loads(body))
        elif self.path.endswith("/preupload/main"):
            found = [self._mode(one) for one in json.loads(body)["files"]]
            self._answer(200, {"files": found})
        elif self.path.endswith("/info/lfs/objects/batch"):
            self._answer(
                200, {"transfer": "basic", "objects": [self._batch(one) for one in json.loads(body)["objects"]]}
            )
        elif "/commit/main" in self.path:
            self._commit([json.loads(line) for line in body.splitlines() if line.strip()])
        else:
            self._answer(200)

    def _create(self, asked: dict[str, Any]) -> None:
        repo, is_there = f"{asked.get('organization')}/{asked['name']}", True
        if repo not in Hub.repos:
            is_there = False
            Hub.repos[repo] = asked.get("private") is True or asked.get("visibility") == "private"
        self._answer(409 if is_there else 200, {"url": f"http://{self.headers['Host']}/{repo}"})

    @staticmethod
    def _mode(one: dict[str, Any]) -> dict[str, Any]:
        mode = "lfs" if one["path"].endswith(".safetensors") else "regular"
        return {"path": one["path"], "uploadMode": mode, "shouldIgnore": False, "oid": None}

    def _batch(self, one: dict[str, Any]) -> dict[str, Any]:
        found = {"oid": one["oid"], "size": one["size"]}
        if one["oid"] in Hub.blobs:
            return found
        return found | {"actions": {"upload": {"href": f"http://{self.headers['Host']}/blob/{one['oid']}"}}}

    def _commit(self, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                Hub.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                Hub.files[value["path"]] = Hub.blobs[value["oid"]]
        place = f"http://{self.headers['Host']}/me/mine/commit/{'0' * 40}"
        self._answer(200, {"success": True, "commitOid": "0" * 40, "commitUrl": place, "hookOutput": ""})


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve it empty; yield its address."""
    Hub.repos, Hub.blobs, Hub.files, Hub.sent, Hub.breaks = {}, {}, {}, [], False
    Hub.refuses, Hub.waits_s = 0, 0.0
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "0")  # said: this address may have the token
    with serving(Hub, monkeypatch) as address:
        yield address
