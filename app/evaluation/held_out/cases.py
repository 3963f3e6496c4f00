"""From the rows of a file to cases: what is asked, what is expected, and the very tokens that training would train.

A row's expectations stand in fields beside its conversation (docs/evaluation.md names them); what a row does not say
is taken from the request.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from app.data.dataset.examples import ExampleMaker, Outcome
from app.data.formats import columns
from app.data.formats.conversation import Conversation, Turn
from app.data.formats.message_lists import as_list
from app.data.reading.readers import read_rows
from app.data.reading.rows import Fields, Row, RowProblem
from app.errors import DataError
from app.evaluation.answers import Question
from app.evaluation.held_out.requests import Expectations, check_pattern, schema_of
from app.evaluation.metrics.answers import Reference

# The fields of a row that say what is expected, under the names that files have for them.
_EXPECTED = ("expected", "reference", "references", "target", "ideal")
_CONTAINS = ("contains", "keys", "keywords", "must_contain")
_PATTERN, _SCHEMA, _TOLERANCE = ("pattern", "regex"), ("schema", "json_schema"), ("tolerance",)
_CHOICES, _CORRECT = ("choices", "options"), ("correct", "answer", "answerKey", "label", "gold")
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Passage:
    """Tokens of one model's view, and the ranges (first, behind last) of those that are trained."""

    ids: list[int]
    trained: tuple[tuple[int, int], ...]

    @property
    def count(self) -> int:
        """Return how many tokens are trained."""
        return sum(end - start for start, end in self.trained)


@dataclass(frozen=True)
class Case:
    """One row. `passage` is None where there is nothing to be trained, as in a prompt with a check alone.

    candidates: the conversation with each choice as its answer, as tokens.
    """

    row: int
    conversation: Conversation
    question: Question | None
    reference: Reference
    passage: Passage | None
    candidates: tuple[Passage, ...] = ()

    @property
    def prompt(self) -> str:
        """Return the last thing that is asked, for people."""
        if self.question is None:
            return (self.conversation.text or "")[:200]
        return next((str(m.get("content", "")) for m in reversed(self.question.messages) if m["role"] == "user"), "")

    @property
    def expected(self) -> str:
        """Return what is expected, for people."""
        own = self.reference
        if own.calls:
            return json.dumps([call.as_message() for call in own.calls], ensure_ascii=False)
        return next(iter(own.answers), "") or ", ".join(own.contains) or own.pattern


@dataclass(frozen=True)
class Cases:
    """The usable rows of a file, and how many were left out by kind of problem."""

    cases: tuple[Case, ...]
    left_out: dict[str, int]


def read_cases(source: Path, maker: ExampleMaker, given: Expectations, limit: int = 0) -> Cases:
    """Read the rows of a file as cases, at most `limit` (0: all). Raises DataError where none is usable.

    Raises UsageError for a pattern or a schema of a row that is none.
    """
    found: list[Case] = []
    left_out: Counter[str] = Counter()
    worst = ""
    for record, outcome in _outcomes(source, maker):
        case = _asked_alone(record, given) if isinstance(record, Row) else None
        case = case or _case(outcome, maker, given)
        if case is None:
            problem = outcome.problem
            left_out[problem.kind if problem else "nothing_trained"] += 1
            worst = worst or (problem.message if problem else "")
            continue
        found.append(case)
        if limit and len(found) >= limit:
            break
    if not found:
        raise DataError(
            "Nothing can be evaluated", worst or "the file has no row", "see `data check FILE` for what a row needs"
        )
    return Cases(tuple(found), dict(left_out))


def _outcomes(source: Path, maker: ExampleMaker) -> Iterator[tuple[Row | RowProblem, Outcome]]:
    """Yield every record with what became of it; the maker gives one outcome a record, in order."""
    records: list[Row | RowProblem] = []

    def noted() -> Iterator[Row | RowProblem]:
        for record in read_rows(source):
            records.append(record)
            yield record

    for outcome in maker.make(noted()):
        yield records.pop(0), outcome


def _asked_alone(row: Row, given: Expectations) -> Case | None:
    """Return the case of a row that has a prompt and checks but no answer, None for any other row."""
    fields = row.fields
    column = columns.find(fields, (*columns.PROMPT, *columns.QUESTION, *columns.INSTRUCTION))
    answers = (*columns.OUTPUT, *columns.COMPLETION, *columns.ANSWER, *columns.MESSAGES, *columns.CHOSEN)
    if column is None or not isinstance(fields[column], str) or columns.find(fields, answers) is not None:
        return None
    if not any(name in fields for name in (*_EXPECTED, *_CONTAINS, *_PATTERN, *_SCHEMA)) and given == Expectations():
        return None
    turns = (Turn("user", fields[column]),)
    return Case(
        row.number, Conversation(turns), Question((turns[0].as_message(),)), _reference(fields, None, given), None
    )


def _case(outcome: Outcome, maker: ExampleMaker, given: Expectations) -> Case | None:
    row, conversation = outcome.row, outcome.conversation
    if row is None or conversation is None or not outcome.examples:
        return None
    example = outcome.examples[0]
    passage = Passage(example.input_ids, example.trained)
    if conversation.text is not None:
        return Case(row.number, conversation, None, Reference(), passage)
    last = max(place for place, turn in enumerate(conversation.turns) if turn.role == "assistant")
    answer = conversation.turns[last]
    asked = tuple(turn.as_message() for turn in conversation.turns[:last])
    reference = _reference(row.fields, answer, given)
    return Case(
        row.number,
        conversation,
        Question(asked, conversation.tools) if asked else None,
        reference,
        passage,
        _candidates(conversation, last, reference, maker),
    )


def _reference(fields: Fields, answer: Turn | None, given: Expectations) -> Reference:
    named = _texts(_field(fields, _EXPECTED))
    own = named or ((answer.content,) if answer and answer.content.strip() else ())
    choices, correct = _choices(fields, own, given.choices)
    pattern = str(_field(fields, _PATTERN) or given.pattern)
    check_pattern(pattern)
    tolerance = _field(fields, _TOLERANCE)
    return Reference(
        answers=own,
        contains=_texts(_field(fields, _CONTAINS)),
        pattern=pattern,
        schema=_schema(_field(fields, _SCHEMA), given.schema_text),
        choices=choices,
        correct=correct,
        tolerance=float(tolerance) if isinstance(tolerance, (int, float)) else given.tolerance,
        calls=answer.tool_calls if answer else (),
    )


def _field(fields: Fields, names: Sequence[str]) -> Any:
    return next((fields[name] for name in names if fields.get(name) is not None), None)


def _texts(value: object) -> tuple[str, ...]:
    """Return a text, a number or a list of them as texts."""
    listed = value if isinstance(value, list) else [value]
    return tuple(str(one) for one in listed if isinstance(one, (str, int, float)) and str(one).strip())


def _schema(value: object, text: str) -> object:
    """Return the schema of a row, or of the request; None where there is none. Raises UsageError."""
    if isinstance(value, (dict, bool)):
        return schema_of(json.dumps(value))
    return schema_of(value if isinstance(value, str) and value.strip() else text) if value or text else None


def _choices(fields: Fields, answers: Sequence[str], given: Sequence[str]) -> tuple[tuple[str, ...], int | None]:
    """Return the choices as the model would write them, and the place of the right one.

    Where the answer of the row is a choice with its letter in front (`B. Paris`), all of them are written so.
    """
    held = _field(fields, _CHOICES)
    labels = held.get("label") if isinstance(held, dict) else None
    texts = [str(one) for one in (held.get("text") if isinstance(held, dict) else as_list(held)) or []] or list(given)
    if len(texts) < 2:
        return (), None
    marks = [str(one) for one in labels] if isinstance(labels, list) and len(labels) == len(texts) else _LETTERS
    lettered = [f"{mark}. {text}" for mark, text in zip(marks, texts, strict=False)]
    for answer in answers:
        for written in (texts, lettered):
            if answer.strip() in (one.strip() for one in written):
                return tuple(written), [one.strip() for one in written].index(answer.strip())
    correct = _field(fields, _CORRECT)
    if isinstance(correct, int) and not isinstance(correct, bool) and 0 <= correct < len(texts):
        return tuple(texts), correct
    if isinstance(correct, str) and correct.strip() in list(marks):
        return tuple(texts), list(marks).index(correct.strip())
    return (), None


def _candidates(
    conversation: Conversation, last: int, reference: Reference, maker: ExampleMaker
) -> tuple[Passage, ...]:
    """Return the conversation with each choice as its last answer; what is trained of it is that answer alone."""
    if reference.correct is None:
        return ()
    found = []
    for choice in reference.choices:
        turns = (
            *conversation.turns[:last],
            replace(conversation.turns[last], content=choice, reasoning="", trained=True),
        )
        example = maker.renderer.example(Conversation(turns, conversation.tools))
        found.append(Passage(example.input_ids, example.trained[-1:]))
    return tuple(found)


def carried(cases: Sequence[Case]) -> list[str]:
    """Return the metrics that rows carry fields for."""
    has: Mapping[str, bool] = {
        "contains": any(case.reference.contains for case in cases),
        "regex": any(case.reference.pattern for case in cases),
        "json_schema": any(case.reference.schema is not None for case in cases),
        "choice": any(case.candidates for case in cases),
        "numeric": any(case.reference.tolerance is not None for case in cases),
        "tool_call": any(case.reference.calls for case in cases),
    }
    return [name for name, there in has.items() if there]


def refuse_unanswerable(name: str, needs: str) -> DataError:
    """Return the error for a metric that no row has what it needs for."""
    return DataError(f"No row can be measured by {name}", f"it needs {needs}", "add that, or leave the metric out")
