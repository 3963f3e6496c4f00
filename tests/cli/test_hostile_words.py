"""Every verb with words that no program should trust: one clear line, a status of the contract, never a traceback.

The verbs run in this process, on files of the test alone; every word is refused before a process is started.
"""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import pytest

from app.cli.main import main
from app.workspace import Workspace

HOUSE = Path(__file__).parents[2]

# `{}` is where the hostile word goes, ROWS a file of rows.
COMMANDS = [
    "data check {}",
    "data check ROWS --model {}",
    "data show {} --row 1",
    "data convert ROWS --out {}",
    "plan --model {}",
    "plan --config {}",
    "plan --preset {}",
    "plan --model starter --targets {}",
    "plan --model starter --measure --data {}",
    "train --config {}",
    "train --preset {}",
    "train --preset cpu-starter --data {}",
    "train --preset cpu-starter --data ROWS --set {}",
    "chat --model {} --prompt x",
    "blend --adapter a={}:1 --out out",
    "merge --adapter {} --out out",
    "export --adapter {} --to vllm --out out",
    "export --model {} --to vllm --out out",
    "jobs show {}",
    "jobs restore {}",
    "jobs rename {} --name x",
]
# Options that take a number.
NUMBERS = [
    "plan --model starter --rank {}",
    "plan --model starter --seq-len {}",
    "plan --model starter --micro-batch {}",
    "plan --model starter --vram {}",
    "plan --model starter --method inference --columns {}",
    "train --preset cpu-starter --data ROWS --set adapter.r={}",
    "train --preset cpu-starter --data ROWS --set training.learning_rate={}",
    "train --preset cpu-starter --data ROWS --sweep adapter.r={}",
    "chat --model starter --prompt x --max-tokens {}",
    "data show ROWS --row {}",
    "merge --adapter x --out out --max-ram {}",
    "export --adapter x --to vllm --out out --max-ram {}",
    "blend --adapter a=x --out out --rank {}",
    "blend --adapter a=x --out out --density {}",
    "serve --model starter --port {}",
    "ui --no-browser --port {}",
]
NO_NUMBERS = ("nan", "inf", "1e400", "-1", "", "x", "9" * 5000, "y" * 5000, "\ud800")


@pytest.fixture
def words(tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return the hostile words by name."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(HOUSE / "assets" / "datasets" / "pirate.json", tmp_path / "rows.json")
    (tmp_path / "queue").unlink(missing_ok=True)
    os.mkfifo(tmp_path / "queue")
    return {
        "300 letters": "x" * 300,
        "5000 letters": "y" * 5000,
        "300 letters below": "folder/" + "z" * 300,
        "NUL": "a\0b",
        "below a file": "rows.json/x",
        "many digits": "9" * 5000,
        "home of nobody": "~nobody-at-all/x",
        "address": "http://127.0.0.1:9/x",
        "bytes of Latin-1": os.fsdecode(b"caf\xe9"),
        "half a character": "\ud800x",
        "two lines": "a\nb",
        "empty": "",
        "device": os.devnull,
        "pipe without a writer": str(tmp_path / "queue"),
    }


def refusal(command: str, word: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run a command with a word in it, and return the status and what is wrong with what was said."""
    parts = command.replace("ROWS", "rows.json").split()
    status = main([part.replace("{}", word) for part in parts])
    said = capsys.readouterr().err
    lines = [line for line in said.splitlines() if line.strip()]
    is_plain = "unforeseen" not in said and "Traceback" not in said and len(lines) == 1 and len(lines[0]) < 1000
    return status, "" if is_plain else said[:300]


@pytest.mark.parametrize("command", COMMANDS)
def test_hostile_words_get_one_line(
    command: str, words: dict[str, str], workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = []
    for name, word in words.items():
        status, fault = refusal(command, word, capsys)
        if fault or status not in (1, 2):
            wrong.append((name, status, fault))
    assert not wrong
    assert not list(workspace.jobs.iterdir())


@pytest.mark.parametrize("command", NUMBERS)
def test_what_is_no_number_is_wrong_usage(
    command: str, words: dict[str, str], workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    told = [(word[:20], *refusal(command, word, capsys)) for word in NO_NUMBERS]
    assert not [one for one in told if one[1] != 2 or one[2]]
    assert not list(workspace.jobs.iterdir())


@pytest.mark.parametrize("port", ["80800", "65536", "0", "-1", "text", "7860.5", "\u0663"])
@pytest.mark.parametrize("verb", ["ui --no-browser", "serve --model starter"])
def test_a_port_that_is_none_is_refused(
    verb: str, port: str, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refusal(f"{verb} --port={port}", "", capsys) == (2, "")


def test_a_port_that_is_taken_is_one_line(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        for verb in ("ui --no-browser", "serve --model starter"):
            assert refusal(f"{verb} --port {number}", "", capsys) == (2, ""), verb
    assert not list(workspace.jobs.iterdir())
