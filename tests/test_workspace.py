import os
from pathlib import Path

import pytest

from app import workspace
from app.errors import WorkspaceError


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("data.jsonl", "data.jsonl"),
        ("../../x", "x"),
        ("..\\..\\x.csv", "x.csv"),
        ("-rf", "rf"),
        (".hidden", "hidden"),
        ("CON", "_CON"),
        ("nul.txt", "_nul.txt"),
        ("a\u202etxt.exe", "atxt.exe"),
        ("", "unnamed"),
        ("...", "unnamed"),
        ("数据.json", "数据.json"),
        ("a<b>|c.json", "a_b__c.json"),
    ],
)
def test_safe_name(name: str, safe: str) -> None:
    assert workspace.safe_name(name) == safe


def test_safe_name_of_a_long_name_keeps_its_ending() -> None:
    safe = workspace.safe_name("x" * 300 + ".jsonl")
    assert len(safe) <= 100
    assert safe.endswith(".jsonl")


@pytest.mark.parametrize("job_id", ["../etc", "a/b", "", "A", ".", "a" * 100, "a\n"])
def test_odd_job_ids_are_refused(tmp_path: Path, job_id: str) -> None:
    with pytest.raises(WorkspaceError):
        workspace.open_workspace(tmp_path).job_dir(job_id)


def test_good_job_id_is_a_folder_of_jobs(tmp_path: Path) -> None:
    opened = workspace.open_workspace(tmp_path)
    assert opened.job_dir("20260101-000000-train-abc").parent == opened.jobs


@pytest.mark.parametrize(
    "text", ["http://127.0.0.1/x", "file:///etc/passwd", "\\\\host\\share", "//host/share", "a\0b"]
)
def test_addresses_are_not_paths(text: str) -> None:
    with pytest.raises(WorkspaceError):
        workspace.user_path(text)


def test_existing_file_says_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("x")
    assert workspace.existing_file(str(tmp_path / "there")) == tmp_path / "there"
    with pytest.raises(WorkspaceError, match="no such file"):
        workspace.existing_file(str(tmp_path / "missing"))
    with pytest.raises(WorkspaceError, match="folder"):
        workspace.existing_file(str(tmp_path))


def test_a_workspace_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkspaceError, match="--workspace"):
        workspace.open_workspace(tmp_path / "file" / "inside")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.fault("F21")
def test_a_read_only_workspace_is_one_clear_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(WorkspaceError, match="cannot be written"):
        workspace.open_workspace(tmp_path)


def test_workspace_home_moves_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "elsewhere"))
    assert workspace.open_workspace().root == tmp_path / "elsewhere"


@pytest.mark.parametrize("text", ["x" * 300, "a/" + "ä" * 200, "y/" * 3000, "~nobody-at-all/x", "a\0b", "x\ud83d"])
def test_what_no_file_can_be_called_is_refused_in_one_line(text: str) -> None:
    for find in (workspace.user_path, workspace.existing_file, workspace.existing_source):
        with pytest.raises(WorkspaceError) as caught:
            find(text)
        assert "\n" not in caught.value.line()


def test_without_a_home_folder_the_workspace_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("WORKBENCH_HOME", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000)
    with pytest.raises(WorkspaceError, match="--workspace"):
        workspace.open_workspace()
