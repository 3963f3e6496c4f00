"""Choose the rows that are kept back for validation.

A row's side follows from a hash of what is asked, so that one question never stands on both sides, whatever the order
of the rows. That fails where one question is all that a file asks (a set of one style), or where the hashes of a few
questions all fall on one side. Then a settled split takes its place: of a question that alone would decide the split,
an exact share of its rows is kept back, and neither side is left without a row.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from app.data.dataset.auditing.duplicates import content_hash, normalised
from app.data.dataset.options import DataOptions
from app.data.formats.conversation import Conversation

# Up to so many rows of one question decide nothing.
_FEW_ROWS = 4
_ALL = 1 << 64


@dataclass(frozen=True)
class Split:
    """What is kept back: questions with a hash below `limit`; of the `divided` questions, rows below a limit each."""

    seed: int
    limit: int
    divided: dict[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, options: DataOptions) -> Split:
        """Return the split that needs no look at the rows."""
        return cls(options.seed, int(options.validation_split * _ALL))

    def keeps_back(self, conversation: Conversation) -> bool:
        """Say whether a row is kept back."""
        if not self.limit:
            return False
        if self.divided:
            return self.keeps_back_hashed(*self.hashes(conversation))
        return self.question_hash(conversation) < self.limit

    def question_hash(self, conversation: Conversation) -> int:
        """Return a hash of what is asked; of a plain text, of all of it."""
        asked = "\n".join(turn.content for turn in conversation.turns if turn.role == "user")
        key = normalised(conversation.text if conversation.text is not None else asked)
        return content_hash(f"{self.seed}\n{key}")

    def hashes(self, conversation: Conversation) -> tuple[int, int]:
        """Return a hash of what is asked and one of the whole row."""
        return self.question_hash(conversation), content_hash(f"{self.seed}\n{conversation.plain_text()}")

    def keeps_back_hashed(self, question: int, row: int) -> bool:
        """Say whether the row of these hashes is kept back."""
        limit = self.divided.get(question)
        return question < self.limit if limit is None else row < limit


class SplitCount:
    """Collect the hashes of the rows that are trained or kept back, in 16 bytes a row, to judge the split by them."""

    def __init__(self, split: Split, share: float) -> None:
        self.split = split
        self._share = share
        self.questions, self.rows = array("Q"), array("Q")

    def add(self, conversation: Conversation) -> bool:
        """Take in a row; say whether it is kept back as the split stands."""
        if not self.split.limit:
            return False
        question, row = self.split.hashes(conversation)
        self.questions.append(question)
        self.rows.append(row)
        return self.split.keeps_back_hashed(question, row)

    def settled(self, left_out: frozenset[int] = frozenset()) -> Split:
        """Return the split that does justice to all the rows; `left_out` are the places of rows not to count."""
        if not self.split.limit:
            return self.split
        import numpy as np

        questions, rows = (np.frombuffer(hashes, np.uint64) for hashes in (self.questions, self.rows))
        if left_out:
            questions, rows = (np.delete(hashes, sorted(left_out)) for hashes in (questions, rows))
        if len(questions) < 2:
            return self.split
        asked, counts = np.unique(questions, return_counts=True)
        most = max(_FEW_ROWS, self._share * len(questions) / 2)
        divided = {
            int(question): _limit(np.sort(rows[questions == question]).tolist(), self._share)
            for question in asked[counts > most]
        }
        whole = asked[counts <= most].tolist()  # sorted, and as often below the limit as the share says
        kept = sum(question < self.split.limit for question in whole)
        limit = self.split.limit
        if not divided and len(whole) > 1 and kept in (0, len(whole)):
            enough = len(questions) * self._share >= 1
            limit = whole[-1] if kept else whole[1] if enough else limit
        return Split(self.split.seed, limit, divided)


def _limit(rows: list[int], share: float) -> int:
    """Return the hash below which an exact share of these rows lies, at least one and never all of them."""
    return rows[min(len(rows) - 1, max(1, round(share * len(rows))))]
