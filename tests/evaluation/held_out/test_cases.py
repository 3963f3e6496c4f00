"""Rows become cases: the tokens of training, and what is expected, from fields or from the request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.data.chat_template.render import Renderer
from app.data.chat_template.tokenizer import load_tokenizer
from app.data.dataset.examples import ExampleMaker
from app.data.dataset.options import DataOptions
from app.data.dataset.token_preview import show
from app.data.reading.readers import read_rows
from app.errors import DataError
from app.evaluation.held_out.cases import Case, carried, read_cases
from app.evaluation.held_out.requests import Expectations
from app.models.names import resolve


@pytest.fixture(scope="module")
def maker() -> ExampleMaker:
    return ExampleMaker(Renderer(load_tokenizer(Path(resolve("starter")))), DataOptions(max_length=512))


def _read(tmp_path: Path, maker: ExampleMaker, *rows: dict[str, Any], **given: Any) -> tuple[Case, ...]:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return read_cases(file, maker, Expectations(**given)).cases


def test_tokens_are_those_that_the_preview_shows(tmp_path: Path, maker: ExampleMaker) -> None:
    row = {"instruction": "What is 2 + 2?", "input": "", "output": "2 + 2 = 4."}
    (case,) = _read(tmp_path, maker, row)
    shown = show(next(iter(read_rows(tmp_path / "rows.jsonl"))), maker)  # type: ignore[arg-type]
    assert case.passage is not None and case.passage.ids == [token.id for token in shown.tokens]
    trained = [place for place, token in enumerate(shown.tokens) if token.trained]
    assert [at for low, high in case.passage.trained for at in range(low, high)] == trained
    assert case.question is not None and case.question.messages == ({"role": "user", "content": "What is 2 + 2?"},)
    assert case.expected == "2 + 2 = 4."


def test_the_last_answer_is_asked_for_and_the_others_are_context(tmp_path: Path, maker: ExampleMaker) -> None:
    said = [("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    (case,) = _read(tmp_path, maker, {"messages": [{"role": r, "content": c} for r, c in said]})
    assert case.question is not None and [m["content"] for m in case.question.messages] == ["s", "a", "b", "c"]
    assert case.reference.answers == ("d",) and case.passage is not None and len(case.passage.trained) == 2


def test_fields_of_a_row_say_what_is_expected(tmp_path: Path, maker: ExampleMaker) -> None:
    row = {
        "prompt": "q", "completion": "yes", "expected": ["yes", "yep"], "keys": ["y"], "pattern": "^y",
        "schema": {"type": "string"}, "tolerance": 0.5,
    }  # fmt: skip
    (case,) = _read(tmp_path, maker, row)
    own = case.reference
    assert own.answers == ("yes", "yep") and own.contains == ("y",) and own.pattern == "^y"
    assert own.schema == {"type": "string"} and own.tolerance == 0.5
    assert carried([case]) == ["contains", "regex", "json_schema", "numeric"]
    (other,) = _read(tmp_path, maker, {"prompt": "q", "completion": "no"}, pattern="n", schema_text='{"type": "null"}')
    assert other.reference.pattern == "n" and other.reference.schema == {"type": "null"}


@pytest.mark.parametrize(
    "broken", [{"pattern": "("}, {"schema": {"type": "objekt"}}, {"schema": "{"}, {"tolerance": "x"}]
)
def test_a_row_whose_check_is_broken_is_left_out_and_named(
    tmp_path: Path, maker: ExampleMaker, broken: dict[str, Any]
) -> None:
    file = tmp_path / "rows.jsonl"
    good, bad = {"prompt": "q", "completion": "no"}, {"prompt": "p", "completion": "no", **broken}
    file.write_text(f"{json.dumps(good)}\n{json.dumps(bad)}\n")
    read = read_cases(file, maker, Expectations())
    assert len(read.cases) == 1 and read.left_out == {"expectation": 1}
    assert read.notes[0].startswith("line 2: ") and "cannot be used" in read.notes[0]
    file.write_text(json.dumps(bad))
    with pytest.raises(DataError, match="cannot be used"):
        read_cases(file, maker, Expectations())


def test_a_table_of_texts_may_hold_tolerances(tmp_path: Path, maker: ExampleMaker) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("prompt,completion,tolerance\nhow many,5,0.5\nhow many,6,\n")
    first, second = read_cases(file, maker, Expectations(tolerance=2.0)).cases
    assert (first.reference.tolerance, second.reference.tolerance) == (0.5, 2.0)


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "b"}], "choices": ["a", "b"]},
        {"question": "q", "choices": ["a", "b"], "answer": 1},
        {"question": "q", "choices": {"text": ["a", "b"], "label": ["1", "2"]}, "answerKey": "2"},
        {"prompt": "q", "completion": "something else", "choices": ["a", "b"], "correct": "B"},
        {"prompt": "q", "choices": ["a", "b"], "correct": "b"},
        {"question": "q", "choices": ["a", "b"], "correct": "(B)"},
        {"prompt": "q", "choices": '["a", "b"]', "correct": "1"},
        {"prompt": "q", "choices": {"text": ["a", "b"], "label": ["2", "1"]}, "correct": "1"},
        {"prompt": "q: A. a, B. b", "completion": "B", "choices": ["a", "b"]},
    ],
)
def test_choices_are_found_with_the_right_one(tmp_path: Path, maker: ExampleMaker, row: dict[str, Any]) -> None:
    (case,) = _read(tmp_path, maker, row)
    assert case.reference.correct == 1 and len(case.candidates) == 2
    texts = [maker.renderer.tokenizer.decode(one.ids[slice(*one.trained[0])]) for one in case.candidates]
    assert all(text.rstrip().startswith(choice) for text, choice in zip(texts, case.reference.choices, strict=True))


@pytest.mark.parametrize("correct", ["c", 2, -1, True, 0.5, "", "9" * 5000])
def test_a_place_that_no_choice_has_compares_nothing(tmp_path: Path, maker: ExampleMaker, correct: object) -> None:
    (case,) = _read(tmp_path, maker, {"prompt": "q", "completion": "z", "choices": ["a", "b"], "correct": correct})
    assert case.reference.correct is None and not case.candidates


def test_a_prompt_with_a_check_needs_no_answer(tmp_path: Path, maker: ExampleMaker) -> None:
    (case,) = _read(tmp_path, maker, {"prompt": "Say 4", "contains": "4"})
    assert case.passage is None and case.question is not None and case.reference.contains == ("4",)


def test_what_cannot_be_used_is_counted(tmp_path: Path, maker: ExampleMaker) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"prompt": "a", "completion": "b"}\n{"prompt": "a", "completion": ""}\nbroken\n')
    read = read_cases(file, maker, Expectations())
    assert len(read.cases) == 1 and sum(read.left_out.values()) == 2
    file.write_text("broken\n")
    with pytest.raises(DataError, match="Nothing can be evaluated"):
        read_cases(file, maker, Expectations())
