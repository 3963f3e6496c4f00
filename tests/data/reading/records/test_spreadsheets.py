"""XLSX and ODS as tables. The files are written here, part by part, as spreadsheet programs write them."""

from __future__ import annotations

import random
import resource
import zipfile
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import pytest

from app.data.reading.readers import read_rows
from app.data.reading.rows import Row, RowProblem
from app.errors import DataError
from tests.pace import at_most

_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
Cells = Sequence[Sequence[object]]


class Raw(str):
    """A cell's XML as it is."""


def column_name(index: int) -> str:
    return column_name(index // 26 - 1) + chr(65 + index % 26) if index > 25 else chr(65 + index)


def xlsx_cell(place: str, value: object) -> str:
    if isinstance(value, Raw):
        return value.replace("@", place)
    if value is None:
        return f'<c r="{place}" s="1"/>'
    if isinstance(value, bool):
        return f'<c r="{place}" t="b"><v>{int(value)}</v></c>'
    if isinstance(value, (int, float)):
        return f'<c r="{place}"><v>{value}</v></c>'
    text = escape(str(value))
    return f'<c r="{place}" t="inlineStr"><is><t xml:space="preserve">{text}</t></is></c>'


def xlsx_sheet(rows: Cells, merged: Sequence[str] = ()) -> str:
    lines = "".join(
        f'<row r="{number}">'
        + "".join(xlsx_cell(f"{column_name(index)}{number}", value) for index, value in enumerate(row))
        + "</row>"
        for number, row in enumerate(rows, start=1)
    )
    merges = "".join(f'<mergeCell ref="{one}"/>' for one in merged)
    merges = f"<mergeCells>{merges}</mergeCells>" if merged else ""
    return f'<?xml version="1.0"?><worksheet xmlns="{_MAIN}"><sheetData>{lines}</sheetData>{merges}</worksheet>'


def xlsx(path: Path, sheets: dict[str, str], shared: Sequence[str] = (), hidden: Sequence[str] = ()) -> Path:
    """Write a workbook of sheets by name; style 1 is a date, 2 a date with time."""
    entries = ""
    for n, name in enumerate(sheets, start=1):
        state = ' state="hidden"' if name in hidden else ""
        entries += f'<sheet name={quoteattr(name)} sheetId="{n}"{state} r:id="rId{n}"/>'
    relations = "".join(
        f'<Relationship Id="rId{n}" Type="{_RELATIONS}/worksheet" Target="worksheets/sheet{n}.xml"/>'
        for n in range(1, len(sheets) + 1)
    )
    relations += f'<Relationship Id="rId90" Type="{_RELATIONS}/styles" Target="styles.xml"/>'
    relations += f'<Relationship Id="rId91" Type="{_RELATIONS}/sharedStrings" Target="sharedStrings.xml"/>'
    texts = "".join(f"<si><t>{escape(one)}</t></si>" for one in shared)
    members = {
        "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types"/>',
        "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="rId1" '
        f'Type="{_RELATIONS}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{_MAIN}" xmlns:r="{_RELATIONS}"><sheets>{entries}</sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_PACKAGE}/relationships">{relations}</Relationships>',
        "xl/styles.xml": f'<styleSheet xmlns="{_MAIN}"><cellXfs count="3"><xf numFmtId="0"/><xf numFmtId="14"/>'
        '<xf numFmtId="22"/></cellXfs></styleSheet>',
        "xl/sharedStrings.xml": f'<sst xmlns="{_MAIN}">{texts}</sst>',
        "xl/vbaProject.bin": "Sub AutoOpen(): Kill: End Sub",
    }
    members |= {f"xl/worksheets/sheet{n}.xml": sheet for n, sheet in enumerate(sheets.values(), start=1)}
    return packed(path, members)


def packed(path: Path, members: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


def ods_cell(value: object) -> str:
    if isinstance(value, Raw):
        return value
    if value is None:
        return "<table:table-cell/>"
    if isinstance(value, (int, float)):
        shown = f"<text:p>{value}</text:p>"
        return f'<table:table-cell office:value-type="float" office:value="{value}">{shown}</table:table-cell>'
    lines = "".join(f"<text:p>{escape(line)}</text:p>" for line in str(value).split("\n"))
    return f'<table:table-cell office:value-type="string">{lines}</table:table-cell>'


def ods(path: Path, sheets: dict[str, Cells], manifest: str = "") -> Path:
    """Write an OpenDocument spreadsheet, with the empty rows and cells that LibreOffice puts behind."""
    tables = ""
    for name, rows in sheets.items():
        lines = "".join(
            "<table:table-row>"
            + "".join(map(ods_cell, row))
            + '<table:table-cell table:number-columns-repeated="16380"/></table:table-row>'
            for row in rows
        )
        behind = '<table:table-row table:number-rows-repeated="1048570"><table:table-cell/></table:table-row>'
        tables += f"<table:table table:name={quoteattr(name)}>{lines}{behind}</table:table>"
    spaces = "".join(
        f' xmlns:{one}="urn:oasis:names:tc:opendocument:xmlns:{one}:1.0"' for one in ("office", "table", "text")
    )
    body = f"<office:body><office:spreadsheet>{tables}</office:spreadsheet></office:body>"
    members = {
        "mimetype": "application/vnd.oasis.opendocument.spreadsheet",
        "content.xml": f'<?xml version="1.0"?><office:document-content{spaces}>{body}</office:document-content>',
        "META-INF/manifest.xml": manifest
        or '<manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"/>',
    }
    return packed(path, members)


def spreadsheet(path: Path, sheets: dict[str, Cells]) -> Path:
    """Write the form that the path's ending names, xlsx for any other ending."""
    if path.suffix == ".ods":
        return ods(path, sheets)
    return xlsx(path, {name: xlsx_sheet(rows) for name, rows in sheets.items()})


def read(path: Path) -> tuple[list[tuple[int, dict[str, object]]], list[str]]:
    """Return the rows with their lines, and the notes; no row may be bad."""
    reading = read_rows(path)
    records = list(reading)
    assert not [record for record in records if isinstance(record, RowProblem)]
    return [(record.line, record.fields) for record in records if isinstance(record, Row)], reading.notes


TABLE = [["question", "answer"], ["1+1?", "2, I think"], [None, None], ["Where?", "In the\nhouse"]]
ROWS = [
    (2, {"question": "1+1?", "answer": "2, I think"}),
    (4, {"question": "Where?", "answer": "In the\nhouse"}),
]


@pytest.mark.parametrize("name", ["rows.xlsx", "rows.ods", "rows.csv", "rows", "rows.zip"])
@pytest.mark.parametrize("title", ["Sheet1", "数据 表", "Fragen & Antworten"])
def test_the_sheet_is_read_as_a_table_whatever_the_file_is_called(tmp_path: Path, name: str, title: str) -> None:
    assert read(spreadsheet(tmp_path / name, {title: TABLE, "empty": []})) == (ROWS, [])


def test_what_the_file_holds_counts_for_more_than_its_ending(tmp_path: Path) -> None:
    ods(tmp_path / "a.xlsx", {"a": TABLE})
    spreadsheet(tmp_path / "b", {"a": TABLE}).rename(tmp_path / "b.ods")
    assert read(tmp_path / "a.xlsx") == read(tmp_path / "b.ods") == (ROWS, [])


@pytest.mark.parametrize("suffix", [".xlsx", ".ods"])
def test_titles_above_the_header_are_left_out_and_said(tmp_path: Path, suffix: str) -> None:
    rows, notes = read(spreadsheet(tmp_path / f"a{suffix}", {"a": [["All our questions"], [], *TABLE]}))
    assert rows == [(line + 2, fields) for line, fields in ROWS]
    assert len(notes) == 1 and "Row 1" in notes[0] and "All our questions" in notes[0]


@pytest.mark.parametrize("suffix", [".xlsx", ".ods"])
@pytest.mark.parametrize("names", [("test", "train"), ("训练集", "测试集"), ("Train data", "validation")])
def test_of_several_sheets_the_training_split_is_read(tmp_path: Path, suffix: str, names: tuple[str, str]) -> None:
    train = next(name for name in names if name.startswith(("train", "Train", "训练")))
    other = [["question", "answer"], ["held", "out"]]
    sheets = {name: TABLE if name == train else other for name in names}
    rows, notes = read(spreadsheet(tmp_path / f"a{suffix}", sheets))
    assert rows == ROWS
    assert len(notes) == 1 and "training split" in notes[0] and (set(names) - {train}).pop() in notes[0]


@pytest.mark.parametrize("suffix", [".xlsx", ".ods"])
def test_further_sheets_with_rows_are_said(tmp_path: Path, suffix: str) -> None:
    sheets = {"blank": [], "one": TABLE, "two": TABLE, "notes": [["x"]]}
    rows, notes = read(spreadsheet(tmp_path / f"a{suffix}", sheets))
    assert rows == ROWS and notes == ["The sheet 'one' is read; left out: 'two', 'notes'"]


def test_a_header_may_hold_a_year(tmp_path: Path) -> None:
    rows, notes = read(spreadsheet(tmp_path / "a.xlsx", {"a": [["question", 2023], ["a", "b"], ["c", "d"]]}))
    assert rows == [(2, {"question": "a", "2023": "b"}), (3, {"question": "c", "2023": "d"})] and notes == []


def test_hidden_sheets_are_not_read(tmp_path: Path) -> None:
    sheets = {"lists": xlsx_sheet([["a", "b"], ["c", "d"]]), "shown": xlsx_sheet(TABLE)}
    assert read(xlsx(tmp_path / "a.xlsx", sheets, hidden=["lists"])) == (ROWS, [])


def test_values_are_what_the_sheet_shows(tmp_path: Path) -> None:
    values = {
        "whole": (3.0, "3"),
        "large": (1234567890123456, "1234567890123456"),
        "share": (0.25, "0.25"),
        "flag": (False, False),
        "date": (Raw('<c r="@" s="1"><v>45293</v></c>'), "2024-01-02"),
        "time": (Raw('<c r="@" s="2"><v>45293.5</v></c>'), "2024-01-02T12:00:00"),
        "sum": (Raw('<c r="@"><f>1+1</f><v>2</v></c>'), "2"),
        "word": (Raw('<c r="@" t="str"><f>A1</f><v>=cmd</v></c>'), "=cmd"),
        "shared": (Raw('<c r="@" t="s"><v>1</v></c>'), "second & last"),
        "lines": ("a\r\nb", "a\nb"),
        "empty": (None, ""),
    }
    sheet = xlsx_sheet([list(values), [value for value, _ in values.values()]])
    rows, notes = read(xlsx(tmp_path / "a.xlsm", {"a": sheet}, shared=["first", "second & last"]))
    assert rows == [(2, {name: shown for name, (_, shown) in values.items()})] and notes == []


def test_dates_and_numbers_of_ods(tmp_path: Path) -> None:
    date = Raw(
        '<table:table-cell office:value-type="date" office:date-value="2024-01-02">'
        "<text:p>x</text:p></table:table-cell>"
    )
    rows, _ = read(ods(tmp_path / "a.ods", {"a": [["when", "n"], [date, 7]]}))
    assert rows == [(2, {"when": "2024-01-02", "n": "7"})]


def test_formulas_without_a_value_are_said(tmp_path: Path) -> None:
    sheet = xlsx_sheet(
        [["question", "answer"], ["a", Raw('<c r="@"><f>A2</f></c>')], ["b", Raw('<c r="@"><f>A3</f><v/></c>')]]
    )
    rows, notes = read(xlsx(tmp_path / "a.xlsx", {"a": sheet}))
    assert [fields["answer"] for _, fields in rows] == ["", ""]
    assert len(notes) == 1 and "formulas have no value" in notes[0]


def test_cells_merged_downwards_stand_in_each_of_their_rows(tmp_path: Path) -> None:
    table = [
        ["topic", "question", "answer"],
        ["sea", "a", "b"],
        [None, "c", "d"],
        [None, None, None],
        ["land", "e", "f"],
    ]
    sheet = xlsx_sheet([["All", None, None], *table], merged=["A1:C1", "A3:A5"])
    rows, _ = read(xlsx(tmp_path / "a.xlsx", {"a": sheet}))
    assert [(line, fields["topic"], fields["question"]) for line, fields in rows] == [
        (3, "sea", "a"),
        (4, "sea", "c"),
        (6, "land", "e"),
    ]


def test_a_table_that_stands_off_the_corner(tmp_path: Path) -> None:
    table = [[], [], *([None, None, *row] for row in TABLE)]
    rows, notes = read(spreadsheet(tmp_path / "a.xlsx", {"a": table}))
    assert rows == [(line + 2, fields) for line, fields in ROWS] and notes == []


def test_a_column_without_a_name_is_kept_where_it_says_something(tmp_path: Path) -> None:
    table = [["question", None, "answer", None], ["a", None, "b", None], ["c", "more", "d", None]]
    rows, _ = read(spreadsheet(tmp_path / "a.xlsx", {"a": table}))
    assert [fields for _, fields in rows] == [
        {"question": "a", "answer": "b"},
        {"question": "c", "column_2": "more", "answer": "d"},
    ]


@pytest.mark.parametrize("name", ["rows.xlsx", "rows.ods"])
@pytest.mark.parametrize("text", ["question,answer\na,b\n", "question;answer\na;b\n"])
def test_csv_that_is_called_a_spreadsheet_is_read_as_csv(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read(tmp_path / name)[0] == [(2, {"question": "a", "answer": "b"})]


@pytest.mark.parametrize("place", ["folder", "zip"])
def test_spreadsheets_among_other_files(tmp_path: Path, place: str) -> None:
    (tmp_path / "set").mkdir()
    spreadsheet(tmp_path / "set" / "a.xlsx", {"a": TABLE})
    (tmp_path / "set" / "b.jsonl").write_text('{"question": "x", "answer": "y"}\n')
    if place == "zip":
        with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
            for name in ("a.xlsx", "b.jsonl"):
                archive.write(tmp_path / "set" / name, name)
    records = list(read_rows(tmp_path / ("set" if place == "folder" else "set.zip")))
    assert [record.fields["question"] for record in records if isinstance(record, Row)] == ["1+1?", "Where?", "x"]
    assert not [record for record in records if isinstance(record, RowProblem)]


def test_what_cannot_be_read_is_refused_in_one_line(tmp_path: Path) -> None:
    whole = spreadsheet(tmp_path / "whole.xlsx", {"a": TABLE}).read_bytes()
    cut = xlsx(tmp_path / "cut", {"a": xlsx_sheet(TABLE)[:-60]}).read_bytes()
    encrypted = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600) + "EncryptedPackage".encode("utf-16-le") + bytes(900)
    manifest = '<manifest:manifest xmlns:manifest="m"><manifest:encryption-data/></manifest:manifest>'
    binary = packed(tmp_path / "binary", {"[Content_Types].xml": "<T/>", "xl/workbook.bin": "x"}).read_bytes()
    cases = {
        "password": (encrypted, "locked with a password"),
        "ods password": (ods(tmp_path / "locked", {"a": TABLE}, manifest).read_bytes(), "locked with a password"),
        "half a zip": (whole[: len(whole) // 2], "damaged"),
        "half a sheet": (cut, "Excel file that is damaged"),
        "old": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(3000), "old Office file"),
        "binary": (binary, "XLSB"),
        "empty": (spreadsheet(tmp_path / "e.xlsx", {"a": [], "b": [[None]]}).read_bytes(), "sheets are empty"),
        "header": (spreadsheet(tmp_path / "h.ods", {"a": TABLE[:1]}).read_bytes(), "no row"),
    }
    for name, (data, words) in cases.items():
        for suffix in (".xlsx", ".csv", ""):
            path = tmp_path / f"{name}{suffix}"
            path.write_bytes(data)
            with pytest.raises(DataError, match=words) as caught:
                read(path)
            assert caught.value.remedy and "\n" not in str(caught.value)


FAR = Raw('<c r="XFD1048576"><v>1</v></c>')
BOMBS = {
    "a cell far away": ({"a": xlsx_sheet([*TABLE, [FAR]])}, []),
    "a row far away": (
        {"a": xlsx_sheet([["a", "b"]]).replace('<row r="1">', '<row r="1048570">').replace(' r="A1"', "")},
        [],
    ),
    "behind a quoted mark": ({"a": xlsx_sheet([*TABLE, [Raw(FAR.replace("<c ", "<c x='>' "))]])}, []),
    "one long text often": (
        {"a": xlsx_sheet([["question"], *([Raw(f'<c r="A{n}" t="s"><v>0</v></c>')] for n in range(2, 30_000))])},
        ["".join(random.Random(1).choices("abcdefgh ", k=32_000))],
    ),
}


@pytest.mark.fault("A11")
@pytest.mark.parametrize("name", BOMBS)
def test_sheets_that_unfold_to_far_more_than_they_hold(tmp_path: Path, name: str) -> None:
    sheets, shared = BOMBS[name]
    if name == "a row far away":  # many columns there, so that the rectangle is what is too large
        cells = "".join(f'<c r="{column_name(n)}1048570"><v>1</v></c>' for n in range(10))
        sheets = {"a": xlsx_sheet([["a", "b"]]).replace("</sheetData>", f'<row r="1048570">{cells}</row></sheetData>')}
    path = xlsx(tmp_path / "bomb.xlsx", sheets, shared)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with at_most(5), pytest.raises(DataError, match="too large to be read"):
        read(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 500_000


@pytest.mark.fault("A11")
def test_repeated_cells_of_ods_that_unfold_to_far_more(tmp_path: Path) -> None:
    cell = ods_cell("x").replace("<table:table-cell", '<table:table-cell table:number-columns-repeated="16384"')
    path = ods(tmp_path / "bomb.ods", {"a": [[Raw(cell)]] * 1000})
    with pytest.raises(DataError, match="too large to be read"):
        read(path)


@pytest.mark.fault("A11")
@pytest.mark.parametrize("kind", ["ratio", "entities"])
def test_markup_bombs(tmp_path: Path, kind: str) -> None:
    sheet = xlsx_sheet(TABLE)
    if kind == "ratio":
        sheet = sheet.replace("</sheetData>", "<row></row>" * 2_000_000 + "</sheetData>")
    else:
        entities = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]>'
        sheet = sheet.replace("<worksheet", f"{entities}<worksheet", 1)
    with at_most(5), pytest.raises(DataError, match=r"unpacks to more than|bombs"):
        read(xlsx(tmp_path / "bomb.xlsx", {"a": sheet}))


@pytest.mark.parametrize("suffix", [".xlsx", ".ods"])
def test_damaged_spreadsheets_are_read_or_refused(tmp_path: Path, suffix: str) -> None:
    source = spreadsheet(tmp_path / f"whole{suffix}", {"a": TABLE, "b": TABLE})
    with zipfile.ZipFile(source) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    rng, refused = random.Random(5), 0
    for _ in range(150):
        name = rng.choice([one for one in members if one.endswith(".xml")])
        data = bytearray(members[name])
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(data))
            if rng.random() < 0.5:
                data[at] = rng.choice(b'<>"/=0A9 &')
            else:
                del data[at : at + rng.randint(1, 30)]
        with zipfile.ZipFile(tmp_path / f"a{suffix}", "w") as archive:
            for one, content in members.items():
                archive.writestr(one, bytes(data) if one == name else content)
        try:
            list(read_rows(tmp_path / f"a{suffix}"))
        except DataError as error:
            refused += 1
            assert error.what and "\n" not in str(error)
    assert 0 < refused < 150
