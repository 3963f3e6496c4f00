"""The files that a person double-clicks: each finds a Python and hands over to launch.py, from whatever folder."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
from pathlib import Path

import pytest

HOUSE = Path(__file__).resolve().parents[1]
SHELL = ("start-linux.sh", "start-macos.command")
on_unix = pytest.mark.skipif(os.name == "nt", reason="a shell script")


def _copied(tmp_path: Path) -> Path:
    """A folder with a blank in its name that holds the launchers and a launch.py that says how it was called."""
    folder = tmp_path / "My Programs"
    folder.mkdir()
    for name in (*SHELL, "start-linux.desktop"):
        (folder / name).write_bytes((HOUSE / name).read_bytes())
        (folder / name).chmod(0o755)
    (folder / "launch.py").write_text("import os, sys\nprint(os.getcwd(), *sys.argv)\n", encoding="utf-8")
    return folder


def _run(command: list[str], place: Path, path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=place, env={"PATH": path}, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


@on_unix
@pytest.mark.parametrize("name", SHELL)
def test_a_launcher_starts_the_program_from_any_folder(name: str, tmp_path: Path) -> None:
    assert os.access(HOUSE / name, os.X_OK)
    folder = _copied(tmp_path)
    ended = _run([str(folder / name), "--port", "7861"], Path("/"), f"{Path(sys.executable).parent}:/usr/bin:/bin")
    assert ended.stdout.split("\n")[0] == f"{folder} launch.py --port 7861", ended.stderr


@on_unix
def test_without_a_fitting_python_it_says_what_to_do(tmp_path: Path) -> None:
    folder, tools = _copied(tmp_path), tmp_path / "bin"
    tools.mkdir()
    for tool in ("sh", "dirname"):
        (tools / tool).symlink_to(f"/bin/{tool}" if Path(f"/bin/{tool}").exists() else f"/usr/bin/{tool}")
    old = tools / "python3"
    old.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    old.chmod(0o755)
    ended = _run([str(folder / "start-linux.sh")], tmp_path, str(tools))
    assert ended.returncode == 1 and "Python 3.10 to 3.13 was not found" in ended.stderr and ended.stdout == ""


@on_unix
def test_the_desktop_entry_leads_to_the_script_beside_it(tmp_path: Path) -> None:
    folder = _copied(tmp_path)
    entry = configparser.ConfigParser(interpolation=None)
    entry.read(folder / "start-linux.desktop", encoding="utf-8")
    found = entry["Desktop Entry"]
    assert found["type"] == "Application" and found["name"] == "LoRA Workbench"
    # %k is the place of the entry itself.
    line = found["exec"].replace("%k", f"'{folder / 'start-linux.desktop'}'")
    ended = _run(["sh", "-c", line], Path("/"), f"{Path(sys.executable).parent}:/usr/bin:/bin")
    assert ended.stdout.startswith(f"{folder} launch.py"), ended.stderr


def test_the_launcher_for_windows_has_its_line_ends_and_names_the_same_pythons() -> None:
    text = (HOUSE / "start-windows.bat").read_bytes()
    assert text.count(b"\r\n") == text.count(b"\n") > 10 and text.isascii()
    lines = text.decode()
    assert 'cd /d "%~dp0"' in lines and "launch.py %*" in lines
    for version in ("3.10", "3.11", "3.12", "3.13"):
        assert f'"py -{version}"' in lines and f"python{version}" in (HOUSE / "start-linux.sh").read_text(
            encoding="utf-8"
        )
