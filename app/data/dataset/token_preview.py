"""Show the tokens of one row, with who wrote each of them and whether it is trained."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypedDict

from app.data.chat_template.render import Example, Rendered
from app.data.dataset.outcomes import Maker, Outcome, PairTokens
from app.data.dataset.preference_rows import PreferenceMaker
from app.data.formats.preferences import has_sides
from app.data.messages import RowTokens, ShownToken
from app.data.reading.rows import Row, RowProblem
from app.errors import DataError

_TURN_MARK = re.compile(
    r"<\|[^|<>\s]{1,40}\|>|<｜[^｜<>\s]{1,40}｜>|<(?:end_of_turn|turn\||end_of_utterance)>|</s>|\[/[A-Z_]{4,16}\]"
)

# A longer row over the limit is not drawn: its tokens alone take seconds, and nobody reads them.
_MOST_CHARS = 500_000


@dataclass(frozen=True)
class _Owner:
    """From which character on a turn wrote the text."""

    start: int
    turn: int


def find_row(records: Iterable[Row | RowProblem], number: int) -> Row | RowProblem:
    """Return the record with this number, counted from 1."""
    if number < 1:
        raise DataError(f"There is no row {number}", "Rows are counted from 1", "Ask for row 1 or a later one")
    found = next(itertools.islice(records, number - 1, None), None)
    if found is None:
        raise DataError(f"There is no row {number}", "The file has fewer rows", "Ask for an earlier row")
    return found


def show(record: Row | RowProblem, maker: Maker) -> RowTokens:
    """Return the tokens of one record; raise DataError where it gives no tokens."""
    outcome = next(iter(maker.make([record])))
    if outcome.preferences:
        return _preference(outcome, maker)
    example = _example(outcome, maker)
    row = outcome.row
    assert row is not None  # a record that could not be read has raised in _example
    tokens = tuple(_tokens(example, maker))
    return RowTokens(
        format=outcome.format,
        row=row.number,
        line=row.line,
        tokens=tokens,
        trained_tokens=example.trained_count(),
        total_tokens=len(tokens),
        truncated=outcome.truncated,
        warnings=tuple(_warnings(outcome, example, maker)),
        **_other_side(record, maker),
    )


def _preference(outcome: Outcome, maker: Maker) -> RowTokens:
    """Return the tokens of a preference: the prompt and the first answer, and the tokens of another answer."""
    first, *rest = outcome.preferences
    sides = [list(_tokens(example, maker)) for example in outcome.examples]
    prompts = len(first.prompt_ids)
    lengths = [prompts + len(ids) for ids in _answers(outcome)]
    shown = [
        [replace(token, trained=index >= prompts) for index, token in enumerate(side[:length])]
        for side, length in zip(sides, lengths, strict=True)
    ]
    rejected = shown[1][prompts:] if len(shown) > 1 else []
    label = None if isinstance(first, PairTokens) or rest else first.label
    return RowTokens(
        format=outcome.format,
        row=outcome.row.number if outcome.row else 0,
        line=outcome.row.line if outcome.row else 0,
        tokens=tuple(shown[0]),
        trained_tokens=sum(length - prompts for length in lengths),
        total_tokens=len(shown[0]) + len(rejected),
        truncated=outcome.truncated,
        warnings=tuple(maker.renderer.tokenizer.warnings),
        prompt_tokens=prompts,
        rejected=tuple(rejected),
        label=label,
    )


def _answers(outcome: Outcome) -> list[list[int]]:
    """Return the ids of each answer of a preference."""
    found: list[list[int]] = []
    for preference in outcome.preferences:
        if isinstance(preference, PairTokens):
            found += [preference.chosen_ids, preference.rejected_ids]
        else:
            found.append(preference.completion_ids)
    return found


class _OtherSide(TypedDict, total=False):
    """What RowTokens holds of a refused answer."""

    prompt_tokens: int | None
    rejected: tuple[ShownToken, ...]


def _other_side(record: Row | RowProblem, maker: Maker) -> _OtherSide:
    """Return the refused answer of a row whose chosen answer is trained alone; none of its tokens is trained."""
    if not isinstance(record, Row) or not has_sides(record.fields) or maker.options.mapping:
        return {}
    other = PreferenceMaker(maker.renderer, replace(maker.options, objective="dpo"))
    outcome = next(iter(other.make([record])))
    if not outcome.preferences:
        return {}
    shown = _preference(outcome, other)
    untrained = tuple(replace(token, trained=False) for token in shown.rejected)
    return {"prompt_tokens": shown.prompt_tokens, "rejected": untrained}


def _example(outcome: Outcome, maker: Maker) -> Example:
    """Return the example that training reads; for a row that is dropped for its length, the whole of it."""
    if outcome.examples:
        return outcome.examples[0]
    problem = outcome.problem
    drawable = outcome.conversation is not None and len(outcome.conversation.plain_text()) <= _MOST_CHARS
    if problem is not None and problem.kind == "over_limit" and drawable and outcome.conversation is not None:
        return maker.renderer.example(outcome.conversation)
    if problem is not None:
        raise DataError(problem.message, "", problem.fix, problem.line)
    raise DataError("The row gives no tokens")


def _warnings(outcome: Outcome, example: Example, maker: Maker) -> list[str]:
    warnings = [*maker.renderer.tokenizer.warnings, *example.warnings]
    if outcome.problem is not None:
        warnings.append(outcome.problem.message)
    if len(outcome.examples) > 1:
        warnings.append(f"The row gives {len(outcome.examples)} training rows; this is the first")
    return warnings


def _tokens(example: Example, maker: Maker) -> Iterable[ShownToken]:
    """Yield the tokens; their texts put together are the rendered text."""
    rendered = example.rendered
    places = maker.renderer.tokenise([rendered])[0].places()
    owners = owners_of(rendered)
    trained = {i for start, end in example.trained for i in range(start, end)}
    at = 0
    for index, token_id in enumerate(example.input_ids):
        start, end = places[index]
        if start == end:
            text = maker.renderer.tokenizer.decode([token_id])  # put in by the tokenizer itself
        else:
            text = rendered.text[at:end]
            at = max(at, end)
        turn = _turn_at(owners, start + _blank_before(rendered.text[start:end]))
        role = rendered.conversation.turns[turn].role if rendered.conversation.turns else "text"
        yield ShownToken(token_id, text, role, turn, index in trained)


def _blank_before(text: str) -> int:
    """Return how much white space stands before a word: a token with the space before it belongs to the word's turn."""
    word = text.lstrip()
    return len(text) - len(word) if word else 0


def _turn_at(owners: list[_Owner], char: int) -> int:
    """Return the turn that wrote a character."""
    turn = owners[0].turn
    for owner in owners:
        if owner.start > char:
            break
        turn = owner.turn
    return turn


def owners_of(rendered: Rendered) -> list[_Owner]:
    """Return which turn wrote what: a turn's opening and closing marks belong to it."""
    if rendered.split is not None:
        answer = len(rendered.conversation.turns) - 1
        return [_Owner(0, answer - 1), _Owner(rendered.split, answer)]
    if rendered.skeleton is None:
        return [_Owner(0, 0)]
    skeleton, places = rendered.skeleton, rendered.places
    owners = [_Owner(0, skeleton.leaves[0].turn if skeleton.leaves else 0)]
    for index in range(1, len(skeleton.leaves)):
        turn = skeleton.leaves[index].turn
        if turn != owners[-1].turn:
            start = places[2 * index - 1]
            owners.append(_Owner(start + _closing_length(skeleton.literals[index]), turn))
    for span in rendered.spans:
        owners = _overlaid(owners, span.turn, span.start, span.end)
    return owners


def _closing_length(literal: str) -> int:
    """Return how much of what stands between two turns closes the first of them."""
    mark = _TURN_MARK.search(literal)
    end = mark.end() if mark else 0
    return end + len(literal[end:]) - len(literal[end:].lstrip())


def _overlaid(owners: list[_Owner], turn: int, start: int, end: int) -> list[_Owner]:
    """Give a stretch of text to one turn; what follows belongs to whom it belonged before."""
    after = _turn_at(owners, end)
    kept = [owner for owner in owners if not start <= owner.start < end]
    if not any(owner.start == end for owner in kept):
        kept.append(_Owner(end, after))
    return sorted([*kept, _Owner(start, turn)], key=lambda owner: owner.start)
