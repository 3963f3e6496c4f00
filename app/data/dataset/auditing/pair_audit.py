"""Audit pairs of answers: what would teach a length, a contradiction, or nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

from app.data.dataset.auditing.duplicates import FirstSeen, content_hash
from app.data.dataset.outcomes import Outcome
from app.data.formats import missing
from app.data.formats.conversation import Conversation, Turn
from app.data.formats.preferences import Pair, has_sides, pair_of
from app.data.reading.rows import BadRow, Row, RowProblem
from app.errors import keyed

# Of fewer pairs a share of longer answers says little: of 20, 16 on one side come by chance in 1 % of the cases.
_ENOUGH_PAIRS = 20
_LOPSIDED = 0.8


@dataclass
class PairAudit:
    """Judge pairs one after another; `bias` at the end judges them together."""

    pairs: int = 0
    longer: int = 0
    shorter: int = 0
    _prompts: FirstSeen = field(default_factory=FirstSeen)
    _orders: FirstSeen = field(default_factory=FirstSeen)

    def judge(self, outcome: Outcome) -> list[RowProblem]:
        """Return what is doubtful in a row's pair; nothing for a row that is none."""
        row = outcome.row
        if row is None or not (outcome.pair or (outcome.conversation and has_sides(row.fields))):
            return []
        try:
            pair = outcome.pair or pair_of(row.fields, outcome.format)
        except BadRow as bad:
            # A run on preferences has said so already; one on the chosen answers goes on with the row.
            return [] if outcome.conversation is None else [bad.at(row.line, row.number, row.file)]
        found = [self._length(pair), self._twice(row, pair), self._turned(row, pair), _null_word(pair)]
        return [bad.at(row.line, row.number, row.file) for bad in found if bad is not None]

    def _length(self, pair: Pair) -> BadRow | None:
        chosen, rejected = _chars(pair.chosen), _chars(pair.rejected)
        self.pairs += 1
        self.longer += chosen > rejected
        self.shorter += chosen < rejected
        if chosen >= rejected:
            return None
        message = f"The chosen answer is shorter than the rejected one ({chosen:,} against {rejected:,} characters)"
        return BadRow("chosen_shorter", message, "Nothing to do where short is meant; else look at the row")

    def _twice(self, row: Row, pair: Pair) -> BadRow | None:
        first = self._prompts.first(content_hash(pair.prompt_text()), row.line)
        if not first:
            return None
        return BadRow("prompt_twice", f"The prompt is that of line {first}", "Keep one pair a prompt, or mean it")

    def _turned(self, row: Row, pair: Pair) -> BadRow | None:
        """Look for the same two answers the other way round."""
        chosen, rejected = (Conversation(side).plain_text() for side in (pair.chosen, pair.rejected))
        sides = "\n\n".join(sorted((chosen, rejected)))
        # One number holds the line and which of the two answers was the better one there.
        way = 2 * row.line + (chosen < rejected)
        first = self._orders.first(content_hash(f"{pair.prompt_text()}\n\n{sides}"), way)
        turned = first // 2 if first is not None and first % 2 != way % 2 else 0
        if not turned:
            return None
        return BadRow("contradiction", f"Line {turned} prefers the other of these two answers", "Drop one of the two")

    def bias(self) -> RowProblem | None:
        """Say that the length alone tells which answer is chosen, where it does."""
        unequal = self.longer + self.shorter
        if self.pairs < _ENOUGH_PAIRS or not unequal or max(self.longer, self.shorter) < _LOPSIDED * self.pairs:
            return None
        way, count = ("longer", self.longer) if self.longer >= self.shorter else ("shorter", self.shorter)
        message = (
            f"In {count:,} of {self.pairs:,} pairs the chosen answer is the {way} one: length alone may be learned"
        )
        fix = "Add pairs where it is the other way round, or use training.loss_type=sigmoid_norm"
        return RowProblem(None, "length_bias", message, fix)


def _chars(answer: tuple[Turn, ...]) -> int:
    return sum(len(turn.content.strip()) for turn in answer)


def _null_word(pair: Pair) -> BadRow | None:
    """Tell where the rejected answer is a word for nothing; of the chosen one the audit of every row tells."""
    if missing.null_word(Conversation(pair.chosen)) or not (word := missing.null_word(Conversation(pair.rejected))):
        return None
    return BadRow(
        "null_word",
        keyed("rejected_is_null_word", "The rejected answer is {word}, which may stand for an empty cell", word=word),
        keyed("drop_null_words", "Nothing to do where the word is meant; else fill the cell, or drop these rows"),
    )
