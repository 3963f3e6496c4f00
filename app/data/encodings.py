"""Find the encoding of a stream, and read its text in lines or chunks with bounded memory.

What cannot be decoded becomes a lone surrogate (in UTF-8 the one that `surrogateescape` gives the byte) that marks its
own row as bad and costs no other.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import BinaryIO

from app.data import limits
from app.data.rows import BadRow

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
_CJK = re.compile("[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]")
# The fifty characters that make up a third of any Chinese text, and its marks, in both scripts.
_COMMON_CHINESE = re.compile(
    "[，。、？！：；“”的一是不了在人有我他这個个们們中来來上大为為和国國地到以说說时時要就出会會可也你对對生能而子那得于着下自之年过過好]"
)
_FEW_CHARS = 24
_LATIN_ACCENT = re.compile(r"[\x80-\u02af]")


def sniff_encoding(head: bytes) -> tuple[str, int]:
    """Return the encoding of a stream from its first bytes, and the length of its byte order mark."""
    for mark, name in _BOMS:
        if head.startswith(mark):
            return name, len(mark)
    sample = head[: limits.SNIFF_BYTES]
    if wide := _unmarked_utf16(sample):
        return wide, 0
    if _decodes(sample, "utf-8"):
        return "utf-8", 0
    return ("gb18030" if _looks_like_gb18030(sample) else "utf-8"), 0


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


def _looks_like_gb18030(sample: bytes) -> bool:
    """Tell Chinese text from UTF-8 with a few broken bytes: most of its foreign characters must be Chinese."""
    if not _decodes(sample, "gb18030"):
        return False
    text = codecs.getincrementaldecoder("gb18030")("strict").decode(sample)
    foreign = len(text) - sum(char.isascii() for char in text)
    # Japanese and Korean encodings decode as rare Chinese characters.
    if foreign > _FEW_CHARS and len(_COMMON_CHINESE.findall(text)) < 0.05 * foreign:
        return False
    good_utf8 = _LATIN_ACCENT.sub("", sample.decode("utf-8", "ignore"))
    return len(_CJK.findall(text)) > 0.6 * foreign and len(_CJK.findall(good_utf8)) < 0.2 * foreign


def read_chunks(stream: BinaryIO) -> Iterator[str]:
    """Read decoded text, about one million characters at a time."""
    head = stream.read(limits.SNIFF_BYTES)
    encoding, skip = sniff_encoding(head)
    errors = "surrogateescape" if encoding == "utf-8" else "mark_undecoded"
    decoder = codecs.getincrementaldecoder(encoding)(errors)
    yield decoder.decode(head[skip:])
    while chunk := stream.read(limits.CHUNK_BYTES):
        yield decoder.decode(chunk)
    if rest := decoder.decode(b"", final=True):
        yield rest


def read_lines(stream: BinaryIO) -> Iterator[tuple[int, str | None]]:
    """Read numbered lines without their ends. A line over the cap comes as None and is skipped in bounded memory."""
    number, carry, skipping, end = 1, "", False, ""
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
