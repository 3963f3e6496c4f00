"""One way to write a file in one step: whole or not at all, for all who write."""

from __future__ import annotations

import csv
import io
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.files import csv_text, disk_free_bytes, replace_file, sync_folder

SOURCES = sorted((Path(__file__).parents[1] / "app").rglob("*.py"))


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_the_old_or_the_new_one_whoever_writes(tmp_path: Path, durable: bool) -> None:
    file = tmp_path / "a.json"
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda letter: replace_file(file, letter * 10_000, durable=durable), "abcd" * 5))
    text = file.read_text()
    assert len(text) == 10_000 and len(set(text)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    replace_file(file, "old")
    with pytest.raises(UnicodeEncodeError):
        replace_file(file, "new \udcff")
    assert file.read_text() == "old" and [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.skipif(os.name != "posix", reason="Windows has other rights")
def test_a_secret_is_its_owners_from_the_first_byte(tmp_path: Path) -> None:
    replace_file(tmp_path / "secret", "x", mode=0o600)
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


def test_the_room_of_a_folder_that_is_not_there_yet_is_its_parents(tmp_path: Path) -> None:
    assert disk_free_bytes(tmp_path / "a" / "b") > 0
    sync_folder(tmp_path)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_no_module_has_an_atomic_write_or_a_look_at_the_disk_of_its_own(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    own = re.findall(r"disk_usage\(|\b(?:fresh|partial|part)\.replace\(", text)
    assert not own or path.name == "files.py"


@pytest.mark.fault("A18")
@pytest.mark.parametrize("sign", [*"=+-@\t\r\n", *"＝＋－＠"])
def test_a_text_that_a_spreadsheet_would_run_gets_an_apostrophe(sign: str) -> None:
    text = csv_text([["name", f"{sign}SUM(A1)"], [f"{sign}1", f"a{sign}b"], [-0.5, None], ["- x, y", "'"]])
    rows = list(csv.reader(io.StringIO(text, newline="")))
    shown = sign.replace("\r", "\n")
    assert rows[0][1] == f"'{shown}SUM(A1)" and rows[1] == [f"'{shown}1", f"a{shown}b"]
    assert rows[2] == ["-0.5", ""] and rows[3] == ["'- x, y", "'"]


def test_there_is_one_place_that_writes_csv() -> None:
    """So that nobody forgets the apostrophe. Reading is another matter."""
    writers = [path.name for path in SOURCES if re.search(r"csv\.(writer|DictWriter)", path.read_text("utf-8"))]
    assert writers == ["files.py"]
