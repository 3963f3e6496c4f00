"""A push to a hub on this machine that speaks the real one's API: card and weights, nothing twice, no token kept."""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path

import pytest

from app.errors import NetworkError, UsageError
from app.hub import address, push
from app.hub.push import PushRequest
from app.jobs import requests
from app.workspace import Workspace
from tests.hub.pushed_to import TOKEN, Hub, hub

__all__ = ["hub"]

WEIGHTS = b"w" * 300_000


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


def test_a_push_goes_where_its_workspace_finds_the_hub(
    hub: str, folder: Path, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "another"))
    address.keep(workspace, address.checked(hub, sends_token=True))
    done = requests.wait(push.start(workspace, PushRequest(str(folder), "me/mine")), timeout_s=120)
    assert done.state == "finished", done.reason
    assert done.result["url"] == f"{hub}/me/mine" and Hub.repos == {"me/mine": True}


def test_a_hub_that_does_not_answer_is_one_line(hub: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        point_at(f"http://127.0.0.1:{probe.getsockname()[1]}", monkeypatch)
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


def test_what_exists_and_is_public_takes_no_private_push(hub: str, folder: Path, workspace: Workspace) -> None:
    Hub.repos["me/mine"] = False
    refused = requests.wait(push.start(workspace, PushRequest(str(folder), "me/mine")), timeout_s=120)
    assert refused.state == "failed" and "me/mine is there already, and everybody can read it" in refused.reason
    assert "add --public" in refused.reason and not Hub.sent and not Hub.files
    public = PushRequest(str(folder), "me/mine", private=False)
    assert requests.wait(push.start(workspace, public), timeout_s=120).state == "finished"
    assert Hub.files and Hub.repos == {"me/mine": False}


def test_a_hub_that_says_nothing_is_given_up(hub: str, monkeypatch: pytest.MonkeyPatch) -> None:
    point_at(hub, monkeypatch)
    monkeypatch.setattr(push, "SILENT_S", 0.2)
    Hub.waits_s = 3.0
    with pytest.raises(NetworkError, match=r"Nothing was pushed to me/mine\. The hub said nothing for 0\.2 s"):
        push.refuse_token("me/mine", TOKEN)


@pytest.mark.parametrize(("status", "said"), [(401, "does not know the token"), (403, "may not write to me/mine")])
def test_a_refused_token_is_called_so(
    hub: str, folder: Path, monkeypatch: pytest.MonkeyPatch, status: int, said: str
) -> None:
    point_at(hub, monkeypatch)
    Hub.refuses = status
    with pytest.raises(NetworkError, match=said) as refused:
        push.push(folder, "me/mine", TOKEN, private=True)
    assert TOKEN not in refused.value.line() and len(refused.value.line()) < 200


def test_a_token_is_looked_at_before_work_begins(hub: str, monkeypatch: pytest.MonkeyPatch) -> None:
    point_at(hub, monkeypatch)
    push.refuse_token("me/mine", TOKEN)
    with pytest.raises(NetworkError, match="does not know the token"):
        push.refuse_token("me/mine", "hf_" + "b" * 34)


@pytest.mark.parametrize(
    "name", ["me/mine-", "me/mine.", "me-/mine", "me/mine.git", "me/a--b", "me/" + "a" * 97, "me/海盗"]
)
def test_names_that_the_hub_would_refuse_in_the_end_are_refused_at_once(name: str) -> None:
    with pytest.raises(UsageError, match="is no hub repository"):
        push.checked(name)


def test_capital_letters_and_all_marks_are_names() -> None:
    assert [push.checked(name) for name in ("Me/Mine-7B_v1.0", "a/b")] == ["Me/Mine-7B_v1.0", "a/b"]


def point_at(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point the hub's own library at the stand-in; it reads its settings once, and other tests may have let it."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_ENDPOINT", address)
