"""A dataset of the hub: which files are fetched, and how it is said that the hub cannot be reached."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.cli.main import main
from app.errors import DataError, NetworkError, UsageError, WorkspaceError
from app.hub import downloads
from app.hub.dataset_files import MAX_BYTES, choose_files
from app.jobs import requests
from app.runs import request_paths
from app.runs.dataset_selection import rows
from app.ui.shell.language import Translator
from app.ui.tabs.data import hub_panel
from app.workspace import open_workspace
from tests.hub.stand_in import Silent, serving

ROW = '{"question": "a", "answer": "b"}\n'
FILES = {
    "README.md": "# A set",
    ".gitattributes": "x",
    "dataset_infos.json": "{}",
    "data/train-00000.jsonl": ROW * 3,
    "data/train-00001.jsonl": ROW * 2,
    "data/test-00000.jsonl": ROW,
    "data/train.csv": "question,answer\na,b\n",
}
SHA = "0123456789abcdef0123456789abcdef01234567"


def listing(folder: Path) -> list[tuple[str, int]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [(path.relative_to(folder).as_posix(), path.stat().st_size) for path in files]


def test_files_of_rows_are_chosen_from_a_real_layout(tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert [path for path, _ in choose_files("o/n", listing(tmp_path))] == [
        "data/train-00000.jsonl",
        "data/train-00001.jsonl",
    ]
    (tmp_path / "data" / "train.parquet").write_bytes(b"x")
    assert [path for path, _ in choose_files("o/n", listing(tmp_path))] == ["data/train.parquet"]


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["a.json", "b.json"], ["a.json", "b.json"]),
        (["rows.jsonl.gz", "rows_test.jsonl.gz"], ["rows.jsonl.gz"]),
        (["validation.csv"], ["validation.csv"]),
        (["contest.csv", "strain.csv"], ["contest.csv", "strain.csv"]),
    ],
)
def test_splits_and_forms(names: list[str], chosen: list[str]) -> None:
    assert [path for path, _ in choose_files("o/n", [(name, 1) for name in names])] == chosen


@pytest.mark.parametrize(
    ("part", "chosen"),
    [
        ("test", ["data/test-00000.jsonl"]),
        ("data/train.csv", ["data/train.csv"]),
        ("extra", ["extra/train.jsonl"]),
        ("train", ["data/train-00000.jsonl", "data/train-00001.jsonl", "extra/train.jsonl"]),
    ],
)
def test_a_part_is_a_file_a_folder_or_a_split(part: str, chosen: list[str]) -> None:
    listed = [(name, 1) for name in (*FILES, "extra/train.jsonl")]
    assert [path for path, _ in choose_files("o/n", listed, part)] == chosen
    with pytest.raises(DataError, match=r"no part 'moon'\. Its files of rows are data/test-00000\.jsonl"):
        choose_files("o/n", listed, "moon")


def test_what_is_not_fetched() -> None:
    with pytest.raises(DataError, match="no file of rows"):
        choose_files("o/n", [("model.safetensors", 5), ("script.py", 1), ("../../x.jsonl/..", 1)])
    with pytest.raises(DataError, match=r"5\.0 GB"):
        choose_files("o/n", [("train.jsonl", MAX_BYTES + 1)])


def test_offline_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(NetworkError, match=r"o/n cannot be fetched\. 127\.0\.0\.1:9 cannot be reached from here"):
        downloads.fetch(open_workspace(tmp_path), "o/n")
    assert not list((tmp_path / "uploads").rglob("*.jsonl"))
    with pytest.raises(UsageError):
        downloads.start(open_workspace(tmp_path), "../x")


class Hub(Silent):
    """The few answers of a hub that a download asks for."""

    def do_HEAD(self) -> None:
        self._answer(b"")

    def do_GET(self) -> None:
        self._answer(None)

    def _answer(self, body: bytes | None) -> None:
        if self.path.startswith("/api/datasets/o/n"):
            siblings = [{"rfilename": name, "size": len(text)} for name, text in FILES.items()]
            card = {"license": "cc-by-4.0"}
            content = json.dumps({"id": "o/n", "sha": SHA, "siblings": siblings, "cardData": card}).encode()
        else:
            name = self.path.partition(f"/resolve/{SHA}/")[2]
            content = FILES.get(name, "").encode()
        self.send_response(200 if content else 404)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Repo-Commit", SHA)
        self.send_header("ETag", f'"{abs(hash(self.path))}"')
        self.end_headers()
        self.wfile.write(content if body is None else body)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A hub of one dataset on this machine."""
    with serving(Hub, monkeypatch):
        yield


def test_a_set_is_fetched_once_and_checked(hub: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workspace = open_workspace(tmp_path)
    assert main(["data", "convert", "o/n", "--out", str(tmp_path / "out.jsonl"), "--workspace", str(tmp_path)]) == 0
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 5
    folder = downloads.fetch(workspace, "o/n")
    assert folder == workspace.uploads / "hub" / "o--n" / SHA[:12]
    assert sorted(path.name for path in folder.rglob("*.jsonl")) == ["train-00000.jsonl", "train-00001.jsonl"]
    assert not list(folder.rglob("README.md")) and not list(folder.parent.glob(".part*"))


def test_size_and_licence_are_told_before(hub: None, tmp_path: Path) -> None:
    workspace = open_workspace(tmp_path)
    asked = downloads.start(workspace, "o/n", part="test", ask_only=True)
    status = requests.wait(asked, timeout_s=60)
    assert status.state == "finished" and not (workspace.uploads / "hub" / "o--n").exists()
    assert status.result["bytes"] == len(ROW) and status.result["licence"] == "cc-by-4.0"
    assert "cc-by-4.0" in hub_panel.told(asked, status, Translator("en"))
    fetched = downloads.start(workspace, "o/n", part="test")
    look = hub_panel.fetched(fetched, requests.wait(fetched, timeout_s=60))
    assert look.label == "o/n (test)" and request_paths.data_file(workspace, look.file) == Path(look.file)
    assert [row.number for row in rows(look, 0, 20)] == [1]


def test_what_went_wrong_is_said_in_the_box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    asked = downloads.start(open_workspace(tmp_path), "o/n", ask_only=True)
    said = hub_panel.told(asked, requests.wait(asked, timeout_s=60), Translator("en"))
    assert "cannot be fetched" in said and "cannot be reached" in said
    with pytest.raises(WorkspaceError):
        request_paths.data_file(open_workspace(tmp_path), str(tmp_path / "jobs"))
