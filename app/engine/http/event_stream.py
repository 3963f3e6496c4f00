"""Read the stream of an answer. The server may be any program at that address, so nothing it sends is trusted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from app.reading import is_number, parsed_json

# Far above what 8,192 tokens take; a server that sends more sends no answer.
_LONGEST_LINE_BYTES = 1 << 20
_MOST_BYTES = 64 << 20
ENDED_EARLY = "the server ended before the answer did"
_NO_ANSWER = "the server sent something that is no answer"


@dataclass(frozen=True)
class AnswerFacts:
    """What is known of an answer besides its text; None is what a server did not tell."""

    adapter_hash: str | None = None
    batched: bool | None = None
    tokens: float | None = None
    tokens_per_s: float | None = None
    time_to_first_token_s: float | None = None
    warning: str | None = None

    def joined(self, newer: AnswerFacts) -> AnswerFacts:
        """Return these facts with those that `newer` tells in their place."""
        return replace(self, **{name: value for name, value in vars(newer).items() if value is not None})


@dataclass(frozen=True)
class ColumnEvent:
    """News of one column: new text; or its end, with the workbench's facts and the reason; or an error."""

    column: str
    text: str = ""
    done: AnswerFacts | None = None
    finish_reason: str | None = None
    error: str = ""


def read_events(column: str, pieces: Iterable[bytes]) -> Iterator[ColumnEvent]:
    """Read server-sent events up to the end of an answer; an error is the last event."""
    ended = False
    try:
        for data in _data(pieces):
            for event in _events_of(column, parsed_json(data)):
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


def _events_of(column: str, found: dict[str, Any]) -> Iterator[ColumnEvent]:
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


def _facts(found: object) -> AnswerFacts:
    """Return the workbench's facts about a choice; those of the wrong kind are left out."""
    held = found if isinstance(found, dict) else {}

    def text(name: str) -> str | None:
        return held[name] if isinstance(held.get(name), str) else None

    def number(name: str) -> float | None:
        return held[name] if is_number(held.get(name)) else None

    batched = held.get("batched")
    return AnswerFacts(
        text("adapter_hash"),
        batched if isinstance(batched, bool) else None,
        number("tokens"),
        number("tokens_per_s"),
        number("time_to_first_token_s"),
        text("warning"),
    )
