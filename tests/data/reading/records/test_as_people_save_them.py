"""Tables, rows and notes as people and programs save them: read as what they mean, or what is left out is said."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.data.reading.readers import Reading, read_rows
from app.data.reading.rows import Row
from app.errors import DataError


def read(folder: Path, name: str, text: str) -> tuple[list[list[object]], list[str], Reading]:
    """Return the cells of the rows of a file, the messages of its problems, and its reading with the notes."""
    (folder / name).write_text(text, encoding="utf-8", newline="")
    reading = read_rows(folder / name)
    records = list(reading)
    rows = [list(one.fields.values()) for one in records if isinstance(one, Row)]
    return rows, [one.message for one in records if not isinstance(one, Row)], reading


@pytest.mark.parametrize("again", ["question,answer", "\ufeffquestion,answer", '"question","answer"'])
def test_the_header_of_a_table_that_was_appended_is_no_row(tmp_path: Path, again: str) -> None:
    rows, problems, _ = read(tmp_path, "all.csv", f"question,answer\nq1,a1\n{again}\nq2,a2\n")
    assert rows == [["q1", "a1"], ["q2", "a2"]]
    assert problems == ["The line repeats the names of the columns"]


def test_a_text_that_stands_twice_in_a_table_without_names_is_two_rows(tmp_path: Path) -> None:
    text = "This is the first sentence of all."
    assert read(tmp_path, "texts.csv", f"{text}\nAnother one\n{text}\n")[0] == [[text], ["Another one"], [text]]


def test_quotes_behind_a_space_hold_their_cells_together(tmp_path: Path) -> None:
    table = 'question,answer\n"q1", "a, 1"\n"q2", "a2"\nsize, "big" one\nq4, "a\n4"\n'
    rows, problems, _ = read(tmp_path, "a.csv", table)
    assert rows[:3] == [["q1", "a, 1"], ["q2", "a2"], ["size", ' "big" one']]
    assert problems == ["A quote stands behind a space and is not closed on this line"]


def test_a_table_cut_by_commas_is_read_whatever_its_name_says(tmp_path: Path) -> None:
    assert read(tmp_path, "a.tsv", "question,answer\nq1,a1\n")[0] == [["q1", "a1"]]
    assert read(tmp_path, "b.tsv", "text\nHello, you\n")[0] == [["Hello, you"]]


@pytest.mark.parametrize("names", ["text,text", "Text,text"])
def test_columns_of_one_name_are_said(tmp_path: Path, names: str) -> None:
    reading = read(tmp_path, "a.csv", f"{names},answer\nx,y,z\n")[2]
    assert reading.notes == ["2 columns are called 'text': one of them is read under this name"]


def test_columns_of_one_name_are_said_of_parquet(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array(["x"]), pa.array(["y"])], names=["text", "text"])
    pq.write_table(table, tmp_path / "a.parquet")
    reading = read_rows(tmp_path / "a.parquet")
    assert len(list(reading)) == 1 and reading.notes[0].startswith("2 columns are called 'text'")


def test_rows_that_were_dumped_twice_are_rows(tmp_path: Path) -> None:
    row = {"instruction": "q", "output": "a"}
    once = json.dumps(row)
    assert read(tmp_path, "a.jsonl", "\n".join([json.dumps(once)] * 2))[0] == [["q", "a"]] * 2
    assert read(tmp_path, "a.json", json.dumps([once, "{a text}", "[1, 2]"]))[0] == [
        ["q", "a"],
        ["{a text}"],
        ["[1, 2]"],
    ]


def test_what_stands_above_a_note_is_left_out_and_said(tmp_path: Path) -> None:
    rows, _, reading = read(tmp_path, "a.md", "---\ntitle: x\ntags:\n  - a\n---\n# Note\n\nText.\n")
    assert rows == [["# Note\n\nText."]] and "left out" in reading.notes[0]
    rows, _, reading = read(tmp_path, "b.md", "---\n\nBetween two rules.\n\n---\nMore.\n")
    assert rows == [["---\n\nBetween two rules.\n\n---\nMore."]] and reading.notes == []


def test_an_export_of_anki_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="export of Anki"):
        read(tmp_path, "deck.txt", "#separator:tab\n#html:true\nWhat?\tThat<br>one\n")


def test_text_that_looks_like_cells_is_said(tmp_path: Path) -> None:
    assert "2 cells" in read(tmp_path, "a.txt", "What?\tThat\nWho?\tHe\n")[2].notes[0]
    assert read(tmp_path, "b.txt", "One line.\n\nAnother\tline.\n")[2].notes == []


@pytest.mark.parametrize("mark", ["，", "；", "｜"])
def test_a_table_with_wide_marks_for_delimiters_is_refused(tmp_path: Path, mark: str) -> None:
    with pytest.raises(DataError, match=f"has {mark} between its cells"):
        read(tmp_path, "a.csv", f"问题{mark}回答\n你好吗？{mark}我很好。\n")
    with pytest.raises(DataError, match=f"has {mark} between its cells"):
        read(tmp_path, "b.csv", f"instruction{mark}output\n你好吗？{mark}我很好。\n")


@pytest.mark.parametrize(
    "texts",
    [
        ["床前明月光，疑是地上霜。", "举头望明月，低头思故乡。"],
        ["今天天气很好，我们去公园玩", "昨天下雨"],
        ["一個沒有標點的句子也是文字而不是欄名", "另一句"],
        ["สวัสดีครับผมชื่อสมชายและผมมาจากกรุงเทพ", "ขอบคุณครับ"],
    ],
)
def test_the_first_text_of_a_table_without_names_is_trained_in_every_script(tmp_path: Path, texts: list[str]) -> None:
    rows, _, reading = read(tmp_path, "a.csv", "\n".join(texts))
    assert rows == [[text] for text in texts] and "no name" in reading.notes[0]


@pytest.mark.parametrize("name", ["问题描述", "用户提出的问题", "ข้อความ", "テキスト"])
def test_a_name_without_spaces_names_its_column(tmp_path: Path, name: str) -> None:
    assert read(tmp_path, "a.csv", f"{name}\nOne text.\n")[0] == [["One text."]]
