"""Choose the reader of a source and number its rows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from app.data import limits
from app.data.encodings import read_chunks
from app.data.json_rows import Record, looks_like_lines, read_json_lines, read_json_values
from app.data.prose_rows import read_prose
from app.data.rows import BadRow, Row, RowProblem
from app.data.sources import Source, as_file, open_sources, pasted_source
from app.data.table_rows import read_table, sniff_delimiter
from app.errors import DataError

JSON_SUFFIXES = (".json", ".jsonl", ".ndjson")
TABLE_SUFFIXES = (".csv", ".tsv", ".tab")
COLUMN_SUFFIXES = (".parquet", ".arrow", ".feather")
PROSE_SUFFIXES = (".txt", ".text", ".md", ".markdown")
SUFFIXES = (*JSON_SUFFIXES, *TABLE_SUFFIXES, *COLUMN_SUFFIXES, *PROSE_SUFFIXES, ".gz", ".zip")
_COLUMN_MAGIC = (b"PAR1", b"ARROW1")
_PROSE_MARK = re.compile(r"^\s*(#{1,3} |<\|im_start\|>)")
# More than 1,000 NUL bytes at the start and no UTF-16 pattern: pictures, archives and the like.
_BINARY_NULS = 1000


def read_rows(path: Path) -> Iterator[Row | RowProblem]:
    """Read the rows of a file, an archive or a folder. A bad row comes as a problem with its line, the rest goes on."""
    return _numbered(open_sources(path))


def read_pasted(text: str) -> Iterator[Row | RowProblem]:
    """Read rows from pasted text of any of the text formats."""
    return _numbered(iter([pasted_source(text)]))


def _numbered(sources: Iterator[Source]) -> Iterator[Row | RowProblem]:
    number = 0
    for source in sources:
        for line, record in _records(source):
            number += 1
            if isinstance(record, BadRow):
                yield record.at(line, number, source.name)
            else:
                yield Row(number, line, record, source.name)


def _records(source: Source) -> Iterator[Record]:
    with source.open() as stream:
        magic = stream.read(6)
    if magic.startswith(_COLUMN_MAGIC) or source.suffix in COLUMN_SUFFIXES:
        yield from _column_records(source)
        return
    head = _head(source)
    with source.open() as stream:
        if source.suffix in JSON_SUFFIXES or (not _is_known(source) and _looks_like_json(head)):
            as_lines = source.suffix in (".jsonl", ".ndjson") or looks_like_lines(head)
            as_lines = as_lines and not _is_spread_array(head)
            yield from read_json_lines(stream) if as_lines else read_json_values(stream)
        elif source.suffix in TABLE_SUFFIXES or (not _is_known(source) and _looks_like_table(head)):
            yield from read_table(stream, "\t" if source.suffix in (".tsv", ".tab") else sniff_delimiter(head))
        else:
            yield from read_prose(stream, source.suffix in (".md", ".markdown"), head)


def _is_known(source: Source) -> bool:
    return source.suffix in SUFFIXES


def _column_records(source: Source) -> Iterator[Record]:
    from app.data.arrow_rows import read_columns  # pyarrow: only when such a file is read

    with as_file(source) as path:
        yield from read_columns(path, source.name or path.name)


def _head(source: Source) -> str:
    with source.open() as stream:
        head = next(read_chunks(stream), "")
    if not head.strip():
        raise DataError(f"{source.name or 'The file'} is empty", "", "Choose a file with at least one row")
    if head.count("\0") > _BINARY_NULS:
        raise DataError(
            f"{source.name or 'The file'} is not text", "It is full of NUL bytes", f"Use {', '.join(SUFFIXES)}"
        )
    return head


def _looks_like_json(head: str) -> bool:
    return head.lstrip()[:1] in ("[", "{")


def _is_spread_array(head: str) -> bool:
    """Say whether text opens a list of rows that goes on over the next lines, whatever the file is called."""
    return bool(re.match(r"\s*\[\s*(\n|\{[^\n]*\},?\s*\n)", head)) and not looks_like_lines(head)


def _looks_like_table(head: str) -> bool:
    """Say whether the first lines are cut into the same number of cells, more than one."""
    if _PROSE_MARK.match(head):
        return False
    lines = [line for line in head[: limits.SNIFF_BYTES].splitlines()[:10] if line.strip()]
    delimiter = sniff_delimiter(head)
    cells = lines[0].count(delimiter)
    names = [name.strip().strip('"') for name in lines[0].split(delimiter)]
    plain_names = all(0 < len(name) <= 40 for name in names)
    return cells > 0 and len(lines) > 1 and plain_names and all(line.count(delimiter) >= cells for line in lines[1:2])
