"""What becomes of a record on its way to tokens, and what every maker of examples shares."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from app.data.chat_template.render import Example, Renderer
from app.data.dataset.options import DataOptions, OverLength
from app.data.formats.conversation import Conversation
from app.data.formats.detection import format_of
from app.data.formats.preferences import Pair
from app.data.reading.rows import Row, RowProblem
from app.errors import TemplateError

# Large enough for the tokenizer to use every core, small enough to keep rows of 4 Mi characters affordable.
BATCH_ROWS = 512
BATCH_CHARS = 2 * 1024 * 1024


@dataclass(frozen=True)
class PairTokens:
    """Token ids of a pair: what both sides begin with, and each answer."""

    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]

    @property
    def length(self) -> int:
        """Return the tokens of the longer side."""
        return len(self.prompt_ids) + max(len(self.chosen_ids), len(self.rejected_ids))


@dataclass(frozen=True)
class ThumbTokens:
    """Token ids of an answer and its prompt; `label` is True for thumbs up."""

    prompt_ids: list[int]
    completion_ids: list[int]
    label: bool

    @property
    def length(self) -> int:
        """Return all tokens."""
        return len(self.prompt_ids) + len(self.completion_ids)


@dataclass(frozen=True)
class Outcome:
    """What became of one record: its examples, or the problem that keeps it out.

    `length` is the number of tokens before anything was cut, `truncated` says that tokens were cut or split off.
    A row that is kept in spite of a problem, because it was cut, has both examples and the problem. Of a row of
    preferences `conversation` is the first side, `examples` are all sides, and `preferences` is what training reads.
    """

    row: Row | None
    format: str
    conversation: Conversation | None = None
    examples: tuple[Example, ...] = ()
    problem: RowProblem | None = None
    length: int = 0
    truncated: bool = False
    pair: Pair | None = None
    preferences: tuple[PairTokens | ThumbTokens, ...] = ()

    @property
    def text(self) -> str:
        """Return all that the row says, for comparing and searching."""
        said = self.pair or self.conversation
        return said.plain_text() if said is not None else ""

    @property
    def is_kept(self) -> bool:
        """Say whether the row can be trained."""
        return bool(self.examples) or self.problem is None


class Maker(Protocol):
    """What makes examples from rows, by one renderer and one set of options."""

    renderer: Renderer
    options: DataOptions

    def make(self, records: Iterable[Row | RowProblem]) -> Iterator[Outcome]:
        """Yield an outcome for every record, in order."""


def format_name(row: Row, options: DataOptions) -> str:
    """Return the format that a row is read by."""
    return "mapped" if options.mapping else options.format or format_of(row.fields)[0]


def batches(records: Iterable[Row | RowProblem]) -> Iterator[list[Row | RowProblem]]:
    """Group records by number and, roughly, by size."""
    batch: list[Row | RowProblem] = []
    chars = 0
    for record in records:
        batch.append(record)
        chars += _rough_chars(record)
        if len(batch) >= BATCH_ROWS or chars >= BATCH_CHARS:
            yield batch
            batch, chars = [], 0
    if batch:
        yield batch


def _rough_chars(record: Row | RowProblem) -> int:
    if isinstance(record, RowProblem):
        return 0
    texts = [value for value in record.fields.values() if isinstance(value, str)]
    return sum(map(len, texts)) + 1000 * (len(record.fields) - len(texts))


def template_problem(row: Row, error: TemplateError) -> RowProblem:
    """Return a template's refusal as the row's problem."""
    message = f"{error.what}. {error.why}" if error.why else error.what
    return RowProblem(row.line, "template", message, error.remedy, row.number, row.file)


def over_limit(
    row: Row, length: int, max_length: int, way: OverLength, kept: int = 0, at_least: bool = False
) -> RowProblem:
    """Say that a row is over the limit and what was done about it."""
    done = {
        "drop": "it is dropped",
        "cut": "its oldest turns are cut" if kept else "its last exchange alone is too long, it is dropped",
        "split": f"it is split into {kept}" if kept else "no exchange of it fits, it is dropped",
    }[way]
    count = f"at least {length:,}" if at_least else f"{length:,}"
    message = f"The row has {count} tokens, the limit is {max_length:,}; {done}"
    return RowProblem(
        row.line, "over_limit", message, "Raise the length, or cut or split long rows", row.number, row.file
    )
