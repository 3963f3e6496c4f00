"""Earlier conversations of the playground: one file each in the workspace, found by what was said in them.

<root>/conversations/<id>.json    as the browser keeps the open one; an id is made with the first question

A conversation is kept when its answers are in. Nothing is dropped by itself. Free of heavy imports.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from app.errors import UsageError, keyed
from app.evaluation.conversation import Conversation, as_json, from_browser, is_id
from app.files import replace_file
from app.reading import parsed_json
from app.workspace import Workspace

MOST_SHOWN = 50
# What a look goes through, newest first; a thousand conversations of ten turns are read in about a second.
MOST_READ = 1000
_LARGEST_BYTES = 20_000_000
_AROUND = 60


@dataclass(frozen=True)
class Kept:
    """One earlier conversation as a list shows it.

    `changed` is in seconds since the epoch; `found` are the words around what was looked for, where they are not the
    first question's.
    """

    id: str
    question: str
    columns: tuple[str, ...]
    turns: int
    changed: float
    found: str = ""


@dataclass(frozen=True)
class Look:
    """What a look has found, newest first: at most MOST_SHOWN of `matching`, among the `read` newest of `all`."""

    shown: tuple[Kept, ...]
    matching: int
    read: int
    all: int


def keep(workspace: Workspace, talk: Conversation) -> None:
    """Write a conversation as it stands now; one whose turns were all taken back leaves. Raises OSError."""
    if not is_id(talk.id):
        return
    path = workspace.conversations / f"{talk.id}.json"
    if not talk.turns:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    # Half a character that a browser cut off can stand in a text; no file can hold it.
    replace_file(path, as_json(talk).encode("utf-8", "replace").decode())


def keep_changed(workspace: Workspace, talk: Conversation, before: Conversation) -> None:
    """Keep a conversation unless it is as it was: nothing brings back one that was deleted. Raises OSError."""
    if talk != before:
        keep(workspace, talk)


def look(workspace: Workspace, words: str = "") -> Look:
    """Return the conversations in which every one of `words` stands, in a question or an answer, in any case."""
    wanted = words.casefold().split()
    paths = _newest_first(workspace)
    matching = [kept for changed, path in paths[:MOST_READ] for kept in _matching(path, changed, wanted)]
    return Look(tuple(matching[:MOST_SHOWN]), len(matching), min(len(paths), MOST_READ), len(paths))


def find(workspace: Workspace, conversation_id: str) -> Conversation:
    """Return an earlier conversation. Raises UsageError when it is not there or cannot be read."""
    talk = _read(workspace.conversations / f"{conversation_id}.json") if is_id(conversation_id) else None
    if talk is None or not talk.turns:
        raise UsageError(
            keyed("the_conversation_is_not_there", "The conversation is not there any more"),
            keyed("its_file_is_gone_or_damaged", "its file is gone or damaged"),
            keyed("choose_another_conversation", "choose another one"),
        )
    return talk


def remove(workspace: Workspace, conversation_id: str) -> None:
    """Delete an earlier conversation; what is gone already stays gone."""
    if is_id(conversation_id):
        (workspace.conversations / f"{conversation_id}.json").unlink(missing_ok=True)


def _newest_first(workspace: Workspace) -> list[tuple[float, Path]]:
    found = []
    for path in workspace.conversations.glob("*.json"):
        with suppress(OSError):  # deleted beside us
            found.append((path.stat().st_mtime, path))
    return sorted(found, reverse=True)


def _matching(path: Path, changed: float, wanted: list[str]) -> Iterator[Kept]:
    talk = _read(path)
    if talk is None or not talk.turns:
        return
    texts = list(_texts(talk))
    if not all(any(word in text.casefold() for text in texts) for word in wanted):
        return
    question = talk.turns[0].prompt
    found = "" if not wanted or wanted[0] in question.casefold() else _around(texts, wanted[0])
    columns = tuple(column.title for column in talk.columns)
    yield Kept(path.stem, question, columns, len(talk.turns), changed, found)


def _texts(talk: Conversation) -> Iterator[str]:
    """Yield all that was said, and what tells a conversation from others: its columns and its system prompt."""
    for turn in talk.turns:
        yield turn.prompt
        yield from (answer.said for answer in turn.answers.values())
    yield talk.system
    yield from (column.title for column in talk.columns)


def _around(texts: list[str], word: str) -> str:
    text = next(text for text in texts if word in text.casefold())
    at = text.casefold().find(word)
    begin, end = max(0, at - _AROUND), at + len(word) + _AROUND
    return ("…" if begin else "") + " ".join(text[begin:end].split()) + ("…" if end < len(text) else "")


def _read(path: Path) -> Conversation | None:
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            return None
        return from_browser(parsed_json(path.read_bytes()))
    except (OSError, ValueError):
        return None
