"""A push to a hub on this machine that speaks the real one's API: card and weights, nothing twice, no token kept."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from app.errors import NetworkError, UsageError
from app.hub import push
from app.hub.push import PushRequest
from app.jobs import requests
from app.workspace import Workspace
from tests.hub.stand_in import Silent, serving

TOKEN = "hf_" + "a" * 34
WEIGHTS = b"w" * 300_000


class Hub(Silent):
    """Repositories, blobs under their hash, and commits that may name only blobs that are there."""

    protocol_version = "HTTP/1.1"
    repos: ClassVar[dict[str, bool]] = {}
    blobs: ClassVar[dict[str, bytes]] = {}
    files: ClassVar[dict[str, bytes]] = {}
    sent: ClassVar[list[str]] = []
    breaks: ClassVar[bool] = False

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
        self._answer(200, {"id": "me/mine", "sha": "0" * 40, "siblings": []})

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
        elif self.path == "/api/repos/create":
            asked = json.loads(body)
            is_private = asked.get("private") is True or asked.get("visibility") == "private"
            Hub.repos[f"{asked.get('organization')}/{asked['name']}"] = is_private
            self._answer(200, {"url": f"http://{self.headers['Host']}/me/mine"})
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
    Hub.repos, Hub.blobs, Hub.files, Hub.sent, Hub.breaks = {}, {}, {}, [], False
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with serving(Hub, monkeypatch) as address:
        yield address


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    out = tmp_path / "mine-hub"
    (out / "inner").mkdir(parents=True)
    (out / "README.md").write_text("# A card")
    (out / "model-1.safetensors").write_bytes(WEIGHTS)
    (out / "inner" / "model-2.safetensors").write_bytes(b"2" + WEIGHTS)
    return out


def test_a_push_goes_on_where_it_was_broken_off(hub: str, folder: Path, workspace: Workspace) -> None:
    Hub.breaks = True
    request = PushRequest(str(folder), "me/mine")
    broken = requests.wait(push.start(workspace, request), timeout_s=120)
    assert broken.state == "failed" and "Nothing was pushed to me/mine" in broken.reason and not Hub.files
    Hub.breaks = False
    Hub.blobs[hashlib.sha256(WEIGHTS).hexdigest()] = WEIGHTS  # as if this one had been sent before
    job = push.start(workspace, request)
    done = requests.wait(job, timeout_s=120)
    assert done.state == "finished" and done.result["url"].endswith("/me/mine")
    assert Hub.sent == [hashlib.sha256(b"2" + WEIGHTS).hexdigest()]
    assert Hub.files == {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*")}
    assert Hub.repos == {"me/mine": True}
    assert push.newest(workspace, folder).id == job.id  # type: ignore[union-attr]
    for path in workspace.root.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes(), path


def test_a_hub_that_does_not_answer_is_one_line(hub: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        # The hub's own library reads both once, and other tests may have let it.
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{probe.getsockname()[1]}")
        with pytest.raises(NetworkError, match=r"Nothing was pushed to me/mine.*refused.*stays in"):
            push.push(folder, "me/mine", TOKEN, private=True)


def test_without_a_token_or_a_repository_nothing_begins(
    folder: Path, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(UsageError, match="There is no hub token"):
        push.start(workspace, PushRequest(str(folder), "me/mine"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(UsageError, match="is no hub repository"):
        push.start(workspace, PushRequest(str(folder), "../mine"))
    with pytest.raises(UsageError, match="no folder for the hub"):
        push.start(workspace, PushRequest(str(tmp_path / "gone"), "me/mine"))
