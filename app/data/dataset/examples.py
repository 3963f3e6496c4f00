"""From rows to examples: convert, repair, render, tokenise, mask and fit to the length, in batches.

This is the one way from a row to tokens. The preview, the check and the build all go through it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

from app.data.chat_template.render import Example, Rendered, Renderer
from app.data.chat_template.tokens import Tokens
from app.data.dataset.options import DataOptions, OverLength
from app.data.dataset.outcomes import Outcome, batches, format_name, over_limit, template_problem
from app.data.dataset.repairs import is_empty_answer, repair
from app.data.formats.conversation import Conversation, Turn
from app.data.formats.conversions import conversation_of
from app.data.reading.rows import BadRow, Row, RowProblem
from app.errors import TemplateError

# Rows up to this length are tokenised even where that only tells how far over the limit they are.
_LONG_CHARS = 200_000


@dataclass(frozen=True)
class _Pending:
    """A row on its way: converted and rendered, or already finished."""

    row: Row
    format: str
    conversation: Conversation
    rendered: Rendered


class ExampleMaker:
    """Make examples from rows with one renderer and one set of options."""

    def __init__(self, renderer: Renderer, options: DataOptions) -> None:
        self.renderer = renderer
        self.options = options
        self._certain_chars = options.max_length * renderer.tokenizer.longest_token_chars

    def make(self, records: Iterable[Row | RowProblem]) -> Iterator[Outcome]:
        """Yield an outcome for every record, in order. Rows are tokenised while the next ones are rendered."""
        with ThreadPoolExecutor(max_workers=1) as tokenising:
            waiting: tuple[list[Outcome | _Pending], Future[list[Tokens]]] | None = None
            for batch in batches(records):
                prepared = [self._prepare(record) for record in batch]
                rendered = [item.rendered for item in prepared if isinstance(item, _Pending)]
                future = tokenising.submit(self.renderer.tokenise, rendered)
                if waiting:
                    yield from self._finish(*waiting)
                waiting = prepared, future
            if waiting:
                yield from self._finish(*waiting)

    def _prepare(self, record: Row | RowProblem) -> Outcome | _Pending:
        """Convert and render one record, or say why not."""
        if isinstance(record, RowProblem):
            return Outcome(None, "unknown", problem=record)
        name = format_name(record, self.options)
        conversation = None
        try:
            conversation = conversation_of(record.fields, name, self.options.mapping)
            tokens = self.renderer.tokenizer.added_tokens
            conversation = repair(conversation, self.options.repair, tokens) if self.options.repair else conversation
            refuse_empty(conversation)
            rendered = self.renderer.render(conversation)
            return self._certainly_over(record, name, rendered) or _Pending(record, name, conversation, rendered)
        except BadRow as bad:
            return Outcome(record, name, conversation, problem=bad.at(record.line, record.number, record.file))
        except TemplateError as error:
            return Outcome(record, name, conversation, problem=template_problem(record, error))

    def _certainly_over(self, row: Row, name: str, rendered: Rendered) -> Outcome | None:
        """Drop a row that is over the limit whatever its tokens are: tokenising millions of characters takes seconds.

        Its length is then the least it can be. White space is not counted, since some tokenizers drop it; a row of
        little else is judged by the tokens of its beginning, which the cut changes by few.
        """
        dropped = self._way(rendered.conversation) == "drop"
        if not dropped or len(rendered.text) <= max(self._certain_chars, _LONG_CHARS):
            return None
        least = sum(map(len, rendered.text.split())) // self.renderer.tokenizer.longest_token_chars
        if least <= self.options.max_length:
            least = len(self.renderer.tokenizer.backend.encode(rendered.text[:_LONG_CHARS]).ids) // 2
        if least <= self.options.max_length:
            return None
        problem = over_limit(row, least, self.options.max_length, "drop", at_least=True)
        return Outcome(row, name, rendered.conversation, problem=problem, length=least, truncated=True)

    def _finish(self, prepared: list[Outcome | _Pending], future: Future[list[Tokens]]) -> Iterator[Outcome]:
        tokens = iter(future.result())
        for item in prepared:
            yield self._masked(item, next(tokens)) if isinstance(item, _Pending) else item

    def _masked(self, item: _Pending, tokens: Tokens) -> Outcome:
        try:
            example = self.renderer.mask(item.rendered, tokens)
        except TemplateError as error:
            return Outcome(item.row, item.format, item.conversation, problem=template_problem(item.row, error))
        length = len(example.input_ids)
        if not example.trained_count():
            row, fix = item.row, "Check that its answers are assistant turns"
            message = "No token of this row is trained"
            problem = RowProblem(row.line, "nothing_trained", message, fix, row.number, row.file)
            return Outcome(row, item.format, item.conversation, problem=problem, length=length)
        if length <= self.options.max_length:
            return Outcome(item.row, item.format, item.conversation, (example,), length=length)
        return self._fitted(item, example)

    def _fitted(self, item: _Pending, example: Example) -> Outcome:
        """Drop, cut or split a row that is longer than the limit."""
        length, way = len(example.input_ids), self._way(item.conversation)
        if way == "drop":
            fitted: tuple[Example, ...] = ()
        elif item.conversation.text is not None:
            fitted = _text_windows(example, self.options.max_length)
            fitted = fitted if way == "split" else fitted[:1]
        elif way == "cut":
            fitted = self._cut(item.conversation)
        else:
            fitted = self._split(item.conversation)
        fitted = tuple(one for one in fitted if one.trained_count())
        problem = over_limit(item.row, length, self.options.max_length, way, len(fitted))
        return Outcome(item.row, item.format, item.conversation, fitted, problem, length, truncated=True)

    def _way(self, conversation: Conversation) -> OverLength:
        """Return what is done to a row that is too long."""
        if self.options.over_length != "auto":
            return self.options.over_length
        return "drop" if conversation.text is None else "split"

    def _cut(self, conversation: Conversation) -> tuple[Example, ...]:
        """Leave the oldest exchanges out until the rest fits; an answer is never cut."""
        head, exchanges = split_exchanges(conversation)
        kept = self._most(conversation, head, [exchanges[start:] for start in range(len(exchanges) - 1, 0, -1)])
        return (kept[1],) if kept else ()

    def _split(self, conversation: Conversation) -> tuple[Example, ...]:
        """Split into conversations of whole exchanges, each with the system turn and as long as fits."""
        head, exchanges = split_exchanges(conversation)
        examples: list[Example] = []
        start = 0
        while start < len(exchanges):
            ends = range(start + 1, len(exchanges) + 1)
            found = self._most(conversation, head, [exchanges[start:end] for end in ends])
            start += found[0] if found else 1
            examples += [found[1]] if found else []
        return tuple(examples)

    def _most(
        self, conversation: Conversation, head: tuple[Turn, ...], choices: list[list[tuple[Turn, ...]]]
    ) -> tuple[int, Example] | None:
        """Return the longest choice that fits, by bisection, and its number of exchanges; choices grow by one."""
        best, low, high = None, 0, len(choices) - 1
        while low <= high:
            middle = (low + high) // 2
            turns = (*head, *itertools.chain.from_iterable(choices[middle]))
            example = self._try(replace(conversation, turns=turns))
            if example is not None and len(example.input_ids) <= self.options.max_length:
                best, low = (len(choices[middle]), example), middle + 1
            else:
                high = middle - 1
        return best

    def _try(self, conversation: Conversation) -> Example | None:
        try:
            return self.renderer.example(conversation)
        except TemplateError:
            return None


def refuse_empty(conversation: Conversation) -> None:
    """Raise BadRow for a conversation with an empty answer or none."""
    if conversation.text is not None:
        return
    answers = conversation.answers()
    if not answers:
        raise BadRow("role_order", "The row has no answer, so there is nothing to train", "Add an assistant turn")
    if any(is_empty_answer(turn) for turn in answers):
        raise BadRow("empty_answer", "An answer is empty", "Write the answer, or drop the row")


def split_exchanges(conversation: Conversation) -> tuple[tuple[Turn, ...], list[tuple[Turn, ...]]]:
    """Return the system turns at the head, and the exchanges: a question and all that follows until the next."""
    turns = list(conversation.turns)
    head = tuple(itertools.takewhile(lambda turn: turn.role in ("system", "developer"), turns))
    exchanges: list[list[Turn]] = []
    for turn in turns[len(head) :]:
        if turn.role == "user" or not exchanges:
            exchanges.append([])
        exchanges[-1].append(turn)
    return head, [tuple(exchange) for exchange in exchanges]


def _text_windows(example: Example, max_length: int) -> tuple[Example, ...]:
    """Cut the tokens of a plain text into windows; the first token of each has nothing to be predicted from."""
    ids = example.input_ids
    windows = [ids[start : start + max_length] for start in range(0, len(ids), max_length)]
    return tuple(Example(window, ((1, len(window)),), example.rendered) for window in windows if len(window) > 1)
