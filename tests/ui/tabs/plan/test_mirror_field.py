"""The mirror's field on the Plan tab: what is kept, what is said at the field, and where a download comes from."""

from __future__ import annotations

import time

import pytest

from app.hub import address
from app.hub.address import Address
from app.jobs import directory
from app.jobs.directory import Status
from app.jobs.lock import FileLock
from app.ui.shell.language import Translator
from app.ui.tabs.plan import mirror_field, models_panel
from app.workspace import Workspace
from tests.hub.model_hub import cache, hub

__all__ = ["cache", "hub"]
T, ZH = Translator(), Translator("zh")
DEAD = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's own library asks; it reads its setting once, and no test may, unless it says so."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


def test_a_mirror_that_answers_is_kept_and_named(
    hub: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_ENDPOINT")
    assert "Downloads come from huggingface.co." in models_panel.listing(workspace, T)
    host = hub.removeprefix("http://")
    assert f"{host}. It gets no hub token." in mirror_field.kept(workspace, f"{hub}/", False, T)
    assert address.mirror_of(workspace) == Address(hub, sends_token=False)
    assert f"从 {host} 下载" in models_panel.listing(workspace, ZH)
    assert "It gets your hub token." in mirror_field.kept(workspace, hub, True, T)
    assert address.of(workspace).sends_token
    assert "Downloads come from huggingface.co." in mirror_field.kept(workspace, " ", True, T)
    assert address.mirror_of(workspace) is None


@pytest.mark.parametrize(
    ("url", "english", "chinese"),
    [
        (DEAD, "127.0.0.1:9 cannot be reached from here. Nothing", "这里无法连接到 127.0.0.1:9。"),
        ("hub.example.org", "is no address of a hub", "不是 Hub 的地址"),
    ],
)
def test_a_wrong_mirror_is_said_at_its_field_and_not_kept(
    hub: str, workspace: Workspace, url: str, english: str, chinese: str
) -> None:
    mirror_field.kept(workspace, hub, False, T)
    said = mirror_field.kept(workspace, url, False, T)
    assert 'data-field="wb-mirror"' in said and "wb-error" in said
    assert english in said.replace("</b>", "")
    assert chinese in mirror_field.kept(workspace, url, False, ZH)
    assert address.of(workspace).url == hub  # the one that answered stays


def test_a_download_says_where_it_comes_from(workspace: Workspace, cache: None) -> None:
    config = {"model": "o/n", "hub": "https://hub.example.org", "sends_token": False}
    job = directory.create(workspace, "fetch", config, name="fetch: o/n")
    job.write_status(Status(state="running", step=1 << 20, of=1 << 30, started=time.time() - 5, phase="downloading"))
    with FileLock(job.lock_file):
        assert "from hub.example.org" in models_panel.listing(workspace, T)
        assert "来自 hub.example.org" in models_panel.listing(workspace, ZH)
