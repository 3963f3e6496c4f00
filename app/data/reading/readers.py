"""Choose the reader of a source and number its rows."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from app.data.reading import limits
from app.data.reading.documents import books, rich_text
from app.data.reading.documents.text import read_prose
from app.data.reading.documents.web_pages import document_kind, read_document
from app.data.reading.documents.zip_documents import ZipDocument, document_in
from app.data.reading.encodings import read_chunks
from app.data.reading.inputs import BROKEN, Source, as_file, open_sources, pasted_source
from app.data.reading.records import spreadsheets
from app.data.reading.records.json_rows import (
    Note,
    Record,
    is_one_value,
    looks_like_lines,
    read_json_lines,
    read_json_values,
)
from app.data.reading.records.tables import read_table, sniff_delimiter, sniff_line_end, wide_cells
from app.data.reading.rows import BadRow, Row, RowProblem, printable
from app.errors import DataError

JSON_SUFFIXES = (".json", ".jsonl", ".ndjson")
TABLE_SUFFIXES = (".csv", ".tsv", ".tab")
COLUMN_SUFFIXES = (".parquet", ".arrow", ".feather")
PROSE_SUFFIXES = (".txt", ".text", ".md", ".markdown")
DOCUMENT_SUFFIXES = (".html", ".htm", ".srt", ".vtt")
SHEET_SUFFIXES = (".xlsx", ".xlsm", ".ods")
PAPER_SUFFIXES = (".docx", ".odt", ".epub")
SUFFIXES = (
    *(*JSON_SUFFIXES, *TABLE_SUFFIXES, *COLUMN_SUFFIXES, *PROSE_SUFFIXES, *DOCUMENT_SUFFIXES),
    *(*SHEET_SUFFIXES, *PAPER_SUFFIXES, ".gz", ".zip"),
)
# The last is how the stream form of Arrow begins.
_COLUMN_MAGIC = (b"PAR1", b"ARROW1", b"\xff\xff\xff\xff")
_ZIP_MAGIC = b"PK\x03\x04"
_OLE_MAGIC = b"\xd0\xcf\x11\xe0"
# How Office files with a password are named inside of the container that holds them.
_LOCKED_MARK = "EncryptedPackage".encode("utf-16-le")
_SAVE_ROWS = f"Save its rows as one of {', '.join(SUFFIXES)}"
_SAVE_AS = "Save tables as CSV (UTF-8) and texts as plain text (.txt, UTF-8)"
_PROSE_MARK = re.compile(r"^\s*(#{1,3} |<\|im_start\|>)")
# How rows in JSON begin, whatever the file is called.
_JSON_OPENING = re.compile(r'\s*(\{\s*"|\[\s*[\[{]\s*["{])')
_JSON_SIGNS = ("{", "[", '"')
# More than 1,000 NUL bytes at the start and no UTF-16 pattern: pictures, archives and the like.
_BINARY_NULS = 1000
_MAGIC_BYTES = 512
_TAR_AT = 257
# Files that people take for rows, by their first bytes. None of them is opened.
_FOREIGN = {
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"(\xb5/\xfd": "a Zstandard archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a rar archive",
    b"PK\x05\x06": "an empty zip archive",
    b"\x1f\x8b": "a gzip archive inside an archive",
    b"FEA1": "a Feather file of version 1, which Arrow gave up",
    b"version https://git-lfs": "a pointer of Git LFS and not the file that it stands for",
    b"%PDF": "a PDF",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"GIF8": "a picture",
    b"OggS\x00": "a sound or film",
    b"fLaC\x00": "a sound or film",
    b"ID3\x03": "a sound or film",
    b"ID3\x04": "a sound or film",
    b"\x1aE\xdf\xa3": "a sound or film",
    b"\x7fELF": "a program",
    b"MZ\x90\x00": "a program",
    b"GGUF\x02\x00": "a model in GGUF",
    b"GGUF\x03\x00": "a model in GGUF",
    b"SQLite format 3": "a database",
    _OLE_MAGIC: "an old Office file",
    b"\x93NUMPY": "a NumPy array",
    b"\x80\x02": "a pickle, which could run code",
    b"\x80\x03": "a pickle, which could run code",
    b"\x80\x04": "a pickle, which could run code",
    b"\x80\x05": "a pickle, which could run code",
}


class Reading(Iterator["Row | RowProblem"]):
    """Give the records of a source one by one; `notes` say what of it is left out on purpose, once all are given."""

    def __init__(self, open_all: Callable[[Note], Iterator[Source]]) -> None:
        self.notes: list[str] = []
        self._records = _numbered(open_all(self._note), self._note)

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(printable(text))

    def __next__(self) -> Row | RowProblem:
        return next(self._records)

    def __iter__(self) -> Iterator[Row | RowProblem]:
        return self._records


def read_rows(path: Path) -> Reading:
    """Read the rows of a file, an archive or a folder. A bad row comes as a problem with its line, the rest goes on."""
    return Reading(lambda note: open_sources(path, note))


def read_pasted(text: str) -> Reading:
    """Read rows from pasted text of any of the text formats."""
    return Reading(lambda note: iter([pasted_source(text)]))


def _numbered(sources: Iterator[Source], note: Note) -> Iterator[Row | RowProblem]:
    """Number the rows of all sources. One unreadable file of several becomes a problem, a lone one is refused."""
    number = line = 0
    for source in sources:
        try:
            for line, record in _records(source, note):
                number += 1
                if isinstance(record, BadRow):
                    yield record.at(line, number, source.name)
                else:
                    yield Row(number, line, record, source.name)
        except DataError as error:
            if not source.name:
                raise _after(line, error) from error
            number += 1
            yield _unreadable(source, number, error)
    if not number:
        raise DataError(
            "The file holds no row", "There is nothing below its header or between its brackets", "Add rows"
        )


def _after(line: int, error: DataError) -> DataError:
    """Return an error with the line behind the last row that could be read."""
    if error.line_number is not None or not line:
        return error
    return DataError(error.what, error.why, error.remedy, line + 1)


def _unreadable(source: Source, number: int, error: DataError) -> RowProblem:
    what = error.what.removeprefix(f"Line {error.line_number}: ")
    message = f"{what}. {error.why}" if error.why else what
    return RowProblem(error.line_number, "file", message, error.remedy, number, source.name)


def _records(source: Source, note: Note) -> Iterator[Record]:
    with source.open() as stream:
        magic = stream.read(_MAGIC_BYTES)
    _refuse_foreign(source, magic)
    if magic.startswith(_ZIP_MAGIC):
        yield from _zip_records(source, note)
        return
    if magic.startswith(_COLUMN_MAGIC) or (source.suffix in COLUMN_SUFFIXES and not _is_plain(magic)):
        yield from _column_records(source, note)
        return
    head = _head(source)
    document = document_kind(head, source.name or "The file", source.suffix)
    if document:
        with source.open() as stream:
            yield from read_document(stream, document)
        return
    kind = _text_kind(source.suffix, head)
    with source.open() as stream:
        if kind == "json":
            as_lines = looks_like_lines(head) or (source.suffix in (".jsonl", ".ndjson") and not is_one_value(head))
            yield from read_json_lines(stream) if as_lines else read_json_values(stream, note)
        elif kind == "table":
            by_name = source.suffix in (".tsv", ".tab") and ("\t" in _first_line(head) or not _looks_like_table(head))
            delimiter = "\t" if by_name else sniff_delimiter(head)
            if delimiter not in _first_line(head) and (mark := wide_cells(head)):
                what = f"{source.name or 'The file'} has {mark} between its cells"
                raise DataError(what, "Its lines would be trained whole", "Write a comma or a tab in its place")
            yield from read_table(stream, delimiter, sniff_line_end(head, delimiter), note)
        else:
            yield from read_prose(stream, source.suffix in (".md", ".markdown"), head, note)


def _refuse_foreign(source: Source, magic: bytes) -> None:
    found = next((name for start, name in _FOREIGN.items() if magic.startswith(start)), None)
    if magic[_TAR_AT : _TAR_AT + 5] == b"ustar":
        found = "a tar archive"
    if magic.startswith(_OLE_MAGIC):
        _refuse_locked(source)
    if found:
        raise DataError(f"{source.name or 'The file'} cannot be read: it is {found}", "", _SAVE_ROWS)


def _refuse_locked(source: Source) -> None:
    """Raise DataError for an Office file that is encrypted."""
    tail = b""
    with source.open() as stream:
        while chunk := stream.read(limits.CHUNK_BYTES):
            if _LOCKED_MARK in tail + chunk:
                what = f"{source.name or 'The file'} is an Office file that is locked with a password"
                raise DataError(what, "", "Save it without a password")
            tail = chunk[-len(_LOCKED_MARK) :]


def _zip_records(source: Source, note: Note) -> Iterator[Record]:
    """Read a document that is a zip: a spreadsheet, a text or a book."""
    with as_file(source) as path:
        name = source.name or (path.name if source.path else "The file")
        try:
            with zipfile.ZipFile(path) as archive:
                document = document_in(archive) or ZipDocument("a zip archive inside an archive")
                yield from _document_records(archive, document, path, name, note)
        except BROKEN as error:
            raise DataError(f"{name} is a damaged archive", str(error), "Save it again") from error


def _document_records(
    archive: zipfile.ZipFile, document: ZipDocument, path: Path, name: str, note: Note
) -> Iterator[Record]:
    if document.kind is None:
        raise DataError(f"{name} cannot be read: it is {document.called}", "Its text is not read here", _SAVE_AS)
    opened = rich_text.MarkupZip(archive, f"{name} is {document.called}")
    if document.kind in ("xlsx", "ods"):
        yield from spreadsheets.read_spreadsheet(opened, path, note)
        return
    read = {"docx": rich_text.read_word, "odt": rich_text.read_odt, "epub": books.read_book}[document.kind]
    empty = True
    for record in read(opened):
        empty = False
        yield record
    if empty:
        raise DataError(f"{opened.called} without text", "It may hold pictures only", _SAVE_AS)


def _is_plain(magic: bytes) -> bool:
    """Say whether a file that is called a column file begins as text."""
    start = magic[:16].translate(None, b"\t\r\n")
    return bool(start) and start.isascii() and start.decode("ascii").isprintable()


def _text_kind(suffix: str, head: str) -> str:
    """Return how text is read: `json`, `table` or `prose`. What it holds counts for more than its name."""
    if suffix in JSON_SUFFIXES:
        is_table = head.lstrip()[:1] not in _JSON_SIGNS and _looks_like_table(head)
        return "table" if is_table else "json"
    if suffix not in (".md", ".markdown") and _JSON_OPENING.match(head):
        return "json"
    if suffix in TABLE_SUFFIXES or suffix in SHEET_SUFFIXES:
        return "table"
    if suffix in PROSE_SUFFIXES:
        return "prose"
    if head.lstrip()[:1] in ("[", "{"):
        return "json"
    return "table" if _looks_like_table(head) else "prose"


def _column_records(source: Source, note: Note) -> Iterator[Record]:
    from app.data.reading.records.arrow import read_columns  # pyarrow: only when such a file is read

    with as_file(source) as path:
        yield from read_columns(path, source.name or path.name, note)


def _head(source: Source) -> str:
    with source.open() as stream:
        head = next(read_chunks(stream), "")
    if not head.strip():
        raise DataError(
            f"{source.name or 'The file'} has no row: it is empty", "", "Choose a file with at least one row"
        )
    if head.count("\0") > _BINARY_NULS:
        raise DataError(f"{source.name or 'The file'} is not text", "It is full of NUL bytes", _SAVE_ROWS)
    return head


def _first_line(head: str) -> str:
    return head.lstrip("\ufeff\r\n").partition("\n")[0]


def _looks_like_table(head: str) -> bool:
    """Say whether the first lines are cut into the same number of cells, more than one."""
    if _PROSE_MARK.match(head):
        return False
    lines = [line for line in head[: limits.SNIFF_BYTES].splitlines()[:10] if line.strip()]
    if any(line.lstrip()[:1] in ("{", "[") for line in lines[1:]):
        return False
    delimiter = sniff_delimiter(head)
    cells = lines[0].count(delimiter)
    names = [name.strip().strip('"') for name in lines[0].split(delimiter)]
    plain_names = all(0 < len(name) <= 40 for name in names)
    return cells > 0 and len(lines) > 1 and plain_names and all(line.count(delimiter) >= cells for line in lines[1:2])
