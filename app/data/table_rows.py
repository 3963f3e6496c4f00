"""Read CSV and TSV, with the delimiter found from the text and quotes that may span lines."""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator
from typing import BinaryIO

from app.data import limits
from app.data.encodings import read_lines, refuse_bad_text, too_long
from app.data.json_rows import Record
from app.data.rows import BadRow
from app.errors import DataError

_DELIMITERS = (",", "\t", ";", "|")
_QUOTED = re.compile('"[^"]*"')
# The line that tells Excel the delimiter.
_NAMED_DELIMITER = re.compile(r'\s*"?sep=([,;|\t])"?\s*$', re.MULTILINE)
Line = tuple[int, "str | None"]


def sniff_delimiter(head: str) -> str:
    """Return the delimiter that cuts the first lines into the same number of cells, more than one."""
    if named := _NAMED_DELIMITER.match(head):
        return named.group(1)
    lines = [_QUOTED.sub("", line) for line in head.splitlines()[:20] if line.strip()]
    best, most = ",", 0
    for delimiter in _DELIMITERS:
        separators = lines[0].count(delimiter) if lines else 0
        score = separators * sum(line.count(delimiter) >= separators for line in lines)
        if score > most:
            best, most = delimiter, score
    return best


def read_table(stream: BinaryIO, delimiter: str) -> Iterator[Record]:
    """Read rows under the names of the first line."""
    csv.field_size_limit(limits.MAX_ROW_CHARS)
    records = _records(_Lines(read_lines(stream)), delimiter)
    header = _header(records, delimiter)
    for line, cells in records:
        if isinstance(cells, BadRow):
            yield line, cells
        elif len(cells) > len(header) and any(cell.strip() for cell in cells[len(header) :]):
            message = f"The row has {len(cells)} cells, the header {len(header)}"
            wrong = BadRow("columns", message, "Quote cells that contain the delimiter")
            yield line, wrong.about(delimiter.join(cells))
        else:
            cells += [""] * (len(header) - len(cells))
            yield line, dict(zip(header, cells, strict=False))  # empty cells behind the last name are no cells


def _header(records: Iterator[tuple[int, list[str] | BadRow]], delimiter: str) -> list[str]:
    """Return unique column names from the first record."""
    line, cells = next(records, (1, [""]))
    if isinstance(cells, list) and cells[0] in ("sep=", f"sep={delimiter}"):
        line, cells = next(records, (line, [""]))
    if isinstance(cells, BadRow):
        raise DataError(f"The header cannot be read: {cells.message}", "", cells.fix, line)
    return unique_names(cells)


def unique_names(cells: list[str]) -> list[str]:
    """Return names for columns, none empty and none twice."""
    names: list[str] = []
    seen: set[str] = set()
    for index, cell in enumerate(cells, start=1):
        name = cell.strip() or f"column_{index}"
        name = name if name not in seen else f"{name}_{index}"
        seen.add(name)
        names.append(name)
    return names


class _Lines:
    """Numbered lines that can be handed back."""

    def __init__(self, lines: Iterator[Line]) -> None:
        self._lines = lines
        self._returned: deque[Line] = deque()

    def take(self) -> Line | None:
        return self._returned.popleft() if self._returned else next(self._lines, None)

    def hand_back(self, lines: list[Line]) -> None:
        self._returned.extendleft(reversed(lines))


def _records(lines: _Lines, delimiter: str) -> Iterator[tuple[int, list[str] | BadRow]]:
    while (first := lines.take()) is not None:
        number, text = first
        if text is None:
            yield number, too_long()
        elif text.strip():
            yield number, _cells(number, text, lines, delimiter)


def _cells(number: int, text: str, lines: _Lines, delimiter: str) -> list[str] | BadRow:
    try:
        if '"' in text:
            text = _join_quoted(text, lines)
        refuse_bad_text(text)
        if text.count(delimiter) >= limits.MAX_COLUMNS:
            count = text.count(delimiter) + 1
            raise BadRow("columns", f"The row has {count:,} cells", f"Keep below {limits.MAX_COLUMNS:,} columns")
        if '"' not in text:
            return text.split(delimiter)
        return next(csv.reader([text], delimiter=delimiter, strict=True))
    except csv.Error as error:
        return BadRow("csv", f"The row is not valid CSV: {error}", 'Write a quote inside a cell as ""').about(text)
    except BadRow as problem:
        return problem.about(text)


def _join_quoted(text: str, lines: _Lines) -> str:
    """Add lines while a quote is open; an open quote that never closes costs its own line only."""
    quotes, size, taken, pieces = text.count('"'), len(text), [], [text]
    while quotes % 2:
        following = lines.take()
        if following is not None:
            taken.append(following)
        size += len(following[1] or "") if following else 0
        if (
            following is None
            or following[1] is None
            or size > limits.MAX_ROW_CHARS
            or len(taken) > limits.MAX_QUOTED_LINES
        ):
            lines.hand_back(taken)
            raise BadRow("csv", "A quote is opened here and never closed", 'Close it, or write it as ""')
        pieces.append(following[1])
        quotes += following[1].count('"')
    return "\n".join(pieces)
