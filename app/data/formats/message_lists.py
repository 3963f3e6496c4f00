"""Read lists of turns however a data set spells them, as messages of role and content.

Known by themselves are {role, content} and {from, value}. Rewritten here are texts in turn (LIMA, UltraChat), question
and answer in one object (Firefly, Capybara), other names of the two keys, Gemini's `parts`, and the blocks of
Claude's messages.
"""

from __future__ import annotations

import ast
import itertools
import json
import re
from typing import Any

from app.data.formats.conversation import Message

_ROLE_KEYS = ("role", "from", "author", "speaker", "角色")
_CONTENT_KEYS = ("content", "value", "text", "message", "parts", "内容")
_ASKING_KEYS = ("human", "user", "input", "question", "prompt", "instruction", "Human", "问题", "用户")
_ANSWERING_KEYS = ("assistant", "gpt", "bot", "output", "answer", "response", "Assistant", "回答", "助手")
# A list as Python prints it, which is what pandas writes into CSV files.
_PYTHON_LIST = re.compile(r"\s*\[\s*(\{\s*)?['\"]")
# Parsing Python takes a hundred times the text's size.
_MOST_PYTHON_CHARS = 200_000


def as_list(value: object) -> list[Any] | None:
    """Return a list, also where a cell holds one as JSON text or as Python prints it."""
    if isinstance(value, str) and value.lstrip()[:1] == "[":
        text = value
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = _python_list(text)
    return value if isinstance(value, list) and value else None


def _python_list(text: str) -> object:
    if len(text) > _MOST_PYTHON_CHARS or not _PYTHON_LIST.match(text):
        return None
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def are_plain(turns: Any) -> bool:
    """Say whether a cell lists messages of a role and a text, as most have it."""
    if not isinstance(turns, list):
        return False
    for turn in turns:
        if not isinstance(turn, dict) or "role" not in turn or not isinstance(turn.get("content"), str):
            return False
    return bool(turns)


def respelled(turns: list[Any]) -> list[Message] | None:
    """Return a list of turns as messages; None where it is spelled in a known way already, or in none."""
    if len(turns) == 1 and isinstance(turns[0], list) and turns[0]:
        return respelled(turns[0]) or (turns[0] if _are_messages(turns[0]) else None)
    if len(turns) > 1 and all(isinstance(turn, str) for turn in turns):
        roles = itertools.cycle(("user", "assistant"))
        return [{"role": role, "content": turn} for role, turn in zip(roles, turns, strict=False)]
    if not all(isinstance(turn, dict) for turn in turns) or _are_messages(turns):
        return None
    if any(key in turns[0] for key in _ROLE_KEYS):
        return [message for turn in turns for message in _messages(turn)]
    pairs = [_exchange(turn) for turn in turns]
    return [message for pair in pairs for message in pair] if all(pairs) else None


def _are_messages(turns: list[Any]) -> bool:
    return all(isinstance(turn, dict) and _is_message(turn) for turn in turns)


def _is_message(turn: Message) -> bool:
    if "role" not in turn and "from" not in turn:
        return False
    content = turn.get("content")
    if isinstance(content, list):
        return not any(isinstance(part, dict) and _is_foreign(part) for part in content)
    return content is not None or "value" in turn or not any(key in turn for key in _CONTENT_KEYS[2:])


def _exchange(turn: Message) -> list[Message]:
    """Return question and answer of an object that holds both, nothing where it does not."""
    asking = next((key for key in _ASKING_KEYS if key in turn), None)
    answering = next((key for key in _ANSWERING_KEYS if key in turn), None)
    if asking is None or answering is None:
        return []
    rest = {key: value for key, value in turn.items() if key not in (*_ASKING_KEYS, *_ANSWERING_KEYS)}
    return [{"role": "user", "content": turn[asking]}, {**rest, "role": "assistant", "content": turn[answering]}]


def _messages(turn: Message) -> list[Message]:
    """Return the messages that one turn stands for: results of tools have a message each."""
    if _is_message(turn):
        return [turn]
    role = next((key for key in _ROLE_KEYS if key in turn), "role")
    content = next((key for key in _CONTENT_KEYS if turn.get(key) is not None), "content")
    message = {key: value for key, value in turn.items() if key not in (role, content)}
    message |= {"role": turn.get(role), "content": turn.get(content)}
    return _of_blocks(message) if isinstance(message["content"], list) else [message]


def _is_foreign(part: Message) -> bool:
    """Say whether a part of a message is none of text, thinking and call as OpenAI and Claude write them."""
    names = ("functionCall", "functionResponse", "thought")
    return part.get("type") in ("tool_result", "redacted_thinking") or any(name in part for name in names)


def _of_blocks(message: Message) -> list[Message]:
    """Give the results of tools messages of their own, and write Gemini's parts as the others do."""
    results, parts = [], []
    for part in message["content"]:
        foreign = isinstance(part, dict) and _is_foreign(part)
        if not foreign:
            parts.append(part)
        elif part.get("type") == "tool_result" or "functionResponse" in part:
            results.append(_result(part))
        elif "functionCall" in part:
            called = part["functionCall"] if isinstance(part["functionCall"], dict) else {}
            parts.append({"type": "function_call", "name": called.get("name"), "input": called.get("args") or {}})
        elif part.get("type") != "redacted_thinking":
            parts.append({"type": "thinking" if part.get("thought") else "text", "text": part.get("text")})
    return [*results, {**message, "content": parts}] if parts or not results else results


def _result(block: Message) -> Message:
    given = block.get("functionResponse") or block
    content = given.get("content", given.get("response"))
    if isinstance(content, list):
        content = "".join(str(part.get("text") or "") if isinstance(part, dict) else str(part) for part in content)
    return {"role": "tool", "content": content, "tool_call_id": given.get("tool_use_id") or given.get("id") or ""}
