"""How messages are handed to a chat template."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from app.data.conversation import Conversation


@dataclass(frozen=True)
class Dialect:
    """How messages are handed to a template.

    Some want content as parts or arguments as text, know no developer, or have no place of their own for thinking.
    """

    parts: bool = False
    arguments_as_text: bool = False
    developer_as_system: bool = False
    thinking_in_content: bool = False

    def messages(self, conversation: Conversation) -> list[dict[str, Any]]:
        """Return the messages in this dialect."""
        return [self._message(message) for message in conversation.as_messages()]

    def _message(self, message: dict[str, Any]) -> dict[str, Any]:
        if self.thinking_in_content and "reasoning_content" in message:
            thinking = message.pop("reasoning_content")
            message["content"] = f"<think>\n{thinking}\n</think>\n\n{message['content']}"
        if self.parts:
            message["content"] = [{"type": "text", "text": message["content"]}]
        if self.developer_as_system and message["role"] == "developer":
            message["role"] = "system"
        for call in message.get("tool_calls", ()) if self.arguments_as_text else ():
            arguments = call["function"]["arguments"]
            if not isinstance(arguments, str):
                call["function"]["arguments"] = json.dumps(arguments, ensure_ascii=False)
        return message


def dialects_for(conversation: Conversation) -> Iterator[Dialect]:
    """Yield the ways to hand over a conversation, the plainest first."""
    either = (False, True)
    choices = itertools.product(
        either,
        either if any(turn.tool_calls for turn in conversation.turns) else (False,),
        either if any(turn.role == "developer" for turn in conversation.turns) else (False,),
        either if any(turn.reasoning for turn in conversation.turns) else (False,),
    )
    for flags in sorted(choices, key=sum):
        yield Dialect(*flags)
