"""Rewrite rows that public data sets keep in a shape of their own into columns and messages that all the rest knows.

A rule looks at one row and returns the columns to read in their place, or None where the row is not of its shape. Which
rules can apply at all is decided once for rows of the same columns.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from app.data.formats import columns
from app.data.formats.cells import best
from app.data.formats.message_lists import are_plain, as_list, respelled
from app.data.formats.missing import is_blank
from app.data.formats.turn_markers import turns_of_marks
from app.data.reading.rows import Fields

Rule = Callable[[Fields], "Fields | None"]
_ANSWERS = ("answers", "答案列表")
_QUESTIONS = (*columns.QUESTION, "questions")
_CHOICES = ("choices", "options", "选项")
_CHOICE_ANSWER = ("answer", "answerkey", "label", "答案")
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def reshaped(fields: Fields) -> tuple[Fields, str]:
    """Return a row in known columns, and in which shape it was; the row itself and nothing where it is known."""
    for rule, shape in _rules(tuple(fields)):
        found = rule(fields)
        if found is not None:
            return found, shape
    return fields, ""


def _turns(fields: Fields) -> Fields | None:
    """Read a column that lists turns in other words, or holds them as marked text."""
    if are_plain(columns.value(fields, columns.MESSAGES)):
        return None
    for name in (*columns.MESSAGES, "data"):
        column = columns.find(fields, (name,))
        value = fields[column] if column else None
        listed = as_list(value) if value else None
        if name == "data" and not (listed and isinstance(listed[0], str)):
            continue  # rows of their own, below a header
        messages = respelled(listed) if listed else None
        if messages is None and isinstance(value, str) and listed is None:
            messages = [turn.as_message() for turn in turns_of_marks(value)]
        if messages:
            return {**_without(fields, column), "messages": messages, **_system(fields), **_schemas(fields)}
    return None


def _without(fields: Fields, *left_out: str | None) -> Fields:
    return {name: value for name, value in fields.items() if name not in left_out}


def _system(fields: Fields) -> Fields:
    """Return a system text that is kept as a message with parts."""
    value = columns.value(fields, columns.SYSTEM)
    parts = value.get("parts", value.get("content")) if isinstance(value, dict) else None
    if not isinstance(parts, list):
        return {}
    return {"system": "\n".join(str(part.get("text") or "") for part in parts if isinstance(part, dict))}


def _schemas(fields: Fields) -> Fields:
    """Return tools whose schema of arguments goes by `input_schema` under the name that templates read."""
    tools = columns.value(fields, columns.TOOLS)
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        return {}
    if not any("input_schema" in tool for tool in tools):
        return {}
    return {"tools": [{**_without(tool, "input_schema"), "parameters": tool.get("input_schema", {})} for tool in tools]}


def _preference(fields: Fields) -> Fields | None:
    """Give a chosen answer its prompt where that is a list of messages, an input, or an instruction with an input."""
    prompt = _prompt(fields)
    chosen = columns.value(fields, columns.CHOSEN)
    if is_blank(chosen) and is_blank(columns.value(fields, columns.REJECTED)):
        return None  # a row of another shape in the same table
    if prompt is None and not isinstance(chosen, dict):
        return None
    row = {**fields, "chosen": [chosen] if isinstance(chosen, dict) else chosen}
    if prompt is not None:
        row["prompt"] = prompt
    given = columns.value(fields, ("input",))
    return {**row, "tools": given.get("tools")} if isinstance(given, dict) else row


def _prompt(fields: Fields) -> Any:
    asked = columns.value(fields, (*columns.PROMPT, *columns.QUESTION, *columns.INSTRUCTION))
    given = columns.value(fields, columns.INPUT)
    if isinstance(given, dict):
        return given.get("messages")
    if isinstance(asked, str) and isinstance(given, str) and given.strip():
        return f"{asked}\n\n{given}" if asked.strip() else given
    if asked is not None:
        return None
    messages = as_list(columns.value(fields, columns.MESSAGES))
    if messages is None:
        return given
    messages = respelled(messages) or messages
    last = messages[-1] if isinstance(messages[-1], dict) else {}
    return messages[:-1] if last.get("role", last.get("from")) in ("assistant", "gpt") else messages


def _answers(fields: Fields) -> Fields | None:
    """Take the first of several answers; with tools beside them they are the calls to make (xLAM)."""
    question, answers = _first(columns.value(fields, _QUESTIONS)), columns.value(fields, _ANSWERS)
    if not question:
        return None
    if columns.value(fields, columns.TOOLS) is not None:
        said = {"role": "assistant", "content": "", "tool_calls": answers}
        return {**fields, "messages": [{"role": "user", "content": question}, said]}
    listed = as_list(answers)
    answer = best(listed) if listed and isinstance(listed[0], dict) else _first(answers)
    return {**_without(fields, "questions"), "question": question, "answer": answer} if answer else None


def _first(value: object) -> Any:
    """Return the first text of a list, of a list in it, or of the texts of an object (SQuAD)."""
    if isinstance(value, dict):
        value = value.get("text")
    while isinstance(value, list):
        value = value[0] if value else None
    return value


def _choice(fields: Fields) -> Fields | None:
    """Write the choices below their question, and answer with one of them."""
    question = columns.value(fields, columns.QUESTION)
    choices, answer = columns.value(fields, _CHOICES), columns.value(fields, _CHOICE_ANSWER)
    labels = choices.get("label") if isinstance(choices, dict) else None
    texts = choices.get("text") if isinstance(choices, dict) else as_list(choices)
    if not isinstance(texts, list) or not 1 < len(texts) <= len(_LETTERS) or not isinstance(question, str):
        return None
    labels = labels if isinstance(labels, list) and len(labels) == len(texts) else list(_LETTERS[: len(texts)])
    lines = [f"{label}. {text}" for label, text in zip(labels, texts, strict=True)]
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(texts):
        right = answer
    elif answer in labels or answer in texts:
        right = labels.index(answer) if answer in labels else texts.index(answer)
    else:
        return None
    return {**fields, "question": "\n".join([question, *lines]), "answer": lines[right]}


def _instance(fields: Fields) -> Fields | None:
    """Take the first instance of an instruction (self-instruct)."""
    instances = as_list(fields.get("instances"))
    first = instances[0] if instances else None
    return {**_without(fields, "instances"), **first} if isinstance(first, dict) and "output" in first else None


_RULES: tuple[tuple[tuple[tuple[str, ...], ...], Rule, str], ...] = (
    ((columns.CHOSEN, columns.REJECTED), _preference, ""),
    (((*columns.MESSAGES, "data"),), _turns, "turns in a spelling of their own, read as messages"),
    ((_QUESTIONS, _ANSWERS), _answers, "the first of several answers"),
    ((columns.QUESTION, _CHOICES, _CHOICE_ANSWER), _choice, "choices below the question"),
    ((columns.INSTRUCTION, ("instances",)), _instance, "the first instance of each instruction"),
)


@lru_cache(maxsize=4096)
def _rules(keys: tuple[str, ...]) -> tuple[tuple[Rule, str], ...]:
    """Return the rules that rows with these columns can meet."""
    row = dict.fromkeys(keys)
    return tuple((rule, shape) for needed, rule, shape in _RULES if all(columns.find(row, names) for names in needed))
