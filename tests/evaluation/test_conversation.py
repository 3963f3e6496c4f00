"""A conversation of several columns: what each is asked, edit and undo, thinking, exports, and what a browser sends."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.engine.http.event_stream import AnswerFacts, ColumnEvent
from app.evaluation import conversation
from app.evaluation.conversation import Answer, Column, Conversation, split_thinking


def talk() -> Conversation:
    made = Conversation([Column("base", "Base"), Column("one", "One", ["rank 8"], "abcdef", "look out")], "be brief")
    for number in (1, 2):
        turn = made.ask(f"question {number}")
        for name in ("base", "one"):
            turn.answers[name] = Answer(f"<think>hm</think>answer {number} of {name}", AnswerFacts(tokens=3), done=True)
    return made


def test_a_column_is_asked_with_its_own_answers_and_without_its_thinking() -> None:
    assert talk().messages("one") == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "question 1"},
        {"role": "assistant", "content": "answer 1 of one"},
        {"role": "user", "content": "question 2"},
    ]


def test_going_back_drops_what_came_later() -> None:
    made = talk()
    assert made.back_to(5) == made.back_to(-1) == "" and len(made.turns) == 2
    assert made.back_to(0) == "question 1" and made.turns == []


def test_other_columns_or_another_system_prompt_begin_anew() -> None:
    made = talk()
    assert made.fits(made.columns, "be brief")
    assert not made.fits(made.columns[:1], "be brief") and not made.fits(made.columns, "")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("plain", ("", "plain")),
        ("<think>a\nb</think>\n\nc", ("a\nb", "c")),
        ("a</think>c", ("a", "c")),
        ("<think>not done", ("not done", "")),
        ("x <think> y", ("", "x <think> y")),
    ],
)
def test_thinking_is_told_from_the_answer(text: str, parts: tuple[str, str]) -> None:
    assert split_thinking(text) == parts


def test_an_answer_measures_what_a_server_does_not_tell() -> None:
    answer = Answer()
    for seconds, text in ((0.5, "a"), (1.0, "b"), (1.5, "c")):
        answer.take(ColumnEvent("x", text), seconds)
    assert answer.facts == AnswerFacts(time_to_first_token_s=0.5, tokens=3, tokens_per_s=2.0)
    answer.take(ColumnEvent("x", done=AnswerFacts(tokens=9, batched=True), finish_reason="stop"), 2.0)
    assert answer.done and answer.text == "abc" and answer.facts.tokens == 9 and answer.facts.batched is True


def test_a_conversation_comes_back_from_the_browser() -> None:
    made = talk()
    stored = json.loads(json.dumps(conversation.to_browser(made)))
    assert conversation.from_browser(stored) == made


@pytest.mark.parametrize(
    "stored",
    [
        None,
        1,
        [],
        {},
        {"columns": [], "turns": 1, "system": ""},
        {"columns": [{}], "turns": [], "system": ""},
        {"columns": [], "turns": [{"prompt": 1, "answers": {}, "attempt": 0}], "system": ""},
    ],
)
def test_a_strangers_conversation_is_forgotten(stored: Any) -> None:
    assert conversation.from_browser(stored) == Conversation()


def test_exports_hold_every_question_and_answer() -> None:
    made = talk()
    text = conversation.as_markdown(made)
    assert all(words in text for words in ("question 2", "answer 1 of base", "answer 2 of one", "`abcdef`", "be brief"))
    assert len(json.loads(conversation.as_json(made))["turns"]) == 2
