"""Read EPUB books: the text of their pages in reading order, cut into sections as web pages are."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from urllib.parse import unquote

from app.data.reading.documents.rich_text import AS_TEXT, Attributes, MarkupZip
from app.data.reading.documents.web_pages import page_sections, text_row
from app.data.reading.inputs import open_member
from app.data.reading.records.json_rows import Record
from app.data.reading.rows import BadRow
from app.errors import DataError


def read_book(document: MarkupZip) -> Iterator[Record]:
    """Read a book as rows of text, a section each. Raises DataError for one that is damaged or copy protected."""
    chapters = _chapters(document)
    locked = _locked_members(document) & set(chapters)
    if locked:
        raise DataError(f"{document.called} with copy protection", "Its chapters are encrypted", AS_TEXT)
    number = 1
    for chapter in chapters:
        if not document.has(chapter):
            what = f"The chapter {chapter} is missing"
            yield number, BadRow("file", what, "Save the book again, or its text as .txt")
            continue
        with open_member(document.archive, document.archive.getinfo(chapter)) as stream:
            sections = page_sections(stream)
        if isinstance(sections, BadRow):
            yield number, sections
            continue
        for _, text in sections:
            yield text_row(number, text)
            number += 1


def _chapters(document: MarkupZip) -> list[str]:
    """Return the pages of a book in reading order."""
    packages: list[str] = []
    pages: dict[str, str] = {}
    order: list[str] = []

    def container(tag: str, attributes: Attributes) -> None:
        if tag.rpartition(":")[2] == "rootfile":
            packages.append(attributes.get("full-path", ""))

    def package(tag: str, attributes: Attributes) -> None:
        name = tag.rpartition(":")[2]
        if name == "item" and _is_page(attributes):
            pages[attributes.get("id", "")] = attributes.get("href", "")
        elif name == "itemref":
            order.append(attributes.get("idref", ""))

    document.all_of("META-INF/container.xml", container)
    if not packages:
        raise document.damaged("it names no package of pages")
    document.all_of(packages[0], package)
    folder = posixpath.dirname(packages[0])
    hrefs = [pages[one] for one in order if one in pages] or list(pages.values())
    places = [posixpath.normpath(posixpath.join(folder, _bare(href))) for href in hrefs]
    return list(dict.fromkeys(places))


def _bare(href: str) -> str:
    return unquote(href.partition("#")[0])


def _is_page(attributes: Attributes) -> bool:
    """Say whether an item of a book is a page with text; the page of its contents is none."""
    kind, href = attributes.get("media-type", ""), attributes.get("href", "")
    is_page = kind in ("application/xhtml+xml", "text/html") or (
        not kind and _bare(href).lower().endswith((".xhtml", ".html", ".htm"))
    )
    return is_page and "nav" not in attributes.get("properties", "").split()


def _locked_members(document: MarkupZip) -> set[str]:
    """Return the members of a book that are encrypted. Fonts often are, and cost nothing."""
    locked: set[str] = set()

    def start(tag: str, attributes: Attributes) -> None:
        if tag.rpartition(":")[2] == "CipherReference":
            locked.add(_bare(attributes.get("URI", "")).lstrip("/"))

    if document.has("META-INF/encryption.xml"):
        document.all_of("META-INF/encryption.xml", start)
    return locked
