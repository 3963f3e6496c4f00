"""Read spreadsheets (XLSX, ODS): one sheet as a table, its values as they were last computed. Macros are never run.

The cells are read by calamine, a library in Rust, imported at first use. It lays a sheet out as a full rectangle, and
asking for more memory than there is ends the process; so the sheets are measured first, piece by piece.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from app.data.reading import limits
from app.data.reading.documents.rich_text import Attributes, MarkupZip, refuse_locked
from app.data.reading.encodings import refuse_bad_text, too_long
from app.data.reading.inputs import training_part
from app.data.reading.records.json_rows import Note, Record
from app.data.reading.records.tables import LONE_TEXT, is_lone_text, namesakes, unique_names
from app.data.reading.rows import BadRow
from app.errors import DataError

if TYPE_CHECKING:
    from python_calamine import CalamineSheet, CalamineWorkbook

Cell = str | int | float | bool | datetime.date | datetime.time | datetime.timedelta
_AS_CSV = "Save the sheet as CSV (UTF-8)"
# The header is looked for in so many rows; above it stand titles and notes.
_HEAD_ROWS = 20
_SHOWN_CHARS, _SHOWN_NAMES = 60, 5
# Larger numbers are written with an exponent, as Python and JavaScript do.
_MOST_WHOLE = 1e21


def read_spreadsheet(document: MarkupZip, path: Path, note: Note) -> Iterator[Record]:
    """Read the first sheet with rows; a sheet called train goes before one called test. The line is that of the sheet.

    `note` is told what is left out. Raises DataError for a file that is locked, damaged, or too large for its sheets.
    """
    refuse_locked(document.archive, document.called)
    size = _measured(document)
    if size.area > limits.MAX_SHEET_CELLS or size.text > limits.MAX_SHEET_TEXT:
        why = (
            f"A cell stands in row {size.rows:,} and column {size.columns:,}"
            if size.area > limits.MAX_SHEET_CELLS
            else f"Its cells hold more than {limits.MAX_SHEET_TEXT / 1e6:.0f} million characters"
        )
        raise DataError(f"{document.called} with a sheet that is too large to be read here", why, _AS_CSV)
    if size.unvalued:
        note(f"{size.unvalued:,} formulas have no value yet: open the file in a spreadsheet program and save it")
    with path.open("rb") as file, _refusals(document):
        from python_calamine import load_workbook

        workbook = load_workbook(file)  # an open file is known by what it holds, a path by its ending
        sheet = _sheet(document, workbook, note)
    yield from _table(document, sheet, note)


@contextmanager
def _refusals(document: MarkupZip) -> Iterator[None]:
    """Turn what calamine raises into a DataError, its panics too."""
    from python_calamine import CalamineError

    try:
        yield
    except (CalamineError, OSError, ValueError) as error:
        raise document.damaged(str(error)[:200]) from error
    except BaseException as error:
        if type(error).__name__ == "PanicException":  # of PyO3, which gives it no importable name
            raise document.damaged("it is not as its format wants it") from error
        raise


def _sheet(document: MarkupZip, workbook: CalamineWorkbook, note: Note) -> CalamineSheet:
    """Return the sheet to be read and tell which others hold something."""
    from python_calamine import SheetTypeEnum, SheetVisibleEnum

    pages = [one for one in workbook.sheets_metadata if one.typ == SheetTypeEnum.WorkSheet]
    shown = [one.name for one in pages if one.visible == SheetVisibleEnum.Visible]
    names = training_part(shown or [one.name for one in pages], note)
    filled: list[CalamineSheet] = []
    for name in names:
        with _refusals(document):
            sheet = workbook.get_sheet_by_name(name)
        if sheet.start is not None:
            filled.append(sheet)
    if not filled:
        raise DataError(f"{document.called} without a row", "Its sheets are empty", "Add rows, or choose another file")
    if len(filled) > 1:
        others = ", ".join(repr(sheet.name[:_SHOWN_CHARS]) for sheet in filled[1 : _SHOWN_NAMES + 1])
        more = ", …" * (len(filled) > _SHOWN_NAMES + 1)
        note(f"The sheet {filled[0].name[:_SHOWN_CHARS]!r} is read; left out: {others}{more}")
    return filled[0]


def _table(document: MarkupZip, sheet: CalamineSheet, note: Note) -> Iterator[Record]:
    """Return the rows of a sheet below its header, each with its number in the sheet."""
    with _refusals(document):
        rows = _filled(((number, row) for number, row in enumerate(sheet.iter_rows(), start=1)), sheet)
        first = list(islice(rows, _HEAD_ROWS))
    at = _header_at([row for _, row in first])
    header = [_text(cell).strip() for cell in first[at][1]]
    for number, row in first[:at]:
        words = " ".join(text for cell in row if (text := _text(cell).strip()))
        note(f"Row {number} stands above the header and is left out: {words[:_SHOWN_CHARS]}")
    if len(header) > limits.MAX_COLUMNS:
        raise DataError(f"{document.called} with {len(header):,} columns", "", f"Keep below {limits.MAX_COLUMNS:,}")
    for said in namesakes(header):
        note(said)
    names, named = unique_names(header), [bool(name) for name in header]
    if is_lone_text(header):
        note(LONE_TEXT)
        yield first[at][0], {"text": header[0]}
        names = ["text"]
    for number, row in chain(first[at + 1 :], rows):
        yield number, _fields(row, names, named)


def _header_at(rows: list[list[Cell]]) -> int:
    """Return which row names the columns: the first that fills more than half as many cells as the fullest."""
    counts = [sum(not _is_blank(cell) for cell in row) for row in rows]
    return next((index for index, count in enumerate(counts) if 2 * count > max(counts)), 0)


def _fields(row: list[Cell], names: list[str], named: list[bool]) -> dict[str, str | bool] | BadRow:
    """Return a row by its columns; one without a name counts only where it holds something."""
    cells = [cell if isinstance(cell, bool) else _text(cell) for cell in row]
    try:
        for cell in cells:
            if isinstance(cell, str):
                refuse_bad_text(cell)
                if len(cell) > limits.MAX_ROW_CHARS:
                    raise too_long()
    except BadRow as problem:
        return problem.about("\t".join(map(str, cells))[: limits.MAX_ROW_CHARS])
    return {name: cell for name, known, cell in zip(names, named, cells, strict=False) if known or cell != ""}


def _is_blank(cell: Cell) -> bool:
    return isinstance(cell, str) and not cell.strip()


def _text(cell: Cell) -> str:
    """Return a cell as text: dates as ISO 8601 has them, whole numbers without a point, line ends as LF."""
    if isinstance(cell, str):
        return cell.replace("\r\n", "\n").replace("\r", "\n")
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < _MOST_WHOLE:
        return str(int(cell))
    if isinstance(cell, datetime.timedelta):
        minutes, seconds = divmod(round(cell.total_seconds()), 60)
        return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
    return cell.isoformat() if isinstance(cell, (datetime.date, datetime.time)) else str(cell)


def _filled(rows: Iterator[tuple[int, list[Cell]]], sheet: CalamineSheet) -> Iterator[tuple[int, list[Cell]]]:
    """Yield the rows that hold something; cells that were merged downwards stand in each of their rows."""
    left = sheet.start[1] if sheet.start else 0
    ends: dict[tuple[int, int], int] = {}
    for (top, column), (bottom, _) in sheet.merged_cell_ranges or ():
        if bottom > top and column >= left:
            ends[top + 1, column - left] = bottom + 1
    lasting: dict[int, tuple[int, Cell]] = {}
    for number, row in rows:
        if all(map(_is_blank, row)):
            continue
        for column, (end, value) in list(lasting.items()):
            if number > end:
                del lasting[column]
            elif column < len(row) and _is_blank(row[column]):
                row[column] = value
        if ends:
            for column, cell in enumerate(row):
                if (end := ends.get((number, column), 0)) and not _is_blank(cell):
                    lasting[column] = end, cell
        yield number, row


@dataclass
class _Size:
    """What a spreadsheet unfolds to: the corner of its largest sheet, characters, formulas without value."""

    rows: int = 0
    columns: int = 0
    area: int = 0
    text: int = 0
    unvalued: int = 0

    def reach(self, rows: int, columns: int) -> None:
        """Take the corner of a sheet in."""
        if rows * columns > self.area:
            self.rows, self.columns, self.area = rows, columns, rows * columns


def _measured(document: MarkupZip) -> _Size:
    size = _Size()
    if document.has("content.xml"):
        _measure_ods(document, size)
        return size
    names = document.archive.namelist()
    if len(set(names)) < len(names):
        raise document.damaged("two of its parts have one name")
    document.all_of("xl/_rels/workbook.xml.rels", _refuse_strange_sheets(document))
    parts = [name for name in names if name.lower().endswith(".xml")]
    lengths = [one for name in parts if name.lower().endswith("sharedstrings.xml") for one in _lengths(document, name)]
    for name in parts:
        if name.lower().startswith("xl/") and not name.lower().endswith("sharedstrings.xml"):
            _measure_sheet(document, name, lengths, size)
    return size


def _refuse_strange_sheets(document: MarkupZip) -> Callable[[str, Attributes], None]:
    """Return a handler that lets no sheet lie where it would not be measured."""

    def start(tag: str, attributes: Attributes) -> None:
        target = attributes.get("Target", "").lstrip("/").lower()
        place = target if target.startswith("xl/") else f"xl/{target}"
        if attributes.get("Type", "").endswith("sheet") and (".." in place or not place.endswith(".xml")):
            raise document.damaged("a sheet lies where none belongs")

    return start


def _lengths(document: MarkupZip, part: str) -> list[int]:
    """Return the lengths of the texts that cells refer to by number."""
    lengths: list[int] = []

    def start(tag: str, attributes: Attributes) -> None:
        if tag.rpartition(":")[2] == "si":
            lengths.append(0)

    def text(data: str) -> None:
        if lengths:
            lengths[-1] += len(data)

    for _ in document.parse(part, start, text=text):
        pass
    return lengths


def _measure_sheet(document: MarkupZip, part: str, lengths: list[int], size: _Size) -> None:
    """Find the last row and column of a sheet of Excel that hold something, and how much its cells say."""
    row = column = rows = columns = 0
    shared = has_formula = has_value = reading = False

    def start(tag: str, attributes: Attributes) -> None:
        nonlocal row, column, rows, columns, shared, has_formula, has_value, reading
        name = tag.rpartition(":")[2]
        reading = name == "v"
        if name == "row":
            number = attributes.get("r", "")
            row, column = int(number) if number.isdecimal() else row + 1, 0
        elif name == "c":
            size.unvalued += has_formula and not has_value
            has_formula = has_value = False
            shared = attributes.get("t") == "s"
            place = attributes.get("r")
            row, column = _place(place) if place else (row, column + 1)
        elif name in ("v", "is", "f"):
            has_formula, has_value = has_formula or name == "f", has_value or name != "f"
            rows, columns = max(rows, row), max(columns, column)

    def text(data: str) -> None:
        if reading and shared and data.isdecimal() and int(data) < len(lengths):
            size.text += lengths[int(data)]

    for _ in document.parse(part, start, text=text if lengths else None):
        if rows * columns > limits.MAX_SHEET_CELLS or size.text > limits.MAX_SHEET_TEXT:
            break
    size.unvalued += has_formula and not has_value
    size.reach(rows, columns)


def _place(text: str) -> tuple[int, int]:
    """Return row and column of a cell called like `AB12`, both from 1."""
    letters = text.rstrip("0123456789").upper()
    column = 0
    for letter in letters:
        column = column * 26 + ord(letter) - ord("A") + 1
    return int(text[len(letters) :] or 0), column


def _measure_ods(document: MarkupZip, size: _Size) -> None:
    """Find how far the sheets of an OpenDocument spreadsheet reach; its rows and cells stand for several of a kind."""
    row = column = row_times = cell_times = rows = columns = 0

    def start(tag: str, attributes: Attributes) -> None:
        nonlocal row, column, row_times, cell_times, rows, columns
        name = tag.rpartition(":")[2]
        if name == "table":
            row = rows = columns = 0
        elif name == "table-row":
            row_times, column = _times(attributes.get("table:number-rows-repeated")), 0
            row += row_times
        elif name in ("table-cell", "covered-table-cell"):
            cell_times = _times(attributes.get("table:number-columns-repeated"))
            column += cell_times
            if any(key.startswith("office:") for key in attributes):
                reach()
        elif name == "p" and row:
            reach()

    def reach() -> None:
        nonlocal rows, columns
        rows, columns = max(rows, row), max(columns, column)
        size.reach(rows, columns)

    def text(data: str) -> None:
        size.text += len(data) * row_times * cell_times

    for _ in document.parse("content.xml", start, text=text):
        if size.area > limits.MAX_SHEET_CELLS or size.text > limits.MAX_SHEET_TEXT:
            break


def _times(text: str | None) -> int:
    return int(text) if text and text.isdecimal() and len(text) < 12 else 1
