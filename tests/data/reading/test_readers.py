from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from app.data.reading.readers import read_pasted, read_rows
from app.data.reading.rows import Row, RowProblem
from app.errors import DataError

ROWS = [{"instruction": f"Say {i}", "output": f"It is {i}."} for i in range(5)]
LINES = "\n".join(json.dumps(row) for row in ROWS)


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(path: Path) -> tuple[list[Row], list[RowProblem]]:
    records = list(read_rows(path))
    return [r for r in records if isinstance(r, Row)], [r for r in records if isinstance(r, RowProblem)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", LINES),
        ("a.json", json.dumps(ROWS)),
        ("pretty.json", json.dumps(ROWS, indent=2)),
        ("wrapped.json", json.dumps({"data": ROWS}, indent=1)),
        ("lines.json", LINES),
        ("array.jsonl", json.dumps(ROWS, indent=1)),
        ("bom.jsonl", b"\xef\xbb\xbf" + LINES.encode()),
        ("utf16.jsonl", LINES.encode("utf-16")),
        ("utf16be.jsonl", LINES.encode("utf-16-be")),
        ("crlf.jsonl", LINES.replace("\n", "\r\n")),
        ("packed.jsonl.gz", gzip.compress(LINES.encode())),
        ("no_suffix", LINES),
        ("table.csv", "instruction,output\n" + "\n".join(f"Say {i},It is {i}." for i in range(5))),
        ("semicolons.csv", "instruction;output\n" + "\n".join(f'"Say {i}";"It is {i}."' for i in range(5))),
        ("table.tsv", "instruction\toutput\n" + "\n".join(f"Say {i}\tIt is {i}." for i in range(5))),
    ],
)
def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, name: str, content: str | bytes) -> None:
    rows, problems = read(write(tmp_path, name, content))
    assert [row.fields for row in rows] == ROWS
    assert not problems
    assert [row.number for row in rows] == [1, 2, 3, 4, 5]


def test_column_files_give_the_same_rows(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.feather as feather
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist(ROWS)
    pq.write_table(table, tmp_path / "a.parquet")
    feather.write_feather(table, str(tmp_path / "a.arrow"), compression="uncompressed")
    with pa.ipc.new_stream(str(tmp_path / "stream.arrow"), table.schema) as writer:
        writer.write_table(table)
    for name in ("a.parquet", "a.arrow", "stream.arrow"):
        rows, problems = read(tmp_path / name)
        assert [row.fields for row in rows] == ROWS and not problems


def test_line_numbers_survive(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", LINES + "\n\n{oops}\n" + LINES)
    rows, problems = read(path)
    assert [problem.line for problem in problems] == [7]
    assert rows[5].line == 8 and len(rows) == 10
    pretty = json.dumps(ROWS[:1], indent=1)[:-2] + ',\n{"instruction": oops},\n' + json.dumps(ROWS[1]) + "\n]"
    rows, problems = read(write(tmp_path, "a.json", pretty))
    assert [problem.line for problem in problems] == [6]
    assert [row.line for row in rows] == [2, 7]


def test_a_json_array_larger_than_the_window_streams(tmp_path: Path) -> None:
    many = [{"text": f"{i} " + "wörter " * 200} for i in range(3000)]
    rows, problems = read(write(tmp_path, "big.json", json.dumps(many, ensure_ascii=False)))
    assert [row.fields for row in rows] == many and not problems


def test_csv_quotes_span_lines_and_an_open_quote_costs_one_row(tmp_path: Path) -> None:
    rows, problems = read(write(tmp_path, "q.csv", 'instruction,output\n"a\nb",c\n"d ""q""",e\n'))
    assert [row.fields["instruction"] for row in rows] == ["a\nb", 'd "q"']
    assert [row.line for row in rows] == [2, 4]
    rows, problems = read(write(tmp_path, "o.csv", 'instruction,output\na,b\n"open,c\n' + "d,e\n" * 5))
    assert len(rows) == 6 and [problem.line for problem in problems] == [3]


def test_csv_with_more_cells_than_the_header_is_a_problem(tmp_path: Path) -> None:
    rows, problems = read(write(tmp_path, "c.csv", "question,answer\na,b,c\nd\ne,f\n"))
    assert [problem.line for problem in problems] == [2]
    assert [row.fields for row in rows] == [{"question": "d", "answer": ""}, {"question": "e", "answer": "f"}]


def test_gb18030_is_recognised_and_broken_utf8_is_not_taken_for_it(tmp_path: Path) -> None:
    line = json.dumps({"指令": "你好，世界", "输出": "谢谢"}, ensure_ascii=False)
    rows, _ = read(write(tmp_path, "gb.jsonl", (line + "\n").encode("gb18030") * 3))
    assert rows[0].fields == {"指令": "你好，世界", "输出": "谢谢"}
    rows, problems = read(write(tmp_path, "bad.jsonl", f"{line}\n".encode() + b'{"text": "caf\xe9"}\n' + line.encode()))
    assert len(rows) == 2 and problems[0].kind == "encoding" and problems[0].line == 2


def test_prose_is_cut_at_its_own_marks(tmp_path: Path) -> None:
    rows, _ = read(write(tmp_path, "p.txt", "one\nmore\n\n\ntwo\n"))
    assert [(row.line, row.fields["text"]) for row in rows] == [(1, "one\nmore"), (5, "two")]
    rows, _ = read(write(tmp_path, "i.txt", "### Instruction:\nSay\n\n### Response:\nhi\n\n### Instruction:\nGo\n"))
    assert [row.line for row in rows] == [1, 7]
    rows, _ = read(write(tmp_path, "m.md", "# A\ntext\n```\n# not a heading\n```\n## B\nmore\n"))
    assert [row.line for row in rows] == [1, 6]


def test_folders_and_archives_name_the_file_of_each_row(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    (folder / "sub").mkdir(parents=True)
    write(folder, "a.jsonl", LINES)
    write(folder / "sub", "b.csv", "question,answer\na,b\n")
    write(folder, ".hidden.jsonl", "{bad")
    rows, problems = read(folder)
    assert [row.file for row in rows] == ["a.jsonl"] * 5 + ["sub/b.csv"] and not problems
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("a.jsonl", LINES + "\n{bad")
        archive.writestr("b.csv", "question,answer\na,b\n")
    rows, problems = read(tmp_path / "z.zip")
    assert len(rows) == 6 and problems[0].as_dict()["message"].startswith("a.jsonl: ")


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (LINES, 5),
        (json.dumps(ROWS, indent=1), 5),
        ("question,answer\na,b\nc,d", 2),
        ("question\tanswer\na\tb", 1),
        ("Just a sentence, with a comma.\n\nAnd another.", 2),
        ("### 指令：\n说\n### 回答：\n好", 1),
    ],
)
def test_pasted_text_is_recognised(text: str, count: int) -> None:
    assert len(list(read_pasted(text))) == count


@pytest.mark.parametrize(
    ("value", "fields"),
    [
        ([{"role": "user", "content": "a"}], {"messages": [{"role": "user", "content": "a"}]}),
        ("plain", {"text": "plain"}),
    ],
)
def test_rows_that_are_not_objects(tmp_path: Path, value: Any, fields: dict[str, Any]) -> None:
    rows, _ = read(write(tmp_path, "a.jsonl", json.dumps(value) + "\n" + json.dumps(value)))
    assert rows[0].fields == fields
    _, problems = read(write(tmp_path, "b.jsonl", "[1, 2]\n12\nnull"))
    assert [problem.kind for problem in problems] == ["shape"] * 3


def test_what_cannot_be_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no data file"):
        list(read_rows(tmp_path / "gone.jsonl"))
    with pytest.raises(DataError, match="empty"):
        list(read_rows(write(tmp_path, "empty.jsonl", "  \n")))
    with pytest.raises(DataError, match="damaged"):
        list(read_rows(write(tmp_path, "cut.jsonl.gz", gzip.compress(LINES.encode() * 50)[:60])))
    with pytest.raises(DataError, match="holds no data file"):
        list(read_rows((tmp_path / "folder").mkdir() or tmp_path / "folder"))


def test_what_cannot_be_decoded_costs_its_own_row_in_every_encoding(tmp_path: Path) -> None:
    rows = [
        json.dumps({"text": text}, ensure_ascii=False)
        for text in ("指令和输入都很清楚。", "坏的一行", "caf\ufffd 很好")
    ]
    for encoding, good, broken in (
        ("utf-16", "行".encode("utf-16-le"), b"\x00\xd8"),
        ("utf-8", "行".encode(), b"\xff"),
    ):
        raw = "\n".join(rows).encode(encoding).replace(good, broken)
        found, problems = read(write(tmp_path, f"{encoding}.jsonl", raw))
        assert [row.line for row in found] == [1, 3], encoding
        assert [(problem.line, problem.kind) for problem in problems] == [(2, "encoding")], encoding


@pytest.mark.parametrize(
    "text",
    [
        "instruction,output\nSay hi,hi,\nSay ho,ho,,\n",
        "sep=;\ninstruction;output\nSay hi;hi\nSay ho;ho\n",
        '"sep=;"\ninstruction;output\nSay hi;hi\nSay ho;ho\n',
    ],
)
def test_what_spreadsheets_add_costs_no_row(tmp_path: Path, text: str) -> None:
    rows, problems = read(write(tmp_path, "rows.csv", text))
    assert [row.fields for row in rows] == [{"instruction": f"Say {x}", "output": x} for x in ("hi", "ho")]
    assert problems == []


@pytest.mark.parametrize(
    ("text", "encoding"), [("今日は良い天気です。テスト", "shift_jis"), ("오늘의 날씨는 어떻습니까 한국어", "euc_kr")]
)
def test_japanese_and_korean_bytes_are_read_as_what_they_are(tmp_path: Path, text: str, encoding: str) -> None:
    line = json.dumps({"instruction": text, "output": text}, ensure_ascii=False) + "\n"
    rows, problems = read(write(tmp_path, "rows.jsonl", (line * 3).encode(encoding)))
    assert [row.fields for row in rows] == [{"instruction": text, "output": text}] * 3 and not problems


@pytest.mark.parametrize("suffix", [".jsonl", ".txt", ""])
@pytest.mark.parametrize(
    ("begins", "called"),
    [
        (b"%PDF-1.7\n1 0 obj\n<<>>", "a PDF"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "a picture"),
        (b"ID3\x04\x00\x00\x00\x00\x0f\x76TSSE", "a sound or film"),
        (b"OggS\x00\x02\x00\x00", "a sound or film"),
        (b"\x1aE\xdf\xa3\x9fB\x86\x81", "a sound or film"),
        (b"MZ\x90\x00\x03\x00\x00\x00", "a program"),
        (b"\x7fELF\x02\x01\x01\x00", "a program"),
        (b"GGUF\x03\x00\x00\x00\x95\x00", "a model in GGUF"),
        (b"\x80\x05\x95\x10\x00\x00\x00", "a pickle"),
        (b"SQLite format 3\x00", "a database"),
        (b"BZh91AY&SY", "a bzip2 archive"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    ],
)
def test_what_holds_no_rows_is_called_what_it_is(tmp_path: Path, begins: bytes, called: str, suffix: str) -> None:
    with pytest.raises(DataError, match=f"cannot be read: it is {called}"):
        read(write(tmp_path, f"rows{suffix}", begins + b"\x01\x02 more of it"))


@pytest.mark.parametrize("text", ["OggS is a container.", "ID3 tags name a song.", "MZ begins a program.", "GGUF?"])
def test_prose_about_a_kind_of_file_is_prose(tmp_path: Path, text: str) -> None:
    assert read(write(tmp_path, "rows.txt", text))[0][0].fields["text"] == text
