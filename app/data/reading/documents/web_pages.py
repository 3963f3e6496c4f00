"""Read the text of web pages and subtitles, and refuse documents whose markup would be trained as text.

What a file holds decides, whatever it is called.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import BinaryIO, Literal

from app.data.reading import limits
from app.data.reading.encodings import read_lines, refuse_bad_text, too_long
from app.data.reading.records.json_rows import Record
from app.data.reading.rows import BadRow
from app.errors import DataError

Kind = Literal["html", "subtitles"]
_HTML = re.compile(r"\ufeff?(?:\s|<!--(?s:.{0,4000}?)-->)*<(?:!doctype html|html|head|body)\b", re.IGNORECASE)
_HTML_SUFFIXES = (".html", ".htm", ".xhtml")
_HTML_TAG = re.compile(r"\ufeff?\s*<(?:p|div|table|ul|ol|h[1-6]|span|article|section|main|meta|title)\b", re.IGNORECASE)
# SubRip, WebVTT and SubViewer.
_SUBTITLES = re.compile(
    r"\ufeff?\s*(?:WEBVTT\b|\d{1,6}\s*\n\s*\d{1,2}:\d\d:\d\d[,.]\d{1,3}\s*-->|\d:\d\d:\d\d\.\d{3},\d:\d\d:\d\d\.\d{3}\s*\n)"
)
_TIMES = re.compile(r"\s*(?:\d{1,2}:)?\d{1,2}:\d\d[,.]\d{1,3}\s*(?:-->|,\d:\d\d:\d\d\.\d{3}$)")
_FOREIGN = (
    (
        re.compile(r"\ufeff?\s*<(?:\?xml|!doctype|svg|rss|feed|tei|mediawiki|w:document)\b", re.IGNORECASE),
        "an XML file",
    ),
    (re.compile(r"\ufeff?\s*\{\\rtf"), "an RTF document"),
    (re.compile(r"\ufeff?\s*\[Script Info\]"), "a subtitle file of ASS"),
    (re.compile(r"\ufeff?\s*\\documentclass\b"), "a LaTeX document"),
    (re.compile(r"(?:[A-Z][\w-]+: [^\n]*\n)*MIME-Version: "), "an e-mail"),
    (re.compile(r"\ufeff?\s*\{\d+\}\{\d+\}"), "a subtitle file of MicroDVD"),
    (re.compile(r"\ufeff?\s*\[(?:\d\d:\d\d[.:]\d\d|(?:ti|ar|al|by):[^\]\n]{0,200})\]"), "a file of timed lyrics (LRC)"),
    (re.compile(r"\ufeff?\s*BEGIN:V(?:CARD|CALENDAR)\b"), "a file of addresses or dates (vCard, iCalendar)"),
    (re.compile(r"\ufeff?\s*%!PS"), "a PostScript file"),
    (
        re.compile(
            r"\ufeff?(?:---\s*\n)?\s*- (?:instruction|prompt|question|input|messages|conversations|role|text)\s*:"
        ),
        "a YAML file",
    ),
)
# A line of a mail's head, with those that go on below it, and the names that tell it from a dialogue.
_MAIL_HEAD = re.compile(r"\ufeff?(?:From \S+ [^\n]*\n)?((?:[A-Z][\w-]*:[^\n]*\n(?:[ \t][^\n]*\n)*){2,60})")
_MAIL_NAME = re.compile(
    r"^(From|To|Date|Subject|Received|Message-ID|Return-Path|Reply-To):", re.MULTILINE | re.IGNORECASE
)
# "[12/03/2024, 10:15:32] Anna: " and "12.03.24, 10:15 - Anna: ", as messengers export a chat.
_CHAT_LINE = re.compile(
    r"^[\u200e\u200f]?\[?\d{1,4}[./-]\d{1,2}[./-]\d{2,4},? \d{1,2}[:.]\d\d(?:[:.]\d\d)?"
    r"(?:[ \u202f\xa0]?[AaPp]\.?[ ]?[Mm]\.?)?(?:\]| -) [^:\n]{1,60}: ",
    re.MULTILINE,
)
_ANKI = re.compile(r"\ufeff?#(?:separator|html|notetype|deck|columns)(?: column)?:", re.IGNORECASE)
_LEAST_CHAT_LINES = 2
_XML_TAG = re.compile(r"\ufeff?\s*<([A-Za-z][\w.-]*)(?:\s[^<>]*)?>")
# Tags that marked-up conversations begin with.
_CHAT_TAGS = ("s", "bos", "human", "bot", "user", "assistant", "system", "think", "start_of_turn", "pad", "unk", "sys")
_LEAST_TAGS = 4
_LEAST_HTML_TAGS = 2
_SILENT = ("script", "style", "head", "template", "noscript", "svg", "nav")
_BLOCKS = {
    *("p", "div", "section", "article", "br", "li", "ul", "ol", "tr", "table", "pre", "blockquote", "dt", "dd"),
    *("h1", "h2", "h3", "h4", "h5", "h6", "header", "footer", "main", "figure", "figcaption", "hr"),
}


def document_kind(head: str, name: str, suffix: str = "") -> Kind | None:
    """Return which kind of document a text is, None for plain text; raise DataError for one that is not read."""
    if _HTML.match(head) or (suffix in _HTML_SUFFIXES and _HTML_TAG.match(head)):
        return "html"
    if _SUBTITLES.match(head):
        return "subtitles"
    found = next((kind for pattern, kind in _FOREIGN if pattern.match(head)), None)
    if found is None and _is_markup(head):
        found = "a file of markup (XML or HTML)"
    if found is None and _is_mail(head):
        found = "an e-mail or mailbox"
    if found is None and _is_chat_log(head):
        what = f"{name} is a chat as a messenger exports it"
        raise DataError(
            what,
            "Its dates and names would be trained as text",
            "Write each conversation as one row: a list messages, each with role and content",
        )
    if _ANKI.match(head):
        remedy = "Put names such as question and answer in place of the lines that begin with #, and save it as .tsv"
        raise DataError(f"{name} is an export of Anki", "Its marks would be trained as text", remedy)
    if found:
        raise DataError(
            f"{name} cannot be read: it is {found}",
            "Its marks would be trained as text",
            "Save its text as .txt or .jsonl",
        )
    return None


def _is_mail(head: str) -> bool:
    """Say whether text opens with the head of a mail: two or more of the lines that only mails have."""
    match = _MAIL_HEAD.match(head[: limits.SNIFF_BYTES])
    return match is not None and len({name.lower() for name in _MAIL_NAME.findall(match.group(1))}) > 1


def _is_chat_log(head: str) -> bool:
    """Say whether most lines of a text begin with a date and a speaker."""
    if not _CHAT_LINE.match(head.lstrip("\ufeff\n")):
        # The first line may tell that the chat is encrypted.
        head = head[head.find("\n") + 1 :]
        if not _CHAT_LINE.match(head):
            return False
    lines = [line for line in head[: limits.SNIFF_BYTES].splitlines() if line.strip()]
    dated = sum(_CHAT_LINE.match(line) is not None for line in lines)
    return dated >= _LEAST_CHAT_LINES and dated > 0.3 * len(lines)


def _is_markup(head: str) -> bool:
    """Say whether text opens with a tag and most of its lines are made of tags."""
    first = _XML_TAG.match(head)
    if first is None or first.group(1).lower() in _CHAT_TAGS:
        return False
    lines = [line.strip() for line in head[: limits.SNIFF_BYTES].splitlines() if line.strip()]
    tagged = sum(line.startswith("<") for line in lines)
    least = _LEAST_HTML_TAGS if _HTML_TAG.match(head) else _LEAST_TAGS
    return head.count("</") >= least and tagged > 0.6 * len(lines)


def read_document(stream: BinaryIO, kind: Kind) -> Iterator[Record]:
    """Read a web page or subtitles as rows of text."""
    yield from _page_rows(stream) if kind == "html" else _subtitle_rows(stream)


class _PageText(HTMLParser):
    """Collect the text of a page by the blocks that it is cut into."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._silent = 0
        self._pieces: list[str] = []
        self.sections: list[tuple[int, str]] = []
        self._start = 1

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._silent += tag in _SILENT
        if tag == "body":
            self._silent = 0
        if tag in ("h1", "h2"):
            self.close_section()
        if tag in _BLOCKS and self._silent == 0:
            self._pieces.append("\n")
        if tag in ("td", "th"):
            self._pieces.append(" ")  # cells stand apart

    def handle_endtag(self, tag: str) -> None:
        if tag in _SILENT:
            self._silent = max(0, self._silent - 1)
        if tag in _BLOCKS:
            self._pieces.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self._pieces.append(re.sub(r"\s+", " ", data))

    def close_section(self) -> None:
        """End the section at hand and open the next."""
        lines = [" ".join(line.split()) for line in "".join(self._pieces).split("\n")]
        if text := "\n".join(line for line in lines if line):
            self.sections.append((self._start, text))
        self._pieces, self._start = [], self.getpos()[0]


def _page_rows(stream: BinaryIO) -> Iterator[Record]:
    sections = page_sections(stream)
    if isinstance(sections, BadRow):
        yield 1, sections
        return
    if not sections:
        raise DataError("The web page holds no text", "All of it is script, style or frame", "Save its text as .txt")
    yield from (text_row(line, text) for line, text in sections)


def page_sections(stream: BinaryIO) -> list[tuple[int, str]] | BadRow:
    """Return the text of a web page by the sections that its headings open, each with its line; or what is wrong."""
    page, size = _PageText(), 0
    for _, line in read_lines(stream):
        size += len(line or "")
        if line is None or size > limits.MAX_ROW_CHARS:
            return too_long()
        page.feed(line + "\n")
    page.close()
    page.close_section()
    return page.sections


def _subtitle_rows(stream: BinaryIO) -> Iterator[Record]:
    """Read what is said as one text, without numbers, times and marks."""
    said: list[str] = []
    cue: list[str] = []
    size = 0
    for number, line in read_lines(stream):
        size += len(line or "")
        if line is None or size > limits.MAX_ROW_CHARS:
            yield number, too_long()
            return
        if line.strip():
            cue.append(line.strip())
            continue
        said += _cue_text(cue)
        cue = []
    said += _cue_text(cue)
    yield text_row(1, "\n".join(said))


def _cue_text(cue: list[str]) -> list[str]:
    """Return the lines of a cue behind its times; what has no times is a heading or a note."""
    at = next((index for index, line in enumerate(cue) if _TIMES.match(line)), None)
    if at is None:
        return []
    return [text for line in cue[at + 1 :] if (text := re.sub(r"<[^<>]{0,80}>|\{\\[^{}]{0,80}\}", "", line).strip())]


def text_row(line: int, text: str) -> Record:
    """Return a text as a row, or the complaint about it."""
    try:
        refuse_bad_text(text)
        return line, {"text": text}
    except BadRow as problem:
        return line, problem.about(text)
