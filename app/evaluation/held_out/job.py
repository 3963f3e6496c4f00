"""The evaluation's job: base and adapters measured on the rows of a file, all columns in one pass."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import cast

from app.data.chat_template.render import Renderer
from app.data.chat_template.templates import PLAIN_TEMPLATES, ChatTemplate, render_limit
from app.data.chat_template.tokenizer import load_tokenizer as load_template_tokenizer
from app.data.dataset.examples import ExampleMaker
from app.data.dataset.options import DataOptions, TrainOn
from app.engine.variants import BASE, VariantSet
from app.errors import DataError, EngineError
from app.evaluation.held_out import curves, forgetting, records, results
from app.evaluation.held_out.cases import Case, Cases, read_cases, refuse_unanswerable
from app.evaluation.held_out.cases import carried as carried_metrics
from app.evaluation.held_out.contamination import contamination
from app.evaluation.held_out.measuring import Measured, Measurer, Stopped
from app.evaluation.held_out.requests import EvaluationRequest, Expectations
from app.evaluation.held_out.results import (
    ColumnResult,
    Contamination,
    EvaluatedRow,
    EvaluationResult,
    GainCurve,
    MetricValue,
    PairedResult,
    RowAnswer,
)
from app.evaluation.metrics import statistics
from app.evaluation.metrics.catalogue import DEFAULT, METRICS
from app.jobs.child import JobChild, Outcome, Result
from app.jobs.directory import holding
from app.models.adapter_files import locate
from app.models.identity import fingerprint
from app.models.loading import Quant, load_base, load_tokenizer, tokenizer_folder
from app.models.prompts import Prompts, stored_template
from app.workspace import source_sha256

_LONGEST_SHOWN = 4000
_TOLD_EVERY_S = 0.5


def work(child: JobChild) -> tuple[Outcome, Result]:
    """Evaluate, keep the result, and note it with the runs that the columns are of."""
    request = child.request(EvaluationRequest)
    begun = time.monotonic()
    child.progress(0, 0, "loading the base model")
    try:
        evaluation = _Evaluation(child, request)
        result = replace(evaluation.run(), seconds=round(time.monotonic() - begun, 3))
    except Stopped:
        return "stopped", {}
    results.write(child.directory.result, result)
    records.note(result, evaluation.folders, child.directory.id)
    return "finished", {"rows": result.n, "columns": len(result.columns), "seconds": result.seconds}


@dataclass(frozen=True)
class _View:
    """How rows become tokens: the template that all columns are scored with, and what was said about it."""

    maker: ExampleMaker
    notes: tuple[str, ...]


class _Evaluation:
    """One evaluation under way."""

    def __init__(self, child: JobChild, request: EvaluationRequest) -> None:
        self._child, self._request = child, request
        self._told = ("", 0.0)
        self.folders = {name: locate(folder) for name, folder in request.adapters.items()}
        self._columns = self._load()
        self._prompts = Prompts(self._columns.model, self._columns.tokenizer, PLAIN_TEMPLATES, render_limit)
        for name, folder in self.folders.items():
            self._prompts.learn(name, folder)
        self._measurer = Measurer(self._columns, self._prompts, request.max_tokens, self._went_on)
        self._names = [BASE, *self.folders]

    def run(self) -> EvaluationResult:
        """Return all that came of it. Raises Stopped."""
        request = self._request
        view = self._view()
        self._went_on("reading the rows", 0, 0)
        limit = 0 if request.skip_trained else request.limit
        read = read_cases(Path(request.data), view.maker, request.expectations, limit)
        trained = [contamination(name, folder, read.cases) for name, folder in self.folders.items()]
        if request.skip_trained:
            read = _untrained(read, trained, request.limit)
            trained = [replace(one, equal=0, near=0, rows=()) for one in trained]
        metrics, notes = self._metrics(read.cases)
        measured = dict(zip(self._names, self._measurer.measure(read.cases, self._names, metrics), strict=True))
        probes = self._probes(view.maker) if request.forgetting else ()
        result = EvaluationResult(
            data=Path(request.data).name,
            data_sha256=source_sha256(Path(request.data)),
            n=len(read.cases),
            columns=tuple(self._with_forgetting(probes, [self._column(n, measured[n], metrics) for n in self._names])),
            paired=tuple(_paired(measured, metrics, request.seed)),
            contamination=tuple(trained),
            rows=tuple(_rows(read.cases, measured)),
            left_out=read.left_out,
            notes=(*view.notes, *read.notes, *notes),
        )
        results.write(self._child.directory.result, result)
        drawn, said = self._curves(read, probes, metrics)
        return replace(result, curves=drawn, notes=(*result.notes, *said))

    def _load(self) -> VariantSet:
        request = self._request
        load = partial(load_base, quant=cast(Quant, request.quant), dtype=request.dtype)
        columns = VariantSet(load(request.model), load_tokenizer(request.model), fingerprint(request.model), load)
        for name, folder in self.folders.items():
            self._went_on(f"loading {name}", 0, 0)
            columns.add(name, folder)
        return columns

    def _went_on(self, phase: str, done: int, of: int) -> bool:
        """Report a step and say whether to go on. Raises Stopped between two phases."""
        now = time.monotonic()
        if phase != self._told[0] or now - self._told[1] > _TOLD_EVERY_S:
            self._told = (phase, now)
            self._child.progress(done, of, phase)
        if self._child.stop_requested():
            raise Stopped
        return True

    def _view(self) -> _View:
        """Return how rows become tokens: as they were trained, where the columns are of runs."""
        request, notes = self._request, []
        tokenizer = load_template_tokenizer(tokenizer_folder(request.model))
        own = {name: text for name, folder in self.folders.items() if (text := stored_template(folder))}
        templates = list(dict.fromkeys(own.values()))
        if templates and templates[0] != tokenizer.template.source:
            special = tokenizer.template.special_tokens
            tokenizer = replace(tokenizer, template=ChatTemplate(templates[0], "the adapter's", special), digest="")
        if len(templates) > 1:
            notes.append(f"the columns have several chat templates; losses are taken with that of {next(iter(own))}")
        trained_on = {_train_on(folder) for folder in self.folders.values()} - {None}
        train_on = request.train_on or (trained_on.pop() if len(trained_on) == 1 else None) or "assistant"
        options = DataOptions.checked(
            format=request.format,
            mapping=request.mapping,
            max_length=max(8, self._prompts.context),
            over_length="drop",
            train_on=train_on,
        )
        return _View(ExampleMaker(Renderer(tokenizer, train_on), options), tuple(notes))

    def _metrics(self, cases: Sequence[Case]) -> tuple[list[str], list[str]]:
        """Return what is measured. Raises DataError for a metric that was named and that no row can be held to."""
        named = self._request.metrics
        wanted = list(named) if named else [*DEFAULT, *carried_metrics(cases)]
        usable = [name for name in dict.fromkeys(wanted) if any(_applies(name, case) for case in cases)]
        lacking = [name for name in wanted if name not in usable and name != "loss"]
        if named and lacking:
            raise refuse_unanswerable(lacking[0], METRICS[lacking[0]].needs)
        return usable, []

    def _probes(self, maker: ExampleMaker) -> tuple[Case, ...]:
        source = Path(self._request.probe) if self._request.probe else forgetting.PROBES
        return read_cases(source, maker, Expectations()).cases

    def _column(self, name: str, measured: Measured, metrics: Sequence[str]) -> ColumnResult:
        variant, loss = self._columns.columns[name], measured.loss
        figures = {metric: _value(measured, metric, self._request.seed) for metric in metrics}
        return ColumnResult(
            name=name,
            title=self._request.titles.get(name, name),
            hash=variant.hash,
            n=len(measured.scores),
            loss=loss,
            perplexity=math.exp(min(loss, 700.0)) if loss is not None else None,
            metrics={metric: figure for metric, figure in figures.items() if figure is not None},
            batched=variant.shared,
        )

    def _with_forgetting(self, probes: Sequence[Case], columns: list[ColumnResult]) -> list[ColumnResult]:
        if not probes:
            return columns
        base, *others = self._measurer.measure(probes, self._names, ["contains"], divergence=True)
        measured = zip(columns, [base, *others], strict=True)
        return [
            replace(
                column,
                forgetting=forgetting.forgetting(probes, base.likelihoods, one.likelihoods, base.answers, one.answers),
            )
            for column, one in measured
        ]

    def _curves(
        self, read: Cases, probes: Sequence[Case], metrics: Sequence[str]
    ) -> tuple[tuple[GainCurve, ...], list[str]]:
        """Return the pictures that were asked for, and why one could not be drawn."""
        request, drawn, notes = self._request, [], []
        named = [name for name in request.metrics if name != "loss"]
        gain = request.gain or next(iter(named), "loss")
        gain = gain if gain in metrics else "loss"
        for over in request.curves:
            for name, folder in self.folders.items():
                try:
                    if over == "weight":
                        drawn.append(
                            curves.over_weights(self._measurer, name, request.weights, read.cases, probes, gain)
                        )
                    elif curve := curves.over_checkpoints(self._measurer, name, folder, read.cases, probes, gain):
                        drawn.append(curve)
                    else:
                        notes.append(f"{name} has no checkpoints to draw")
                except EngineError as error:
                    notes.append(error.line())
        return tuple(drawn), notes


def _untrained(read: Cases, trained: Sequence[Contamination], limit: int) -> Cases:
    """Return the cases that no column was trained on. Raises DataError where none is left."""
    known = {row for one in trained for row in one.rows}
    kept = tuple(case for case in read.cases if case.row not in known)
    if not kept:
        raise DataError(
            "Every row of this file was trained", "nothing is held out", "name another file, or set a validation split"
        )
    return replace(
        read, cases=kept[: limit or None], left_out={**read.left_out, "trained": len(read.cases) - len(kept)}
    )


def _train_on(folder: Path) -> TrainOn | None:
    """Return which turns the run behind a folder trained, None where it is of no run."""
    job = holding(folder)
    data = job.config.get("data") if job is not None and job.job["kind"] == "train" else None
    return cast("TrainOn | None", data.get("train_on")) if isinstance(data, dict) else None


def _applies(metric: str, case: Case) -> bool:
    """Tell whether a case has what a metric needs."""
    source, own = METRICS[metric].source, case.reference
    if source == "tokens":
        return case.passage is not None
    if source == "choices":
        return bool(case.candidates)
    needs = {
        "regex": bool(own.pattern),
        "json_schema": own.schema is not None,
        "tool_call": bool(own.calls),
        "contains": bool(own.contains or own.answers),
    }
    return case.question is not None and needs.get(metric, bool(own.answers))


def _value(measured: Measured, metric: str, seed: int) -> MetricValue | None:
    """Return a metric's mean with its interval, None where no case has it."""
    if metric == "loss":
        with_tokens = [one for one in measured.likelihoods if one.tokens]
        if measured.loss is None:
            return None
        sums, counts = [-one.logprob for one in with_tokens], [float(one.tokens) for one in with_tokens]
        interval = statistics.ratio_interval(sums, counts, seed=seed)
        return MetricValue(measured.loss, interval.low, interval.high, len(sums))
    scores = [score for score in measured.of(metric) if score is not None]
    if not scores:
        return None
    interval = statistics.share_interval(scores, METRICS[metric].highest or 1.0, seed=seed)
    mean = sum(scores) / len(scores)
    # Half a row of each extreme can leave the mean itself outside where all rows agree.
    return MetricValue(mean, min(mean, interval.low), max(mean, interval.high), len(scores))


def _paired(measured: dict[str, Measured], metrics: Sequence[str], seed: int) -> list[PairedResult]:
    """Hold every column against every one before it, on the rows that both have."""
    found = []
    for (other, before), (name, mine) in combinations(measured.items(), 2):
        for metric in metrics:
            pairs = [
                (a, b)
                for a, b in zip(mine.of(metric), before.of(metric), strict=True)
                if a is not None and b is not None
            ]
            lower = METRICS[metric].better == "lower"
            one = statistics.compare([a for a, _ in pairs], [b for _, b in pairs], lower_is_better=lower)
            found.append(PairedResult(name, other, metric, one.better, one.worse, one.same, one.p))
    return found


def _rows(cases: Sequence[Case], measured: dict[str, Measured]) -> list[EvaluatedRow]:
    """Return the first rows with all answers and scores."""
    found = []
    for place, case in enumerate(cases[: results.MOST_ROWS]):
        answers = {
            name: RowAnswer(one.answers[place].text[:_LONGEST_SHOWN], one.answers[place].error, one.scores[place])
            for name, one in measured.items()
        }
        found.append(EvaluatedRow(case.row, case.prompt[:_LONGEST_SHOWN], case.expected[:_LONGEST_SHOWN], answers))
    return found
