"""Read Word documents (DOCX) and OpenDocument texts (ODT): the text that their pages show, in its order.

A row is a section that begins at a heading of the first or second level, as in web pages; its number is that of its
first paragraph. Comments, deleted text, footnotes, tables of contents, headers and footers are
no part of the text. The markup is streamed, and nothing in it is run, opened or looked up.
"""

from __future__ import annotations

import posixpath
import re
import zipfile
from collections.abc import Callable, Iterator
from xml.parsers import expat

from app.data.reading import limits
from app.data.reading.documents.web_pages import text_row
from app.data.reading.inputs import open_member
from app.data.reading.records.json_rows import Record
from app.errors import DataError

Attributes = dict[str, str]
# A document without headings is cut at the end of a paragraph once a row has this many characters.
_SECTION_CHARS = 1_000_000
_SKIPPED_IN_WORD = frozenset(("tabs", "del", "moveFrom", "Fallback", "rt", "pPrChange", "rPrChange", "sectPr"))
_SKIPPED_IN_ODT = frozenset(
    ("annotation", "tracked-changes", "note", "table-of-content", "ruby-text", "svg:title", "svg:desc", "forms")
)
_STYLE_NAME = re.compile(r"(heading) [12]|(toc) \d|(toc) heading", re.IGNORECASE)
_WORD_SIGNS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "\u2011"}
_OFFICE_PART = "/officeDocument"
AS_TEXT = "Open it and save its text as .txt (UTF-8)"


class MarkupZip:
    """A document of XML parts in a zip. `called` is how its errors begin: "letter.docx is a Word document"."""

    def __init__(self, archive: zipfile.ZipFile, called: str) -> None:
        self.archive = archive
        self.called = called
        self._members = set(archive.namelist())

    def has(self, member: str) -> bool:
        """Say whether there is such a part."""
        return member in self._members

    def parse(
        self,
        member: str,
        start: Callable[[str, Attributes], None],
        end: Callable[[str], None] | None = None,
        text: Callable[[str], None] | None = None,
    ) -> Iterator[None]:
        """Parse a member of XML and pause after every piece of it, so that what was found can be taken."""
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, text
        parser.EntityDeclHandler = self._refuse_entity
        size_bytes = 0
        try:
            with open_member(self.archive, self.archive.getinfo(member)) as stream:
                while chunk := stream.read(limits.PACKED_BYTES):
                    size_bytes += len(chunk)
                    if size_bytes > limits.MAX_MARKUP_BYTES:
                        why = f"Its part {member} has more than {limits.MAX_MARKUP_BYTES / 1e6:.0f} MB"
                        raise DataError(f"{self.called} that is too large", why, AS_TEXT)
                    parser.Parse(chunk, False)
                    yield
                parser.Parse(b"", True)
                yield
        except KeyError:
            raise self.damaged(f"it has no part {member}") from None
        except (expat.ExpatError, LookupError, ValueError) as error:
            raise self.damaged(f"{member}: {error}") from error

    def all_of(self, member: str, start: Callable[[str, Attributes], None]) -> None:
        """Parse a member for its elements only."""
        for _ in self.parse(member, start):
            pass

    def _refuse_entity(self, name: str, *_: object) -> None:
        raise DataError(f"{self.called} with entities of its own", "This is how XML bombs look", AS_TEXT)

    def damaged(self, why: str) -> DataError:
        """Return the error for a document that does not hold."""
        return DataError(f"{self.called} that is damaged", why, "Open it and save it again, or save its text as .txt")


class _Sections:
    """Put paragraphs together to sections; those that are complete are handed over."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._size = 0
        self._start = 1
        self._paragraphs = 0
        self._done: list[tuple[int, str]] = []

    def add(self, text: str, opens: bool = False) -> None:
        """Add a paragraph; `opens` says that it is a heading with which a section begins."""
        self._paragraphs += 1
        if opens or self._size > _SECTION_CHARS:
            self.close()
        lines = [line.strip() for line in text.split("\n") if line.strip()]
        if lines and not self._lines:
            self._start = self._paragraphs
        self._lines += lines
        self._size += len(text)

    def close(self) -> None:
        """End the section at hand."""
        if self._lines:
            self._done.append((self._start, "\n".join(self._lines)))
        self._lines, self._size = [], 0

    def take(self) -> Iterator[Record]:
        """Hand over what is complete."""
        done, self._done = self._done, []
        yield from (text_row(start, text) for start, text in done)


class _Body:
    """Follow the body of a document: paragraphs, also inside of frames, and tables, of which a row is a line."""

    def __init__(self, skipped: frozenset[str]) -> None:
        self.sections = _Sections()
        self._skipped = skipped
        self._skip_depth = 0
        self._paragraphs: list[list[str]] = [[]]
        self._opens = False
        self._drop = False
        self._rows: list[list[list[str]]] = []

    def skips(self, tag: str) -> bool:
        """Say whether an element, or one that it lies in, is no part of the text."""
        if self._skip_depth or tag.rpartition(":")[2] in self._skipped or tag in self._skipped:
            self._skip_depth += 1
        return self._skip_depth > 0

    def leaves_skipped(self) -> bool:
        """Say whether the element that ends was skipped."""
        if not self._skip_depth:
            return False
        self._skip_depth -= 1
        return True

    def write(self, text: str) -> None:
        if not self._skip_depth:
            self._paragraphs[-1].append(text)

    def open_paragraph(self, opens: bool = False) -> None:
        self._paragraphs.append([])
        self._opens, self._drop = opens, False

    def mark(self, role: str) -> None:
        """Say of the paragraph at hand that it is a heading, or an entry of a table of contents."""
        self._opens = self._opens or role == "heading"
        self._drop = self._drop or role == "toc"

    def close_paragraph(self) -> None:
        text = "".join(self._paragraphs.pop()) if len(self._paragraphs) > 1 else ""
        if not self._drop:
            self._put(text, self._opens)
        self._opens = self._drop = False

    def _put(self, text: str, opens: bool = False) -> None:
        if not self._rows:
            self.sections.add(text, opens)
        elif text.strip() and self._rows[-1]:
            self._rows[-1][-1].append(" ".join(text.split()))

    def open_row(self) -> None:
        self._rows.append([])

    def open_cell(self) -> None:
        if self._rows:
            self._rows[-1].append([])

    def close_row(self) -> None:
        cells = [" ".join(cell) for cell in (self._rows.pop() if self._rows else [])]
        self._put("\t".join(cells).strip())

    def close(self) -> None:
        """End the document; text that stood in no paragraph is text too."""
        self.sections.add("".join(self._paragraphs[0]))
        self.sections.close()


def read_word(document: MarkupZip) -> Iterator[Record]:
    """Read a Word document as rows of text. Raises DataError for one that is damaged."""
    main = _main_part(document)
    roles = _style_roles(document, posixpath.join(posixpath.dirname(main), "styles.xml"))
    body = _Body(_SKIPPED_IN_WORD)
    inside_text = 0

    def start(tag: str, attributes: Attributes) -> None:
        nonlocal inside_text
        if body.skips(tag):
            return
        name, value = tag.rpartition(":")[2], attributes.get("w:val", "")
        inside_text += name == "t"
        if name == "p":
            body.open_paragraph()
        elif name == "pStyle":
            body.mark(roles.get(value, ""))
        elif name == "outlineLvl" and value in ("0", "1"):
            body.mark("heading")
        elif name == "tr":
            body.open_row()
        elif name == "tc":
            body.open_cell()
        elif name in _WORD_SIGNS:
            body.write(_WORD_SIGNS[name])

    def end(tag: str) -> None:
        nonlocal inside_text
        if body.leaves_skipped():
            return
        name = tag.rpartition(":")[2]
        inside_text -= name == "t"
        if name == "p":
            body.close_paragraph()
        elif name == "tr":
            body.close_row()

    for _ in document.parse(main, start, end, lambda data: body.write(data) if inside_text else None):
        yield from body.sections.take()
    body.close()
    yield from body.sections.take()


def _main_part(document: MarkupZip) -> str:
    """Return the member that holds the text of a Word document."""
    found: list[str] = []

    def start(tag: str, attributes: Attributes) -> None:
        if attributes.get("Type", "").endswith(_OFFICE_PART):
            found.append(attributes.get("Target", "").lstrip("/"))

    if not document.has("word/document.xml") and document.has("_rels/.rels"):
        document.all_of("_rels/.rels", start)
    return found[0] if found else "word/document.xml"


def _style_roles(document: MarkupZip, member: str) -> dict[str, str]:
    """Return which styles are headings of the first two levels or entries of a table of contents, by their id.

    The ids are in the language of the program that wrote them, the names are English in every file.
    """
    roles: dict[str, str] = {}
    style = ""

    def start(tag: str, attributes: Attributes) -> None:
        nonlocal style
        name, value = tag.rpartition(":")[2], attributes.get("w:val", "")
        if name == "style":
            style = attributes.get("w:styleId", "")
        elif name == "name" and (match := _STYLE_NAME.fullmatch(value)):
            roles[style] = (match[1] or match[2] or match[3]).lower()
        elif name == "outlineLvl" and value in ("0", "1"):
            roles.setdefault(style, "heading")

    if document.has(member):
        document.all_of(member, start)
    return roles


def read_odt(document: MarkupZip) -> Iterator[Record]:
    """Read an OpenDocument text as rows of text. Raises DataError for one that is locked or damaged."""
    refuse_locked(document.archive, document.called)
    body = _Body(_SKIPPED_IN_ODT)
    depth = 0

    def start(tag: str, attributes: Attributes) -> None:
        nonlocal depth
        if body.skips(tag):
            return
        name = tag.rpartition(":")[2]
        if name in ("p", "h"):
            depth += 1
            body.open_paragraph(name == "h" and attributes.get("text:outline-level", "1") in ("1", "2"))
        elif name == "table-row":
            body.open_row()
        elif name == "table-cell":
            body.open_cell()
        elif name == "s" and depth:
            count = attributes.get("text:c", "1")
            body.write(" " * min(int(count) if count.isdecimal() else 1, 1000))
        elif name in ("tab", "line-break") and depth:
            body.write("\t" if name == "tab" else "\n")

    def end(tag: str) -> None:
        nonlocal depth
        if body.leaves_skipped():
            return
        name = tag.rpartition(":")[2]
        if name in ("p", "h"):
            depth -= 1
            body.close_paragraph()
        elif name == "table-row":
            body.close_row()

    for _ in document.parse("content.xml", start, end, lambda data: body.write(data) if depth else None):
        yield from body.sections.take()
    body.close()
    yield from body.sections.take()


def refuse_locked(archive: zipfile.ZipFile, called: str) -> None:
    """Raise DataError for an OpenDocument file that is encrypted."""
    if "META-INF/manifest.xml" not in archive.namelist():
        return
    with open_member(archive, archive.getinfo("META-INF/manifest.xml")) as stream:
        if b"encryption-data" in stream.read(limits.CHUNK_BYTES):
            raise DataError(f"{called} that is locked with a password", "", "Save it without a password")
