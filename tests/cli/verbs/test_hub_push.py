"""`export --to hub --repo` from word to commit, against a hub on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from app.workspace import Workspace
from tests.hub.pushed_to import TOKEN, Hub, hub
from tests.models import tiny_models

__all__ = ["hub"]


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pair")
    return tiny_models.save_adapter(folder / "adapter", tiny_models.save_model(folder / "base", "qwen3"))


def exported(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "app.cli", "export", "--to", "hub", *words]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)


def test_a_push_that_was_broken_off_is_gone_on_with_by_the_same_command(
    hub: str, adapter: Path, workspace: Workspace, tmp_path: Path
) -> None:
    out = tmp_path / "海盗 ü"
    words = ["--adapter", str(adapter), "--out", str(out), "--repo", "me/Mine-7B", "--json"]
    Hub.breaks = True
    broken = exported(*words)
    assert broken.returncode == 1 and not broken.stdout, broken.stderr
    last = broken.stderr.strip().splitlines()[-1]
    assert last.startswith("Nothing was pushed to me/Mine-7B") and f"'{out}'" in last and TOKEN not in broken.stderr
    made = (out / "README.md").stat().st_mtime_ns
    Hub.breaks = False
    again = exported(*words)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["url"].endswith("/me/Mine-7B") and (out / "README.md").stat().st_mtime_ns == made
    assert Hub.repos == {"me/Mine-7B": True} and b"me/Mine-7B" in Hub.files["README.md"]
    assert set(Hub.files) == {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    Hub.files.clear()
    (adapter / "adapter_config.json").touch()  # the adapter is another one by now
    refused = exported(*words)
    assert refused.returncode == 1 and "exists" in refused.stderr and not Hub.files


def test_a_token_that_is_not_known_is_refused_before_work_begins(
    hub: str, adapter: Path, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_" + "b" * 34)
    refused = exported("--adapter", str(adapter), "--out", str(tmp_path / "out"), "--repo", "me/mine")
    assert refused.returncode == 1 and not (tmp_path / "out").exists() and not list(workspace.jobs.iterdir())
    assert refused.stderr.strip().splitlines() == [
        "The hub does not know the token. Nothing was pushed to me/mine. "
        f"Make one that may write at {hub.removeprefix('http://')}/settings/tokens."
    ]


def test_a_zip_is_not_pushed(adapter: Path, workspace: Workspace, tmp_path: Path) -> None:
    refused = exported("--adapter", str(adapter), "--out", str(tmp_path / "out.zip"), "--repo", "me/mine")
    assert refused.returncode == 2 and "takes a folder, not a zip" in refused.stderr
