"""DOCX, ODT and EPUB as text. The files are written here, part by part."""

from __future__ import annotations

import random
import zipfile
from pathlib import Path

import pytest

from app.data.reading.readers import read_rows
from app.data.reading.rows import Row, RowProblem
from app.errors import DataError
from tests.pace import at_most

_WORD = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
_ODF = " ".join(
    f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for name in ("office", "text", "table", "draw")
)


def packed(path: Path, members: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


STYLES = (
    f"<w:styles {_WORD}>"
    '<w:style w:type="paragraph" w:styleId="berschrift1"><w:name w:val="heading 1"/></w:style>'
    '<w:style w:type="paragraph" w:styleId="berschrift3"><w:name w:val="heading 3"/></w:style>'
    '<w:style w:type="paragraph" w:styleId="Verzeichnis1"><w:name w:val="toc 1"/></w:style>'
    '<w:style w:type="paragraph" w:styleId="Mein"><w:name w:val="mine"/>'
    '<w:pPr><w:outlineLvl w:val="1"/></w:pPr></w:style>'
    "</w:styles>"
)


def paragraph(text: str, style: str = "") -> str:
    named = f'<w:pPr><w:pStyle w:val="{style}"/><w:tabs><w:tab w:val="left"/></w:tabs></w:pPr>' if style else ""
    return f"<w:p>{named}<w:r><w:t xml:space='preserve'>{text}</w:t></w:r></w:p>"


def docx(path: Path, body: str, styles: str = STYLES, main: str = "word/document.xml") -> Path:
    return packed(
        path,
        {
            "[Content_Types].xml": "<Types/>",
            "_rels/.rels": '<Relationships><Relationship Id="r" Type="http://x/officeDocument" '
            f'Target="/{main}"/></Relationships>',
            main: f'<?xml version="1.0"?><w:document {_WORD}><w:body>{body}</w:body></w:document>',
            "word/styles.xml": styles,
            "word/comments.xml": f"<w:comments {_WORD}>{paragraph('not this')}</w:comments>",
            "word/vbaProject.bin": "macro",
        },
    )


def odt(path: Path, body: str, manifest: str = "<manifest/>") -> Path:
    return packed(
        path,
        {
            "mimetype": "application/vnd.oasis.opendocument.text",
            "content.xml": f'<?xml version="1.0"?><office:document-content {_ODF}><office:body><office:text>{body}'
            "</office:text></office:body></office:document-content>",
            "META-INF/manifest.xml": manifest,
        },
    )


def epub(path: Path, chapters: dict[str, str], order: list[str], more: dict[str, str] | None = None) -> Path:
    items = "".join(
        f'<item id="i{n}" href="{name.replace(" ", "%20")}" media-type="application/xhtml+xml"'
        f"{' properties=' + repr('nav') if name.startswith('nav') else ''}/>"
        for n, name in enumerate(chapters)
    )
    refs = "".join(f'<itemref idref="i{list(chapters).index(name)}"/>' for name in order)
    return packed(
        path,
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": '<container><rootfile full-path="OEBPS/book.opf"/></container>',
            "OEBPS/book.opf": f"<package><manifest>{items}"
            f'<item id="css" href="a.css" media-type="text/css"/></manifest><spine>{refs}</spine></package>',
            "OEBPS/a.css": "p { color: red }",
            **{f"OEBPS/{name}": page for name, page in chapters.items()},
            **(more or {}),
        },
    )


def page(body: str) -> str:
    return f'<?xml version="1.0" encoding="utf-8"?>\n<html xmlns="x"><head><title/></head><body>{body}</body></html>'


def texts(path: Path) -> list[str]:
    records = list(read_rows(path))
    assert not [record for record in records if isinstance(record, RowProblem)]
    return [record.fields["text"] for record in records if isinstance(record, Row)]


WORD_BODY = (
    paragraph("Vorwort")
    + paragraph("Eins … 1", "Verzeichnis1")
    + paragraph("Eins", "berschrift1")
    + "<w:p><w:r><w:t>Ein</w:t></w:r><w:r><w:t> Satz &amp; mehr</w:t><w:tab/><w:t>Tab</w:t><w:br/>"
    + "<w:t>neu</w:t></w:r></w:p>"
    + paragraph("darunter", "berschrift3")
    + "<w:p><w:del><w:r><w:delText>weg</w:delText></w:r></w:del><w:ins><w:r><w:t>da</w:t></w:r></w:ins>"
    + "<w:moveFrom><w:r><w:t>weg</w:t></w:r></w:moveFrom><w:r><w:instrText>PAGE</w:instrText></w:r></w:p>"
    + f"<w:tbl><w:tr><w:tc>{paragraph('a')}{paragraph('b')}</w:tc><w:tc>{paragraph('c')}</w:tc></w:tr></w:tbl>"
    + paragraph("Zwei", "Mein")
    + "<w:p><w:r><mc:AlternateContent xmlns:mc='m'><mc:Choice><w:txbxContent><w:p><w:r><w:t>Kasten</w:t></w:r></w:p>"
    + "</w:txbxContent></mc:Choice><mc:Fallback><w:t>Kasten</w:t></mc:Fallback></mc:AlternateContent></w:r></w:p>"
    + "<w:p><w:r><w:ruby><w:rt><w:r><w:t>かん</w:t></w:r></w:rt><w:rubyBase>"
    + "<w:r><w:t>漢字</w:t></w:r></w:rubyBase></w:ruby></w:r></w:p>"
)
WORD_TEXTS = ["Vorwort", "Eins\nEin Satz & mehr\tTab\nneu\ndarunter\nda\na b\tc", "Zwei\nKasten\n漢字"]


@pytest.mark.parametrize("name", ["a.docx", "a.txt", "a", "a.csv"])
@pytest.mark.parametrize("main", ["word/document.xml", "word/document2.xml"])
def test_of_a_word_document_its_text_is_read_by_sections(tmp_path: Path, name: str, main: str) -> None:
    assert texts(docx(tmp_path / name, WORD_BODY, main=main)) == WORD_TEXTS


def test_of_an_opendocument_text_its_text_is_read_by_sections(tmp_path: Path) -> None:
    body = (
        "<text:tracked-changes><text:changed-region><text:deletion><text:p>weg</text:p></text:deletion>"
        "</text:changed-region></text:tracked-changes>"
        '<text:h text:outline-level="1">Eins</text:h>'
        '<text:p>Ein<text:s text:c="2"/><text:span>Satz</text:span><text:tab/>Tab<text:line-break/>neu'
        "<office:annotation><text:p>nicht dies</text:p></office:annotation>"
        "<text:note><text:note-citation>1</text:note-citation><text:note-body><text:p>Fuß</text:p></text:note-body></text:note>"
        "</text:p>"
        '<text:h text:outline-level="3">darunter</text:h>'
        "<table:table><table:table-row><table:table-cell><text:p>a</text:p></table:table-cell>"
        "<table:table-cell><text:p>b</text:p></table:table-cell></table:table-row></table:table>"
        '<text:h text:outline-level="2">Zwei</text:h>'
        "<text:list><text:list-item><text:p>c</text:p></text:list-item></text:list>"
    )
    for name in ("a.odt", "a.docx", "a"):
        assert texts(odt(tmp_path / name, body)) == ["Eins\nEin  Satz\tTab\nneu\ndarunter\na\tb", "Zwei\nc"]


@pytest.mark.parametrize("name", ["a.epub", "a.zip", "a"])
def test_of_a_book_the_pages_are_read_in_reading_order(tmp_path: Path, name: str) -> None:
    chapters = {
        "c 2.xhtml": page("<h1>Two</h1><p>b<script>var x;</script></p><table><tr><td>x</td><td>y</td></tr></table>"),
        "c1.xhtml": page("<p>Before.</p><h2>One</h2><p>a &amp; b</p>"),
        "nav.xhtml": page("<ol><li>One</li></ol>"),
        "cover.xhtml": page('<img src="c.jpg"/>'),
    }
    path = epub(tmp_path / name, chapters, ["cover.xhtml", "nav.xhtml", "c1.xhtml", "c 2.xhtml"])
    assert texts(path) == ["Before.", "One\na & b", "Two\nb\nx y"]


def test_a_chapter_that_is_missing_costs_no_other(tmp_path: Path) -> None:
    path = epub(
        tmp_path / "a.epub", {"c1.xhtml": page("<p>a</p>"), "c2.xhtml": page("<p>b</p>")}, ["c1.xhtml", "c2.xhtml"]
    )
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name).decode() for name in archive.namelist() if not name.endswith("c1.xhtml")}
    records = list(read_rows(packed(tmp_path / "b.epub", members)))
    assert [record.fields for record in records if isinstance(record, Row)] == [{"text": "b"}]
    assert [record.kind for record in records if isinstance(record, RowProblem)] == ["file"]


def test_a_long_document_without_headings_is_cut_at_paragraphs(tmp_path: Path) -> None:
    rng = random.Random(3)
    paragraphs = [f"{n} " + "".join(rng.choices("abcdefghi ", k=8000)).strip() for n in range(300)]
    found = texts(docx(tmp_path / "a.docx", "".join(map(paragraph, paragraphs)), styles=f"<w:styles {_WORD}/>"))
    assert len(found) == 3 and "\n".join(found) == "\n".join(paragraphs)


ENTITIES = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;">]>'
KEY = "<encryption><CipherData><CipherReference URI='OEBPS/c1.xhtml'/></CipherData></encryption>"
FONT = "<encryption><CipherData><CipherReference URI='OEBPS/font.otf'/></CipherData></encryption>"


def test_what_cannot_be_read_is_refused_in_one_line(tmp_path: Path) -> None:
    whole = docx(tmp_path / "whole", WORD_BODY).read_bytes()
    members = {"[Content_Types].xml": "<Types/>", "word/styles.xml": STYLES}
    cases = {
        "half a zip": (whole[: len(whole) // 2], "damaged"),
        "half a text": (docx(tmp_path / "a", WORD_BODY + "<w:p>").read_bytes(), "Word document that is damaged"),
        "no text": (packed(tmp_path / "b", members).read_bytes(), "has no part word/document.xml"),
        "empty": (docx(tmp_path / "c", paragraph(" ")).read_bytes(), "Word document without text"),
        "entities": (docx(tmp_path / "d", "x").read_bytes(), "Word document with entities"),
        "locked": (odt(tmp_path / "e", "", "<m><encryption-data/></m>").read_bytes(), "locked with a password"),
        "book": (
            epub(tmp_path / "f", {"c1.xhtml": page("x")}, ["c1.xhtml"], {"META-INF/encryption.xml": KEY}).read_bytes(),
            "copy protection",
        ),
        "slides": (
            packed(tmp_path / "g", {"[Content_Types].xml": "", "ppt/slides/slide1.xml": ""}).read_bytes(),
            "PowerPoint",
        ),
    }
    entities = {"word/document.xml": f"{ENTITIES}<w:document {_WORD}><w:p><w:t>&b;</w:t></w:p></w:document>"}
    cases["entities"] = (packed(tmp_path / "d", members | entities).read_bytes(), "Word document with entities")
    for name, (data, words) in cases.items():
        for suffix in (".docx", ".txt", ""):
            path = tmp_path / f"{name}{suffix}"
            path.write_bytes(data)
            with pytest.raises(DataError, match=words) as caught:
                texts(path)
            assert caught.value.remedy and "\n" not in str(caught.value)


def test_a_book_with_hidden_fonts_is_read(tmp_path: Path) -> None:
    path = epub(tmp_path / "a.epub", {"c1.xhtml": page("x")}, ["c1.xhtml"], {"META-INF/encryption.xml": FONT})
    assert texts(path) == ["x"]


@pytest.mark.fault("A11")
@pytest.mark.parametrize("kind", ["docx", "odt", "epub"])
def test_documents_that_grow_a_thousandfold(tmp_path: Path, kind: str) -> None:
    many = "<w:p/>" if kind == "docx" else "<p></p>"
    body = many * 3_000_000
    path = tmp_path / f"bomb.{kind}"
    if kind == "epub":
        epub(path, {"c1.xhtml": page(body)}, ["c1.xhtml"])
    else:
        (docx if kind == "docx" else odt)(path, body)
    with at_most(5), pytest.raises(DataError, match="unpacks to more than"):
        texts(path)
