"""From the rows of a file to cases: what is asked, what is expected, and the very tokens that training would train.

A row's expectations stand in fields beside its conversation (docs/evaluation.md names them); what a row does not say
is taken from the request.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from app.data.dataset.examples import ExampleMaker
from app.data.dataset.outcomes import Outcome
from app.data.formats import columns
from app.data.formats.conversation import Conversation, Turn
from app.data.formats.message_lists import as_list
from app.data.reading.readers import read_rows
from app.data.reading.rows import Fields, Row, RowProblem
from app.errors import DataError, UsageError
from app.evaluation.answers import Question
from app.evaluation.held_out.requests import Expectations, check_pattern, schema_of
from app.evaluation.metrics.answers import Reference

# The fields of a row that say what is expected, under the names that files have for them.
_EXPECTED = ("expected", "reference", "references", "target", "ideal")
_CONTAINS = ("contains", "keys", "keywords", "must_contain")
_PATTERN, _SCHEMA, _TOLERANCE = ("pattern", "regex"), ("schema", "json_schema"), ("tolerance",)
_CHOICES, _CORRECT = ("choices", "options"), ("correct", "answer", "answerKey", "label", "gold")
_LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_MOST_NOTES = 5


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
    """The usable rows of a file, how many were left out by kind of problem, and what is wrong with single ones."""

    cases: tuple[Case, ...]
    left_out: dict[str, int]
    notes: tuple[str, ...] = ()


def read_cases(source: Path, maker: ExampleMaker, given: Expectations, limit: int = 0) -> Cases:
    """Read the rows of a file as cases, at most `limit` (0: all). Raises DataError where none is usable.

    A row whose own pattern or schema is none is left out, with a note that names its line.
    """
    found: list[Case] = []
    left_out: Counter[str] = Counter()
    worst, notes = "", []
    for record, outcome in _outcomes(source, maker):
        try:
            case = _asked_alone(record, maker, given) if isinstance(record, Row) else None
            case = case or _case(outcome, maker, given)
        except UsageError as error:
            left_out["expectation"] += 1
            notes.append(f"line {record.line}: {error.line()}")
            worst = worst or notes[-1]
            continue
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
    return Cases(tuple(found), dict(left_out), tuple(notes[:_MOST_NOTES]))


def _outcomes(source: Path, maker: ExampleMaker) -> Iterator[tuple[Row | RowProblem, Outcome]]:
    """Yield every record with what became of it; the maker gives one outcome a record, in order."""
    records: list[Row | RowProblem] = []

    def noted() -> Iterator[Row | RowProblem]:
        for record in read_rows(source):
            records.append(record)
            yield record

    for outcome in maker.make(noted()):
        yield records.pop(0), outcome


def _asked_alone(row: Row, maker: ExampleMaker, given: Expectations) -> Case | None:
    """Return the case of a row that has a prompt and checks but no answer, None for any other row."""
    fields = row.fields
    column = columns.find(fields, (*columns.PROMPT, *columns.QUESTION, *columns.INSTRUCTION))
    answers = (*columns.OUTPUT, *columns.COMPLETION, *columns.ANSWER, *columns.MESSAGES, *columns.CHOSEN)
    if column is None or not isinstance(fields[column], str) or columns.find(fields, answers) is not None:
        return None
    checks = (*_EXPECTED, *_CONTAINS, *_PATTERN, *_SCHEMA, *_CHOICES)
    if _field(fields, checks) is None and given == Expectations():
        return None
    turns, reference = (Turn("user", fields[column]),), _reference(fields, None, given)
    candidates = _candidates(Conversation((*turns, Turn("assistant", ""))), 1, reference, maker)
    question = Question((turns[0].as_message(),))
    return Case(row.number, Conversation(turns), question, reference, None, candidates)


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
    return Reference(
        answers=own,
        contains=_texts(_field(fields, _CONTAINS)),
        pattern=pattern,
        schema=_schema(_field(fields, _SCHEMA), given.schema_text),
        choices=choices,
        correct=correct,
        tolerance=_tolerance(_field(fields, _TOLERANCE), given.tolerance),
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


def _tolerance(value: object, given: float | None) -> float | None:
    """Return a row's tolerance, also where its file holds texts alone. Raises UsageError for one that is none."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return given
    try:
        found = float(value) if isinstance(value, (int, float, str)) else math.nan
    except ValueError:
        found = math.nan
    if not 0 <= found < math.inf:
        raise UsageError(f"The tolerance {value!r:.40} cannot be used", "it is at least 0", "write 0.01, say")
    return found


def _choices(fields: Fields, answers: Sequence[str], given: Sequence[str]) -> tuple[tuple[str, ...], int | None]:
    """Return the choices as the model would write them, and the place of the right one.

    Where the answer of the row is a choice with its letter in front (`B. Paris`), all of them are written so; where it
    is the letter alone, and no field names the right choice, the letters are what is compared.
    """
    held = _field(fields, _CHOICES)
    labels = held.get("label") if isinstance(held, dict) else None
    texts = [str(one) for one in (held.get("text") if isinstance(held, dict) else as_list(held)) or []] or list(given)
    if len(texts) < 2:
        return (), None
    is_labelled = isinstance(labels, list) and len(labels) == len(texts)
    marks = [str(one) for one in labels] if is_labelled and labels else list(_LETTERS[: len(texts)])
    lettered = [f"{mark}. {text}" for mark, text in zip(marks, texts, strict=False)]
    for answer in answers:
        for written in (texts, lettered):
            if answer.strip() in (one.strip() for one in written):
                return tuple(written), [one.strip() for one in written].index(answer.strip())
    correct = _place(_field(fields, _CORRECT), marks, len(texts))
    if correct is not None:
        return tuple(texts), correct
    letters = [place for answer in answers if (place := _marked(answer, marks)) is not None]
    return (tuple(marks), letters[0]) if letters and len(marks) == len(texts) else ((), None)


def _place(correct: object, marks: Sequence[str], count: int) -> int | None:
    """Return the place of the choice that a number (from 0), a letter or a label names.

    A number as text is a label where the choices have such labels, else a place.
    """
    if isinstance(correct, (int, float)) and not isinstance(correct, bool):
        return int(correct) if float(correct).is_integer() and 0 <= correct < count else None
    if not isinstance(correct, str):
        return None
    named, bare = _marked(correct, marks), correct.strip()
    return int(bare) if named is None and bare.isdecimal() and len(bare) < 4 and int(bare) < count else named


def _marked(text: str, marks: Sequence[str]) -> int | None:
    """Return the place of the mark that a text is, in any case, with brackets or a point: `b`, `(B)`, `B.`."""
    bare, known = text.strip().strip("().:[]").casefold(), [mark.strip().casefold() for mark in marks]
    return known.index(bare) if bare in known else None


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
