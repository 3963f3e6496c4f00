"""Audit a file before it is trained on: what is empty, double, cut, leaked or secret, and what would be trained."""

from __future__ import annotations

import json
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache

from app.data.chat_template.render import Renderer
from app.data.dataset.auditing.duplicates import FirstSeen, Sketches, content_hash
from app.data.dataset.auditing.pair_audit import PairAudit
from app.data.dataset.auditing.scripts import ScriptAudit
from app.data.dataset.auditing.sensitive import find_email, has_secret
from app.data.dataset.gc_pause import seldom_collected
from app.data.dataset.makers import outcomes
from app.data.dataset.options import DataOptions
from app.data.dataset.outcomes import Outcome
from app.data.dataset.packing import PackCount
from app.data.dataset.repairs import role_order_problem
from app.data.dataset.validation import Split, SplitCount
from app.data.formats import columns, missing
from app.data.formats.conversation import Conversation
from app.data.formats.detection import Detection, FormatCount, format_of
from app.data.messages import Bin, CheckFacts, PackingFacts, Problem, TokenCounts
from app.data.reading.rows import BadRow, Row, RowProblem, printable
from app.errors import keyed

# A file with a million bad rows must not give a million messages; the counts say how many there are.
MAX_LISTED_PER_KIND = 100
# A row this many times longer than 95 % of the others decides the memory of the whole run.
_OUTLIER_FACTOR = 8
_OUTLIER_TOKENS = 2048
_HISTOGRAM_BINS = 40
_EXCERPT_CHARS = 300
# What answers have at most where they are labels: so many different ones, of so many characters.
_MOST_LABELS = 20
_LONGEST_LABEL = 40
_MARK_LIKE = re.compile(r"<[^<>\s]{1,60}>|\[/?[A-Z_]{2,30}\]")
# Tags that data may well hold as text, although some vocabularies have tokens of their own for them.
_ORDINARY_TAG = re.compile(r"</?(think|tool_call|tool_response|[a-z]\w?)>")
_NO_ROW = Row(0, 0, {})
Progress = Callable[[int, int], None]
Stop = Callable[[], bool]


class Auditor:
    """Judge rows one after another, and decide which of them are left out by choice."""

    def __init__(self, options: DataOptions, control_tokens: frozenset[str] = frozenset()) -> None:
        self._options = options
        self._control = control_tokens
        self._seen = FirstSeen()

    def judge(self, row: Row, conversation: Conversation, text: str | None = None) -> list[RowProblem]:
        """Return the problems that leave a row usable; `text` is all that it says, where that is more than one side."""
        text = conversation.plain_text() if text is None else text
        found = [self._duplicate(row, text), self._role_order(conversation), self._secret(text), self._email(text)]
        found += [self._control_token(conversation, text), self._marked_bad(row), self._lost_characters(text)]
        found += [_empty_turn(row, conversation), _null_word(conversation), _null_cell(row), _loss_weight(conversation)]
        found += [None if self._options.mapping else _unread_system(row, conversation)]
        return [bad.at(row.line, row.number, row.file) for bad in found if bad is not None]

    def left_out(self, outcome: Outcome, problems: Iterable[RowProblem]) -> RowProblem | None:
        """Return why a row is left out, be it that it cannot be used or by choice; None when it is trained."""
        if not outcome.is_kept:
            return outcome.problem
        return next((problem for problem in problems if problem.kind in self._options.drop), None)

    def _duplicate(self, row: Row, text: str) -> BadRow | None:
        # Lines are counted anew in every file of a folder or archive, numbers of rows are not.
        place, number = ("row", row.number) if row.file else ("line", row.line)
        first = self._seen.first(content_hash(text), number)
        return BadRow("duplicate", f"The row is equal to {place} {first}", "Drop duplicates") if first else None

    def _role_order(self, conversation: Conversation) -> BadRow | None:
        wrong = role_order_problem(conversation)
        return BadRow("role_order", wrong, "Repair the order of turns, or drop the row") if wrong else None

    def _secret(self, text: str) -> BadRow | None:
        if not has_secret(text):
            return None
        return BadRow("secret", "The row holds what looks like a key or token", "Redact it, or drop the row")

    def _email(self, text: str) -> BadRow | None:
        address = find_email(text)
        if address is None:
            return None
        return BadRow("email", f"The row holds the address {address}", "Redact it, or drop the row")

    def _marked_bad(self, row: Row) -> BadRow | None:
        label = columns.find(row.fields, columns.LABEL)
        if label is None or row.fields[label] is not False or self._options.objective == "kto":
            return None
        message = f"The column {label} is false: the answer is marked as a bad one, and would be trained"
        return BadRow("marked_bad", message, "Drop these rows, unless the column means something else")

    def _lost_characters(self, text: str) -> BadRow | None:
        if "\ufffd" not in text:
            return None
        message = "The row holds \ufffd, the mark of characters that were lost before the file was written"
        return BadRow("lost_characters", message, "Mend the text, or drop the row")

    def _control_token(self, conversation: Conversation, text: str) -> BadRow | None:
        if not conversation.turns:
            return None
        marks = (match.group() for match in _MARK_LIKE.finditer(text))
        token = next((mark for mark in marks if mark in self._control and not _ORDINARY_TAG.match(mark)), None)
        if token is None:
            return None
        message = f"The row's text holds the control token {token}, which the model reads as a command"
        return BadRow("control_token", message, "Remove the token from the text, or drop the row")


def _empty_turn(row: Row, conversation: Conversation) -> BadRow | None:
    if context := columns.context_that_asks(row.fields):
        message = keyed("context_asks", "The question is empty, column {column} stands in its place", column=context)
        return BadRow("empty_turn", message, keyed("fill_the_turn", "Write what is asked there, or drop the row"))
    turn = missing.empty_turn(conversation)
    if not turn:
        return None
    message = keyed("turn_is_empty", "Turn {turn}, of the user, is empty and is trained so", turn=turn)
    return BadRow("empty_turn", message, keyed("fill_the_turn", "Write what is asked there, or drop the row"))


def _null_word(conversation: Conversation) -> BadRow | None:
    word = missing.null_word(conversation)
    if not word:
        return None
    message = keyed("text_is_null_word", "A whole text is {word}, which may stand for an empty cell", word=word)
    fix = keyed("drop_null_words", "Nothing to do where the word is meant; else fill the cell, or drop these rows")
    return BadRow("null_word", message, fix)


def _null_cell(row: Row) -> BadRow | None:
    """Say that a cell is not read as the text that stands in it."""
    for column, is_null in _that_may_be_empty(tuple(row.fields)):
        value = row.fields[column]
        if isinstance(value, str) and is_null(value):
            name, word = f"{column!s:.60}", value.strip()
            message = keyed(
                "cell_is_null", "Column {column} is {word}, which is read as an empty cell", column=name, word=word
            )
            return BadRow("null_cell", message, keyed("clear_the_cell", "Nothing to do, unless the word is meant"))
    return None


def _unread_system(row: Row, conversation: Conversation) -> BadRow | None:
    """Say that a row's own system text gives way to the one that its messages begin with."""
    column = columns.find(row.fields, columns.SYSTEM)
    first = conversation.turns[0] if conversation.turns else None
    text = row.fields[column] if column else None
    if first is None or first.role != "system" or not isinstance(text, str):
        return None
    if not text.strip() or missing.is_null_word(text) or text.strip() == first.content.strip():
        return None
    message = keyed(
        "system_column_is_unread",
        "Column {column} holds another system text than the first message, which is trained",
        column=f"{column!s:.60}",
    )
    return BadRow("unread_system", message, keyed("keep_one_system", "Nothing to do, unless the column is meant"))


def _loss_weight(conversation: Conversation) -> BadRow | None:
    weight = next((turn.weight for turn in conversation.turns if turn.trained and turn.weight != 1), None)
    if weight is None:
        return None
    message = keyed("weight_counts_as_one", "A message has the loss weight {weight}, which counts as 1", weight=weight)
    fix = keyed("weigh_by_copies", "Write 1 or 0 (context only), or repeat rows that are to count for more")
    return BadRow("loss_weight", message, fix)


# Columns that may be left empty, and what stands for that in them. As an input, `None` may be what a question is about.
_MAY_BE_EMPTY: tuple[tuple[tuple[str, ...], Callable[[str], bool]], ...] = (
    (columns.INPUT, missing.is_no_value),
    *(
        (names, lambda text: missing.is_no_value(text) or missing.is_null_word(text))
        for names in (columns.SYSTEM, columns.REASONING, columns.HISTORY, columns.TOOLS)
    ),
)


@lru_cache(maxsize=64)
def _that_may_be_empty(names: tuple[str, ...]) -> tuple[tuple[str, Callable[[str], bool]], ...]:
    """Return the columns of a row that may be left empty, and what stands for that in each."""
    row = dict.fromkeys(names)
    found = ((columns.find(row, known), is_null) for known, is_null in _MAY_BE_EMPTY)
    return tuple((column, is_null) for column, is_null in found if column is not None)


class _Labels:
    """Tell a file whose answers are labels, of which `None` may well be one, from a file of texts."""

    def __init__(self) -> None:
        self._answers: set[str] = set()
        self._rows = 0

    def add(self, conversation: Conversation) -> None:
        """Count the last answer of a row."""
        self._rows += 1
        if len(self._answers) <= _MOST_LABELS and conversation.turns:
            self._answers.add(conversation.turns[-1].content.strip()[: _LONGEST_LABEL + 1])

    def are_all(self) -> bool:
        """Say whether the answers are few short ones, each met more than twice on average."""
        few = 1 < len(self._answers) <= _MOST_LABELS and 3 * len(self._answers) <= self._rows
        return few and all(len(answer) <= _LONGEST_LABEL for answer in self._answers)


@dataclass
class CheckReport:
    """What a check found. `facts` is the answer of `data check --json`.

    `excerpts` are the beginnings of the rows that `problems` speak of, one for one; `left_out` counts the rows that are
    not trained by the kind of problem that decided it.
    """

    detection: Detection = field(default_factory=lambda: Detection("unknown", 0.0, ""))
    rows: int = 0
    usable: int = 0
    validation: int = 0
    problems: list[RowProblem] = field(default_factory=list)
    problem_counts: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    excerpts: list[str] = field(default_factory=list)
    tokens: TokenCounts = field(default_factory=TokenCounts)
    packing: PackingFacts = field(default_factory=PackingFacts)
    histogram: list[Bin] = field(default_factory=list)
    warnings: tuple[str, ...] = ()

    def add(self, problem: RowProblem, row: Row | None = None) -> None:
        """Count a problem, and list it unless its kind is listed often enough."""
        if self.problem_counts[problem.kind] < MAX_LISTED_PER_KIND:
            self.problems.append(replace(problem, original=""))
            text = problem.original if row is None else json.dumps(row.fields, ensure_ascii=False, default=str)
            self.excerpts.append(text[:_EXCERPT_CHARS] + " …" * (len(text) > _EXCERPT_CHARS))
        self.problem_counts[problem.kind] += 1

    def facts(self) -> CheckFacts:
        """Return the answer of `data check --json`."""
        return CheckFacts(
            format=self.detection.format,
            confidence=self.detection.confidence,
            why=printable(self.detection.why),
            rows=self.rows,
            usable=self.usable,
            problems=tuple(Problem(**problem.as_dict()) for problem in self.problems),
            problem_counts=dict(self.problem_counts),
            duplicates=self.problem_counts["duplicate"],
            tokens=self.tokens,
            packing=self.packing,
        )


class Check:
    """Run the audit over a stream of records in bounded memory."""

    def __init__(self, options: DataOptions, renderer: Renderer | None = None, rows_per_step: int = 1) -> None:
        self._options = options
        self._renderer = renderer
        self._rows_per_step = max(1, rows_per_step)
        control = renderer.tokenizer.added_tokens if renderer else frozenset()
        self._auditor = Auditor(options, control)
        self._pairs = PairAudit()
        self._scripts = ScriptAudit()
        self._labels = _Labels()
        self._null_words: list[tuple[RowProblem, Row]] = []
        self._formats = FormatCount()
        self._sketches = Sketches()
        self._split = SplitCount(Split.of(options), options.validation_split)
        self._sides = bytearray()  # for each sketched row: 1 on the validation side
        self._lines = array("q")
        # For each example: its sketched row, its length, its trained tokens.
        self._owners, self._lengths, self._trained = array("q"), array("q"), array("q")
        self._over_limit = self._preferences = 0
        self._longest = (0, 0, 0)
        self._packed = PackCount(options.max_length, options.packing)
        self.report = CheckReport(warnings=renderer.tokenizer.warnings if renderer else ())

    def run(self, records: Iterable[Row | RowProblem], progress: Progress | None = None) -> CheckReport:
        """Check all records; without a renderer no tokens are counted."""
        with seldom_collected():
            for outcome in outcomes(records, self._options, self._renderer):
                self._take(outcome)
                if progress and self.report.rows % 1000 == 0:
                    progress(self.report.rows, 0)
        self._finish()
        return self.report

    def _take(self, outcome: Outcome) -> None:
        self.report.rows += 1
        if outcome.row is not None and not self._formats.add_known(outcome.format):
            self._formats.add(*format_of(outcome.row.fields))
        if outcome.problem is not None:
            self.report.add(outcome.problem, outcome.row)
        problems: list[RowProblem] = []
        if outcome.row is not None and outcome.conversation is not None:
            problems = self._auditor.judge(outcome.row, outcome.conversation, outcome.text)
            self._labels.add(outcome.conversation)
            for problem in (*problems, *self._pairs.judge(outcome)):
                self._report(problem, outcome.row)
            self._over_limit += self._renderer is not None and outcome.length > self._options.max_length
        reason = self._auditor.left_out(outcome, problems)
        if reason is not None:
            self.report.left_out[reason.kind] += 1
        elif outcome.row is not None and outcome.conversation is not None:
            self._keep(outcome, outcome.row, outcome.conversation)

    def _report(self, problem: RowProblem, row: Row) -> None:
        """Report a problem, one that depends on all rows when they were seen."""
        if problem.kind != "null_word" or problem.kind in self._options.drop:
            self.report.add(problem, row)
            return
        # Only the listed ones are shown with their rows.
        self._null_words.append((problem, row if len(self._null_words) < MAX_LISTED_PER_KIND else _NO_ROW))

    def _keep(self, outcome: Outcome, row: Row, conversation: Conversation) -> None:
        self.report.usable += 1
        text = outcome.text
        self._scripts.add(text)
        self._sketches.add(len(self._lines), text)
        self._lines.append(row.line)
        self._sides.append(self._split.add(conversation))
        self._preferences += len(outcome.preferences)
        for example in outcome.examples:
            self._owners.append(len(self._lines) - 1)
            self._lengths.append(len(example.input_ids))
            self._trained.append(example.trained_count())
        longest = max((len(example.input_ids) for example in outcome.examples), default=0)
        self._longest = max(self._longest, (longest, row.line, row.number))

    def _finish(self) -> None:
        report = self.report
        report.detection = self._detection()
        for problem, row in () if self._labels.are_all() else self._null_words:
            report.add(problem, row)
        self._near_duplicates_and_leaks()
        for owner, length in zip(self._owners, self._lengths, strict=True):
            if not self._sides[owner]:
                self._packed.add(length)
        report.tokens = self._token_counts()
        self._outlier()
        unknown = self._scripts.judge(self._renderer.tokenizer.backend) if self._renderer else None
        for problem in filter(None, (self._pairs.bias(), unknown)):
            report.add(problem)
        plain = self._options.objective == "sft"
        fill = round(self._packed.fill(), 4) if self._renderer and plain else None
        rows = self._packed.rows if plain else self._preferences
        steps = -(-rows // self._rows_per_step) if self._renderer else None
        report.packing = PackingFacts(fill, steps)
        if self._renderer and report.rows and not report.tokens.trained:
            message = "Nothing would be trained: no token of any row is an answer"
            fix = "Raise the length" if report.tokens.over_limit else "Choose another format or mapping"
            report.add(RowProblem(None, "nothing_trained", message, fix))

    def _detection(self) -> Detection:
        if self._options.mapping:
            columns = ", ".join(f"{role}={column}" for role, column in self._options.mapping)
            return Detection("mapped", 1.0, f"mapped by you: {columns}")
        if self._options.format:
            return Detection(self._options.format, 1.0, "chosen by you")
        return self._formats.verdict()

    def _near_duplicates_and_leaks(self) -> None:
        near = self._sketches.near_repeats()
        self._settle(frozenset(near) if "near_duplicate" in self._options.drop else frozenset())
        for later, first in sorted(near.items()):
            message = f"The row says nearly the same as line {self._lines[first]}"
            self.report.add(RowProblem(self._lines[later], "near_duplicate", message, "Drop near duplicates"))
            if self._sides[later] != self._sides[first]:
                sides = ("validation", "training") if self._sides[later] else ("training", "validation")
                message = f"The row is in {sides[0]}, line {self._lines[first]} in {sides[1]} says nearly the same"
                self.report.add(RowProblem(self._lines[later], "leakage", message, "Drop near duplicates"))
        if "near_duplicate" in self._options.drop:
            self._forget(set(near))

    def _settle(self, left_out: frozenset[int]) -> None:
        """Give each row the side that the build gives it, which needs to know all rows."""
        count = self._split
        settled = count.settled(left_out)
        if settled != count.split:
            pairs = zip(count.questions, count.rows, strict=True)
            self._sides = bytearray(settled.keeps_back_hashed(*pair) for pair in pairs)
        self.report.validation = sum(self._sides)

    def _forget(self, rows: set[int]) -> None:
        """Take sketched rows out of every count: what is dropped at the end was counted when it was read."""
        kept = [place for place, owner in enumerate(self._owners) if owner not in rows]
        self._lengths = array("q", (self._lengths[place] for place in kept))
        self._trained = array("q", (self._trained[place] for place in kept))
        self._owners = array("q", (self._owners[place] for place in kept))
        self.report.usable -= len(rows)
        self.report.validation -= sum(self._sides[row] for row in rows)
        self.report.left_out["near_duplicate"] = len(rows)

    def _token_counts(self) -> TokenCounts:
        if self._renderer is None:
            return TokenCounts()
        import numpy as np

        lengths = np.frombuffer(self._lengths, dtype=np.int64) if self._lengths else np.zeros(1, dtype=np.int64)
        counts, edges = np.histogram(lengths, bins=_HISTOGRAM_BINS)
        self.report.histogram = [Bin(int(edge), int(count)) for edge, count in zip(edges[1:], counts, strict=True)]
        p50, p95 = np.percentile(lengths, [50, 95], method="nearest")
        return TokenCounts(
            total=int(lengths.sum()),
            trained=sum(self._trained),
            p50=int(p50),
            p95=int(p95),
            max=int(lengths.max()),
            over_limit=int(self._over_limit),
        )

    def _outlier(self) -> None:
        length, line, number = self._longest
        usual = self.report.tokens.p95
        if usual and length > _OUTLIER_TOKENS and length > _OUTLIER_FACTOR * usual:
            message = f"The row has {length:,} tokens, 95 % of the rows have at most {usual:,}"
            fix = "Drop or split it: the longest row decides the memory of the whole run"
            self.report.add(RowProblem(line, "long_row", message, fix, number))


def near_duplicates(
    records: Iterable[Row | RowProblem], options: DataOptions, renderer: Renderer | None
) -> dict[int, int]:
    """Return the number of each row that nearly repeats an earlier one that is trained, and that one's number."""
    auditor = Auditor(options, renderer.tokenizer.added_tokens if renderer else frozenset())
    sketches = Sketches()
    for outcome in outcomes(records, options, renderer):
        if outcome.row is not None and outcome.conversation is not None:
            problems = auditor.judge(outcome.row, outcome.conversation, outcome.text)
            if auditor.left_out(outcome, problems) is None:
                sketches.add(outcome.row.number, outcome.text)
    return sketches.near_repeats()
