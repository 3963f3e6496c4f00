"""The Dockerfile agrees with the launcher: its command, its Python, its pins, and what it copies.

No image is built here: that needs a container engine and a network.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

import launch
from app.cli.main import build_parser
from app.ui.shell.serving.server import check_exposure
from app.workspace import default_root

HOUSE = Path(__file__).parents[1]
TEXT = (HOUSE / "Dockerfile").read_text(encoding="utf-8")
LINES = re.sub(r"\\\n", " ", TEXT).splitlines()


def instructions(name: str) -> list[str]:
    return [line.removeprefix(name).strip() for line in LINES if line.startswith(f"{name} ")]


def shell_command() -> str:
    (command,) = instructions("CMD")
    shell, flag, line = json.loads(command)
    assert (shell, flag) == ("sh", "-c")
    return str(line)


def told_to_python(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the container's command with a python that says what it was told, word by word, and does nothing."""
    python = folder / "python"
    python.write_text('#!/bin/sh\nfor word in "$@"; do echo "$word"; done\n')
    python.chmod(0o755)
    found = {"PATH": f"{folder}:{os.environ['PATH']}", **environment}
    return subprocess.run(
        ["sh", "-c", shell_command()], env=found, cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.mark.skipif(os.name == "nt", reason="the container's shell is POSIX")
def test_the_command_is_one_that_the_launcher_takes(tmp_path: Path) -> None:
    token = "a long word; with $signs"
    script, *words = told_to_python(tmp_path, WORKBENCH_TOKEN=token).stdout.splitlines()
    arguments = build_parser()[0].parse_args(words)
    assert script == "launch.py" and arguments.verb == "ui" and arguments.no_browser and arguments.token == token
    check_exposure(arguments.host, arguments.token)
    assert instructions("EXPOSE") == [str(arguments.port)]
    assert f"127.0.0.1:{arguments.port}:{arguments.port}" in TEXT


@pytest.mark.skipif(os.name == "nt", reason="the container's shell is POSIX")
def test_without_a_token_nothing_starts(tmp_path: Path) -> None:
    ended = told_to_python(tmp_path)
    assert ended.returncode != 0 and ended.stdout == "" and "WORKBENCH_TOKEN" in ended.stderr


def test_its_python_is_one_that_the_pinned_libraries_run_on() -> None:
    (image,) = instructions("FROM")
    found = re.fullmatch(r"python:3\.(\d+)-slim", image)
    assert found and launch.OLDEST <= (3, int(found[1])) <= launch.NEWEST


def test_pins_stand_in_one_place_and_the_driver_is_the_launchers() -> None:
    named = set(launch.pins(launch.RUNTIME))
    assert not [word for word in re.findall(r"(\w+)==\d", TEXT) if word in named]
    assert f"driver {launch.CUDA13_DRIVER} or newer" in TEXT


def test_what_is_copied_is_there_and_let_through() -> None:
    let_through = {line[1:] for line in (HOUSE / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {source for line in instructions("COPY") for source in shlex.split(line)[:-1]}
    assert copied == let_through and all((HOUSE / source).exists() for source in copied)


def test_the_workspace_is_the_volume(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = dict(part.split("=", 1) for line in instructions("ENV") for part in shlex.split(line))
    (volume,) = instructions("VOLUME")
    monkeypatch.setenv("WORKBENCH_HOME", settings["WORKBENCH_HOME"])
    assert str(default_root()) == volume
