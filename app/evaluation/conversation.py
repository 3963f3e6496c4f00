"""A conversation with several columns: each column remembers its own answers.

It lives in the page's state and, between visits, in the browser's storage; what comes back from there is a stranger's
input and is checked as such.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from app.engine.http.event_stream import AnswerFacts, ColumnEvent
from app.reading import is_number

MOST_COLUMNS = 8
_MOST_TURNS, _LONGEST_TEXT = 200, 200_000
_ID = re.compile(r"[0-9a-f]{12}")
_THINKING = re.compile(r"^\s*(?:<think>)?(.*?)(?:</think>\s*|\Z)", re.DOTALL)


@dataclass
class Column:
    """One column as its header shows it. `name` is the engine's; `key` tells adapters apart over visits."""

    name: str
    title: str
    details: list[str] = field(default_factory=list)
    hash: str = ""
    warning: str = ""
    key: str = ""


@dataclass
class Answer:
    """One answer while it comes in. `facts` are the engine's own about a finished one."""

    text: str = ""
    facts: AnswerFacts = field(default_factory=AnswerFacts)
    error: str = ""
    done: bool = False
    stopped: bool = False

    def take(self, event: ColumnEvent, since_s: float) -> None:
        """Take in news that came `since_s` after the question."""
        if event.text:
            first, tokens = self.facts.time_to_first_token_s, (self.facts.tokens or 0) + 1
            first = since_s if first is None else first
            # Pieces of text stand in for tokens until the engine gives its own figures; other servers give none.
            pace = (tokens - 1) / (since_s - first) if since_s > first else self.facts.tokens_per_s
            self.facts = replace(self.facts, time_to_first_token_s=first, tokens=tokens, tokens_per_s=pace)
        self.text += event.text
        self.error = event.error or self.error
        if event.done is not None or event.error:
            self.facts, self.done = self.facts.joined(event.done or AnswerFacts()), True

    @property
    def thinking(self) -> str:
        """Return what the model thought before it answered, where it marks that."""
        return split_thinking(self.text)[0]

    @property
    def said(self) -> str:
        """Return the answer without the thinking."""
        return split_thinking(self.text)[1]


@dataclass
class Turn:
    """One question and the answers by column. `attempt` counts how often it was asked again."""

    prompt: str
    answers: dict[str, Answer] = field(default_factory=dict)
    attempt: int = 0


@dataclass
class Conversation:
    """Everything that was asked and answered, oldest first. `id` is made with the first question, empty before it."""

    columns: list[Column] = field(default_factory=list)
    system: str = ""
    turns: list[Turn] = field(default_factory=list)
    id: str = ""

    def fits(self, columns: Sequence[Column], system: str) -> bool:
        """Tell whether the next question can go on: the same columns under the same system prompt."""
        return [one.name for one in columns] == [one.name for one in self.columns] and system == self.system

    def messages(self, column: str) -> list[dict[str, str]]:
        """Return what a column is asked: the system prompt, and its own answers so far."""
        found = [{"role": "system", "content": self.system}] if self.system else []
        for turn in self.turns:
            found.append({"role": "user", "content": turn.prompt})
            if turn is not self.turns[-1]:
                found.append({"role": "assistant", "content": turn.answers[column].said})
        return found

    def ask(self, prompt: str, attempt: int = 0) -> Turn:
        """Add a question with empty answers."""
        self.id = self.id or uuid.uuid4().hex[:12]
        self.turns.append(Turn(prompt, {one.name: Answer() for one in self.columns}, attempt))
        return self.turns[-1]

    def back_to(self, turn: int) -> str:
        """Drop a turn and all behind it; return its question, or nothing when there is no such turn."""
        if not 0 <= turn < len(self.turns):
            return ""
        prompt = self.turns[turn].prompt
        del self.turns[turn:]
        return prompt

    def settle(self) -> None:
        """Mark answers that were cut off as ended."""
        for turn in self.turns:
            for answer in turn.answers.values():
                answer.stopped = answer.stopped or not answer.done
                answer.done = True


def split_thinking(text: str) -> tuple[str, str]:
    """Return the thinking and the answer. A template may open the thinking itself, so only its end need be there."""
    if not text.lstrip().startswith("<think>") and "</think>" not in text:
        return "", text
    match = _THINKING.match(text)
    return (match[1].strip(), text[match.end() :]) if match else ("", text)


def to_browser(conversation: Conversation) -> dict[str, object]:
    """Return plain data for the browser's storage and for other programs; what is not known is left out."""
    return asdict(conversation, dict_factory=lambda pairs: {name: value for name, value in pairs if value is not None})


def from_browser(value: Any) -> Conversation:
    """Return the stored conversation, or an empty one when it is not one."""
    try:
        columns = [_column(one) for one in value["columns"]][:MOST_COLUMNS]
        turns = [_turn(one, columns) for one in value["turns"]][:_MOST_TURNS]
        return Conversation(columns, _text(value["system"]), turns, value["id"] if is_id(value.get("id")) else "")
    except (KeyError, TypeError, ValueError, AttributeError):
        return Conversation()


def is_id(value: object) -> bool:
    """Tell whether a value is the id of a conversation: twelve hexadecimal digits, which no path can be made of."""
    return isinstance(value, str) and bool(_ID.fullmatch(value))


def _column(raw: Mapping[str, Any]) -> Column:
    details = [_text(one) for one in raw["details"]]
    name, title, mark, warning = (_text(raw[key]) for key in ("name", "title", "hash", "warning"))
    return Column(name, title, details, mark, warning)


def _turn(raw: Mapping[str, Any], columns: Sequence[Column]) -> Turn:
    answers = {column.name: _answer(raw["answers"][column.name]) for column in columns}
    return Turn(_text(raw["prompt"]), answers, int(raw["attempt"]))


def _answer(raw: Mapping[str, Any]) -> Answer:
    return Answer(
        _text(raw["text"]), _facts(raw["facts"]), _text(raw["error"]), done=True, stopped=raw["stopped"] is True
    )


def _facts(raw: Mapping[str, Any]) -> AnswerFacts:
    """Return the numbers of a stored answer, and whether it was batched; its hash and warning stand at its column."""
    names = ("tokens", "tokens_per_s", "time_to_first_token_s")
    wrong = [name for name in names if name in raw and not is_number(raw[name])]
    if wrong:
        raise ValueError(f"{wrong[0]} is no number")
    tokens, pace, first = (float(raw[name]) if name in raw else None for name in names)
    batched = raw["batched"] is True if "batched" in raw else None
    return AnswerFacts(batched=batched, tokens=tokens, tokens_per_s=pace, time_to_first_token_s=first)


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
        raise ValueError("no text")
    return value


def as_json(conversation: Conversation) -> str:
    """Return the conversation as JSON for other programs."""
    return json.dumps(to_browser(conversation), ensure_ascii=False, indent=2)


def as_markdown(conversation: Conversation) -> str:
    """Return the conversation as Markdown: each question, and the answers under the columns' names."""
    lines = ["# Playground", ""]
    for column in conversation.columns:
        facts = ", ".join([*column.details, *([f"`{column.hash}`"] if column.hash else [])])
        lines.append(f"- **{column.title}**{': ' + facts if facts else ''}")
    if conversation.system:
        lines += ["", "> " + conversation.system.replace("\n", "\n> ")]
    for number, turn in enumerate(conversation.turns, 1):
        lines += ["", f"## {number}", "", turn.prompt]
        for column in conversation.columns:
            answer = turn.answers[column.name]
            lines += ["", f"### {column.title}", "", answer.error or answer.said]
    return "\n".join([*lines, ""])
