"""From rows of preferences to tokens: both sides of a pair, or an answer with its thumb.

Each side is rendered, tokenised and masked as a conversation of its own, by the way that every row goes. What both
sides begin with, up to the answer, becomes the prompt. The answers go on from there to the end of the text, with what
the template writes behind an answer: TRL tokenises preferences so, and a run here is the run that TRL makes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import takewhile

from app.config.objectives import row_kind
from app.data.chat_template.render import Example, Rendered, Renderer
from app.data.chat_template.tokens import Tokens
from app.data.dataset.options import DataOptions
from app.data.dataset.outcomes import (
    Outcome,
    PairTokens,
    ThumbTokens,
    batches,
    format_name,
    over_limit,
    template_problem,
)
from app.data.formats.conversation import Conversation
from app.data.formats.preferences import Pair, pair_of, thumbs_of
from app.data.reading.rows import BadRow, Row, RowProblem
from app.errors import TemplateError


@dataclass(frozen=True)
class _Read:
    """A row as it was read: its pair if it is one, the labels of its sides, and each side's text."""

    row: Row
    format: str
    pair: Pair | None
    labels: tuple[bool, ...]
    rendered: tuple[Rendered, ...]


class PreferenceMaker:
    """Make pairs or thumbs from rows with one renderer and one set of options; `make` is as ExampleMaker's."""

    def __init__(self, renderer: Renderer, options: DataOptions) -> None:
        # What is trained of a pair are its two answers, whatever is trained of conversations.
        self.renderer = renderer if renderer.train_on == "assistant" else Renderer(renderer.tokenizer)
        self.options = options
        self._pairs = row_kind(options.objective) == "pairs"

    def make(self, records: Iterable[Row | RowProblem]) -> Iterator[Outcome]:
        """Yield an outcome for every record, in order; a batch of rows is tokenised at once."""
        for batch in batches(records):
            read = [self._read(record) for record in batch]
            rendered = [side for one in read if isinstance(one, _Read) for side in one.rendered]
            tokens = iter(self.renderer.tokenise(rendered))
            for one in read:
                yield self._finished(one, [next(tokens) for _ in one.rendered]) if isinstance(one, _Read) else one

    def _read(self, record: Row | RowProblem) -> Outcome | _Read:
        if isinstance(record, RowProblem):
            return Outcome(None, "unknown", problem=record)
        name = format_name(record, self.options)
        try:
            pair, labels, sides = read_sides(record, name, self.options, pairs=self._pairs)
            return _Read(record, name, pair, labels, tuple(self.renderer.render(side) for side in sides))
        except BadRow as bad:
            return Outcome(record, name, problem=bad.at(record.line, record.number, record.file))
        except TemplateError as error:
            return Outcome(record, name, problem=template_problem(record, error))

    def _finished(self, one: _Read, tokens: list[Tokens]) -> Outcome:
        conversation = one.rendered[0].conversation
        try:
            masked = zip(one.rendered, tokens, strict=True)
            examples = tuple(self.renderer.mask(rendered, ids) for rendered, ids in masked)
            found = _pair_tokens(*examples) if self._pairs else _thumb_tokens(examples, one.labels)
        except TemplateError as error:
            problem = template_problem(one.row, error)
            return Outcome(one.row, one.format, conversation, problem=problem, pair=one.pair)
        length = max(preference.length for preference in found)
        if length > self.options.max_length:
            # An answer is never cut, and the prompt that it was chosen for is not either.
            problem = over_limit(one.row, length, self.options.max_length, "drop")
            return Outcome(
                one.row, one.format, conversation, problem=problem, length=length, truncated=True, pair=one.pair
            )
        return Outcome(
            one.row, one.format, conversation, examples, length=length, pair=one.pair, preferences=tuple(found)
        )


def read_sides(
    row: Row, name: str, options: DataOptions, *, pairs: bool
) -> tuple[Pair | None, tuple[bool, ...], tuple[Conversation, ...]]:
    """Return a row's pair, the thumb of each side, and the sides as conversations. Raises BadRow."""
    if pairs:
        pair = pair_of(row.fields, name)
        return pair, (True, False), (pair.side(pair.chosen), pair.side(pair.rejected))
    thumbs = thumbs_of(row.fields, name, options.mapping)
    both = pair_of(row.fields, name) if len(thumbs) > 1 else None
    return both, tuple(thumb.up for thumb in thumbs), tuple(thumb.conversation for thumb in thumbs)


def _pair_tokens(chosen: Example, rejected: Example) -> list[PairTokens]:
    both = zip(chosen.input_ids, rejected.input_ids, strict=False)
    alike = sum(1 for _ in takewhile(lambda ids: ids[0] == ids[1], both))
    cut = min(alike, _answer_start(chosen), _answer_start(rejected))
    ids, other = chosen.input_ids[cut:], rejected.input_ids[cut:]
    if ids == other:
        raise TemplateError("The two answers come to the same tokens", "", "Drop the row")
    return [PairTokens(chosen.input_ids[:cut], ids, other)]


def _thumb_tokens(examples: tuple[Example, ...], labels: tuple[bool, ...]) -> list[ThumbTokens]:
    found = []
    for example, label in zip(examples, labels, strict=True):
        start = _answer_start(example)
        found.append(ThumbTokens(example.input_ids[:start], example.input_ids[start:], label))
    return found


def _answer_start(example: Example) -> int:
    """Return the first token of an answer; raise TemplateError where it is not in one piece."""
    if len(example.trained) != 1:
        why = f"Its tokens lie in {len(example.trained)} ranges"
        raise TemplateError("An answer is not in one piece", why, "Judge one answer to each prompt")
    return example.trained[0][0]
