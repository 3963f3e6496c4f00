from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from app.data.formats.detection import format_of
from app.data.reading.readers import read_rows
from app.data.reading.rows import Row, RowProblem
from app.errors import DataError


def zipped(path: Path, members: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


ZIPS = {
    "PowerPoint": {"[Content_Types].xml": "<Types/>", "ppt/presentation.xml": "<a/>"},
    "OpenDocument": {"mimetype": "application/vnd.oasis.opendocument.presentation", "content.xml": "<a>x</a>"},
    "XLSB": {"[Content_Types].xml": "<Types/>", "xl/workbook.bin": "x"},
    "Pages": {"Index/Document.iwa": "x"},
    "Java": {"META-INF/MANIFEST.MF": "x", "a.txt": "text"},
}


@pytest.mark.parametrize("name", ["book", "book.txt", "book.zip", "book.csv"])
@pytest.mark.parametrize("kind", ZIPS)
def test_documents_that_are_not_read_are_refused_by_what_they_hold(tmp_path: Path, kind: str, name: str) -> None:
    with pytest.raises(DataError, match=kind):
        list(read_rows(zipped(tmp_path / name, ZIPS[kind])))


MARKUP = {
    "XML": '<?xml version="1.0"?>\n<tei><p>Text</p></tei>',
    "markup": "<catalog>\n" + "<item><name>a</name></item>\n" * 5 + "</catalog>",
    "RTF": r"{\rtf1\ansi Hello \par}",
    "LaTeX": "\\documentclass{article}\n\\begin{document}\nText\n\\end{document}",
    "ASS": "[Script Info]\nTitle: x\n\n[Events]\nDialogue: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,,Hi",
    "PDF": "%PDF-1.7\n1 0 obj",
}


@pytest.mark.parametrize("suffix", ["", ".txt", ".md", ".json", ".csv"])
@pytest.mark.parametrize("kind", MARKUP)
def test_markup_is_refused_whatever_its_name(tmp_path: Path, kind: str, suffix: str) -> None:
    path = tmp_path / f"file{suffix}"
    path.write_text(MARKUP[kind])
    with pytest.raises(DataError, match=kind):
        list(read_rows(path))


PAGE = (
    "<!DOCTYPE html>\n<html><head><title>T</title><style>p { color: red }</style></head><body>"
    "<script>var x = 1 < 2;</script><h1>One</h1><p>A &amp; B<br>c</p>\n<h2>Two</h2><ul><li>d</li></ul></body></html>"
)


@pytest.mark.parametrize("suffix", ["", ".txt", ".html", ".md"])
def test_of_a_web_page_its_text_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"page{suffix}"
    path.write_text(PAGE)
    rows = [record.fields for record in read_rows(path) if isinstance(record, Row)]
    assert rows == [{"text": "One\nA & B\nc"}, {"text": "Two\nd"}]


@pytest.mark.parametrize("suffix", ["", ".txt", ".srt"])
def test_of_subtitles_what_is_said_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"film{suffix}"
    for text in (
        "1\n00:00:01,000 --> 00:00:02,000\n<i>Hello</i> there.\n\n2\n00:00:03,000 --> 00:00:04,500\n- Yes?\n42\n",
        "WEBVTT\n\nNOTE mine\n\n00:01.000 --> 00:02.000\nHello there.\n\n00:03.000 --> 00:04.500\n- Yes?\n42\n",
    ):
        path.write_bytes(text.replace("\n", "\r\n").encode())
        rows = [record.fields for record in read_rows(path) if isinstance(record, Row)]
        assert rows == [{"text": "Hello there.\n- Yes?\n42"}]


def test_text_that_only_begins_with_a_tag_stays_text(tmp_path: Path) -> None:
    for text in ("<s>[INST] Hi [/INST] Ho</s>\n" * 5, '<p align="center">Logo</p>\n\n# Title\n\nText.\n', "<3 you\n"):
        (tmp_path / "a.md").write_text(text)
        assert any(isinstance(record, Row) for record in read_rows(tmp_path / "a.md"))


def node(number: int, role: str, text: str, children: list[str], **more: object) -> dict[str, object]:
    content = {"content_type": "text", "parts": [text]}
    message = {"author": {"role": role}, "content": content, **more}
    return {"id": str(number), "message": message, "parent": str(number - 1) if number else None, "children": children}


def export() -> list[dict[str, object]]:
    mapping = {
        "0": {"id": "0", "message": None, "parent": None, "children": ["1"]},
        "1": node(1, "system", "", ["2"]),
        "2": node(2, "user", "Colour of grass?", ["3", "4"]),
        "3": node(3, "assistant", "Blue.", []),
        "4": {**node(4, "assistant", "Green.", []), "parent": "2"},
    }
    return [{"title": "Grass", "create_time": 1.0, "mapping": mapping, "current_node": "4"}] * 2


@pytest.mark.parametrize("place", ["zip", "folder", "file"])
def test_an_export_of_chatgpt_is_read_as_conversations(tmp_path: Path, place: str) -> None:
    members = {
        "conversations.json": json.dumps(export()),
        "user.json": '{"id": "user-1", "email": "a@b.invalid"}',
        "message_feedback.json": "[]",
        "chat.html": PAGE,
    }
    path = zipped(tmp_path / "export.zip", members)
    if place != "zip":
        path = tmp_path / "export"
        path.mkdir()
        for name, text in members.items():
            (path / name).write_text(text)
        path = path / "conversations.json" if place == "file" else path
    records = list(read_rows(path))
    turns = [{"role": "user", "content": "Colour of grass?"}, {"role": "assistant", "content": "Green."}]
    assert [record.fields["messages"] for record in records if isinstance(record, Row)] == [turns] * 2
    assert not [record for record in records if isinstance(record, RowProblem)]


def test_a_saved_dataset_trains_its_training_split_and_says_so(tmp_path: Path) -> None:
    import datasets

    rows = datasets.Dataset.from_list([{"question": "a", "answer": "b"}] * 3)
    datasets.DatasetDict({"train": rows, "test": rows.select([0])}).save_to_disk(tmp_path / "saved")
    for name in ("train-00000-of-00001.parquet", "validation-00000-of-00001.parquet"):
        (tmp_path / "hub").mkdir(exist_ok=True)
        rows.to_parquet(tmp_path / "hub" / name)
    for folder in ("saved", "hub"):
        reading = read_rows(tmp_path / folder)
        records = list(reading)
        assert len(records) == 3 and all(isinstance(record, Row) for record in records)
        assert len(reading.notes) == 1 and "training split" in reading.notes[0]


FOREIGN = {
    "messenger": "[12/03/2024, 10:15:32] Anna: Hi\n[12/03/2024, 10:16:01] Ben: Hello\nand more\n",
    "messenger exports": "Messages are encrypted.\n12.03.24, 10:15 - Anna: Hi\n12.03.24, 10:16 - Ben: Hello\n",
    "chat": "\u200e[3/12/24, 10:15:32\u202fAM] Anna: Hi\n[3/12/24, 10:16:32\u202fPM] Ben: Yo\n",
    "mailbox": "From a@b Mon Jan 1 00:00:00 2024\nSubject: Hi\nFrom: a@b\nTo: c@d\n\nHello\n",
    "e-mail": "Return-Path: <a@b>\nReceived: from x\n\tby y\nSubject: Hi\n\nBody\n",
    "vCard": "BEGIN:VCARD\nVERSION:3.0\nFN:Anna\nEND:VCARD\n",
    "iCalendar": "BEGIN:VCALENDAR\nVERSION:2.0\nEND:VCALENDAR\n",
    "MicroDVD": "{1}{20}Hello\n{25}{40}Bye\n",
    "LRC": "[00:12.00]Line one\n[00:17.20]Line two\n",
    "YAML": "- instruction: a\n  output: b\n",
    "PostScript": "%!PS-Adobe-3.0\nshowpage\n",
}


@pytest.mark.parametrize("suffix", ["", ".txt", ".csv"])
@pytest.mark.parametrize("kind", FOREIGN)
def test_exports_and_mails_are_refused_by_what_they_are(tmp_path: Path, kind: str, suffix: str) -> None:
    file = tmp_path / f"export{suffix}"
    file.write_text(FOREIGN[kind], "utf-8")
    with pytest.raises(DataError, match=kind):
        list(read_rows(file))


@pytest.mark.parametrize(
    "text",
    [
        "User: hi\nAssistant: hello\n",
        "To: the reader\nDear friend\n",
        "On 12/03/2024, 10:15 we met: it rained.\nThen we left.\n",
        "2024-01-01 INFO: started\n2024-01-01 INFO: ended\n",
        "- a list\n- of words\n",
    ],
)
def test_text_that_looks_like_them_stays_text(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.txt").write_text(text, "utf-8")
    assert all(isinstance(row, Row) for row in read_rows(tmp_path / "a.txt"))


def test_a_piece_of_a_web_page_is_read_as_its_text(tmp_path: Path) -> None:
    (tmp_path / "a.htm").write_text("<p>One &amp; two.</p>\n<p>Three.</p>\n")
    assert [row.fields for row in read_rows(tmp_path / "a.htm") if isinstance(row, Row)] == [
        {"text": "One & two.\nThree."}
    ]
    (tmp_path / "a.txt").write_text("<p>One.</p>\n<p>Two.</p>\n")
    with pytest.raises(DataError, match="markup"):
        list(read_rows(tmp_path / "a.txt"))


def test_subtitles_of_subviewer_are_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("0:00:01.000,0:00:02.000\nHello\n\n0:00:03.000,0:00:04.000\nBye\n")
    assert [row.fields for row in read_rows(tmp_path / "a") if isinstance(row, Row)] == [{"text": "Hello\nBye"}]


def test_single_messages_of_slack_are_no_texts(tmp_path: Path) -> None:
    assert format_of({"type": "message", "user": "U1", "text": "hi", "ts": "1.1"})[0] == "unknown"
