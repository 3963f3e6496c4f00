"""What the repository may hold: files of the project, nothing of the machine that it was made on."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

HOUSE = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(
    shutil.which("git") is None or not (HOUSE / ".git").exists(), reason="not a clone of the repository"
)


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], cwd=HOUSE, capture_output=True, text=True, check=False)


def test_no_link_is_tracked() -> None:
    """A link leads to a place of one machine, and Windows writes it out as a file of text."""
    lines = _git("ls-files", "--stage").stdout.splitlines()
    assert len(lines) > 500
    assert [line for line in lines if line.startswith("120000")] == []


@pytest.mark.parametrize("name", [".venv", ".venv/bin/python", ".venv-3.12", ".venv.lock"])
def test_the_environment_is_ignored_as_a_folder_and_as_a_link(name: str, tmp_path: Path) -> None:
    """In a clone of its own, where neither stands: a pattern that ends in a slash does not see a link."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    shutil.copy(HOUSE / ".gitignore", tmp_path)
    asked = ["git", "-C", str(tmp_path), "check-ignore"]
    assert subprocess.run([*asked, name], check=False).returncode == 0
    assert subprocess.run([*asked, "app/main.py"], check=False).returncode == 1
