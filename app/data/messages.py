"""What the data child is asked and what it answers: typed on both sides, JSON between them.

The fields of CheckFacts and RowTokens are the keys of `data check --json` and `data show --json`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from app.data.dataset.options import DataOptions


@dataclass(frozen=True)
class Rows:
    """Where rows come from: a file or folder, or pasted text."""

    path: str | None = None
    text: str | None = None


@dataclass(frozen=True)
class OpenRequest:
    """Load a tokenizer, under a limit of its own."""

    tokenizer: str
    chat_template: str = ""


@dataclass(frozen=True)
class ShowRequest:
    """Give the tokens of one row, counted from 1."""

    rows: Rows
    row: int
    tokenizer: str
    options: DataOptions


@dataclass(frozen=True)
class CheckRequest:
    """Audit all rows; without a tokenizer no tokens are counted. `rows_per_step` is the effective batch."""

    rows: Rows
    options: DataOptions
    tokenizer: str | None = None
    rows_per_step: int = 1


@dataclass(frozen=True)
class BuildRequest:
    """Write the tokenised files below `out_root`."""

    path: str
    tokenizer: str
    options: DataOptions
    out_root: str


@dataclass(frozen=True)
class ConvertRequest:
    """Write canonical rows to `out`."""

    rows: Rows
    out: str
    options: DataOptions


@dataclass(frozen=True)
class RejectedRequest:
    """Write the rows that are not trained to `out`; without a tokenizer limit and template are not asked."""

    rows: Rows
    out: str
    options: DataOptions
    tokenizer: str | None = None


@dataclass(frozen=True)
class Opened:
    """A tokenizer that is loaded."""

    digest: str
    template_origin: str
    end_tokens: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class ShownToken:
    """One token: its text, who wrote it, in which turn, and whether it is trained."""

    id: int
    text: str
    role: str
    turn: int
    trained: bool


_OF_PREFERENCES = ("prompt_tokens", "rejected", "label")


@dataclass(frozen=True)
class RowTokens:
    """The tokens of one row, exactly as they are trained.

    Of a pair, `tokens` are the prompt (the first `prompt_tokens`) and the chosen answer, `rejected` is what the refused
    answer puts in the chosen one's place. `label` is the thumb of a row that has one, True for up.
    """

    format: str
    row: int
    line: int
    tokens: tuple[ShownToken, ...]
    trained_tokens: int
    total_tokens: int
    truncated: bool
    warnings: tuple[str, ...]
    prompt_tokens: int | None = None
    rejected: tuple[ShownToken, ...] = ()
    label: bool | None = None

    def as_dict(self) -> dict[str, object]:
        """Return what `data show --json` answers; what a row of one conversation lacks is left out."""
        # asdict takes seconds over long rows.
        plain = {**vars(self), "tokens": [vars(token) for token in self.tokens]}
        plain["rejected"] = [vars(token) for token in self.rejected]
        return {key: value for key, value in plain.items() if key not in _OF_PREFERENCES or value not in (None, [])}


@dataclass(frozen=True)
class Problem:
    """What is wrong with one row, and what to do."""

    line: int | None
    kind: str
    message: str
    fix: str


@dataclass(frozen=True)
class TokenCounts:
    """Tokens of all rows, and lengths of rows in tokens; None where no tokenizer was asked."""

    total: int | None = None
    trained: int | None = None
    p50: int | None = None
    p95: int | None = None
    max: int | None = None
    over_limit: int | None = None


@dataclass(frozen=True)
class PackingFacts:
    """The share of positions of packed rows that hold a token, and the steps that all rows take."""

    fill: float | None = None
    steps_per_epoch: int | None = None


@dataclass(frozen=True)
class CheckFacts:
    """What a check found."""

    format: str
    confidence: float
    why: str
    rows: int
    usable: int
    problems: tuple[Problem, ...]
    problem_counts: dict[str, int]
    duplicates: int
    tokens: TokenCounts
    packing: PackingFacts

    def as_dict(self) -> dict[str, object]:
        """Return what `data check --json` answers."""
        return {**asdict(self), "problems": [asdict(problem) for problem in self.problems]}


@dataclass(frozen=True)
class Bin:
    """How many rows are longer than the bin before, and up to so many tokens."""

    up_to: int
    rows: int


@dataclass(frozen=True)
class CheckAnswer:
    """A check, and what the page shows beside it.

    `problem_rows` are the row numbers of the listed problems, `excerpts` the beginnings of those rows; `left_out`
    counts the rows that are not trained by kind of problem.
    """

    check: CheckFacts
    problem_rows: tuple[int | None, ...]
    excerpts: tuple[str, ...]
    left_out: dict[str, int]
    histogram: tuple[Bin, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class BuildAnswer:
    """Where the tokenised files lie, and their manifest."""

    path: str
    manifest: dict[str, object]


@dataclass(frozen=True)
class ConvertAnswer:
    """How many rows were written and left out; `warnings` name what was left out on purpose, such as other sheets."""

    out: str
    rows: int
    left_out: int
    problem_counts: dict[str, int]
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """Return what `data convert --json` answers."""
        return {name: value for name, value in asdict(self).items() if name != "warnings"}


@dataclass(frozen=True)
class RejectedAnswer:
    """How many rows that are not trained were written, and where."""

    out: str
    rows: int
