"""Turn a row of any known format into a conversation."""

from __future__ import annotations

import ast
import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from app.data.formats import columns
from app.data.formats.cells import answer_text
from app.data.formats.cells import text_of as _text_of
from app.data.formats.conversation import ROLES, Conversation, Message, ToolCall, Turn
from app.data.formats.detection import FORMATS, format_of
from app.data.formats.hub_layouts import reshaped
from app.data.formats.loss_marks import refuse_unlearned, weight_of
from app.data.formats.media import refuse_marks, refuse_media
from app.data.formats.message_lists import as_list
from app.data.formats.missing import (
    is_blank,
    is_no_value,
    is_silent,
    refuse_missing,
    refuse_no_question,
    without_null,
)
from app.data.formats.turn_markers import (
    ends_in_open_answer,
    has_human_turns,
    turns_of_chatml,
    turns_of_human,
    turns_of_marks,
)
from app.data.reading.rows import BadRow, Fields
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
_TEXT_PARTS = ("text", "input_text", "output_text")
_REASONING_PARTS = ("reasoning", "thinking")
# How messages call their thinking, the most common first.
_REASONING_KEYS = (
    *("reasoning_content", "thinking", "reasoning", "reasoning_text", "thinking_content", "thought", "thoughts"),
    *("chain_of_thought", "cot", "reasoning_details"),
)
_CALL_PARTS = ("tool_call", "tool_use", "function_call")
# How messages call their calls of tools, without case and underscores.
_CALL_KEYS = ("toolcalls", "functioncall", "toolcall", "functioncalls")
_PLAIN_KEYS = ("role", "content")
_NO_ARGUMENTS = ("", "null", "None", "undefined", "[]")
# Parsing Python takes a hundred times the text's size.
_MOST_PYTHON_CHARS = 20_000
Mapping = tuple[tuple[str, str], ...]
# Alpaca's own files say so of an instruction that needs no input.
_NO_INPUT = ("", "<noinput>", "<no input>")
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


def conversation_of(fields: Fields, format_name: str = "", mapping: Mapping = ()) -> Conversation:
    """Turn a row into a conversation; raise BadRow where it does not have the parts of its format."""
    refuse_unlearned(_unmapped(fields, mapping))
    if mapping:
        conversation = _mapped(fields, dict(mapping))
        refuse_missing(conversation, is_asked=_asks(dict(mapping)))
        return conversation
    refuse_media(fields)
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
    refuse_marks(conversation)
    refuse_missing(conversation)
    return conversation


def _unmapped(fields: Fields, mapping: Mapping) -> Fields:
    """Return what a row holds beside the columns that a mapping reads."""
    read = {column for _, column in mapping}
    return {name: value for name, value in fields.items() if name not in read} if read else fields


def _cell(fields: Fields, names: tuple[str, ...]) -> str:
    return without_null(_text_of(columns.value(fields, names)))


def _need(fields: Fields, names: tuple[str, ...]) -> str:
    column = columns.find(fields, names)
    if column is None:
        raise BadRow("shape", f"The row has no {names[0]}", f"Add the column {names[0]}, or name it with a mapping")
    return _text_of(fields[column])


def _asked(fields: Fields, question: str, answer: str) -> Conversation:
    """Build system, history, question and answer."""
    turns: list[Turn] = []
    system = _cell(fields, columns.SYSTEM)
    if system.strip():
        turns.append(Turn("system", system))
    for pair in _history(fields):
        if not isinstance(pair, list) or len(pair) != 2:
            raise BadRow("shape", "history is not a list of pairs", "Write it as [[question, answer], ...]")
        turns += [Turn("user", _text_of(pair[0])), Turn("assistant", answer_text(pair[1]))]
    turns += turns_of_human(question) if ends_in_open_answer(question) else [Turn("user", question)]
    turns.append(Turn("assistant", answer, reasoning=_cell(fields, columns.REASONING)))
    return Conversation(tuple(turns), _tools(columns.value(fields, columns.TOOLS)))


def _history(fields: Fields) -> list[Any]:
    """Return what was said before, as a list; raise BadRow for a text that would be lost."""
    value = columns.value(fields, columns.HISTORY)
    listed = as_list(value)
    is_empty = is_blank(value) or value in ([], {}) or without_null(_text_of(value)).strip() in ("", "[]")
    if listed is None and not is_empty:
        raise BadRow("shape", "history is not a list of pairs", "Write it as [[question, answer], ...]")
    return listed or []


def _alpaca(fields: Fields) -> Conversation:
    instruction, output = _pair(fields, "alpaca", columns.INSTRUCTION, columns.OUTPUT)
    question = _joined(_text_of(fields[instruction]), _given(fields, output))
    refuse_no_question(question)
    return _asked(fields, question, answer_text(fields[output]))


def _prompt_completion(fields: Fields) -> Conversation:
    asking, answering = _pair(fields, "prompt-completion", columns.PROMPT, columns.COMPLETION)
    prompt, completion = fields[asking], fields[answering]
    if _is_turns(as_list(prompt)) or _is_turns(as_list(completion)):
        return Conversation(_said(prompt, "user") + _said(completion, "assistant"), _row_tools(fields))
    question = _joined(_text_of(prompt), _given(fields, asking, answering))
    refuse_no_question(question)
    return _asked(fields, question, answer_text(completion))


def _question_answer(fields: Fields) -> Conversation:
    question, answer = _pair(fields, "question-answer", columns.QUESTION, columns.ANSWER)
    asked = _joined(_given(fields, question, answer), _text_of(fields[question]))
    refuse_no_question(asked)
    return _asked(fields, asked, answer_text(fields[answer]))


def _joined(*parts: str) -> str:
    """Put what is asked and what it is asked about together; a blank part leaves no blank lines."""
    said = [part for part in parts if not is_silent(part)]
    return _NEXT.join([part for part in said if not is_no_value(part)] or said)


def _pair(fields: Fields, name: str, asking: tuple[str, ...], answering: tuple[str, ...]) -> tuple[str, str]:
    """Return the asking and the answering column; raise BadRow where one is missing."""
    found = columns.pair(fields, name)
    if found is None:
        _need(fields, asking)
        _need(fields, answering)
        raise BadRow("shape", f"The row has no {asking[0]}", f"Add the column {asking[0]}, or name it with a mapping")
    return found[1], found[2]


def _given(fields: Fields, *others: str) -> str:
    """Return what a question is asked about, where a column of its own holds it."""
    column = columns.filled(fields, columns.INPUT)
    given = "" if column is None or column in others else _text_of(fields[column])
    return "" if given.strip() in _NO_INPUT or is_no_value(given) else given


def _row_tools(fields: Fields) -> tuple[Message, ...]:
    return _tools(columns.value(fields, columns.TOOLS))


def _is_turns(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _said(value: object, role: str) -> tuple[Turn, ...]:
    """Return turns from one message, a list of them (also as JSON text), a `Human:` dialogue, or plain text."""
    if isinstance(value, dict) and _has_role(value):
        return (_turn(value),)
    listed = as_list(value)
    if _is_turns(listed) and _has_role((listed or [{}])[0]):
        return tuple(_turn(message) for message in listed or ())
    text = answer_text(value) if role == "assistant" else _text_of(value)
    return turns_of_human(text) if has_human_turns(text) else (Turn(role, text),)


def _has_role(message: Message) -> bool:
    return "role" in message or "from" in message


def _preference(fields: Fields) -> Conversation:
    """Return the chosen answer after its prompt; where `chosen` repeats the prompt it stands alone."""
    chosen = columns.value(fields, columns.CHOSEN)
    prompt = columns.value(fields, (*columns.PROMPT, *columns.QUESTION, *columns.INSTRUCTION, *columns.MESSAGES))
    answer = _said(chosen, "assistant")
    if prompt is None and len(answer) < 2:
        raise BadRow("shape", "The row has chosen and rejected but no prompt", "Add the column prompt")
    if isinstance(prompt, (str, float)) and len(answer) < 2:
        refuse_no_question(_text_of(prompt))
    said = answer if prompt is None or answer[0].role != "assistant" else _said(prompt, "user") + answer
    system = _cell(fields, columns.SYSTEM)
    before = (Turn("system", system),) if system.strip() and said[0].role != "system" else ()
    return Conversation(before + said, _row_tools(fields))


def _messages(fields: Fields) -> Conversation:
    turns = as_list(columns.value(fields, columns.MESSAGES))
    if turns is None:
        raise BadRow("shape", "The row has no list of messages", "Add the column messages")
    said = tuple(_turn(message) for message in turns)
    system = _cell(fields, columns.SYSTEM)
    if system.strip() and said[0].role != "system":
        said = (Turn("system", system), *said)
    return Conversation(said, _row_tools(fields))


def _turn(message: object) -> Turn:
    """Return a turn from {role, content} or {from, value}."""
    if not isinstance(message, dict):
        raise BadRow("shape", "A message is not an object", 'Write it as {"role": ..., "content": ...}')
    if len(message) > len(_PLAIN_KEYS):
        refuse_media(message)
    raw_role = message.get("role", message.get("from"))
    role = _role_named(str(raw_role))
    content = message.get("content", message.get("value"))
    if isinstance(content, list) and role == "assistant" and _are_answers(content):
        content = answer_text(content)
    if role in _CALLING_ROLES:
        return Turn("assistant", "", tool_calls=_calls(content))
    if role not in ROLES:
        raise BadRow("role", f"The role {str(raw_role)[:40]!r} is not known", f"Use one of {', '.join(ROLES)}")
    calls = next((message[key] for key in message if _bare_key(key) in _CALL_KEYS and message[key]), None)
    weight = 1.0 if len(message) <= len(_PLAIN_KEYS) else weight_of(message)
    turn = Turn(
        role,
        "" if isinstance(content, list) else _content_text(role, content),
        _reasoning(message),
        _calls(calls) if calls else (),
        _text_of(message.get("name")),
        _text_of(message.get("tool_call_id")),
        weight != 0,
        weight or 1.0,
    )
    return _with_parts(turn, content) if isinstance(content, list) else turn


def _reasoning(message: Message) -> str:
    """Return the thinking that a message keeps beside its text, under one of its many names."""
    for name in _REASONING_KEYS:
        if value := message.get(name):
            return _details_text(value) if name == "reasoning_details" else _text_of(value)
    return ""


def _details_text(details: object) -> str:
    """Return the texts of OpenRouter's records of thinking; those that are encrypted hold none."""
    records = details if isinstance(details, list) else [details]
    said = [one.get("text") or one.get("summary") for one in records if isinstance(one, dict)]
    return "\n".join(text for text in said if isinstance(text, str))


def _bare_key(key: object) -> str:
    return str(key).replace("_", "").lower()


def _are_answers(parts: list[object]) -> bool:
    """Say whether a list holds answers to choose from, and not the parts of one message."""
    if all(isinstance(part, str) for part in parts):
        return len(parts) > 1
    return all(isinstance(part, dict) and "type" not in part and len(part) > 1 for part in parts)


def _content_text(role: str, content: object) -> str:
    """Return what a message says; what a tool returns may be JSON, what the others say is text."""
    if role == "tool" and isinstance(content, dict):
        return json.dumps(content, ensure_ascii=False, default=str)
    return answer_text(content) if role == "assistant" else _text_of(content)


def _role_named(name: str) -> str:
    """Return the role that goes by a name, or the bare name."""
    if name in ROLES:
        return name
    bare = name.strip().lower()
    return _ROLE_NAMES.get(bare, bare)


def _with_parts(turn: Turn, parts: list[object]) -> Turn:
    """Return a turn with the parts of its message: text, thinking and calls of tools."""
    text, reasoning, calls = [], [turn.reasoning], list(turn.tool_calls)
    for part in parts:
        if not isinstance(part, dict):
            text.append(_part_text(part, "text", turn.role))
            continue
        kind = part.get("type", "text")
        if "type" not in part:
            refuse_media(part)
        if kind in _TEXT_PARTS:
            text.append(_part_text(part, "text", turn.role))
        elif kind in _REASONING_PARTS:
            reasoning.append(_part_text(part, kind, turn.role))
        elif kind in _CALL_PARTS:
            calls += _calls(part.get("value", part))
        else:
            raise BadRow("media", f"The row holds {kind!s:.40} content", "Only text can be trained; remove it")
    said = ("\n" if all(isinstance(part, str) for part in parts) else "").join(text)
    return replace(turn, content=said, reasoning="".join(reasoning), tool_calls=tuple(calls))


def _part_text(part: object, name: str, role: str) -> str:
    if not isinstance(part, dict):
        return _text_of(part)
    said = part.get(name, part.get("text", part.get("value", part.get("content"))))
    if said is None and not part.keys() <= {"type", name, "text", "value", "content"}:
        return _content_text(role, part)  # an object that is no part of a message
    return _text_of(said)


def _calls(value: object) -> tuple[ToolCall, ...]:
    """Return tool calls from a list, one object, or their JSON text."""
    value = _parsed(value)
    items = value if isinstance(value, list) else [value]
    return tuple(_call(item) for item in items)


def _call(item: object) -> ToolCall:
    parsed = _parsed(item)
    call = parsed if isinstance(parsed, dict) else {}
    function = call.get("function", call)
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(function, dict) or not isinstance(name, str) or not name.strip():
        raise BadRow("tool_call", "A tool call has no name", 'Write it as {"name": ..., "arguments": {...}}')
    given: Any = next((function[key] for key in ("arguments", "parameters", "input", "args") if key in function), {})
    arguments = _parsed_twice(given)
    if not arguments or (isinstance(arguments, str) and arguments.strip() in _NO_ARGUMENTS):
        arguments = {}  # a call without arguments, however it is written
    if not isinstance(arguments, (dict, str)) or (isinstance(arguments, str) and arguments.lstrip()[:1] in ("{", "[")):
        raise BadRow(
            "tool_call", f"The arguments of a call of {name:.60} are no object", 'Write them as {"name": value, ...}'
        )
    return ToolCall(name, arguments, _text_of(call.get("id")))


def _parsed_twice(value: object) -> Any:
    """Return arguments as an object, also where JSON text was written as JSON once more, or as Python prints it."""
    if isinstance(value, str) and value.lstrip()[:1] == '"':
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(value)
    value = _parsed(value)
    if isinstance(value, str) and value.lstrip()[:2] in ("{'", '{"') and len(value) < _MOST_PYTHON_CHARS:
        with contextlib.suppress(ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            value = ast.literal_eval(value.strip())
    return value


def _parsed(value: object) -> Any:
    """Return JSON text parsed where it is JSON."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(value, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            return value
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _tools(value: object) -> tuple[Message, ...]:
    """Return tool schemas, each as {type: function, function: {...}}."""
    value = _parsed(value)
    if not value or is_blank(value) or (isinstance(value, str) and not without_null(value)):
        return ()
    if not isinstance(value, list) or not all(isinstance(tool, dict) for tool in value):
        raise BadRow("tools", "tools is not a list of schemas", "Write it as a list of function schemas")
    return tuple(tool if "function" in tool else {"type": "function", "function": tool} for tool in value)


def _chatml_text(fields: Fields) -> Conversation:
    turns = turns_of_chatml(_plain_text(fields))
    return Conversation(tuple(_turn({"role": turn.role, "content": turn.content}) for turn in turns))


def _text(fields: Fields) -> Conversation:
    text = _plain_text(fields)
    if turns := turns_of_marks(text):
        return Conversation(tuple(_turn(turn.as_message()) for turn in turns))
    if not text.strip():
        raise BadRow("empty", "The text is empty", "Remove the row")
    return Conversation(text=text)


def _plain_text(fields: Fields) -> str:
    if columns.find(fields, columns.TEXT) is None and len(fields) == 1:
        return _text_of(next(iter(fields.values())))
    return _need(fields, columns.TEXT)


def _mapped(fields: Fields, mapping: dict[str, str]) -> Conversation:
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
    asked = _joined(question, "" if is_no_value(given) else given)
    if _asks(mapping):
        refuse_no_question(asked)
    answer = answer_text(named["assistant"])
    return _asked({key: named.get(key) for key in ("system", "reasoning", "tools")}, asked, answer)


def _asks(mapping: dict[str, str]) -> bool:
    """Say whether a mapping names what is asked; one of answers alone trains them as they are."""
    return not {"messages", "user", "input"}.isdisjoint(mapping)


_CONVERTERS: dict[str, Callable[[Fields], Conversation]] = {
    "alpaca": _alpaca,
    "prompt-completion": _prompt_completion,
    "question-answer": _question_answer,
    "sharegpt": _messages,
    "messages": _messages,
    "chatml-text": _chatml_text,
    "preference": _preference,
    "text": _text,
}
