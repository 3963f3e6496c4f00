"""What a chat template writes around the texts of a conversation, and how a rendered text is matched against it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from app.data.chat_template.message_style import Dialect, split_thinking
from app.data.chat_template.text_probe import Inspections
from app.data.formats.conversation import Conversation, Turn


@dataclass(frozen=True)
class Leaf:
    """One text of the conversation that the template writes."""

    turn: int
    part: str  # "content" or "reasoning"


@dataclass(frozen=True)
class Place:
    """A character in a skeleton: an offset into the template's own writing before leaf `piece`."""

    piece: int
    offset: int


@dataclass(frozen=True)
class AnswerPlace:
    """Where the model writes one turn: from its first character to behind its end-of-turn mark."""

    turn: int
    start: Place
    end: Place
    end_mark: str


@dataclass(frozen=True)
class Skeleton:
    """A template's writing for one shape of conversation: literals[0] leaf[0] literals[1] ... literals[-1]."""

    literals: tuple[str, ...]
    leaves: tuple[Leaf, ...]
    answers: tuple[AnswerPlace, ...]
    dialect: Dialect
    appended: str = ""
    warnings: tuple[str, ...] = ()
    inspections: Inspections | None = None

    @cached_property
    def pieces_of_turn(self) -> dict[int, list[int]]:
        """Return the numbers of the leaves of each turn that has any."""
        pieces: dict[int, list[int]] = {}
        for number, leaf in enumerate(self.leaves):
            pieces.setdefault(leaf.turn, []).append(number)
        return pieces

    def fill(self, leaves: dict[tuple[int, str], str]) -> tuple[str, list[int]] | None:
        """Return the rendered text and the places of its leaves without rendering, None where that is not certain."""
        if self.inspections is None or not all(map(self.inspections.allow, leaves.values())):
            return None
        at, places, pieces = 0, [], []
        for literal, leaf in zip(self.literals, self.leaves, strict=False):
            text = leaves[leaf.turn, leaf.part]
            at += len(literal)
            places += [at, at + len(text)]
            at += len(text)
            pieces += [literal, text]
        return "".join([*pieces, self.literals[-1]]), places

    def match(self, text: str, leaves: dict[tuple[int, str], str]) -> list[int] | None:
        """Return where each leaf starts and ends in a rendered text, flattened; None where the text differs."""
        at, places = 0, []
        for literal, leaf, following in zip(self.literals, self.leaves, self.literals[1:], strict=False):
            if not text.startswith(literal, at):
                return None
            at += len(literal)
            end = _match_leaf(text, at, leaves[leaf.turn, leaf.part], following)
            if end < 0:
                return None
            places += [at, end]
            at = end
        return places if text[at:] == self.literals[-1] else None


def _match_leaf(text: str, at: int, leaf: str, following: str) -> int:
    """Return where a leaf ends that starts at a position, as it is or as templates trim or quote it; -1 if nowhere."""
    for written in _written_forms(leaf):
        end = at + len(written)
        if text.startswith(written, at) and text.startswith(following, end):
            return end
    return -1


def _written_forms(leaf: str) -> Iterator[str]:
    yield leaf
    stripped = leaf.strip()
    if stripped != leaf:
        yield from (leaf.rstrip(), leaf.lstrip(), stripped, leaf.strip("\n"), leaf.lstrip("\n"), leaf.rstrip("\n"))
    if '"' in leaf or "\\" in leaf or "\n" in leaf:
        yield json.dumps(leaf, ensure_ascii=False)[1:-1]


def leaves_of(conversation: Conversation) -> dict[tuple[int, str], str]:
    """Return the texts of a conversation by turn and part; blank ones are left out."""
    leaves: dict[tuple[int, str], str] = {}
    for index, turn in enumerate(conversation.turns):
        _, thinking, _, answer = split_thinking(turn.role, turn.content)
        reasoning = turn.reasoning or thinking
        if reasoning.strip():
            leaves[index, "reasoning"] = reasoning
        if answer.strip():
            leaves[index, "content"] = answer
    return leaves


def shape_of(conversation: Conversation) -> tuple[Any, ...]:
    """Return what a skeleton depends on: everything of a conversation but its texts."""
    return (
        tuple(_turn_shape(turn) for turn in conversation.turns),
        json.dumps(conversation.tools, sort_keys=True) if conversation.tools else "",
    )


def _turn_shape(turn: Turn) -> tuple[Any, ...]:
    opening, thinking, closing, answer = split_thinking(turn.role, turn.content)
    bare = (turn.role, bool(answer.strip()), answer if not answer.strip() else "")
    if not (opening or turn.reasoning or turn.tool_calls or turn.name or turn.tool_call_id):
        return bare
    calls = json.dumps([call.as_message() for call in turn.tool_calls])
    blank_reasoning = not (turn.reasoning or thinking).strip()
    return (*bare, opening, closing, bool(turn.reasoning), blank_reasoning, calls, turn.name, turn.tool_call_id)
