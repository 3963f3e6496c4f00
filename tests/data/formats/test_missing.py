"""Questions and answers that are not there: what a blank, a NaN and the words of exports stand for."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from app.data.formats.conversions import conversation_of
from app.data.reading.rows import BadRow

NAN = float("nan")
BLANK = [None, "", " \n", "\u200b", "\ufeff \u200b", NAN]
NO_VALUE = ["nan", "NaN", "<NA>", " NaN\n", "NaT"]


def chat(*turns: tuple[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def said(fields: dict[str, Any], mapping: tuple[tuple[str, str], ...] = ()) -> list[tuple[str, str]]:
    return [(turn.role, turn.content) for turn in conversation_of(fields, "", mapping).turns]


def refused(fields: dict[str, Any], mapping: tuple[tuple[str, str], ...] = ()) -> str:
    with pytest.raises(BadRow) as caught:
        conversation_of(fields, "", mapping)
    assert caught.value.message and caught.value.fix
    assert copy.deepcopy(caught.value.message) == caught.value.message  # it goes into an answer of the data child
    return caught.value.kind


def asking(question: Any) -> list[dict[str, Any]]:
    """Return rows of every table format whose question is this."""
    return [
        {"instruction": question, "input": "", "output": "a"},
        {"instruction": question, "input": question, "output": "a"},
        {"instruction": question, "output": "a", "system": "Be brief."},
        {"prompt": question, "completion": "a"},
        {"question": question, "answer": "a"},
        {"instruction": question, "output": "a", "history": [["q", "b"]]},
        {"prompt": question, "chosen": "a", "rejected": "b"},
        {"prompt": question, "chosen": "a", "rejected": "b", "system": "Be brief."},
    ]


@pytest.mark.parametrize("blank", BLANK)
def test_a_row_of_a_table_without_a_question_is_a_problem_of_its_own(blank: Any) -> None:
    for row in asking(blank):
        assert refused(row) in ("empty_question", "shape" if row.get("prompt", "") is None else ""), row
    assert refused({"ask": blank, "reply": "a"}, (("assistant", "reply"), ("user", "ask"))) == "empty_question"


@pytest.mark.parametrize("word", NO_VALUE)
def test_nan_as_question_or_answer_is_a_missing_value(word: str) -> None:
    for row in asking(word):
        assert refused(row) in ("missing_value", "empty_question"), row
    for row in (
        {"instruction": "q", "output": word},
        {"prompt": "q", "chosen": word, "rejected": "b"},
        {"text": word},
        chat(("user", "q"), ("assistant", "a"), ("user", "r"), ("assistant", word)),
        chat(("user", word), ("assistant", "a")),
    ):
        assert refused(row) == "missing_value", row
    assert refused({"ask": "q", "reply": word}, (("assistant", "reply"), ("user", "ask"))) == "missing_value"


def test_what_is_no_question_of_its_own_may_be_empty() -> None:
    assert said({"instruction": "q", "input": "", "output": "a"}) == [("user", "q"), ("assistant", "a")]
    assert said({"instruction": "", "input": "q", "output": "a"}) == [("user", "q"), ("assistant", "a")]
    assert said({"context": "q", "response": "a"}) == [("user", "q"), ("assistant", "a")]
    # A table of two shapes: the other one's columns are empty, its answer too.
    both = {"question": None, "answer": None, "Context": "q", "Response": "a"}
    assert said(both) == [("user", "q"), ("assistant", "a")]
    assert said({name: value or "nan" for name, value in both.items()}) == [("user", "q"), ("assistant", "a")]
    assert said({"reply": "a"}, (("assistant", "reply"),)) == [("user", ""), ("assistant", "a")]


@pytest.mark.parametrize("blank", ["", " ", "\u200b"])
def test_a_chat_asks_by_any_of_its_turns(blank: str) -> None:
    assert refused(chat(("user", blank), ("assistant", "a"))) == "empty_question"
    assert refused(chat(("system", " "), ("user", blank), ("assistant", "a"))) == "empty_question"
    assert refused({"text": f"### Instruction:\n{blank}\n\n### Response:\na"}) == "empty_question"
    for row in (
        chat(("system", "Greet."), ("user", blank), ("assistant", "a")),
        chat(("user", blank), ("assistant", "Hi!"), ("user", "q"), ("assistant", "a")),
    ):
        assert ("user", blank) in said(row)


@pytest.mark.parametrize("word", ["nan", "None", "null", "NULL", "N/A", NAN])
def test_what_stands_for_an_empty_cell_is_no_system_text_thinking_history_or_tools(word: Any) -> None:
    row = {"question": "q", "answer": "a", "system": word, "reasoning": word, "history": word, "tools": word}
    found = conversation_of(row)
    assert [(turn.role, turn.content, turn.reasoning) for turn in found.turns] == [("user", "q", ""), ("assistant", "a", "")]  # fmt: skip # noqa: E501
    assert found.tools == ()


def test_nan_is_no_input_and_none_may_be_one() -> None:
    for empty in ("nan", "NaN", NAN, None):
        assert said({"instruction": "q", "input": empty, "output": "a"})[0] == ("user", "q")
    asked = {"instruction": "Is this a keyword of Python?", "input": "None", "output": "Yes"}
    assert said(asked)[0] == ("user", "Is this a keyword of Python?\n\nNone")
    # Words that only resemble them.
    for real in ("Nan", "nano", "NaN is not a number", "Na", "no"):
        assert said({"question": "q", "answer": real})[1] == ("assistant", real)


def test_a_history_that_is_no_list_is_not_lost_in_silence() -> None:
    assert refused({"question": "q", "answer": "a", "history": "User: hi\nBot: hello"}) == "shape"
    assert said({"question": "q", "answer": "a", "history": "[]"})[0] == ("user", "q")
