"""Read the stream of an answer. The server may be any program at that address, so nothing it sends is trusted."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# Far above what 8,192 tokens take; a server that sends more sends no answer.
_LONGEST_LINE_BYTES = 1 << 20
_MOST_BYTES = 64 << 20
ENDED_EARLY = "the server ended before the answer did"
_NO_ANSWER = "the server sent something that is no answer"
_NUMBERS = ("tokens", "tokens_per_s", "time_to_first_token_s")


@dataclass(frozen=True)
class ColumnEvent:
    """News of one column: new text; or its end, with the workbench's facts and the reason; or an error."""

    column: str
    text: str = ""
    done: Mapping[str, Any] | None = None
    finish_reason: str | None = None
    error: str = ""


def read_events(column: str, pieces: Iterable[bytes]) -> Iterator[ColumnEvent]:
    """Read server-sent events up to the end of an answer; an error is the last event."""
    ended = False
    try:
        for data in _data(pieces):
            for event in _events_of(column, json.loads(data)):
                ended = ended or event.done is not None or bool(event.error)
                yield event
                if event.error:
                    return
    except (ValueError, TypeError, AttributeError, RecursionError):
        yield ColumnEvent(column, error=_NO_ANSWER)
        return
    if not ended:
        yield ColumnEvent(column, error=ENDED_EARLY)


def _data(pieces: Iterable[bytes]) -> Iterator[str]:
    """Yield what stands behind each `data:` but the last one, [DONE]. Raises ValueError for what is no such stream."""
    for line in _lines(pieces):
        text = line.decode("utf-8").rstrip("\r")
        if text.startswith("data:") and text[5:].strip() not in ("", "[DONE]"):
            yield text[5:]


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    waiting, total = b"", 0
    for piece in pieces:
        *lines, waiting = (waiting + piece).split(b"\n")
        total += len(piece)
        if len(waiting) > _LONGEST_LINE_BYTES or total > _MOST_BYTES:
            raise ValueError("no stream of events")
        yield from lines
    if waiting:
        yield waiting


def _events_of(column: str, found: Mapping[str, Any]) -> Iterator[ColumnEvent]:
    if "error" in found:
        error = found["error"]
        yield ColumnEvent(column, error=str(error.get("message") if isinstance(error, dict) else error)[:500])
        return
    for choice in found.get("choices") or ():
        text = (choice.get("delta") or {}).get("content") or ""
        if not isinstance(text, str):
            raise TypeError("content is no text")
        if text:
            yield ColumnEvent(column, text)
        if choice.get("finish_reason"):
            yield ColumnEvent(column, done=_facts(choice.get("workbench")), finish_reason=str(choice["finish_reason"]))


def _facts(found: Any) -> dict[str, Any]:
    """Return the workbench's facts about a choice; those of the wrong kind are left out."""
    if not isinstance(found, dict):
        return {}
    wrong = [name for name in _NUMBERS if name in found and not isinstance(found[name], (int, float))]
    return {name: value for name, value in found.items() if name not in wrong}
