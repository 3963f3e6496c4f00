"""Read the conversations of ChatGPT's data export: trees of messages, of which one branch was last shown."""

from __future__ import annotations

from typing import Any

from app.data.reading.rows import BadRow, Fields

_SPEAKERS = ("system", "user", "assistant")


def exported_chat(fields: Fields) -> Fields:
    """Return the branch of an exported conversation that was last shown as `messages`; other rows as they are.

    Raises BadRow for one that holds what no text says: pictures, tools, code that was run.
    """
    mapping, at = fields["mapping"], fields["current_node"]
    if not isinstance(mapping, dict) or not all(isinstance(node, dict) for node in mapping.values()):
        return fields
    turns: list[Fields] = []
    seen: set[str] = set()
    while isinstance(at, str) and at in mapping and at not in seen:
        seen.add(at)
        if turn := _turn(mapping[at].get("message")):
            turns.append(turn)
        at = mapping[at].get("parent")
    if not turns:
        raise BadRow("empty", "The exported conversation holds no message", "Leave it out")
    return {"messages": _joined(turns[::-1])}


def _turn(message: Any) -> Fields | None:
    """Return a message of an export as a turn, None for one that was never shown or says nothing."""
    if not isinstance(message, dict):
        return None
    author, content, about = message.get("author"), message.get("content"), message.get("metadata")
    if not isinstance(author, dict) or not isinstance(content, dict):
        return None
    role, kind = author.get("role"), content.get("content_type")
    hidden = isinstance(about, dict) and about.get("is_visually_hidden_from_conversation")
    if hidden or kind in ("thoughts", "reasoning_recap", "model_editable_context", "user_editable_context"):
        return None
    parts = content.get("parts")
    text = "\n".join(part for part in parts if isinstance(part, str)) if isinstance(parts, list) else ""
    if role not in _SPEAKERS or message.get("recipient", "all") not in ("all", None):
        raise BadRow("tool_call", "The exported conversation used a tool", "Leave it out, or keep its texts only")
    if kind != "text" or (isinstance(parts, list) and not all(isinstance(part, str) for part in parts)):
        raise BadRow("media", f"The exported conversation holds {str(kind)[:40]}, not only text", "Leave it out")
    return {"role": role, "content": text} if text.strip() else None


def _joined(turns: list[Fields]) -> list[Fields]:
    """Return turns with the pieces of one answer put together."""
    joined: list[Fields] = []
    for turn in turns:
        if joined and joined[-1]["role"] == turn["role"] == "assistant":
            joined[-1] = {"role": "assistant", "content": f"{joined[-1]['content']}\n\n{turn['content']}"}
        else:
            joined.append(turn)
    return joined
