"""Files that a person, a stranger or the hub brings: whatever they hold, one clear error or left out."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from app.catalog.reader import read_config
from app.data.chat_template.tokenizer import _end_tokens
from app.data.dataset.build import open_built, recorded
from app.data.formats import mappings
from app.engine.http import endpoint
from app.errors import WorkbenchError
from app.evaluation import suites, votes
from app.export import requests
from app.jobs import directory
from app.jobs.directory import JobDirectory
from app.models.adapter_files import CONFIG_FILE, WEIGHTS_FILE
from app.models.adapters import AdapterFolder
from app.models.identity import NOTE_FILE, noted_base
from app.models.prompts import stored_template
from app.models.tensors import INDEX_FILE, read_checkpoint, read_header
from app.reading import parsed_json, read_object
from app.training.memory.oom_fallback import _taken
from app.ui.shell import tour
from app.workspace import Workspace

DEEP = "[" * 100_000
HOSTILE = {
    "deep": DEEP,
    "deep object": '{"a":' * 100_000,
    "endless number": "9" * 10_000,
    "list": "[]",
    "null": "null",
    "number": "1e999",
    "text": '"\\ud800"',
    "surrogate key": '{"\\ud800": "\\udfff"}',
    "not UTF-8": b"\xff\xfe{",
    "nothing": "",
}
Reader = Callable[[Path, Workspace, JobDirectory], object]


def adapter_config(path: Path, workspace: Workspace, job: JobDirectory) -> object:
    (path.parent / WEIGHTS_FILE).write_bytes(b"")
    shutil.copy(path, path.parent / CONFIG_FILE)
    return AdapterFolder(path.parent).config


def beside(name: str, read: Callable[[Path], object]) -> Reader:
    """Return a reader of a folder in which the file has this name."""

    def reader(path: Path, workspace: Workspace, job: JobDirectory) -> object:
        target = path.parent / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
        return read(path.parent)

    return reader


def of_job(name: str, read: Callable[[JobDirectory], object]) -> Reader:
    """Return a reader of a job in which the file has this name."""

    def reader(path: Path, workspace: Workspace, job: JobDirectory) -> object:
        target = job.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
        return read(job)

    return reader


def of_workspace(name: str, read: Callable[[Workspace], object]) -> Reader:
    """Return a reader of a workspace in which the file has this name."""

    def reader(path: Path, workspace: Workspace, job: JobDirectory) -> object:
        target = workspace.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
        return read(workspace)

    return reader


READERS: dict[str, Reader] = {
    "config.json": lambda path, workspace, job: read_config(path),
    "adapter_config.json": adapter_config,
    "tokenizer_config.json": beside("tokenizer_config.json", stored_template),
    "generation_config.json": beside("generation_config.json", lambda folder: _end_tokens(folder, None, "</s>")),
    "the note of a base": beside(NOTE_FILE, noted_base),
    "index of shards": beside(INDEX_FILE, read_checkpoint),
    "manifest of rows": beside("manifest.json", open_built),
    "record of rows": lambda path, workspace, job: recorded(path, workspace.root / "datasets"),
    "steps of the ladder": lambda path, workspace, job: _taken(path),
    "suite": of_workspace("suites/mine.json", suites.saved),
    "votes": of_workspace("votes.jsonl", lambda workspace: votes.standings(votes.read(workspace.root / "votes.jsonl"))),
    "mapping": of_workspace("mappings/mine.json", lambda workspace: mappings.load(workspace, "mine")),
    "tour": of_workspace("tour.json", tour.read),
    "result of a suite": of_job(f"result/{suites.RESULT_FILE}", suites.read_result),
    "result of an inspection": of_job(f"result/{requests.INSPECTION_FILE}", requests.read_inspection),
    "endpoint": of_job(endpoint._FILE, endpoint.read),
}


@pytest.mark.parametrize("held", HOSTILE.values(), ids=list(HOSTILE))
@pytest.mark.parametrize("reader", READERS.values(), ids=list(READERS))
def test_a_hostile_file_is_one_clear_error_or_left_out(
    reader: Reader, held: str | bytes, workspace: Workspace, tmp_path: Path
) -> None:
    path = tmp_path / "brought" / "file.json"
    path.parent.mkdir()
    path.write_bytes(held if isinstance(held, bytes) else held.encode())
    job = directory.create(workspace, "train", {})
    try:
        found = reader(path, workspace, job)
    except WorkbenchError as error:
        assert "\n" not in str(error)
        str(error).encode()
    else:
        repr(found).encode()


def test_an_endpoint_of_a_process_without_a_number_is_none(workspace: Workspace) -> None:
    job = directory.create(workspace, "engine", {})
    (job.path / endpoint._FILE).write_text('{"url": "http://127.0.0.1:1/v1", "token": "t", "pid": 1e999}')
    assert endpoint.read(job) is None


def test_a_vote_with_an_endless_time_is_read_without_it(workspace: Workspace) -> None:
    sides = [{"key": key, "name": key} for key in "ab"]
    line = json.dumps({"candidates": sides, "winner": "a", "time": 10**400})
    assert votes._vote(line) is not None


@pytest.mark.parametrize("name", ["../../elsewhere", "/etc", 5, None, [], "a" * 31])
def test_a_record_leads_to_no_folder_outside(name: object, workspace: Workspace, tmp_path: Path) -> None:
    record = tmp_path / "dataset.json"
    record.write_text(json.dumps({"hash": name}))
    with pytest.raises(WorkbenchError):
        recorded(record, workspace.root / "datasets")


def test_what_is_right_is_read_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text('\ufeff{"a": ["ü", 1.5, null]}', encoding="utf-8")
    assert read_object(file) == {"a": ["ü", 1.5, None]}
    assert parsed_json(b'["\\ud83d\\ude00"]') == ["😀"]


PIPED: dict[str, tuple[str, str, Callable[[Path], object]]] = {
    "config.json": ("config.json", '{"model_type": "said"}', read_config),
    "adapter_config.json": (
        CONFIG_FILE,
        '{"peft_type": "LORA", "r": 8, "lora_alpha": 8, "base_model_name_or_path": "said"}',
        lambda path: AdapterFolder(path.parent).config,
    ),
    "tokenizer_config.json": (
        "tokenizer_config.json",
        '{"chat_template": "said"}',
        lambda path: stored_template(path.parent),
    ),
    "the note of a base": (NOTE_FILE, '{"base": {"said": 1}, "covers": "said"}', read_object),
    "weights": ("model.safetensors", "said", read_header),
}


@pytest.mark.parametrize(("name", "held", "read"), PIPED.values(), ids=list(PIPED))
def test_a_pipe_in_place_of_a_file_is_refused_before_it_is_opened(
    name: str, held: str, read: Callable[[Path], object], tmp_path: Path
) -> None:
    """Whoever opens a pipe waits for its writer. This one has a writer, which a reader that opens it would hear."""
    (tmp_path / WEIGHTS_FILE).write_bytes(b"")
    pipe = tmp_path / name
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(held,), daemon=True)
    writer.start()
    try:
        assert read(pipe) == ""
    except (WorkbenchError, OSError) as error:
        assert "a pipe, a socket or a device" in str(error)
    finally:
        heard = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        writer.join()
        os.close(heard)
