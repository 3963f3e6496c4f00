"""Hold a training example as turns, the same whatever format it came in."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from app.data.reading.rows import Fields

# A message, a call or a tool as chat templates and the canonical form have it: JSON.
Message = dict[str, Any]
ROLES = ("system", "developer", "user", "assistant", "tool")


@dataclass(frozen=True)
class ToolCall:
    """One call that the assistant makes. `arguments` is an object, or text where it did not parse as one."""

    name: str
    arguments: Message | str
    id: str = ""

    def as_message(self) -> Message:
        """Return the call as chat templates read it."""
        call: Message = {"type": "function", "function": {"name": self.name, "arguments": self.arguments}}
        return {"id": self.id, **call} if self.id else call


@dataclass(frozen=True)
class Turn:
    """One message. `reasoning` is the thinking before an answer where the data keeps it apart.

    `trained` is False where the data itself says that this answer is context only (`weight: 0`, `train: false`).
    `weight` is another weight that the data asks for; every trained answer counts as 1.
    """

    role: str
    content: str
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    name: str = ""
    tool_call_id: str = ""
    trained: bool = True
    weight: float = 1.0

    def as_message(self) -> Message:
        """Return the turn as chat templates read it; absent parts are left out."""
        message: Message = {"role": self.role, "content": self.content}
        if self.reasoning:
            message["reasoning_content"] = self.reasoning
        if self.tool_calls:
            message["tool_calls"] = [call.as_message() for call in self.tool_calls]
        if self.name:
            message["name"] = self.name
        if self.tool_call_id:
            message["tool_call_id"] = self.tool_call_id
        return message


@dataclass(frozen=True)
class Conversation:
    """The turns of one example and the tools it may call; or `text` alone, to be trained as it stands."""

    turns: tuple[Turn, ...] = ()
    tools: tuple[Message, ...] = ()
    text: str | None = None

    def as_messages(self) -> list[Message]:
        """Return the canonical messages."""
        return [turn.as_message() for turn in self.turns]

    def as_record(self) -> Fields:
        """Return the canonical row: `messages` (and `tools`), or `text`."""
        if self.text is not None:
            return {"text": self.text}
        record: Fields = {"messages": self.as_messages()}
        for message, turn in zip(record["messages"], self.turns, strict=True):
            if not turn.trained or turn.weight != 1:
                message["weight"] = turn.weight if turn.trained else 0
        if self.tools:
            record["tools"] = list(self.tools)
        return record

    def answers(self) -> list[Turn]:
        """Return the assistant's turns."""
        return [turn for turn in self.turns if turn.role == "assistant"]

    def plain_text(self) -> str:
        """Return all that is said, for comparing and searching."""
        if self.text is not None:
            return self.text
        return "\n".join(f"{turn.role}: {turn.reasoning}{turn.content}{_calls_text(turn)}" for turn in self.turns)


def _calls_text(turn: Turn) -> str:
    if not turn.tool_calls:
        return ""
    return json.dumps([call.as_message() for call in turn.tool_calls], ensure_ascii=False, sort_keys=True)
