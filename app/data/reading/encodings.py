"""Find the encoding of a stream, and read its text in lines or chunks with bounded memory.

What cannot be decoded becomes a lone surrogate (in UTF-8 the one that `surrogateescape` gives the byte) that marks its
own row as bad and costs no other.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import BinaryIO

from app.data.reading import limits
from app.data.reading.code_pages import find_code_page
from app.data.reading.rows import BadRow

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# Chinese rows in UTF-16 hold a quote, a comma or a line end every few characters.
_CJK_BYTES_A_ZERO = 64
# Stands for what could not be decoded in other encodings than UTF-8; `surrogateescape` gives DC80 to DCFF.
_UNDECODED = "\udc7f"
codecs.register_error("mark_undecoded", lambda error: (_UNDECODED, error.end))  # type: ignore[attr-defined]
_SURROGATE = re.compile("[\ud800-\udfff]")
_ASCII = bytes(range(128))
# How ISO 2022 opens its double-byte sets, and HZ its own.
_SHIFTED_BY_ESCAPES = re.compile(rb"\x1b\$(?:[@AB]|\([A-Q]|\)[A-Q])")
_SHIFTED_BY_TILDES = re.compile(rb"~\{([!-w][!-~](?:[!-~]{2})*?)~\}")
_LEAST_TILDE_BYTES = 8
_UTF8_CHARACTER = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")


def sniff_encoding(head: bytes) -> tuple[str, int, frozenset[str]]:
    """Return the encoding of a stream from its first bytes, the length of its byte order mark, and its characters.

    Those are what a text in a code page may hold beyond ASCII; an empty set allows all.
    """
    for mark, name in _BOMS:
        if head.startswith(mark):
            return name, len(mark), frozenset()
    sample = head[: limits.SNIFF_BYTES]
    if wide := _unmarked_utf16(sample):
        return wide, 0, frozenset()
    if _decodes(sample, "utf-8"):
        return _seven_bit(sample) or "utf-8", 0, frozenset()
    found = None if _holds_utf8(sample) else find_code_page(sample, len(head) >= limits.SNIFF_BYTES)
    return (found[0], 0, found[1]) if found else ("utf-8", 0, frozenset())


def _seven_bit(sample: bytes) -> str | None:
    """Return the encoding of a text that writes Japanese, Korean or Chinese in ASCII between shifts, as mails do."""
    if _SHIFTED_BY_ESCAPES.search(sample):
        return next((name for name in ("iso2022_jp_ext", "iso2022_kr") if _decodes(sample, name)), None)
    runs = _SHIFTED_BY_TILDES.findall(sample)
    return "hz" if sum(map(len, runs)) >= _LEAST_TILDE_BYTES and _decodes(sample, "hz") else None


def _holds_utf8(sample: bytes) -> bool:
    """Say whether a text is UTF-8 with a few broken bytes: most of what lies beyond ASCII is whole characters of it."""
    whole = sum(map(len, _UTF8_CHARACTER.findall(sample)))
    return whole > 0.5 * len(sample.translate(None, _ASCII))


def _unmarked_utf16(sample: bytes) -> str | None:
    """Return which UTF-16 a sample without byte order mark is in, None for anything else.

    Latin text has a zero in every second byte; Chinese text only where its quotes, commas and line ends are.
    """
    first, second = sample[::2].count(0), sample[1::2].count(0)
    if first + second > len(sample) // 4 and len(sample) >= 4:
        return "utf-16-le" if second > first else "utf-16-be"
    if min(first, second) == 0 and max(first, second) >= max(4, len(sample) // _CJK_BYTES_A_ZERO):
        encoding = "utf-16-le" if second else "utf-16-be"
        return encoding if _decodes(sample, encoding) else None
    return None


def _decodes(sample: bytes, encoding: str) -> bool:
    try:
        codecs.getincrementaldecoder(encoding)("strict").decode(sample)
    except UnicodeDecodeError:
        return False
    return True


def read_chunks(stream: BinaryIO) -> Iterator[str]:
    """Read decoded text, about one million characters at a time."""
    head = stream.read(limits.SNIFF_BYTES)
    encoding, skip, known = sniff_encoding(head)
    errors = "surrogateescape" if encoding == "utf-8" else "mark_undecoded"
    decoder = codecs.getincrementaldecoder(encoding)(errors)
    yield _only(known, decoder.decode(head[skip:]))
    while chunk := stream.read(limits.CHUNK_BYTES):
        yield _only(known, decoder.decode(chunk))
    if rest := decoder.decode(b"", final=True):
        yield _only(known, rest)


def _only(known: frozenset[str], text: str) -> str:
    """Return a text with everything beyond ASCII that its code page does not speak for marked as undecoded."""
    if not known or text.isascii():
        return text
    strange = {char for char in set(text) if not char.isascii()} - known
    return text.translate(dict.fromkeys(map(ord, strange), _UNDECODED)) if strange else text


def read_lines(stream: BinaryIO, end: str = "") -> Iterator[tuple[int, str | None]]:
    """Read numbered lines without their ends. A line over the cap comes as None and is skipped in bounded memory.

    `end` is what ends a line, CR or LF; the beginning of the text decides where it is not given.
    """
    number, carry, skipping = 1, "", False
    for chunk in read_chunks(stream):
        # Old spreadsheets end lines with a carriage return alone.
        end = end or ("\r" if "\r" in chunk and "\n" not in chunk else "\n")
        lines = (carry + chunk).split(end)
        carry = lines.pop()
        for line in lines:
            yield number, None if skipping or len(line) > limits.MAX_ROW_CHARS else _bare(line)
            skipping = False
            number += 1
        if len(carry) > limits.MAX_ROW_CHARS or skipping:
            skipping, carry = True, ""
    if carry or skipping:
        yield number, None if skipping else _bare(carry)


def _bare(line: str) -> str:
    """Return a line without the rest of its end, and without the mark of a file that was appended to another."""
    return line.removesuffix("\r").removeprefix("\ufeff")


def refuse_bad_text(text: str) -> None:
    """Raise BadRow when text holds a byte that could not be decoded, a lone surrogate, or a NUL."""
    if "\0" in text:
        raise BadRow("nul", "The row holds a NUL character", "Remove it; text files do not hold NUL")
    if text.isascii():
        return
    if found := _SURROGATE.search(text):
        code = ord(found.group())
        if found.group() == _UNDECODED:
            raise BadRow("encoding", "Some characters could not be decoded", "Save the file as UTF-8")
        if 0xDC80 <= code <= 0xDCFF:
            raise BadRow("encoding", f"Byte 0x{code - 0xDC00:02x} is not valid UTF-8", "Save the file as UTF-8")
        raise BadRow("encoding", f"The row holds a lone surrogate, \\u{code:04x}", "Remove it or write the whole pair")


def too_long() -> BadRow:
    """Return the complaint about a row over the cap."""
    message = f"The row is longer than {limits.MAX_ROW_CHARS:,} characters"
    return BadRow("too_long", message, "Split it, or leave it out")
