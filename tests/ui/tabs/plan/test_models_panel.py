"""The models on this disk as the Plan tab shows them."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

from app.jobs import directory
from app.jobs.directory import Status
from app.jobs.lock import FileLock
from app.models.names import STARTER, resolve
from app.runs.on_disk import models_on_disk
from app.ui.shell.language import Translator
from app.ui.tabs.plan import models_panel
from app.workspace import Workspace

T, ZH = Translator(), Translator("zh")
HUB_ID = "Qwen/Qwen3-0.6B"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the hub with one whole model."""
    folder = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    shutil.copytree(resolve(STARTER), folder / "models--Qwen--Qwen3-0.6B" / "snapshots" / "1")
    return folder


def test_models_say_what_they_take_and_what_may_be_removed(workspace: Workspace, cache: Path) -> None:
    drawn = models_panel.listing(workspace, T)
    assert HUB_ID in drawn and f'data-pick="remove:{HUB_ID}"' in drawn and "from the hub, Apache-2.0" in drawn
    assert "comes with the program" in drawn and 'data-pick="remove:starter"' not in drawn
    assert "随程序提供" in models_panel.listing(workspace, ZH)
    assert "On this disk." in models_panel.note(HUB_ID, T)
    assert "Not on this disk" in models_panel.note("Qwen/Qwen3-8B", T)


def test_what_is_asked_about_is_what_is_removed(workspace: Workspace, cache: Path) -> None:
    asked = models_panel.remove_question(workspace, HUB_ID, T)
    assert asked is not None and HUB_ID in asked.text and "MB" in asked.text
    models_on_disk.remove(workspace, str(asked.about))
    assert models_panel.remove_question(workspace, HUB_ID, T) is None
    assert "Not on this disk" in models_panel.note(HUB_ID, T)


def test_a_download_says_how_far_it_is_and_can_be_stopped_and_gone_on_with(workspace: Workspace, cache: Path) -> None:
    job = directory.create(workspace, "fetch", {"model": HUB_ID}, name=f"fetch: {HUB_ID}")
    now = time.time()
    job.write_status(Status(state="running", step=300 << 20, of=1200 << 20, started=now - 10, phase="downloading"))
    lock = FileLock(job.lock_file)
    assert lock.acquire()
    drawn = models_panel.listing(workspace, T)
    lock.release()
    assert "0.3 GB of 1.2 GB, 30 MB/s" in drawn and f'data-pick="stop:{job.id}"' in drawn
    job.write_status(Status(state="stopped", step=300 << 20, of=1200 << 20, started=now - 10, ended=now))
    assert f'data-pick="fetch:{HUB_ID}"' in models_panel.listing(workspace, T)
    assert "已暂停" in models_panel.listing(workspace, ZH)


def test_a_dataset_is_listed_paused_gone_on_with_and_asked_about(workspace: Workspace, cache: Path) -> None:
    folder = workspace.uploads / "hub" / "o--rows"
    (folder / "0123456789ab").mkdir(parents=True)
    for name in ("a.jsonl", "b.jsonl"):
        (folder / "0123456789ab" / name).write_bytes(b"x" * 1_500_000)
    (folder / "about.json").write_text(json.dumps({"licence": "cc-by-4.0", "part": ""}))
    drawn = models_panel.listing(workspace, T)
    assert "dataset, cc-by-4.0" in drawn and f'data-pick="remove:{folder}"' in drawn and "rows:o/rows" not in drawn
    assert "数据集" in models_panel.listing(workspace, ZH)
    asked = models_panel.remove_question(workspace, str(folder), T)
    assert asked is not None and "the dataset o/rows" in asked.text and "files: 2." in asked.text
    (folder / ".part-ba9876543210").mkdir()
    drawn = models_panel.listing(workspace, T)
    assert "in part" in drawn and 'data-pick="rows:o/rows"' in drawn
    config = {"dataset": "o/rows", "folder": str(folder), "part": "", "ask_only": False}
    job = directory.create(workspace, "download", config, name="download: o/rows")
    job.write_status(Status(state="running", step=300 << 20, of=1200 << 20, started=time.time(), phase="downloading"))
    with FileLock(job.lock_file):
        drawn = models_panel.listing(workspace, T)
        assert "0.3 GB of 1.2 GB" in drawn and f'data-pick="stop:{job.id}"' in drawn and "rows:o/rows" not in drawn
    job.write_status(Status(state="stopped", step=300 << 20, of=1200 << 20, ended=time.time()))
    assert models_panel.listing(workspace, T).count('data-pick="rows:o/rows"') == 1
