"""Name the format of rows, and say why."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from app.data import columns
from app.data.marked_text import has_turn_headings
from app.data.rows import Row

FORMATS = (
    "alpaca",
    "prompt-completion",
    "question-answer",
    "sharegpt",
    "messages",
    "chatml-text",
    "preference",
    "text",
    "mapped",
    "mixed",
    "unknown",
)
# A second format below this share counts as stray rows, not as a mixed file.
_STRAY_SHARE = 0.02


@dataclass(frozen=True)
class Detection:
    """What the rows look like: the format, how sure (0 to 1), and the reason in words."""

    format: str
    confidence: float
    why: str


def format_of(fields: dict[str, Any]) -> tuple[str, str]:
    """Return the format of one row and the reason."""
    for recognise in (_preference, _turn_list, _pairs, _plain):
        found = recognise(fields)
        if found:
            return found
    names = ", ".join(str(name) for name in list(fields)[:8]) or "none"
    return "unknown", f"no known set of columns among: {names}"


def _preference(fields: dict[str, Any]) -> tuple[str, str] | None:
    chosen, rejected = columns.find(fields, columns.CHOSEN), columns.find(fields, columns.REJECTED)
    if chosen and rejected:
        return "preference", f"columns {chosen} and {rejected}; the chosen answer is trained"
    return None


def _turn_list(fields: dict[str, Any]) -> tuple[str, str] | None:
    for name in columns.MESSAGES:
        column = columns.find(fields, (name,))
        turns = as_list(fields[column]) if column else None
        if turns and isinstance(turns[0], dict):
            if "from" in turns[0] and "value" in turns[0]:
                return "sharegpt", f"column {column} lists turns with from and value"
            if "role" in turns[0]:
                return "messages", f"column {column} lists turns with role and content"
    return None


def as_list(value: Any) -> list[Any] | None:
    """Return a list, also where a cell holds one as JSON text."""
    if isinstance(value, str) and value.lstrip()[:1] == "[":
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, list) and value else None


def _pairs(fields: dict[str, Any]) -> tuple[str, str] | None:
    for name, asked, answered in (
        ("alpaca", columns.INSTRUCTION, columns.OUTPUT),
        ("prompt-completion", columns.PROMPT, columns.COMPLETION),
        ("question-answer", columns.QUESTION, columns.ANSWER),
        ("prompt-completion", columns.INPUT, columns.OUTPUT),
        ("question-answer", columns.PROMPT, columns.ANSWER),
    ):
        left, right = columns.find(fields, asked), columns.find(fields, answered)
        if left and right and left != right:
            return name, f"columns {left} and {right}"
    return None


def _plain(fields: dict[str, Any]) -> tuple[str, str] | None:
    column = columns.find(fields, columns.TEXT)
    if column is None and len(fields) == 1:
        column = next(iter(fields))
    text = fields.get(column) if column else None
    if not isinstance(text, str):
        return None
    if "<|im_start|>" in text:
        return "chatml-text", f"column {column} holds turns between <|im_start|> and <|im_end|>"
    if has_turn_headings(text):
        return "text", f"column {column} holds text with ### headings for question and answer; the answers are trained"
    return "text", f"column {column} holds plain text; all of it is trained"


class FormatCount:
    """Count the formats of rows as they stream by, and judge the whole."""

    def __init__(self) -> None:
        self._count: Counter[str] = Counter()
        self._why: dict[str, str] = {}

    def add(self, format_name: str, why: str) -> None:
        """Count one row."""
        self._count[format_name] += 1
        self._why.setdefault(format_name, why)

    def add_known(self, format_name: str) -> bool:
        """Count one row of a format whose reason is known; False where it is not, and nothing was counted."""
        if format_name not in self._why:
            return False
        self._count[format_name] += 1
        return True

    def verdict(self) -> Detection:
        """Return the format of the whole: `mixed` where two known formats each have a real share."""
        total = self._count.total()
        if not total:
            return Detection("unknown", 0.0, "there is no row to look at")
        known = [(name, count) for name, count in self._count.most_common() if name != "unknown"]
        strong = [(name, count) for name, count in known if count / total >= _STRAY_SHARE or total < 50]
        if not known:
            return Detection("unknown", 1.0, self._why["unknown"])
        share = sum(count for _, count in known) / total
        if len(strong) > 1:
            parts = "; ".join(f"{count:,} rows {name} ({self._why[name]})" for name, count in strong)
            return Detection("mixed", round(share, 3), parts)
        name, count = known[0]
        return Detection(name, round(count / total, 3), f"{self._why[name]}; {count:,} of {total:,} rows")


def detect(rows: Iterable[Row]) -> Detection:
    """Judge the format of some rows."""
    count = FormatCount()
    for row in rows:
        count.add(*format_of(row.fields))
    return count.verdict()
