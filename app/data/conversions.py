"""Turn a row of any known format into a conversation."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from app.data import columns
from app.data.conversation import ROLES, Conversation, ToolCall, Turn
from app.data.formats import FORMATS, format_of
from app.data.marked_text import (
    ends_in_open_answer,
    has_human_turns,
    turns_of_chatml,
    turns_of_human,
    turns_of_marks,
)
from app.data.rows import BadRow
from app.data.shapes import reshaped
from app.data.turn_lists import as_list
from app.errors import DataError, UsageError

_ROLE_NAMES = {
    "human": "user",
    "prompter": "user",
    "question": "user",
    "用户": "user",
    "gpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "chatbot": "assistant",
    "chatgpt": "assistant",
    "ai": "assistant",
    "answer": "assistant",
    "助手": "assistant",
    "系统": "system",
    "function": "tool",
    "observation": "tool",
    **dict.fromkeys(("tool_response", "tool-response", "tool_result", "function_response"), "tool"),
    "ipython": "tool",
}
_CALLING_ROLES = ("function_call", "tool_call")
_MAPPED_ROLES = {
    "system": "system",
    "user": "user",
    "instruction": "user",
    "prompt": "user",
    "question": "user",
    "input": "input",
    "context": "input",
    "assistant": "assistant",
    "output": "assistant",
    "answer": "assistant",
    "response": "assistant",
    "completion": "assistant",
    "reasoning": "reasoning",
    "messages": "messages",
    "text": "text",
    "tools": "tools",
}
# Stands in a text where a picture or sound of another column belongs.
_MEDIA_MARK = re.compile(r"<(?:image|video|audio)>")
_TEXT_PARTS = ("text", "input_text", "output_text")
_REASONING_PARTS = ("reasoning", "thinking")
_CALL_PARTS = ("tool_call", "tool_use", "function_call")
Mapping = tuple[tuple[str, str], ...]
# Between a question and what it is asked about.
_NEXT = "\n\n"


def parse_mapping(pairs: dict[str, str] | None) -> Mapping:
    """Check a mapping role -> column and return it sorted, so that equal mappings hash equally."""
    mapping = []
    for role, column in (pairs or {}).items():
        if role not in _MAPPED_ROLES:
            raise UsageError(f"{role} is no role", f"Roles: {', '.join(_MAPPED_ROLES)}", "Map role=column")
        mapping.append((_MAPPED_ROLES[role], column))
    roles = [role for role, _ in mapping]
    if mapping and not {"assistant", "messages", "text"} & set(roles):
        raise UsageError("The mapping names no answer", "", "Add assistant=column, messages=column or text=column")
    if len(set(roles)) < len(roles):
        raise UsageError("The mapping names one role twice", ", ".join(roles), "Name one column for each role")
    return tuple(sorted(mapping))


def check_format(name: str) -> str:
    """Return a format's name, or raise UsageError with the known ones."""
    if name not in ("", "auto", *FORMATS):
        raise UsageError(f"{name!r:.60} is no format", f"formats: {', '.join(FORMATS)}", "leave it out to find it")
    return "" if name in ("auto", "mixed", "unknown") else name


def conversation_of(fields: dict[str, Any], format_name: str = "", mapping: Mapping = ()) -> Conversation:
    """Turn a row into a conversation; raise BadRow where it does not have the parts of its format."""
    if mapping:
        return _mapped(fields, dict(mapping))
    fields = reshaped(fields)[0]
    name = format_name or format_of(fields)[0]
    if name == "mapped":
        raise DataError(
            "The format mapped needs a mapping",
            "",
            "Name the columns with --map role=column",
            on_page="Name the columns under How rows are read",
        )
    if name not in _CONVERTERS:
        raise BadRow("unknown", f"The row has {format_of(fields)[1]}", "Name the columns with a mapping role=column")
    conversation = _CONVERTERS[name](fields)
    if conversation.text is None and not conversation.turns:
        raise BadRow("empty", "The row has no turns", "Remove it")
    if columns.value(fields, columns.MEDIA) and _MEDIA_MARK.search(conversation.plain_text()):
        raise BadRow("media", "The row speaks of an image, video or sound", "Only text can be trained; remove it")
    return conversation


def _text_of(value: Any) -> str:
    """Return a cell as text; numbers and objects keep their JSON form."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def _cell(fields: dict[str, Any], names: tuple[str, ...]) -> str:
    return _text_of(columns.value(fields, names))


def _need(fields: dict[str, Any], names: tuple[str, ...]) -> str:
    column = columns.find(fields, names)
    if column is None:
        raise BadRow("shape", f"The row has no {names[0]}", f"Add the column {names[0]}, or name it with a mapping")
    return _text_of(fields[column])


def _asked(fields: dict[str, Any], question: str, answer: str) -> Conversation:
    """Build system, history, question and answer."""
    turns: list[Turn] = []
    if system := _cell(fields, columns.SYSTEM):
        turns.append(Turn("system", system))
    for pair in as_list(columns.value(fields, columns.HISTORY)) or []:
        if not isinstance(pair, list) or len(pair) != 2:
            raise BadRow("shape", "history is not a list of pairs", "Write it as [[question, answer], ...]")
        turns += [Turn("user", _text_of(pair[0])), Turn("assistant", _text_of(pair[1]))]
    turns += turns_of_human(question) if ends_in_open_answer(question) else [Turn("user", question)]
    turns.append(Turn("assistant", answer, reasoning=_cell(fields, columns.REASONING)))
    return Conversation(tuple(turns), _tools(columns.value(fields, columns.TOOLS)))


def _alpaca(fields: dict[str, Any]) -> Conversation:
    instruction, output = _pair(fields, "alpaca", columns.INSTRUCTION, columns.OUTPUT)
    given = _given(fields, output)
    return _asked(fields, f"{_text_of(fields[instruction])}{given and _NEXT}{given}", _text_of(fields[output]))


def _prompt_completion(fields: dict[str, Any]) -> Conversation:
    asking, answering = _pair(fields, "prompt-completion", columns.PROMPT, columns.COMPLETION)
    prompt, completion = fields[asking], fields[answering]
    if _is_turns(as_list(prompt)) or _is_turns(as_list(completion)):
        return Conversation(_said(prompt, "user") + _said(completion, "assistant"), _row_tools(fields))
    given = _given(fields, asking, answering)
    return _asked(fields, f"{_text_of(prompt)}{given and _NEXT}{given}", _text_of(completion))


def _question_answer(fields: dict[str, Any]) -> Conversation:
    question, answer = _pair(fields, "question-answer", columns.QUESTION, columns.ANSWER)
    given = _given(fields, question, answer)
    return _asked(fields, f"{given}{given and _NEXT}{_text_of(fields[question])}", _text_of(fields[answer]))


def _pair(fields: dict[str, Any], name: str, asking: tuple[str, ...], answering: tuple[str, ...]) -> tuple[str, str]:
    """Return the asking and the answering column; raise BadRow where one is missing."""
    found = columns.pair(fields, name)
    if found is None:
        _need(fields, asking)
        _need(fields, answering)
        raise BadRow("shape", f"The row has no {asking[0]}", f"Add the column {asking[0]}, or name it with a mapping")
    return found[1], found[2]


def _given(fields: dict[str, Any], *others: str) -> str:
    """Return what a question is asked about, where a column of its own holds it."""
    column = columns.find(fields, columns.INPUT)
    given = "" if column is None or column in others else _text_of(fields[column])
    return given if given.strip() else ""


def _row_tools(fields: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    return _tools(columns.value(fields, columns.TOOLS))


def _is_turns(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _said(value: Any, role: str) -> tuple[Turn, ...]:
    """Return turns from one message, a list of them (also as JSON text), a `Human:` dialogue, or plain text."""
    if isinstance(value, dict):
        return (_turn(value),)
    listed = as_list(value)
    if _is_turns(listed):
        return tuple(_turn(message) for message in listed or ())
    text = _text_of(value)
    return turns_of_human(text) if has_human_turns(text) else (Turn(role, text),)


def _preference(fields: dict[str, Any]) -> Conversation:
    """Return the chosen answer after its prompt; where `chosen` repeats the prompt it stands alone."""
    chosen = columns.value(fields, columns.CHOSEN)
    prompt = columns.value(fields, (*columns.PROMPT, *columns.QUESTION, *columns.INSTRUCTION, *columns.MESSAGES))
    answer = _said(chosen, "assistant")
    if prompt is None or len(answer) > 1:
        if len(answer) < 2:
            raise BadRow("shape", "The row has chosen and rejected but no prompt", "Add the column prompt")
        return Conversation(answer, _row_tools(fields))
    system = _cell(fields, columns.SYSTEM)
    before = (Turn("system", system),) if system else ()
    return Conversation(before + _said(prompt, "user") + answer, _row_tools(fields))


def _messages(fields: dict[str, Any]) -> Conversation:
    turns = as_list(columns.value(fields, columns.MESSAGES))
    if turns is None:
        raise BadRow("shape", "The row has no list of messages", "Add the column messages")
    said = tuple(_turn(message) for message in turns)
    system = _cell(fields, columns.SYSTEM)
    if system and said[0].role != "system":
        said = (Turn("system", system), *said)
    return Conversation(said, _row_tools(fields))


def _turn(message: Any) -> Turn:
    """Return a turn from {role, content} or {from, value}."""
    if not isinstance(message, dict):
        raise BadRow("shape", "A message is not an object", 'Write it as {"role": ..., "content": ...}')
    raw_role = message.get("role", message.get("from"))
    role = _role_named(str(raw_role))
    content = message.get("content", message.get("value"))
    if role in _CALLING_ROLES:
        return Turn("assistant", "", tool_calls=_calls(content))
    if role not in ROLES:
        raise BadRow("role", f"The role {str(raw_role)[:40]!r} is not known", f"Use one of {', '.join(ROLES)}")
    calls = message.get("tool_calls") or message.get("function_call")
    turn = Turn(
        role,
        "" if isinstance(content, list) else _text_of(content),
        _text_of(message.get("reasoning_content") or message.get("thinking") or message.get("reasoning") or None),
        _calls(calls) if calls else (),
        _text_of(message.get("name")),
        _text_of(message.get("tool_call_id")),
        message.get("weight", message.get("loss_weight", 1)) != 0 and message.get("train", True) is not False,
    )
    return _with_parts(turn, content) if isinstance(content, list) else turn


def _role_named(name: str) -> str:
    """Return the role that goes by a name, or the bare name."""
    if name in ROLES:
        return name
    bare = name.strip().lower()
    return _ROLE_NAMES.get(bare, bare)


def _with_parts(turn: Turn, parts: list[Any]) -> Turn:
    """Return a turn with the parts of its message: text, thinking and calls of tools."""
    text, reasoning, calls = [], [turn.reasoning], list(turn.tool_calls)
    for part in parts:
        kind = part.get("type", "text") if isinstance(part, dict) else "text"
        if kind in _TEXT_PARTS:
            text.append(_part_text(part, "text"))
        elif kind in _REASONING_PARTS:
            reasoning.append(_part_text(part, kind))
        elif kind in _CALL_PARTS:
            calls += _calls(part.get("value", part))
        else:
            raise BadRow("media", f"The row holds {kind!s:.40} content", "Only text can be trained; remove it")
    return replace(turn, content="".join(text), reasoning="".join(reasoning), tool_calls=tuple(calls))


def _part_text(part: Any, name: str) -> str:
    if not isinstance(part, dict):
        return _text_of(part)
    return _text_of(part.get(name, part.get("text", part.get("value"))))


def _calls(value: Any) -> tuple[ToolCall, ...]:
    """Return tool calls from a list, one object, or their JSON text."""
    value = _parsed(value)
    items = value if isinstance(value, list) else [value]
    return tuple(_call(item) for item in items)


def _call(item: Any) -> ToolCall:
    item = _parsed(item)
    function = item.get("function", item) if isinstance(item, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise BadRow("tool_call", "A tool call has no name", 'Write it as {"name": ..., "arguments": {...}}')
    given: Any = next((function[key] for key in ("arguments", "parameters", "input") if key in function), {})
    arguments = _parsed(given)
    arguments = arguments if isinstance(arguments, dict) else _text_of(arguments)
    return ToolCall(function["name"], arguments, _text_of(item.get("id")))


def _parsed(value: Any) -> Any:
    """Return JSON text parsed where it is JSON."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _tools(value: Any) -> tuple[dict[str, Any], ...]:
    """Return tool schemas, each as {type: function, function: {...}}."""
    value = _parsed(value)
    if not value:
        return ()
    if not isinstance(value, list) or not all(isinstance(tool, dict) for tool in value):
        raise BadRow("tools", "tools is not a list of schemas", "Write it as a list of function schemas")
    return tuple(tool if "function" in tool else {"type": "function", "function": tool} for tool in value)


def _chatml_text(fields: dict[str, Any]) -> Conversation:
    turns = turns_of_chatml(_plain_text(fields))
    return Conversation(tuple(_turn({"role": turn.role, "content": turn.content}) for turn in turns))


def _text(fields: dict[str, Any]) -> Conversation:
    text = _plain_text(fields)
    if turns := turns_of_marks(text):
        return Conversation(tuple(_turn(turn.as_message()) for turn in turns))
    if not text.strip():
        raise BadRow("empty", "The text is empty", "Remove the row")
    return Conversation(text=text)


def _plain_text(fields: dict[str, Any]) -> str:
    if columns.find(fields, columns.TEXT) is None and len(fields) == 1:
        return _text_of(next(iter(fields.values())))
    return _need(fields, columns.TEXT)


def _mapped(fields: dict[str, Any], mapping: dict[str, str]) -> Conversation:
    """Build a conversation from the columns that a person named."""
    missing = [column for column in mapping.values() if column not in fields]
    if missing:
        known = ", ".join(str(name) for name in list(fields)[:12])
        raise BadRow("shape", f"The row has no column {missing[0]}", f"Its columns are: {known}")
    named = {role: fields[column] for role, column in mapping.items()}
    if "messages" in named:
        return _messages(reshaped({name: named.get(name) for name in ("messages", "system", "tools")})[0])
    if "text" in named:
        return _text({"text": named["text"]})
    given, question = _text_of(named.get("input")), _text_of(named.get("user"))
    asked = "\n\n".join(part for part in (question, given) if part.strip())
    return _asked(
        {key: named.get(key) for key in ("system", "reasoning", "tools")}, asked, _text_of(named["assistant"])
    )


_CONVERTERS: dict[str, Callable[[dict[str, Any]], Conversation]] = {
    "alpaca": _alpaca,
    "prompt-completion": _prompt_completion,
    "question-answer": _question_answer,
    "sharegpt": _messages,
    "messages": _messages,
    "chatml-text": _chatml_text,
    "preference": _preference,
    "text": _text,
}
