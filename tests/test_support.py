"""The support bundle: what helps from afar, and no secret."""

from __future__ import annotations

import time
import zipfile
from pathlib import Path

import pytest

from app import support
from app.cli.main import main
from app.jobs import directory
from app.jobs.directory import JobDirectory, Status
from app.ui.tabs.train.run_box.run_panel import save_bundle
from app.ui.tabs.train.run_view import log_tail
from app.workspace import Workspace

CANARY = "canary-without-any-known-shape-0123"
SHAPED = "hf_CanaryThatMustNeverBeWritten0123456789"


@pytest.fixture
def job(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> JobDirectory:
    """Return a job in which a token stands wherever one could."""
    monkeypatch.setenv("HF_TOKEN", CANARY)
    config = {"model": {"name": SHAPED}, "tracker": {"hub_token": "no-shape-and-no-variable-1"}, "note": CANARY}
    made = directory.create(workspace, "selftest", config, CANARY, name=f"a {SHAPED}")
    made.write_status(Status(state="failed", reason=f"401 for {CANARY}", result={"said": SHAPED}, ended=time.time()))
    made.add_event("note", f"Authorization: bearer {CANARY}")
    made.log_file.write_text("x" * 300_000 + CANARY + f"\nloading {SHAPED}\nWANDB_API_KEY=no-shape-and-no-variable-2\n")
    return made


def secrets_in(text: str) -> list[str]:
    hidden = (CANARY, CANARY[8:], SHAPED, "no-shape-and-no-variable")
    return [secret for secret in hidden if secret in text]


@pytest.mark.fault("A16")
def test_no_token_is_in_a_support_bundle_and_what_is_shown_is_what_is_saved(
    job: JobDirectory, workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, out = save_bundle(workspace, job)
    assert main(["doctor", "--bundle", str(tmp_path / "b.zip"), "--job", job.id]) == 0
    said = capsys.readouterr()
    for shown, file in ((text, out), (said.err, tmp_path / "b.zip")):
        assert not secrets_in(shown)
        with zipfile.ZipFile(file) as archive:
            assert set(archive.namelist()) == {
                *("versions.json", "hardware.json", "status.json", "job.yaml", "events.jsonl", "log.txt")
            }
            for name in archive.namelist():
                body = archive.read(name).decode()
                assert not secrets_in(body), name
                assert name == "hardware.json" or body.rstrip() in shown, name
    assert "bearer [redacted]" in text and "401 for [redacted]" in text and "loading [redacted]" in text
    assert not secrets_in(log_tail(job.log_file))


def test_a_bundle_without_a_job_and_of_a_damaged_one(workspace: Workspace, tmp_path: Path) -> None:
    assert set(support.collect().files) == {"versions.json", "hardware.json"}
    folder = workspace.jobs / "20260101-000000-train-aaaaaa"
    folder.mkdir()
    (folder / "log.txt").write_bytes(b"\xff\xed\xa0\x80 ended")
    files = support.collect(JobDirectory(folder)).files
    assert "ended" in files["log.txt"] and "interrupted" in files["status.json"]


@pytest.mark.parametrize("words", [["--job", "x"], ["--bundle", "b.txt"], ["--bundle", ""], ["--bundle", "taken.zip"]])
def test_a_bundle_that_cannot_be_made_is_one_line(
    words: list[str],
    tmp_path: Path,
    workspace: Workspace,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken.zip").write_text("mine")
    assert main(["doctor", *words]) in (1, 2)
    assert capsys.readouterr().err.count("\n") == 1
    assert (tmp_path / "taken.zip").read_text() == "mine"
