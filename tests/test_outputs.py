"""What is written where a person says: never over an input, never over what this program did not write."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from app import outputs
from app.cli.main import main
from app.errors import ExportError, UsageError
from app.export.requests import (
    BlendRequest,
    ExportRequest,
    MergeRequest,
    WeightedAdapter,
    start_blend,
    start_export,
    start_merge,
)
from app.workspace import Workspace

ROWS = '{"question": "q", "answer": "a"}\n{"question": "", "answer": ""}\n'


def _itself(source: Path) -> Path:
    return source


def _by_a_detour(source: Path) -> Path:
    return source.parent / "folder" / ".." / source.name


def _by_a_link(source: Path) -> Path:
    link = source.with_name("link.jsonl")
    link.symlink_to(source)
    return link


def _by_a_hard_link(source: Path) -> Path:
    link = source.with_name("hard.jsonl")
    os.link(source, link)
    return link


@pytest.mark.parametrize("named", [_itself, _by_a_detour, _by_a_link, _by_a_hard_link])
@pytest.mark.parametrize("verb", ["check", "convert"])
def test_a_data_file_is_never_written_over_by_its_own_check(
    verb: str,
    named: Callable[[Path], Path],
    tmp_path: Path,
    workspace: Workspace,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_text(ROWS)
    (tmp_path / "folder").mkdir()
    option = {"check": "--rejected", "convert": "--out"}[verb]
    assert main(["data", verb, str(source), option, str(named(source))]) == 2
    assert source.read_text() == ROWS
    assert "is an input of this very command" in capsys.readouterr().err


def test_nothing_is_written_into_a_folder_that_is_read(
    tmp_path: Path, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "a.jsonl").write_text(ROWS)
    (tmp_path / "link").symlink_to(folder)
    for out in (folder / "new.jsonl", tmp_path / "link" / "new.jsonl", folder / "a.jsonl"):
        assert main(["data", "convert", str(folder), "--out", str(out)]) == 2
        assert "inside the input" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["a.jsonl"] and (folder / "a.jsonl").read_text() == ROWS


def test_an_output_is_written_again_and_a_file_of_somebody_else_never(
    tmp_path: Path, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    source.write_text(ROWS)
    words = ["data", "convert", str(source), "--out", str(out)]
    assert main(words) == 0
    first = out.read_bytes()
    assert main(words) == 0 and out.read_bytes() == first
    out.write_text("edited by hand\n")
    capsys.readouterr()
    assert main(words) == 2 and "is not written over" in capsys.readouterr().err
    assert out.read_text() == "edited by hand\n"


@pytest.mark.parametrize("kind", ["file", "folder", "dangling link", "device"])
def test_a_place_that_is_taken_is_refused(kind: str, tmp_path: Path, workspace: Workspace) -> None:
    out = tmp_path / "out.jsonl"
    if kind == "file":
        out.write_text("mine")
    elif kind == "folder":
        out.mkdir()
    elif kind == "dangling link":
        out.symlink_to(tmp_path / "nowhere")
    else:
        out.symlink_to(os.devnull)
    with pytest.raises(UsageError):
        outputs.refuse_foreign(str(workspace.root), out)


def _write_adapter(folder: Path) -> None:
    """Write an adapter of one layer, of which nothing is wrong."""
    folder.mkdir()
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    layer = "base_model.model.model.layers.0.self_attn.q_proj"
    parts = {
        f"{layer}.lora_A.weight": np.ones((2, 8), np.float32),
        f"{layer}.lora_B.weight": np.ones((8, 2), np.float32),
    }
    save_file(parts, folder / "adapter_model.safetensors")


def test_an_export_lies_outside_of_what_it_is_made_from(tmp_path: Path, workspace: Workspace) -> None:
    adapter, model = tmp_path / "adapter", tmp_path / "model"
    _write_adapter(adapter)
    model.mkdir()
    (model / "config.json").write_text("{}")
    (tmp_path / "link").symlink_to(adapter)
    inside, linked = adapter / "out", tmp_path / "link" / "out"
    starts: list[Callable[[], object]] = [
        lambda: start_merge(workspace, MergeRequest(str(adapter), str(inside))),
        lambda: start_merge(workspace, MergeRequest(str(adapter), str(linked))),
        lambda: start_merge(workspace, MergeRequest(str(adapter), str(model / "out"), base=str(model))),
        lambda: start_blend(workspace, BlendRequest([WeightedAdapter(str(adapter))], str(inside))),
        lambda: start_export(workspace, ExportRequest("adapter", str(inside), adapter=str(adapter))),
        lambda: start_export(workspace, ExportRequest("ollama", str(model / "out"), model=str(model))),
    ]
    for start in starts:
        with pytest.raises(UsageError, match="inside the input"):
            start()
    assert not list(workspace.jobs.iterdir())


@pytest.mark.parametrize("place", ["a file", "a link to nothing", "a folder that may not be written"])
def test_an_export_whose_folder_cannot_be_made_is_refused_before_it_begins(
    tmp_path: Path, workspace: Workspace, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter, above = tmp_path / "adapter", tmp_path / "above"
    _write_adapter(adapter)
    if place == "a file":
        above.write_text("")
    elif place == "a link to nothing":
        above.symlink_to(tmp_path / "nothing")
    else:
        above.mkdir(mode=0o500)
        if os.access(above, os.W_OK):  # root may write everywhere but on a disk that nobody may write
            monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != above)
    out = str(above / "deeper" / "out")
    starts: list[Callable[[], object]] = [
        lambda: start_merge(workspace, MergeRequest(str(adapter), out)),
        lambda: start_blend(workspace, BlendRequest([WeightedAdapter(str(adapter))], out)),
        lambda: start_export(workspace, ExportRequest("adapter", out, adapter=str(adapter))),
    ]
    for start in starts:
        with pytest.raises(ExportError, match=r"out cannot be made\. .*above .*\. Choose another folder"):
            start()
    assert not list(workspace.jobs.iterdir())


def test_an_export_may_be_made_in_folders_that_are_not_there_yet(tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(tmp_path)
    for place in (tmp_path / "out", tmp_path / "new" / "newer" / "out", tmp_path / "linked" / "new" / "out"):
        outputs.refuse_unmakeable(place)
