"""How messages are handed to a chat template."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from app.data.formats.conversation import Conversation, Message, Turn

_THINK = re.compile(r"\A(\s*<think>\s*)(.*?)(\s*</think>\s*)(.*)\Z", re.DOTALL)


@dataclass(frozen=True)
class Dialect:
    """How messages are handed to a template.

    Some want content as parts or arguments as text, know no developer, or have no place of their own for thinking.
    Some want thinking as a part of the content (`thinking_as_part`). `tags_as_thinking`: thinking that a row holds
    between <think> tags is handed over apart, for templates that write it in tags or channels of their own.
    """

    parts: bool = False
    arguments_as_text: bool = False
    developer_as_system: bool = False
    thinking_in_content: bool = False
    thinking_as_part: bool = False
    tags_as_thinking: bool = False

    def messages(self, conversation: Conversation) -> list[Message]:
        """Return the messages in this dialect."""
        return [self._message(message) for message in conversation.as_messages()]

    def _message(self, message: Message) -> Message:
        if self.tags_as_thinking and "reasoning_content" not in message and has_think_tags(message):
            _, message["reasoning_content"], _, message["content"] = split_thinking(message["role"], message["content"])
        if self.thinking_in_content and "reasoning_content" in message:
            thinking = message.pop("reasoning_content")
            message["content"] = f"<think>\n{thinking}\n</think>\n\n{message['content']}"
        if self.thinking_as_part and "reasoning_content" in message:
            said = [{"type": "text", "text": message["content"]}] if message["content"] else []
            message["content"] = [{"type": "thinking", "thinking": message.pop("reasoning_content")}, *said]
        elif self.parts:
            message["content"] = [{"type": "text", "text": message["content"]}]
        if self.developer_as_system and message["role"] == "developer":
            message["role"] = "system"
        for call in message.get("tool_calls", ()) if self.arguments_as_text else ():
            arguments = call["function"]["arguments"]
            if not isinstance(arguments, str):
                call["function"]["arguments"] = json.dumps(arguments, ensure_ascii=False)
        return message


def split_thinking(role: str, content: str) -> tuple[str, str, str, str]:
    """Return what opens the thinking, the thinking, what closes it, and the answer, of a message's content."""
    found = _THINK.match(content) if role == "assistant" and "</think>" in content else None
    return found.groups() if found else ("", "", "", content)  # type: ignore[return-value]


def has_think_tags(message: Message) -> bool:
    """Tell whether a message holds thinking between tags."""
    return bool(split_thinking(message["role"], message["content"])[1].strip())


def holds_thinking(conversation: Conversation) -> bool:
    """Tell whether an answer of the row holds thinking, apart or between tags."""
    return any(turn.reasoning or _thinks_in_tags(turn) for turn in conversation.turns)


def _thinks_in_tags(turn: Turn) -> bool:
    return bool(split_thinking(turn.role, turn.content)[1].strip())


def dialects_for(conversation: Conversation, place: str = "") -> Iterator[Dialect]:
    """Yield the ways to hand over a conversation, the plainest first.

    `place` says how the template takes thinking: "field", "part" of the content, or "" where it has no place for it.
    """
    either, turns = (False, True), conversation.turns
    in_tags = place != "" and any(map(_thinks_in_tags, turns))
    choices = itertools.product(
        either,
        either if any(turn.tool_calls for turn in turns) else (False,),
        either if any(turn.role == "developer" for turn in turns) else (False,),
        either if any(turn.reasoning for turn in turns) else (False,),
        either if place == "part" and holds_thinking(conversation) else (False,),
        either if in_tags else (False,),
    )
    for flags in sorted(choices, key=lambda flags: _rank(Dialect(*flags), in_tags, place)):
        yield Dialect(*flags)


def _rank(dialect: Dialect, in_tags: bool, place: str) -> tuple[bool, bool, int]:
    """Order dialects: first those that use the template's own place for thinking, then the plainest."""
    unused_place = place == "part" and not dialect.thinking_as_part
    plain = dialect.parts + dialect.arguments_as_text + dialect.developer_as_system + dialect.thinking_in_content
    return dialect.tags_as_thinking != in_tags, unused_place, plain
