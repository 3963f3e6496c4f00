"""A column mapping is saved under a name and used again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.cli.main import main
from app.data.formats import mappings
from app.errors import TakenError, UsageError
from app.workspace import open_workspace

MAPPING = {"user": "ask", "assistant": "reply"}


def test_saved_and_found_again(tmp_path: Path) -> None:
    workspace = open_workspace(tmp_path)
    assert mappings.names(workspace) == []
    assert mappings.save(workspace, "tickets", MAPPING) == "tickets"
    assert mappings.names(workspace) == ["tickets"] and mappings.load(workspace, "tickets") == MAPPING
    assert mappings.save(workspace, "tickets", MAPPING) == "tickets"  # the same again is no loss


def test_another_mapping_is_replaced_only_where_that_is_said(tmp_path: Path) -> None:
    workspace = open_workspace(tmp_path)
    mappings.save(workspace, "tickets", MAPPING)
    with pytest.raises(TakenError, match="another mapping"):
        mappings.save(workspace, "tickets", {"text": "body"})
    assert mappings.load(workspace, "tickets") == MAPPING
    mappings.save(workspace, "tickets", {"text": "body"}, replace=True)
    assert mappings.load(workspace, "tickets") == {"text": "body"}
    workspace.mapping_path("odd").write_text("{")
    with pytest.raises(TakenError):
        mappings.save(workspace, "odd", MAPPING)


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "a/b", "con", "-rf", "票据", "x" * 300])
def test_any_name_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    workspace = open_workspace(tmp_path)
    kept = mappings.save(workspace, name, MAPPING)
    assert [path.parent for path in tmp_path.rglob("*.json")] == [workspace.mappings]
    assert mappings.load(workspace, kept) == mappings.load(workspace, name) == MAPPING


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "cannot be read"),
        ("[]", "is none"),
        ('{"user": 3}', "is none"),
        ('{"user": "a"}', "names no answer"),
        ('{"boss": "a"}', "Boss is no role"),
        ('{"text": "' + "x" * 70_000 + '"}', "too large"),
    ],
)
def test_a_damaged_mapping_is_refused(tmp_path: Path, text: str, said: str) -> None:
    workspace = open_workspace(tmp_path)
    workspace.mapping_path("odd").write_text(text, "utf-8")
    with pytest.raises(UsageError, match=said):
        mappings.load(workspace, "odd")


def test_what_is_no_mapping_is_not_saved(tmp_path: Path) -> None:
    workspace = open_workspace(tmp_path)
    for name, mapping in (("", MAPPING), ("empty", {}), ("odd", {"user": "a"})):
        with pytest.raises(UsageError):
            mappings.save(workspace, name, mapping)
    with pytest.raises(UsageError, match="Saved are: none yet"):
        mappings.load(workspace, "nothing")


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, home = tmp_path / "rows.jsonl", ["--workspace", str(tmp_path / "home")]
    rows.write_text('{"ask": "a", "reply": "b", "x": 1}\n' * 3)
    out = tmp_path / "out.jsonl"
    convert = ["data", "convert", str(rows), "--out", str(out), *home]
    assert main([*convert, "--map", "user=ask", "--map", "assistant=reply", "--save-mapping", "tickets"]) == 0
    first = out.read_text()
    out.unlink()
    assert main([*convert, "--mapping", "tickets"]) == 0
    assert out.read_text() == first and json.loads(first.splitlines()[0])["messages"][1]["content"] == "b"
    other = [*convert, "--map", "text=ask", "--save-mapping", "tickets"]
    assert main(other) == 2 and "--force" in capsys.readouterr().err and out.read_text() == first
    assert main([*other, "--force"]) == 0
    assert main([*convert, "--mapping", "nothing"]) == 2
    assert "no mapping 'nothing'" in capsys.readouterr().err
    assert main([*convert, "--mapping", "tickets", "--map", "user=ask"]) == 2


def test_drop_and_repair_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, left = tmp_path / "rows.jsonl", tmp_path / "left.jsonl"
    rows.write_text('{"question": "a", "answer": "b"}\n' * 2 + '{"question": "c", "answer": "me@corp.io"}\n')
    words = ["data", "check", str(rows), "--drop", "duplicate", "--repair", "email", "--dropped", str(left), "--json"]
    assert main([*words, "--workspace", str(tmp_path / "home")]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["usable"] == 2 and facts["problem_counts"] == {"duplicate": 1}
    assert [json.loads(line)["line"] for line in left.read_text().splitlines()] == [2]
    assert main(["data", "check", str(rows), "--drop", "everything"]) == 2
