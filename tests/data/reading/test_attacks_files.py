"""Files that lie about what they are, or hide one bad file among good ones (A11): named, and nothing good is lost."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.data.chat_template.render import Renderer
from app.data.chat_template.tokenizer import ModelTokenizer
from app.data.dataset.auditing.audit import Check
from app.data.dataset.build import hash_source
from app.data.dataset.options import DataOptions
from app.data.formats.conversation import Conversation, Turn
from app.data.formats.conversions import conversation_of
from app.data.formats.detection import format_of
from app.data.reading.readers import read_rows
from app.data.reading.rows import Row, RowProblem
from app.errors import DataError
from tests.pace import at_most

GOOD = json.dumps({"instruction": "Say hi", "output": "hi"})
CSV = "instruction,output\nSay hi,hi\nSay ho,ho\n"


def read(path: Path) -> tuple[list[Row], list[RowProblem]]:
    with at_most(5):
        records = list(read_rows(path))
    return [r for r in records if isinstance(r, Row)], [r for r in records if isinstance(r, RowProblem)]


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


BAD_FILES = {
    "damaged.parquet": b"PAR1 and no more",
    "damaged.zip": b"PK\x03\x04 and no more",
    "empty.jsonl": b"",
    "bomb.jsonl.gz": gzip.compress(b"0" * 20_000_000),
    "cut.jsonl.gz": gzip.compress(GOOD.encode() * 100)[:-9],
    "photo.png": b"\x89PNG\r\n\x1a\n" + bytes(3000),
    "header.csv": b"",
}


def test_one_bad_file_of_a_folder_never_costs_the_others(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(GOOD)
    (tmp_path / "z.csv").write_text(CSV)
    (tmp_path / "README.md").write_text("# About\n\nThese rows are about greetings.")
    for name, data in BAD_FILES.items():
        (tmp_path / name).write_bytes(data)
    rows, problems = read(tmp_path)
    assert [row.file for row in rows] == ["a.jsonl", "z.csv", "z.csv"]
    assert {problem.file for problem in problems} == set(BAD_FILES)
    assert all(problem.kind == "file" and problem.message and problem.fix for problem in problems)
    assert len({record.number for record in rows} | {problem.row for problem in problems}) == 3 + len(BAD_FILES)


def test_one_bomb_among_members_never_costs_the_others(tmp_path: Path) -> None:
    inner = zipped(tmp_path / "in.zip", {"x.jsonl": b"0" * 20_000_000}).read_bytes()
    good = GOOD.encode()
    members = {"a.jsonl": good, "bomb.jsonl": b"0" * 20_000_000, "in.zip": inner, "../../z.jsonl": good}
    rows, problems = read(zipped(tmp_path / "rows.zip", members))
    assert [row.file for row in rows] == ["a.jsonl", "../../z.jsonl"]
    assert {problem.file for problem in problems} == {"bomb.jsonl", "in.zip"}
    assert not (tmp_path.parent.parent / "z.jsonl").exists()


def test_many_members_are_read_in_time(tmp_path: Path) -> None:
    rows, problems = read(zipped(tmp_path / "rows.zip", {f"{i}.jsonl": GOOD.encode() for i in range(1500)}))
    assert (len(rows), problems) == (1500, [])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rows.csv", f"{GOOD}\n{GOOD}\n"),
        ("rows.txt", f"{GOOD}\n{GOOD}\n"),
        ("rows.txt", f"[{GOOD}, {GOOD}]"),
        ("rows.parquet", f"{GOOD}\n{GOOD}\n"),
        ("rows.json", f"{GOOD}\n{GOOD}\n"),
        ("rows.jsonl", f"[\n{GOOD},\n{GOOD}\n]"),
        ("rows.jsonl", CSV),
        ("rows.json", "text,output,instruction\nx,hi,Say hi\nx,ho,Say ho\n"),
        ("rows.parquet", CSV),
        ("rows", CSV),
    ],
)
def test_what_a_file_holds_counts_for_more_than_its_name(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    rows, problems = read(tmp_path / name)
    assert (len(rows), problems) == (2, [])
    assert all(format_of(row.fields)[0] == "alpaca" for row in rows)


@pytest.mark.parametrize("text", ["[INST] hello [/INST]\n\nmore, and more", "{curly} words\n\nmore"])
def test_prose_that_begins_with_a_bracket_stays_prose(tmp_path: Path, text: str) -> None:
    (tmp_path / "rows.txt").write_text(text)
    rows, _ = read(tmp_path / "rows.txt")
    assert [list(row.fields) for row in rows] == [["text"], ["text"]]


def test_a_broken_first_line_leaves_json_lines_json(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(f"oops, this\n{GOOD}\n{GOOD}\n")
    rows, problems = read(tmp_path / "rows.jsonl")
    assert len(rows) == 2 and [(p.line, p.kind) for p in problems] == [(1, "json")]


def tar_of(text: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.jsonl"), io.BytesIO(text.encode()))
    return packed.getvalue()


class Touch:
    """An object whose unpickling would leave a trace."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return Path.touch, ("trace",)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("name", "data", "what"),
    [
        ("rows.parquet", pickle.dumps(Touch()), "pickle"),
        ("rows.tar.gz", gzip.compress(tar_of(GOOD)), "tar archive"),
        ("rows.jsonl.xz", b"\xfd7zXZ\0\0", "xz archive"),
        ("rows.jsonl.zst", b"\x28\xb5\x2f\xfd123", "Zstandard"),
        ("rows.jsonl.gz", gzip.compress(gzip.compress(b"0" * 1_000_000)), "archive inside an archive"),
        ("rows.parquet", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS"),
        ("rows.txt", b"%PDF-1.7 ...", "PDF"),
        ("rows.csv", b"instruction,output\n", "no row"),
        ("rows.json", b"[]", "no row"),
    ],
)
def test_what_holds_no_rows_is_called_by_its_name(tmp_path: Path, name: str, data: bytes, what: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=what) as caught:
        read(tmp_path / name)
    assert caught.value.remedy and not Path("trace").exists()


def test_a_spreadsheet_is_called_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Excel file"):
        read(zipped(tmp_path / "rows.xlsx", {"[Content_Types].xml": b"<x/>", "xl/sheet1.xml": b"<x/>"}))


@pytest.mark.parametrize("text", ["]" * 2_000_000, "[" + '{"a" 1},' * 300_000], ids=["]", "{"])
def test_endless_broken_values_end_in_time(tmp_path: Path, text: str) -> None:
    (tmp_path / "rows.json").write_text(text)
    with pytest.raises(DataError, match="Line 1"):
        read(tmp_path / "rows.json")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", [CSV, "指令,输出\n今天天气如何,天气很好适合出门\n你好,您好\n"])
def test_utf16_without_its_mark(tmp_path: Path, encoding: str, text: str) -> None:
    (tmp_path / "rows.csv").write_bytes(text.encode(encoding))
    rows, problems = read(tmp_path / "rows.csv")
    assert (len(rows), problems) == (2, []) and format_of(rows[0].fields)[0] == "alpaca"


def test_a_number_without_end_is_no_answer(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(GOOD + '\n{"instruction": "how much", "output": 1e999}\n')
    rows, problems = read(tmp_path / "rows.jsonl")
    assert len(rows) == 1 and [(p.line, p.kind) for p in problems] == [(2, "number")]


COLUMN_BOMBS = {
    "one word a million times": pa.table({"text": pa.DictionaryArray.from_arrays([0] * 1_000_000, ["word"])}),
    "nothing a million times": pa.table({"text": pa.nulls(1_000_000, pa.string())}),
    "one long text often": pa.table({"text": pa.DictionaryArray.from_arrays([0] * 5_000, ["x" * 100_000])}),
}


@pytest.mark.parametrize("name", COLUMN_BOMBS)
def test_columns_that_stand_for_far_more_than_they_hold(tmp_path: Path, name: str) -> None:
    pq.write_table(COLUMN_BOMBS[name], tmp_path / "rows.parquet")
    with pytest.raises(DataError, match=r"unpacks to more|more than one a byte"):
        read(tmp_path / "rows.parquet")


def test_dictionaries_in_arrow_files_count_as_what_they_stand_for(tmp_path: Path) -> None:
    table = COLUMN_BOMBS["one long text often"]
    with pa.ipc.new_file(str(tmp_path / "rows.arrow"), table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(DataError, match="unpacks to more"):
        read(tmp_path / "rows.arrow")


def test_wide_tables_are_checked_in_time(tmp_path: Path, chatml: ModelTokenizer) -> None:
    header, row = ",".join(f"c{i}" for i in range(9_000)), ",".join(["x"] * 9_000)
    (tmp_path / "rows.csv").write_text("\n".join([header] + [row] * 60))
    with at_most(5):
        report = Check(DataOptions.checked(), Renderer(chatml)).run(read_rows(tmp_path / "rows.csv"))
    assert report.problem_counts["unknown"] == 60


def test_thousands_of_turns_are_rendered_in_time(chatml: ModelTokenizer) -> None:
    turns = tuple(Turn("user" if i % 2 == 0 else "assistant", f"t{i}") for i in range(4_000))
    with at_most(5):
        example = Renderer(chatml).example(Conversation(turns))
    assert len(example.trained) == 2_000


def test_millions_of_spaces_are_over_the_limit_at_once(tmp_path: Path, chatml: ModelTokenizer) -> None:
    row = json.dumps({"instruction": "x", "output": " " * 3_000_000 + "z"})
    (tmp_path / "rows.jsonl").write_text(f"{GOOD}\n{row}\n")
    with at_most(2):
        report = Check(DataOptions.checked(max_length=512), Renderer(chatml)).run(read_rows(tmp_path / "rows.jsonl"))
    assert report.usable == 1 and [(p.line, p.kind) for p in report.problems] == [(2, "over_limit")]


def test_rows_that_only_repeat_are_refused_by_what_the_archive_claims(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="200 times"):
        read(zipped(tmp_path / "rows.zip", {"a.jsonl": (GOOD + "\n").encode() * 400_000}))


def test_padding_without_end_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(GOOD.encode()) + bytes(20_000_000))
    with pytest.raises(DataError, match="but zeros follows"):
        read(tmp_path / "rows.jsonl.gz")
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(GOOD.encode()) + bytes(200_000))
    assert len(read(tmp_path / "rows.jsonl.gz")[0]) == 1


def test_names_of_files_are_shown_without_their_control_characters(tmp_path: Path) -> None:
    for name in ("\x1b[31ma\nb\udcff.jsonl", "数据 b.jsonl"):
        (tmp_path / name).write_text("{bad")
    told = [problem.as_dict()["message"] for problem in read(tmp_path)[1]]
    assert [message.split(".jsonl")[0] for message in told] == ["\\x1b[31ma\\nb\\udcff", "数据 b"]


DIALOGUES = ("Human: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: d", "User: a\nAssistant: b\nUser: c\nAssistant: d")


@pytest.mark.parametrize("text", DIALOGUES)
def test_a_dialogue_in_a_text_file_is_cut_at_its_questions(tmp_path: Path, text: str) -> None:
    (tmp_path / "rows.txt").write_text(text)
    rows, _ = read(tmp_path / "rows.txt")
    assert [conversation_of(row.fields).turns for row in rows] == [
        (Turn("user", "a"), Turn("assistant", "b")),
        (Turn("user", "c"), Turn("assistant", "d")),
    ]


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no such device here")
def test_a_link_to_a_device_is_not_hashed(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "a\udcff.jsonl").write_text(GOOD)
    before = hash_source(tmp_path / "rows")
    (tmp_path / "rows" / "z.jsonl").symlink_to("/dev/zero")
    (tmp_path / "rows" / "y.jsonl").symlink_to(__file__)
    assert hash_source(tmp_path / "rows") == before
    with pytest.raises(DataError, match="no data file"):
        hash_source(tmp_path / "rows" / "z.jsonl")
