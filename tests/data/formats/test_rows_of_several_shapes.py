"""Tables that hold rows of several shapes leave the columns of the others empty; none of that may cost a question."""

from __future__ import annotations

from typing import Any

import pytest

from app.data.formats.conversions import conversation_of
from app.data.formats.detection import format_of

EMPTY = [None, "", "  "]


def said(fields: dict[str, Any]) -> list[tuple[str, str]]:
    return [(turn.role, turn.content) for turn in conversation_of(fields).turns]


@pytest.mark.parametrize("empty", EMPTY)
def test_an_empty_instruction_does_not_hide_the_prompt(empty: str | None) -> None:
    rows = [
        {"prompt": "q", "output": "a", "instruction": empty},
        {"question": empty, "answer": empty, "prompt": "q", "completion": "a"},
        {"instruction": empty, "input": empty, "output": empty, "user": "q", "assistant": "a"},
        {"query": "q", "question": empty, "response": "a"},
        {"messages": None, "text": None, "problem": "q", "solution": "a"},
        {"chosen": None, "rejected": None, "input": "q", "output": "a"},
    ]
    for row in rows:
        assert said(row) == [("user", "q"), ("assistant", "a")], row


@pytest.mark.parametrize("empty", EMPTY)
def test_empty_columns_do_not_hide_the_system_text_or_the_context(empty: str | None) -> None:
    assert said({"system": empty, "system_prompt": "s", "question": "q", "answer": "a"})[0] == ("system", "s")
    assert said({"instruction": "q", "input": empty, "context": "c", "output": "a"})[0] == ("user", "q\n\nc")


def test_an_instruction_in_the_input_stays_a_row_of_alpaca() -> None:
    assert format_of({"instruction": "", "input": "q", "output": "a"})[0] == "alpaca"
    assert format_of({"question": "q", "answer": None})[0] == "question-answer"


@pytest.mark.parametrize("mark", ["<noinput>", "<no input>"])
def test_the_mark_of_no_input_is_not_asked(mark: str) -> None:
    assert said({"instruction": "q", "input": mark, "output": "a"}) == [("user", "q"), ("assistant", "a")]


def test_a_chosen_answer_of_several_turns_keeps_its_prompt_and_system_text() -> None:
    turns = [
        {"role": "assistant", "content": "a"},
        {"role": "user", "content": "r"},
        {"role": "assistant", "content": "b"},
    ]
    row = {"prompt": "q", "chosen": turns, "rejected": turns[:1], "system": "s"}
    assert [content for _, content in said(row)] == ["s", "q", "a", "r", "b"]
    whole = {
        "prompt": "q",
        "chosen": [{"role": "user", "content": "q"}, turns[0]],
        "rejected": turns[:1],
        "system": "s",
    }
    assert [content for _, content in said(whole)] == ["s", "q", "a"]
