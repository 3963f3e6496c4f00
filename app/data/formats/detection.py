"""Name the format of rows, and say why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from app.data.formats import columns
from app.data.formats.hub_layouts import reshaped
from app.data.formats.message_lists import as_list
from app.data.formats.missing import is_blank
from app.data.formats.turn_markers import turns_of_marks
from app.data.reading.rows import BadRow, Fields, Row

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
_SPEAKERS = ("user", "human", "prompter", "assistant", "gpt", "system", "tool")
# A second format below this share counts as stray rows, not as a mixed file.
_STRAY_SHARE = 0.02


@dataclass(frozen=True)
class Detection:
    """What the rows look like: the format, how sure (0 to 1), and the reason in words."""

    format: str
    confidence: float
    why: str


def format_of(fields: Fields) -> tuple[str, str]:
    """Return the format of one row and the reason."""
    try:
        fields, shape = reshaped(fields)
    except BadRow as problem:
        return "unknown", problem.message
    for recognise in (_preference, _turn_list, _pairs, _empty_preference, _plain):
        found = recognise(fields)
        if found:
            return (found[0], shape) if shape else found
    names = ", ".join(str(name) for name in list(fields)[:8]) or "none"
    return "unknown", f"no known set of columns among: {names}"


def _preference(fields: Fields) -> tuple[str, str] | None:
    chosen, rejected = columns.find(fields, columns.CHOSEN), columns.find(fields, columns.REJECTED)
    if chosen and rejected and not (is_blank(fields[chosen]) and is_blank(fields[rejected])):
        return "preference", f"columns {chosen} and {rejected}; the chosen answer is trained"
    return None


def _empty_preference(fields: Fields) -> tuple[str, str] | None:
    """Name a pair with two empty sides, where the row holds nothing else that can be read."""
    chosen, rejected = columns.find(fields, columns.CHOSEN), columns.find(fields, columns.REJECTED)
    return ("preference", f"columns {chosen} and {rejected}, both empty") if chosen and rejected else None


def _turn_list(fields: Fields) -> tuple[str, str] | None:
    if columns.find(fields, columns.MESSAGES) is None:
        return None
    for name in columns.MESSAGES:
        column = columns.find(fields, (name,))
        turns = as_list(fields[column]) if column else None
        if turns and isinstance(turns[0], dict):
            if "from" in turns[0] and "value" in turns[0]:
                return "sharegpt", f"column {column} lists turns with from and value"
            if "role" in turns[0]:
                return "messages", f"column {column} lists turns with role and content"
    return None


def _pairs(fields: Fields) -> tuple[str, str] | None:
    found = columns.pair(fields)
    if found and _is_table(fields[found[1]], fields[found[2]]):
        return "unknown", f"whole columns {found[1]} and {found[2]}; write one row a line"
    return (found[0], f"columns {found[1]} and {found[2]}") if found else None


def _is_table(asked: Any, answered: Any) -> bool:
    """Say whether two cells are columns of many rows, as pandas and datasets write a whole table."""
    if isinstance(asked, dict) and isinstance(answered, dict):
        return asked.keys() == answered.keys() and "0" in asked
    lists = isinstance(asked, list) and isinstance(answered, list) and len(asked) == len(answered) > 1
    return lists and all(isinstance(text, str) for text in (*asked, *answered))


def _plain(fields: Fields) -> tuple[str, str] | None:
    column = columns.filled(fields, columns.TEXT)
    if column is None and len(fields) == 1:
        column = next(iter(fields))
    text = fields.get(column) if column is not None else None
    if not isinstance(text, str):
        return None
    if "<|im_start|>" in text:
        return "chatml-text", f"column {column} holds turns between <|im_start|> and <|im_end|>"
    if _is_one_message(fields):
        return (
            "unknown",
            "one message of a longer conversation; put all its messages into one row, in a column messages",
        )
    if column in columns.MESSAGES and text.lstrip()[:1] == "[" and not turns_of_marks(text):
        return "unknown", f"a list in column {column} that is not JSON; write it as JSONL or Parquet"
    if turns_of_marks(text):
        return "text", f"column {column} holds text that marks its turns; the answers are trained"
    return "text", f"column {column} holds plain text; all of it is trained"


def _is_one_message(fields: Fields) -> bool:
    """Say whether a row is a single message of a conversation that goes on over other rows (OASST, chat logs)."""
    is_exported = fields.get("type") == "message"  # Slack
    return is_exported or str(columns.value(fields, ("role", "from", "角色"))).lower() in _SPEAKERS


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
            parts = "; ".join(f"{count:,} rows are {name} ({self._why[name]})" for name, count in strong)
            return Detection("mixed", round(share, 3), parts)
        name, count = known[0]
        return Detection(name, round(count / total, 3), f"{self._why[name]}; so are {count:,} of {total:,} rows")


def detect(rows: Iterable[Row]) -> Detection:
    """Judge the format of some rows."""
    count = FormatCount()
    for row in rows:
        count.add(*format_of(row.fields))
    return count.verdict()
