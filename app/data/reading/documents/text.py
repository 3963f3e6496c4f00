"""Read plain text and Markdown: a row is a paragraph, a section, or an example marked off in the text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import BinaryIO

from app.data.reading import limits
from app.data.reading.encodings import read_lines, refuse_bad_text, too_long
from app.data.reading.records.json_rows import Note, Record
from app.data.reading.rows import BadRow

# The heading that opens an example in files written after the Alpaca prompt, in English and Chinese.
INSTRUCTION_HEADING = re.compile(r"^#{2,3} ?(?:Instruction|Human|User|指令|问题|用户)\s*[:：]?", re.IGNORECASE)
# A dialogue that names its speakers; each question opens an example.
DIALOGUE = re.compile(r"\s*(?:Human|User|USER|<human>):(?s:.*?)^(?:Assistant|AI|ASSISTANT|<bot>):", re.MULTILINE)
QUESTION_LINE = re.compile(r"(?:Human|User|USER|<human>):")
_CHATML_TURN = "<|im_start|>"
_SECTION = re.compile(r"^#{1,2} ")
_FENCE = re.compile(r"^(```|~~~)")
# What note programs keep above a note: names with values, between two lines of three dashes.
_FRONT_MATTER = re.compile(
    r"\ufeff?---[ \t]*\r?\n(?:[ \t-][^\n]*\n|[\w -]+:[^\n]*\n|\s*\n){0,200}(?:---|\.\.\.)[ \t]*\r?(?:\n|\Z)"
)
_FEWEST_LINES = 2
Starts = Callable[[str, "list[str]"], bool]


def read_prose(stream: BinaryIO, markdown: bool, head: str, note: Note = lambda text: None) -> Iterator[Record]:
    """Cut text into rows by the marks that its beginning shows; `note` is told what is left out or looks like cells."""
    front = _FRONT_MATTER.match(head) if markdown else None
    passed = front.group().count("\n") + (not front.group().endswith("\n")) if front else 0
    if front:
        note("The lines between --- and --- at the top of a note tell about it, and are left out")
    elif cells := _cells_by_tabs(head):
        note(f"Each line has {cells} cells with tabs between: as .tsv with names in the first line they are columns")
    block: list[str] = []
    start = 1
    starts = _block_start(markdown, head)
    size = 0
    for number, line in read_lines(stream):
        if number <= passed:
            continue
        if line is None or size > limits.MAX_ROW_CHARS:
            yield start if line is not None else number, too_long()
            block, size = [], 0
            continue
        if block and starts(line, block):
            yield from _finished(start, block)
            block, size = [], 0
        if block or line.strip():
            start = start if block else number
            block.append(line)
            size += len(line) + 1
    yield from _finished(start, block)


def _cells_by_tabs(head: str) -> int:
    """Return in how many cells tabs cut each of the first lines, 0 where they do not."""
    lines = [line for line in head.split("\n")[:20] if line.strip()]
    tabs = {line.rstrip("\r").count("\t") for line in lines}
    return tabs.pop() + 1 if len(lines) >= _FEWEST_LINES and len(tabs) == 1 and "\t" in head else 0


def _finished(start: int, block: list[str]) -> Iterator[Record]:
    text = "\n".join(block).strip()
    if not text:
        return
    try:
        refuse_bad_text(text)
        yield start, {"text": text}
    except BadRow as problem:
        yield start, problem.about(text)


def _block_start(markdown: bool, head: str) -> Starts:
    """Choose what opens a row."""
    if re.search(INSTRUCTION_HEADING.pattern, head, re.IGNORECASE | re.MULTILINE):
        return lambda line, block: bool(INSTRUCTION_HEADING.match(line))
    if DIALOGUE.match(head):
        return lambda line, block: bool(QUESTION_LINE.match(line))
    if _CHATML_TURN in head:
        return lambda line, block: line.startswith(_CHATML_TURN) and not block[-1].strip()
    if markdown:
        return _Sections()
    return lambda line, block: not block[-1].strip()


class _Sections:
    """Say whether a line opens a section of Markdown: a heading that stands in no code fence."""

    def __init__(self) -> None:
        self._block: list[str] = []
        self._read = 0
        self._fenced = False

    def __call__(self, line: str, block: list[str]) -> bool:
        """Look at the lines that the block has won since the last call, and at the next line."""
        if block is not self._block:
            self._block, self._read, self._fenced = block, 0, False
        self._fenced ^= sum(bool(_FENCE.match(line)) for line in block[self._read :]) % 2 == 1
        self._read = len(block)
        return bool(_SECTION.match(line)) and not self._fenced
