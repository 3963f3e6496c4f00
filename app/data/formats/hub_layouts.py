"""Rewrite rows that public data sets keep in a shape of their own into columns and messages that all the rest knows.

A rule looks at one row and returns the columns to read in their place, or None where the row is not of its shape. Which
rules can apply at all is decided once for rows of the same columns.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from app.data.formats import columns
from app.data.formats.cells import best, passages_text
from app.data.formats.message_lists import are_plain, as_list, respelled
from app.data.formats.missing import is_blank
from app.data.formats.turn_markers import turns_of_marks
from app.data.reading.rows import BadRow, Fields

Rule = Callable[[Fields], "Fields | None"]
_ANSWERS = ("answers", "答案列表")
_QUESTIONS = (*columns.QUESTION, "questions")
_PASSAGES = (*columns.CONTEXT, "contexts", "passages", "paragraphs", "documents", "ctxs", "retrieved_contexts")
_CHOICES = ("choices", "options", "选项", "endings")
_ASKED = (*columns.QUESTION, *columns.PROBLEM, *columns.PROMPT)
_GIVEN = ("input", "ctx")
# Columns that name the right choice, and those in which an answer is written, which may be one of them.
_CHOICE_MARK = (
    *("answer_idx", "answer_index", "answerkey", "answer_key", "correct_option", "correct_index", "cop"),
    *("correct", "gold", "label"),
)
_CHOICE_WRITTEN = ("answer", "correct_answer", "target", "output", "completion", "response", "答案")
_CHOICE_ANSWER = (*_CHOICE_MARK, *_CHOICE_WRITTEN)
# What the question with its choices, and its answer, take the place of.
_ASKING = (*columns.INSTRUCTION, *_GIVEN, *_ASKED)
_READ_FOR_CHOICES = (*_ASKING, *_CHOICE_ANSWER)
# Between a question and what it is asked about.
_NEXT = "\n\n"
_CHOICE_COLUMNS = ("{}", "option_{}", "option {}", "option{}", "op{}", "choice_{}", "choice {}", "choice{}", "选项{}")
_FIRST_CHOICES = tuple(pattern.format(mark) for pattern in _CHOICE_COLUMNS for mark in "a1")
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LABEL_KEYS = ("label", "key", "id", "letter", "option")
_TEXT_KEYS = ("text", "value", "content", "answer", "choice")
# A line that begins with its label, and an answer that is nothing but a label.
_LABELLED = re.compile(r"\(?[A-Z0-9][).:]\s")
_LETTER = re.compile(r"\(?([A-Za-z])\)?[.:)]?\Z")


def reshaped(fields: Fields) -> tuple[Fields, str]:
    """Return a row in known columns, and in which shape it was; the row itself and nothing where it is known."""
    column = _passages_column(tuple(fields))
    if column and (passages := passages_text(fields[column])):
        fields = {**_without(fields, column), "context": passages}
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
    if turns := _turns_of_lists(fields):
        return turns
    listed = as_list(answers)
    answer = best(listed) if listed and isinstance(listed[0], dict) else _first(answers)
    return {**_without(fields, "questions"), "question": question, "answer": answer} if answer else None


def _turns_of_lists(fields: Fields) -> Fields | None:
    """Read questions and as many answers as the turns of a conversation (CoQA), what they are about in front."""
    asked, answered = as_list(columns.value(fields, ("questions",))), columns.value(fields, _ANSWERS)
    replies = as_list(answered.get("input_text") if isinstance(answered, dict) else answered)
    if not asked or not replies or len(asked) != len(replies) or len(asked) < 2:
        return None
    if not all(isinstance(text, str) for text in (*asked, *replies)):
        return None
    about = columns.value(fields, (*columns.CONTEXT, "story"))
    first = f"{about}{_NEXT}{asked[0]}" if isinstance(about, str) and about.strip() else asked[0]
    pairs = zip([first, *asked[1:]], replies, strict=True)
    turns = [({"role": "user", "content": ask}, {"role": "assistant", "content": reply}) for ask, reply in pairs]
    return {**_system(fields), "messages": [message for turn in turns for message in turn]}


def _first(value: object) -> Any:
    """Return the first text of a list, of a list in it, or of the texts of an object (SQuAD)."""
    if isinstance(value, dict):
        value = value.get("text")
    while isinstance(value, list):
        value = value[0] if value else None
    return value


@dataclass(frozen=True)
class _Choice:
    """One of several answers to choose from: its label, and the line that shows it."""

    label: str
    text: str

    @property
    def line(self) -> str:
        return self.text if _LABELLED.match(self.text) else f"{self.label}. {self.text}"


def _choice(fields: Fields) -> Fields | None:
    """Write the choices below their question, and answer with one of them.

    An answer in other words than those of a choice stays as it is. Raises BadRow for a number or a letter of none.
    """
    listed = columns.filled(fields, _CHOICES)
    marked, written = columns.filled(fields, _CHOICE_MARK), columns.filled(fields, _CHOICE_WRITTEN)
    answered = marked or written
    choices = _choices(fields[listed]) if listed else _choices_of_columns(fields)
    asked = [columns.value(fields, names) for names in (columns.INSTRUCTION, _GIVEN, _ASKED)]
    question = _NEXT.join(text for text in asked if isinstance(text, str) and text.strip())
    if not 1 < len(choices) <= len(_LETTERS) or not question or answered is None:
        return None
    if all(choice.text in question for choice in choices):
        return None  # the question shows them already
    own = fields[written] if marked and written else None
    # Beside a mark, what is written in words of its own is the answer, and the mark is for whoever compares.
    is_own = isinstance(own, str) and _named(own, choices) is None
    answer = str(own) if is_own else _chosen(fields[answered], choices)
    read = {listed, *(name for name in fields if columns.find({name: None}, _READ_FOR_CHOICES))}
    lines = [question, *(choice.line for choice in choices)]
    return {**_without(fields, *read), "question": "\n".join(lines), "answer": answer}


def _choices(value: object) -> list[_Choice]:
    """Return the choices of a cell: texts, records of label and text, both as columns, texts by label, or lines."""
    if isinstance(value, dict) and isinstance(value.get("text"), list):
        labels, texts = value.get("label"), value["text"]
        named = labels if isinstance(labels, list) and len(labels) == len(texts) else _LETTERS
        return [_Choice(str(label), str(text)) for label, text in zip(named, texts, strict=False)]
    if isinstance(value, dict):
        return [_Choice(str(label), str(text)) for label, text in value.items() if not is_blank(text)]
    listed = as_list(value)
    if listed is None and isinstance(value, str):
        listed = [line.strip() for line in value.splitlines() if line.strip()]
        if not all(map(_LABELLED.match, listed)):
            return []
    if listed and all(isinstance(one, dict) for one in listed):
        records = [(columns.value(one, _LABEL_KEYS), columns.value(one, _TEXT_KEYS)) for one in listed]
        return [_Choice(str(label), str(text)) for label, text in records if label is not None and text is not None]
    return [_Choice(letter, str(text)) for letter, text in zip(_LETTERS, listed or (), strict=False)]


def _choices_of_columns(fields: Fields) -> list[_Choice]:
    """Return the choices that stand in columns of their own: A to D, option_a, opa, option1 and the like."""
    for pattern in _CHOICE_COLUMNS:
        for marks in (_LETTERS[:10].lower(), "123456789"):
            names = [columns.find(fields, (pattern.format(mark),)) for mark in marks]
            filled = [name for name in names if name is not None and not is_blank(fields[name])]
            if len(filled) > 1 and names[0] in filled:
                return [_Choice(letter, str(fields[name])) for letter, name in zip(_LETTERS, filled, strict=False)]
    return []


def _chosen(answer: object, choices: list[_Choice]) -> str:
    """Return the line of the choice that an answer names by its place, label or text; else the answer's own text."""
    found = _named(answer, choices)
    if found is not None:
        return found.line
    said = answer.strip() if isinstance(answer, str) else ""
    if isinstance(answer, str) and said and not _LETTER.match(said) and not said.isdecimal():
        return answer
    shown = json.dumps(answer, ensure_ascii=False, default=str)[:40]
    raise BadRow(
        "shape",
        f"The answer {shown} is none of the {len(choices)} choices",
        "Write the answer as one of the choices, or as its letter",
    )


def _named(answer: object, choices: list[_Choice]) -> _Choice | None:
    """Return the choice that an answer names by its label, its text or its place from 0; None for none."""
    if isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    said = str(answer).strip() if isinstance(answer, (str, int)) and not isinstance(answer, bool) else ""
    named = [choice for choice in choices if choice.label == said]
    if not isinstance(answer, int):  # a number is a place or a label, also where the texts are numbers
        named += [choice for choice in choices if said in (choice.text.strip(), choice.line)]
    if said and named:
        return named[0]
    letter = _LETTER.match(said)
    bare = letter.group(1).upper() if letter else said
    placed = [choice for place, choice in enumerate(choices) if bare in (str(place), choice.label.upper())]
    return placed[0] if placed else None


def _instance(fields: Fields) -> Fields | None:
    """Take the first instance of an instruction (self-instruct)."""
    instances = as_list(fields.get("instances"))
    first = instances[0] if instances else None
    return {**_without(fields, "instances"), **first} if isinstance(first, dict) and "output" in first else None


_RULES: tuple[tuple[tuple[tuple[str, ...], ...], Rule, str], ...] = (
    ((columns.CHOSEN, columns.REJECTED), _preference, ""),
    (((*columns.MESSAGES, "data"),), _turns, "turns in a spelling of their own, read as messages"),
    ((_QUESTIONS, _ANSWERS), _answers, "the first of several answers"),
    ((_ASKING, _CHOICES, _CHOICE_ANSWER), _choice, "choices below the question"),
    ((_ASKING, _FIRST_CHOICES, _CHOICE_ANSWER), _choice, "choices below the question"),
    ((columns.INSTRUCTION, ("instances",)), _instance, "the first instance of each instruction"),
)


@lru_cache(maxsize=4096)
def _passages_column(keys: tuple[str, ...]) -> str | None:
    """Return the column of passages that a question is asked about, where rows with these columns ask one."""
    row = dict.fromkeys(keys)
    if columns.find(row, columns.MESSAGES) or not columns.find(row, _ASKED):
        return None
    return columns.find(row, _PASSAGES)


@lru_cache(maxsize=4096)
def _rules(keys: tuple[str, ...]) -> tuple[tuple[Rule, str], ...]:
    """Return the rules that rows with these columns can meet."""
    row = dict.fromkeys(keys)
    return tuple((rule, shape) for needed, rule, shape in _RULES if all(columns.find(row, names) for names in needed))
