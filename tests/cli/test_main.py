"""The command line as a person and a program meet it: help, exit status, one plain line on failure."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.cli.main import build_parser, main, with_default_verb
from app.cli.terminal import Parser, named_folders, size_bytes
from app.errors import UsageError
from app.workspace import Workspace

HOUSE = Path(__file__).parents[2]
VERBS = (
    "ui",
    "demo",
    "test",
    "check",
    "fix",
    "audit",
    "doctor",
    "plan",
    "train",
    "profile",
    "chat",
    "serve",
    "blend",
    "merge",
    "export",
    "evaluate",
)
GROUPS = {
    "data": ("check", "show", "convert"),
    "jobs": (
        *("list", "show", "watch", "stop", "pause", "resume", "move", "remove"),
        *("compare", "rename", "again", "restore", "trash", "script", "preset"),
    ),
    "models": ("list", "fetch", "remove"),
    "exports": ("list", "show", "remove"),
    "votes": ("list", "export"),
}
# Understood for one version, and listed by no help.
FORMER_NAMES = {"jobs bin", "jobs recipe"}


def parsers(parser: argparse.ArgumentParser, name: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for verb, inner in action.choices.items():
                yield f"{name} {verb}".strip(), inner
                yield from parsers(inner, f"{name} {verb}".strip())


ALL = dict(parsers(build_parser()[0]))


def test_every_verb_of_the_contract_is_there() -> None:
    assert set(ALL) - FORMER_NAMES == {
        *VERBS,
        *GROUPS,
        *(f"{group} {verb}" for group, verbs in GROUPS.items() for verb in verbs),
    }


@pytest.mark.parametrize("verb", sorted(ALL))
def test_every_verb_has_help_with_one_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*verb.split(), "--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert shown.count("example: python3 launch.py") == 1


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["frobnicate"], 2, "invalid choice"),
        (["plan"], 2, "--model"),
        (["plan", "--model", "no-such-model-here"], 1, "no-such-model-here"),
        (["plan", "--model", "starter", "--rank", "0"], 2, "rank"),
        (["plan", "--model", "starter", "--vram", "-3"], 2, "vram"),
        (["plan", "--model", "starter", "--seq-len", "1000000000"], 2, "seq_len"),
        (["plan", "--preset", "none-such"], 2, "cpu-starter"),
        (["plan", "--model", "http://169.254.169.254/x"], 1, "address"),
        (["train"], 2, "--data"),
        (["train", "--preset", "cpu-starter", "--data", "missing.json"], 1, "no such file"),
        (["train", "--preset", "cpu-starter", "--set", "training.max_stepz=3"], 2, "did you mean training.max_steps"),
        (["train", "--preset", "cpu-starter", "--config", "x.yaml"], 2, "cannot both"),
        (["jobs", "show", "20260101-000000-train-abcdef"], 1, "no job"),
        (["jobs", "show", "../../etc"], 1, "not a job id"),
        (["jobs", "restore", "../../etc"], 1, "not a job id"),
        (["jobs", "compare", "one-train-id"], 2, "two runs"),
        (["train", "--preset", "cpu-starter", "--sweep", "adapter.r=0,4"], 2, "adapter.r"),
        (["train", "--preset", "cpu-starter", "--sweep", "rank=4,8"], 2, "did you mean adapter.r"),
        (["data", "check", "missing.json"], 1, "no such file"),
        (["data", "check", "file:///etc/passwd"], 1, "addresses are not opened"),
        (["data", "show", "missing.json", "--row", "x"], 2, "not a whole number above 0"),
        (["chat", "--model", "starter", "--adapter", "nameless", "--prompt", "x"], 2, "name=DIR"),
        (["chat", "--model", "starter", "--adapter", "base=x", "--prompt", "x"], 2, "taken"),
        (["merge", "--adapter", "x", "--out", "y", "--max-ram", "much"], 2, "not a size"),
        (["merge", "--adapter", "no-such-folder", "--out", "y"], 1, "not an adapter folder"),
        (["blend", "--adapter", "a=no-such-folder:0.5", "--out", "y"], 1, "not an adapter folder"),
        (["export", "--adapter", "no-such-folder", "--to", "vllm", "--out", "y"], 1, "not an adapter folder"),
        (["blend", "--adapter", "a=x:nan", "--out", "y"], 2, "nan"),
    ],
)
def test_bad_words_are_one_plain_line(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], words: list[str], status: int, said: str
) -> None:
    assert main(words) == status
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert "Traceback" not in shown.err
    assert said.lower() in shown.err.lower()


def test_debug_shows_the_traceback(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--debug", "jobs", "show", "20260101-000000-train-abcdef"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_json_alone_is_on_standard_output(workspace: Workspace) -> None:
    words = ["plan", "--model", "starter", "--json", "--workspace", str(workspace.root)]
    done = subprocess.run([sys.executable, "-m", "app.cli", *words], cwd=HOUSE, capture_output=True, check=True)
    assert set(json.loads(done.stdout)["parts"]) >= {"base_weights", "optimizer"}
    assert done.stderr == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_or_closed_standard_output_is_one_plain_line_at_most(workspace: Workspace) -> None:
    ask = f"{sys.executable} -m app.cli jobs list --json"
    full = subprocess.run(["sh", "-c", f"{ask} >/dev/full"], cwd=HOUSE, capture_output=True, text=True, check=False)
    assert (full.returncode, full.stderr.count("\n")) == (1, 1)
    assert "disk is full" in full.stderr
    closed = subprocess.run(["sh", "-c", f"{ask} >&-"], cwd=HOUSE, capture_output=True, text=True, check=False)
    assert (closed.returncode, closed.stderr) == (0, "")


def test_a_terminal_that_lacks_letters_shows_their_numbers(workspace: Workspace, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"问题": "你好 \U0001f600", "回答": "很好"}\n', "utf-8")
    words = ["data", "convert", str(rows), "--out", str(tmp_path / "很好.jsonl")]
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    ask = [sys.executable, "-m", "app.cli", *words]
    told = subprocess.run(ask, cwd=HOUSE, env=ascii_only, capture_output=True, text=True, check=True)
    assert "\\u5f88\\u597d" in told.stdout
    told = subprocess.run([*ask, "--json"], cwd=HOUSE, env=ascii_only, capture_output=True, text=True, check=True)
    assert json.loads(told.stdout)["out"].endswith("很好.jsonl")


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_workspace_option_may_stand_anywhere(
    place: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["jobs", "list", "--json"]
    words[place:place] = ["--workspace", str(tmp_path / "w")]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert (tmp_path / "w" / "jobs").is_dir()


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_workspace_is_one_plain_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tmp_path.chmod(0o500)
    assert main(["--workspace", str(tmp_path / "w"), "jobs", "list"]) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_a_workspace_that_is_a_file_is_one_plain_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "w").write_text("")
    assert main(["--workspace", str(tmp_path / "w"), "jobs", "list"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_without_a_verb_the_page_opens() -> None:
    verbs = build_parser()[1].names
    assert with_default_verb([], verbs) == ["ui"]
    assert with_default_verb(["--port", "7861"], verbs) == ["ui", "--port", "7861"]
    assert with_default_verb(["--workspace", "w"], verbs) == ["ui", "--workspace", "w"]
    assert with_default_verb(["--help"], verbs) == ["--help"]
    assert with_default_verb(["--workspace", "w", "plan"], verbs) == ["--workspace", "w", "plan"]
    assert with_default_verb(["plann"], verbs) == ["plann"]


def test_the_parser_raises_in_place_of_leaving() -> None:
    with pytest.raises(UsageError, match="--help"):
        Parser(prog="x").parse_args(["--unknown"])


@pytest.mark.parametrize(("text", "size"), [("2GB", 2 * 10**9), ("500 MB", 5 * 10**8), ("1GiB", 2**30), ("7", 7)])
def test_sizes(text: str, size: int) -> None:
    assert size_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "0", "1TBB", "nan", "1e9"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        size_bytes(text)


def test_adapters_have_names_of_their_own() -> None:
    assert named_folders(["a=x", "b=y=z"]) == {"a": "x", "b": "y=z"}
    with pytest.raises(UsageError):
        named_folders(["a=x", "a=y"])
