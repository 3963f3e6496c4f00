"""Greedy answers of many columns to many prompts, in batches that rows join as others end."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from app.data.formats.conversation import Message
from app.engine.batching.adapter_stack import Mix
from app.engine.batching.decode_batch import DecodeBatch
from app.engine.batching.sampling import Sampling
from app.engine.batching.sequence import DecodeSequence, Delta, Done, Event, Failed
from app.engine.batching.text import TextStream
from app.engine.variants import BASE, VariantSet
from app.models.prompts import PromptError, Prompts

# Rows that decode at once at most, and what their keys and values may take together.
_MOST_ROWS, _LEAST_ROWS, _CACHE_BYTES = 128, 8, 1 << 30
# Rows join together: each joining is a pass of its own, so a batch waits until so large a part of it is free.
_JOINING = 4


@dataclass(frozen=True)
class Question:
    """What is asked: the messages before the answer, and the tools that it may call."""

    messages: tuple[Message, ...]
    tools: tuple[Message, ...] = ()


@dataclass(frozen=True)
class GreedyAnswer:
    """One answer, or why there is none."""

    text: str = ""
    tokens: int = 0
    error: str = ""


# Who answers: a column, or a mix of adapters on the base.
Source = str | Mix


def answer_all(
    columns: VariantSet,
    prompts: Prompts,
    questions: Sequence[Question],
    sources: Sequence[Source],
    max_tokens: int,
    *,
    answered: Callable[[int], bool] = lambda count: True,
) -> list[list[GreedyAnswer]] | None:
    """Return the answers of all sources to each question, in their order.

    `answered` is told now and then how many answers are there and says whether to go on; None when it says no.
    """
    collected = [[_Collected(prompts, source, question, max_tokens) for source in sources] for question in questions]
    done = 0
    for group in _groups(columns, sources):
        waiting = [line[place].row for line in collected for place in group]
        asked = [row for row in waiting if row is not None]
        # Prompts of like length beside each other need the least padding.
        for ended in _run(columns, sorted(asked, key=lambda row: len(row.prompt)), _rows_at_once(columns, asked)):
            if not answered(done + ended):
                return None
        done += len(waiting)
    return [[one.answer for one in line] for line in collected]


class _Collected:
    """One answer while it comes in."""

    def __init__(self, prompts: Prompts, source: Source, question: Question, max_tokens: int) -> None:
        self.answer = GreedyAnswer()
        self.row: DecodeSequence | None = None
        mix = source if isinstance(source, Mix) else None
        # A mix stands on the base and speaks with the template of its first part.
        column = mix.parts[0][0] if mix else str(source)
        try:
            ids = prompts.encode(column, list(question.messages), {}, question.tools)
        except PromptError as error:
            self.answer = GreedyAnswer(error=str(error))
            return
        room = prompts.context - len(ids)
        if room < 1:
            self.answer = GreedyAnswer(error=f"the prompt has {len(ids)} tokens, the context {prompts.context}")
            return
        sampling = Sampling(temperature=0.0, max_tokens=min(max_tokens, room))
        text = TextStream(prompts.decode)
        ends = prompts.end_tokens(column)
        self.row = DecodeSequence(BASE if mix else column, ids, sampling, text, ends, self._take, mix=mix)

    def _take(self, event: Event) -> None:
        if isinstance(event, Delta):
            self.answer = replace(self.answer, text=self.answer.text + event.text)
        elif isinstance(event, Done):
            self.answer = replace(self.answer, tokens=event.tokens)
        elif isinstance(event, Failed):
            self.answer = replace(self.answer, error=event.message)


def _groups(columns: VariantSet, sources: Sequence[Source]) -> Iterator[list[int]]:
    """Yield the places of the sources that share a batch, then of each one that runs beside it."""
    shared = [isinstance(source, Mix) or columns.columns[source].shared for source in sources]
    if any(shared):
        yield [place for place, one in enumerate(shared) if one]
    yield from ([place] for place, one in enumerate(shared) if not one)


def _rows_at_once(columns: VariantSet, asked: Sequence[DecodeSequence]) -> int:
    """Return how many rows decode at once: many, since a token of all of them costs little more than one of one."""
    row_bytes = columns.cache_bytes_per_token * max((row.most_tokens for row in asked), default=1)
    return max(_LEAST_ROWS, min(_MOST_ROWS, _CACHE_BYTES // row_bytes))


def _run(columns: VariantSet, asked: Sequence[DecodeSequence], most: int) -> Iterator[int]:
    """Decode all rows, at most `most` at once; yield how many have ended, after each joining."""
    waiting, batch = deque(asked), DecodeBatch(columns)
    while waiting or batch.rows:
        free = most - len(batch.rows)
        if waiting and (not batch.rows or free >= max(1, most // _JOINING)):
            batch.join([waiting.popleft() for _ in range(min(free, len(waiting)))])
            yield len(asked) - len(waiting) - len(batch.rows)
        batch.step()
