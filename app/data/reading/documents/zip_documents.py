"""Tell which document a zip really is, by the members that mark it: content decides, whatever the file is called."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from typing import Literal

Kind = Literal["xlsx", "ods", "docx", "odt", "epub"]
_MIME_BYTES = 200
_MARKS: tuple[tuple[str, str, Kind | None], ...] = (
    ("xl/workbook.xml", "an Excel file", "xlsx"),
    ("xl/workbook.bin", "a binary Excel file (XLSB)", None),
    ("xl/", "an Excel file", "xlsx"),
    ("word/", "a Word document", "docx"),
    ("ppt/", "a PowerPoint file", None),
    ("[Content_Types].xml", "an Office file", None),
    ("META-INF/container.xml", "an EPUB book", "epub"),
    ("META-INF/MANIFEST.MF", "a Java program", None),
    ("AndroidManifest.xml", "an Android program", None),
    ("Index/Document.iwa", "a file of Pages, Numbers or Keynote", None),
)
_OPEN_DOCUMENT = "an OpenDocument file"
# What the member `mimetype` of an OpenDocument file says; the endings tell templates and drawings apart.
_MIMES: tuple[tuple[bytes, str, Kind], ...] = (
    (b"application/vnd.oasis.opendocument.spreadsheet", "an OpenDocument spreadsheet (ODS)", "ods"),
    (b"application/vnd.oasis.opendocument.text", "an OpenDocument text (ODT)", "odt"),
)


@dataclass(frozen=True)
class ZipDocument:
    """A document in a zip: what it is called, and which reader takes it; without a kind it is refused."""

    called: str
    kind: Kind | None = None


def document_in(archive: zipfile.ZipFile) -> ZipDocument | None:
    """Return which document or program a zip really is, None for an archive of files."""
    names = set(archive.namelist())
    if "content.xml" in names and names & {"mimetype", "META-INF/manifest.xml"}:
        return _open_document(archive)
    for mark, called, kind in _MARKS:
        if any(name == mark or (mark.endswith("/") and name.startswith(mark)) for name in names):
            return ZipDocument(called, kind)
    if names and all(name.endswith(".npy") for name in names):
        return ZipDocument("a zip of NumPy arrays")
    return None


def _open_document(archive: zipfile.ZipFile) -> ZipDocument:
    try:
        with archive.open("mimetype") as member:
            mime = member.read(_MIME_BYTES).strip()
    except (KeyError, OSError, RuntimeError, NotImplementedError, zipfile.BadZipFile):
        return ZipDocument(_OPEN_DOCUMENT)
    found = next((ZipDocument(called, kind) for start, called, kind in _MIMES if mime.startswith(start)), None)
    return found or ZipDocument(_OPEN_DOCUMENT)
