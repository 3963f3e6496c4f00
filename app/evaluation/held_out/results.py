"""What came of an evaluation, as it lies in the job's result: typed, and as JSON, CSV and lines for people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from app.evaluation.held_out.requests import Over
from app.files import csv_text, replace_file
from app.jobs.directory import JobDirectory
from app.reading import parsed_as, parsed_json

RESULT_FILE = "evaluation.json"
# Rows that are kept with their answers; figures are of all rows.
MOST_ROWS = 1000


@dataclass(frozen=True)
class MetricValue:
    """The mean of a metric over `n` rows with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Forgetting:
    """What a column lost on the probes against the base.

    kl: mean divergence KL(base || column) a token of the probes' answers, in nats. loss_change: its loss there less the
    base's. flipped: answers that the base had right and the column has wrong, of `known`; `gained` the other way round.
    """

    kl: float
    loss_change: float
    flipped: int
    known: int = 0
    gained: int = 0
    probes: int = 0


@dataclass(frozen=True)
class ColumnResult:
    """One column's figures. `loss` is the mean over the trained tokens of all `n` rows, in nats; None without any."""

    name: str
    title: str
    hash: str
    n: int
    loss: float | None
    perplexity: float | None
    metrics: dict[str, MetricValue] = field(default_factory=dict)
    forgetting: Forgetting | None = None
    batched: bool = True

    def as_dict(self) -> dict[str, object]:
        """Return plain data; `forgetting` only where it was asked for."""
        return {name: value for name, value in asdict(self).items() if name != "forgetting" or value is not None}


@dataclass(frozen=True)
class PairedResult:
    """Column `a` held against column `b` row by row: on how many rows it is better, worse and the same."""

    a: str
    b: str
    metric: str
    better: int
    worse: int
    same: int
    p: float

    @property
    def words(self) -> str:
        """Return the comparison as a person says it."""
        rows = self.better + self.worse + self.same
        return f"better on {self.better}, worse on {self.worse}, of {rows} (p = {self.p:.2g})"


@dataclass(frozen=True)
class Contamination:
    """How many of the rows a column was trained on. `rows` are their numbers; `unknown` says why nobody can tell."""

    column: str
    run: str = ""
    equal: int = 0
    near: int = 0
    rows: tuple[int, ...] = ()
    unknown: str = ""


@dataclass(frozen=True)
class CurvePoint:
    """One weight or step: the metric there, what it gained on the base (above 0 is better), and what was forgotten."""

    at: float
    value: float
    gain: float
    kl: float
    loss_change: float


@dataclass(frozen=True)
class GainCurve:
    """Gain against forgetting of one adapter. `best` is the place of the marked point, None where nothing gained."""

    column: str
    over: Over
    metric: str
    points: tuple[CurvePoint, ...]
    best: float | None = None

    @property
    def best_point(self) -> CurvePoint | None:
        """Return the marked point."""
        return next((point for point in self.points if point.at == self.best), None)


@dataclass(frozen=True)
class RowAnswer:
    """What a column answered to a row, and its score by metric."""

    text: str = ""
    error: str = ""
    scores: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class EvaluatedRow:
    """One row with the answers by column."""

    row: int
    prompt: str
    expected: str
    answers: dict[str, RowAnswer]


@dataclass(frozen=True)
class EvaluationResult:
    """All that came of an evaluation. `left_out` counts rows that could not be used, by kind of problem."""

    data: str
    data_sha256: str
    n: int
    columns: tuple[ColumnResult, ...]
    paired: tuple[PairedResult, ...] = ()
    contamination: tuple[Contamination, ...] = ()
    curves: tuple[GainCurve, ...] = ()
    rows: tuple[EvaluatedRow, ...] = ()
    left_out: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    def as_dict(self) -> dict[str, object]:
        """Return what `evaluate --json` answers: all but the single rows."""
        found = {name: value for name, value in asdict(self).items() if name != "rows"}
        return {**found, "columns": [column.as_dict() for column in self.columns]}

    def column(self, name: str) -> ColumnResult | None:
        """Return the figures of a column."""
        return next((column for column in self.columns if column.name == name), None)

    @property
    def metrics(self) -> list[str]:
        """Return the metrics that any column has, in the order of the first."""
        return list(dict.fromkeys(name for column in self.columns for name in column.metrics))


def write(folder: Path, result: EvaluationResult) -> None:
    """Put a result into the job's folder, in one step."""
    folder.mkdir(exist_ok=True)
    replace_file(folder / RESULT_FILE, as_json(result))


def read(job: JobDirectory) -> EvaluationResult | None:
    """Return the result of an evaluation as far as it got, or None."""
    try:
        return parsed_as(EvaluationResult, parsed_json((job.result / RESULT_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def as_json(result: EvaluationResult) -> str:
    """Return a result with its rows as JSON."""
    return json.dumps(asdict(result), ensure_ascii=False, indent=1)


def as_csv(result: EvaluationResult) -> str:
    """Return the figures as CSV for spreadsheets: one line a column and metric."""
    head = ["column", "metric", "value", "low", "high", "n"]
    lines: list[Sequence[object]] = [head]
    for column in result.columns:
        lines += [[column.title, name, m.value, m.low, m.high, m.n] for name, m in column.metrics.items()]
        if column.perplexity is not None:
            lines.append([column.title, "perplexity", column.perplexity, None, None, column.n])
        if column.forgetting is not None:
            kept = column.forgetting
            lines += [
                [column.title, "forgetting_kl", kept.kl, None, None, kept.probes],
                [column.title, "forgetting_loss_change", kept.loss_change, None, None, kept.probes],
                [column.title, "forgetting_flipped", kept.flipped, None, None, kept.known],
            ]
    return csv_text(lines)


def rows_as_csv(result: EvaluationResult) -> str:
    """Return the rows as CSV: prompt, expected, and of each column its answer and its scores."""
    names = result.metrics
    head = ["row", "prompt", "expected"]
    for column in result.columns:
        head += [column.title, *(f"{column.title}: {name}" for name in names)]
    lines: list[Sequence[object]] = [head]
    for row in result.rows:
        cells: list[object] = [row.row, row.prompt, row.expected]
        for column in result.columns:
            answer = row.answers.get(column.name, RowAnswer())
            cells += [answer.error or answer.text, *(answer.scores.get(name) for name in names)]
        lines.append(cells)
    return csv_text(lines)
