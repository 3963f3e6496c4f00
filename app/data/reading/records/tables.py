"""Read CSV and TSV, with the delimiter found from the text and quotes that may span lines.

A quote opens a cell only where the cell begins with it; anywhere else it is a character, such as the mark of inches.
"""

from __future__ import annotations

import csv
import re
from collections import Counter, deque
from collections.abc import Iterator
from typing import BinaryIO

from app.data.reading import limits
from app.data.reading.encodings import read_lines, refuse_bad_text, too_long
from app.data.reading.records.json_rows import Note, Record
from app.data.reading.rows import BadRow
from app.errors import DataError

_DELIMITERS = (",", "\t", ";", "|", "^", "\x1f", "\x01", "¦")
_QUOTED = re.compile('"[^"]*"')
# The line that tells Excel the delimiter.
_NAMED_DELIMITER = re.compile(r'\s*"?sep=([,;|\t])"?\s*$', re.MULTILINE)
_LINE_END = re.compile(r"\r\n?|\n")
# Delimiters that hardly stand in texts, so that their writers often know no quotes.
_UNQUOTED = ("\t", "|")
# What names a column has a few words and does not end like a sentence.
_MOST_NAME_WORDS = 4
# Chinese, Japanese and Thai put no spaces between words; a name holds no comma.
_LETTERS_WITHOUT_SPACES = re.compile("[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]")
_LETTERS_A_WORD = 4
_WIDE_MARK = re.compile("[，、；]")
_LONGEST_WIDE_NAME = 6
_SENTENCE_END = re.compile(r"[.!?…。！？][\"'”’)]*$")
# A quote behind a space opens no cell by the letter of CSV, and does as many people write it.
_QUOTED_BEHIND_SPACE = re.compile(' +"')
LONE_TEXT = "The only column has no name: its first cell is a text, and is trained too"
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


def sniff_line_end(head: str, delimiter: str) -> str:
    """Return what ends the first line outside of quotes: CR alone, as old spreadsheets write it, or LF."""
    quoted = re.compile(f'(?:^|(?<=[{re.escape(delimiter)}\r\n]))"(?:[^"]|"")*"|[\r\n]')
    for match in quoted.finditer(head.removeprefix("\ufeff")):
        if match.group() in "\r\n":
            return "\r" if match.group() == "\r" and not head[match.end() :].startswith("\n") else "\n"
    return "\n"


def read_table(
    stream: BinaryIO, delimiter: str, line_end: str = "\n", note: Note = lambda text: None
) -> Iterator[Record]:
    """Read rows under the names of the first line; `note` is told where that line is no name but a text."""
    csv.field_size_limit(limits.MAX_ROW_CHARS)
    lines = _Lines(read_lines(stream, line_end), delimiter, line_end)
    records = _records(lines)
    names = _header(records, delimiter)
    header = lines.header = unique_names(names)
    for said in namesakes(names):
        note(said)
    if is_lone_text(header):
        note(LONE_TEXT)
        yield 1, {"text": header[0]}
        names, header = [], ["text"]
        lines.header = header
    for line, cells in records:
        if isinstance(cells, BadRow):
            yield line, cells
        elif _are_names(cells, names):
            repeated = BadRow("columns", "The line repeats the names of the columns", "Nothing to do: it is no row")
            yield line, repeated.about(delimiter.join(cells))
        elif len(cells) > len(header) and any(cell.strip() for cell in cells[len(header) :]):
            message = f"The row has {len(cells)} cells, the header {len(header)}"
            wrong = BadRow("columns", message, "Quote cells that contain the delimiter")
            yield line, wrong.about(delimiter.join(cells))
        else:
            cells += [""] * (len(header) - len(cells))
            yield line, dict(zip(header, cells, strict=False))  # empty cells behind the last name are no cells


def _header(records: Iterator[tuple[int, list[str] | BadRow]], delimiter: str) -> list[str]:
    """Return the cells of the first record, which name the columns."""
    line, cells = next(records, (1, [""]))
    if isinstance(cells, list) and cells[0] in ("sep=", f"sep={delimiter}"):
        line, cells = next(records, (line, [""]))
    if isinstance(cells, BadRow):
        raise DataError(f"The header cannot be read: {cells.message}", "", cells.fix, line)
    return cells


def _are_names(cells: list[str], names: list[str]) -> bool:
    """Say whether a row is the header once more, as where one table was appended to another."""
    return bool(names) and cells[0].lstrip("\ufeff") == names[0] and cells[1:] == names[1:]


def namesakes(names: list[str]) -> list[str]:
    """Return notes on columns of one name, of which the later ones get another."""
    bare = [name.strip().lower() for name in names]
    counted = Counter(bare)
    twice = [name for name, count in counted.items() if name and count > 1]
    return [f"{counted[name]} columns are called {name[:80]!r}: one of them is read under this name" for name in twice]


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


def is_lone_text(names: list[str]) -> bool:
    """Say whether what should name a table's only column is rather its first row: a sentence."""
    if len(names) != 1:
        return False
    words = len(names[0].split()) + len(_LETTERS_WITHOUT_SPACES.findall(names[0])) / _LETTERS_A_WORD
    return (
        words > _MOST_NAME_WORDS
        or _SENTENCE_END.search(names[0]) is not None
        or _WIDE_MARK.search(names[0]) is not None
    )


def wide_cells(head: str) -> str:
    """Return the wide mark of Chinese and Japanese that stands in each of the first lines where a delimiter should."""
    lines = [line for line in head.split("\n")[:20] if line.strip()]
    found = {mark: {line.count(mark) for line in lines} for mark in "，；｜、"}
    marks = [mark for mark, counts in found.items() if len(counts) == 1 and 0 not in counts]
    if len(lines) < 2 or not marks or _SENTENCE_END.search(lines[0].strip()):
        return ""
    names = lines[0].strip().split(marks[0])
    return marks[0] if all(len(name) <= _LONGEST_WIDE_NAME or name.isascii() for name in names) else ""


class _Lines:
    """Numbered lines that can be handed back, and how they are cut into cells."""

    def __init__(self, lines: Iterator[Line], delimiter: str, end: str) -> None:
        self._lines = lines
        self._returned: deque[Line] = deque()
        self.delimiter = delimiter
        self.end = end
        self.header: list[str] = []

    def take(self) -> Line | None:
        return self._returned.popleft() if self._returned else next(self._lines, None)

    def hand_back(self, lines: list[Line]) -> None:
        self._returned.extendleft(reversed(lines))

    def is_whole_row(self, text: str) -> bool:
        """Say whether a line has as many cells as the header, so that it is rather a row than a part of a cell."""
        return len(self.header) > 1 and text.count(self.delimiter) == len(self.header) - 1


def _records(lines: _Lines) -> Iterator[tuple[int, list[str] | BadRow]]:
    while (first := lines.take()) is not None:
        number, text = first
        if text is None:
            yield number, too_long()
        elif text.strip():
            if ("\r" in text or "\n" in text) and (rows := _inner_rows(text, lines)):
                lines.hand_back([(number, row) for row in rows])
                continue
            yield number, _cells(text, lines)


def _inner_rows(text: str, lines: _Lines) -> list[str]:
    """Return the rows of a line in which another kind of line end stands, none where that belongs to its cells."""
    rows = _LINE_END.split(text)
    if '"' in text or len(rows) < 2 or not all(lines.is_whole_row(row) for row in rows if row):
        return []
    return [row for row in rows if row]


def _cells(text: str, lines: _Lines) -> list[str] | BadRow:
    try:
        if '"' in text:
            return _quoted_cells(text, lines)
        refuse_bad_text(text)
        _refuse_many(text.count(lines.delimiter))
        return text.split(lines.delimiter)
    except BadRow as problem:
        return problem if problem.original else problem.about(text)


def _refuse_many(separators: int) -> None:
    if separators >= limits.MAX_COLUMNS:
        message = f"The row has {separators + 1:,} cells"
        raise BadRow("columns", message, f"Keep below {limits.MAX_COLUMNS:,} columns")


def _quoted_cells(text: str, lines: _Lines) -> list[str]:
    """Return the cells of a row that holds quotes; it takes further lines where a quoted cell goes on."""
    try:
        cells = next(csv.reader([text], delimiter=lines.delimiter, strict=True))
        if any(map(_QUOTED_BEHIND_SPACE.match, cells)):
            cells = _cells_behind_spaces(text, lines.delimiter) or cells
        refuse_bad_text(text)
        _refuse_many(len(cells) - 1)
        return cells
    except csv.Error as error:
        ends_open = _ends_open(text, lines.delimiter)
        if ends_open is None:
            return _literal_cells(text, lines, error)
        if not ends_open:
            return _cut(text, lines.delimiter)
    taken: list[Line] = []
    joined = _join_quoted(text, lines, taken)
    if joined is not None:
        try:
            refuse_bad_text(joined)
            return _cut(joined, lines.delimiter)
        except BadRow as problem:
            raise problem.about(joined) from None
    lines.hand_back(taken)
    return _literal_cells(text, lines, None)


def _cells_behind_spaces(text: str, delimiter: str) -> list[str] | None:
    """Return the cells of a row that has spaces between a delimiter and a quote; None where the quotes are marks."""
    try:
        return next(csv.reader([text], delimiter=delimiter, strict=True, skipinitialspace=True))
    except csv.Error:
        if _ends_open(re.sub(f'{re.escape(delimiter)} +"', f'{delimiter}"', text), delimiter):
            message = "A quote stands behind a space and is not closed on this line"
            raise BadRow("csv", message, "Remove the spaces between delimiter and quote") from None
        return None


def _literal_cells(text: str, lines: _Lines, error: csv.Error | None) -> list[str]:
    """Return the cells of a row whose quotes are no CSV: in tabs nobody quotes, elsewhere the row is bad."""
    if lines.delimiter in _UNQUOTED:
        refuse_bad_text(text)
        _refuse_many(text.count(lines.delimiter))
        return text.split(lines.delimiter)
    if error is None:
        raise BadRow("csv", "A quote is opened here and never closed", 'Close it, or write it as ""')
    raise BadRow("csv", f"The row is not valid CSV: {error}", 'Write a quote inside a cell as ""')


def _ends_open(text: str, delimiter: str, quoted: bool = False) -> bool | None:
    """Say whether a line ends inside a quoted cell; None where text follows a closed quote, which is no CSV."""
    at = 0
    while True:
        if quoted or text.startswith('"', at):
            at = _closing_quote(text, at if quoted else at + 1) + 1
            quoted = False
            if not at:
                return True
            if at == len(text):
                return False
            if text[at] != delimiter:
                return None
        else:
            at = text.find(delimiter, at)
        if at < 0:
            return False
        at += 1


def _cut(text: str, delimiter: str) -> list[str]:
    """Return the cells of a well-formed row; line breaks may also stand in cells without quotes."""
    refuse_bad_text(text)
    _refuse_many(text.count(delimiter))
    cells, at = [], 0
    while at <= len(text):
        quoted = text.startswith('"', at)
        end = _closing_quote(text, at + 1) + 1 if quoted else text.find(delimiter, at)
        end = len(text) if end < 0 else end
        cells.append(text[at + 1 : end - 1].replace('""', '"') if quoted else text[at:end])
        at = end + 1
    return cells


def _closing_quote(text: str, at: int) -> int:
    """Return where a quoted cell ends, -1 if not in this text; two quotes stand for one."""
    while (at := text.find('"', at)) >= 0 and text.startswith('"', at + 1):
        at += 2
    return at


def _join_quoted(text: str, lines: _Lines, taken: list[Line]) -> str | None:
    """Add lines while a quote is open, noting them in `taken`; None where it never closes as CSV wants it."""
    size, pieces, open_at_end = len(text), [text], True
    # A delimiter inside the quotes speaks against them where delimiters hardly stand in texts.
    unlikely = lines.delimiter if lines.delimiter in _UNQUOTED else "\0"
    if unlikely in text[text.rfind('"') :]:
        return None
    while open_at_end:
        following = lines.take()
        if following is None:
            return None
        taken.append(following)
        more = following[1]
        size += len(more or "")
        if more is None or size > limits.MAX_ROW_CHARS or len(taken) > limits.MAX_QUOTED_LINES:
            return None
        ends = _ends_open(more, lines.delimiter, quoted=True)
        if ends is None or unlikely in more[: _closing_quote(more, 0)]:
            return None
        open_at_end = ends
        pieces.append(more)
    if lines.end == "\r":
        return "\r".join(pieces).replace("\r\n", "\n").replace("\r", "\n")
    return "\n".join(pieces)
