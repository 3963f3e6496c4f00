"""What the page and the command line ask of an evaluation. Free of heavy imports."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

from app.data.dataset.options import TrainOn
from app.data.formats.conversions import check_format, parse_mapping
from app.engine.requests import checked_adapter
from app.errors import UsageError, keyed
from app.evaluation.metrics import structured
from app.evaluation.metrics.catalogue import METRICS
from app.jobs import requests as jobs
from app.jobs.directory import JobDirectory
from app.models.names import resolve
from app.reading import parsed_json
from app.workspace import Workspace, existing_source

# What a picture of gain against forgetting goes over: the weight of an adapter, or the checkpoints of its run.
Over = Literal["weight", "step"]
CURVES = get_args(Over)
# Weights of the picture, from the base (0) to half as much again as was trained.
WEIGHTS = tuple(round(0.1 * tenths, 1) for tenths in range(16))
_LARGEST_SCHEMA = 1 << 20
_LONGEST_PATTERN = 10_000
_MOST_CHOICES = 100


@dataclass(frozen=True)
class Expectations:
    """What holds for every row that does not say it itself: a pattern, a JSON Schema, choices, a tolerance."""

    pattern: str = ""
    schema_text: str = ""
    choices: tuple[str, ...] = ()
    tolerance: float | None = None


@dataclass(frozen=True)
class EvaluationRequest:
    """What an evaluation is asked for; it crosses to the child as plain data.

    adapters: folders (adapters, checkpoints, blends, merged models) by the name of their column; titles: what people
    call these. metrics: none leaves the choice to the rows. probe: a file of one's own in place of the bundled one.
    curves: pictures that are drawn for every adapter. gain: the metric of the pictures, empty for the first answer's.
    limit: the most rows, 0 for all. skip_trained: leave out what a column was trained on.
    """

    model: str
    data: str
    adapters: dict[str, str] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)
    metrics: tuple[str, ...] = ()
    forgetting: bool = False
    probe: str = ""
    curves: tuple[Over, ...] = ()
    weights: tuple[float, ...] = WEIGHTS
    gain: str = ""
    expectations: Expectations = Expectations()
    format: str = ""
    mapping: dict[str, str] = field(default_factory=dict)
    train_on: TrainOn | None = None
    quant: str = "nf4"
    dtype: str = "auto"
    max_tokens: int = 128
    limit: int = 0
    skip_trained: bool = False
    seed: int = 0


def checked(request: EvaluationRequest) -> EvaluationRequest:
    """Return a request with absolute names. Raises UsageError, ModelError or WorkspaceError for what cannot be."""
    _check_names(request)
    _check_expectations(request.expectations)
    check_format(request.format)
    parse_mapping(dict(request.mapping))
    adapters = {name: checked_adapter(name, folder) for name, folder in request.adapters.items()}
    return replace(
        request,
        model=resolve(request.model),
        data=str(existing_source(request.data)),
        adapters=adapters,
        probe=str(existing_source(request.probe)) if request.probe else "",
        forgetting=request.forgetting or bool(request.probe or request.curves),
    )


def start_evaluation(workspace: Workspace, request: EvaluationRequest, *, queue: bool = False) -> JobDirectory:
    """Hand in an evaluation and return its job at once. Raises what `checked` raises, and BusyError."""
    config = _plain(asdict(checked(request)))
    return jobs.submit(workspace, "evaluate", config, name=f"evaluate: {Path(request.data).name}", queue=queue)


def _plain(config: Mapping[str, object]) -> dict[str, object]:
    """Return a request as YAML has it, which has no tuples."""
    found: dict[str, object] = {}
    for name, value in config.items():
        inner = _plain(value) if isinstance(value, dict) else value
        found[name] = list(inner) if isinstance(inner, tuple) else inner
    return found


def _check_names(request: EvaluationRequest) -> None:
    for name in (*request.metrics, *([request.gain] if request.gain else [])):
        if name not in METRICS:
            raise UsageError(
                keyed("there_is_no_metric", "There is no metric {name}", name=f"{name!r:.60}"),
                "",
                keyed("choose_metrics", "choose of {names}", names=", ".join(METRICS)),
            )
    if any(curve not in CURVES for curve in request.curves):
        raise UsageError("There is no such picture", f"there are {', '.join(CURVES)}", "choose one of them")
    if any(not -2 <= weight <= 2 for weight in request.weights) or len(request.weights) > 64:
        raise UsageError("A weight is out of range", "weights are -2 to 2, and at most 64", "choose 0 to 1.5")


def _check_expectations(given: Expectations) -> None:
    """Raise UsageError for a pattern or schema that is none, and for too many choices."""
    check_pattern(given.pattern)
    if given.schema_text:
        schema_of(given.schema_text)
    if len(given.choices) == 1 or len(given.choices) > _MOST_CHOICES:
        why = f"there are {len(given.choices)}, and 2 to {_MOST_CHOICES} can be compared"
        raise UsageError(keyed("the_choices_cannot_be_used", "The choices cannot be used"), why, "name two or more")
    if given.tolerance is not None and not 0 <= given.tolerance < float("inf"):
        raise UsageError(f"The tolerance {given.tolerance} cannot be used", "it is at least 0", "write 0.01, say")


def check_pattern(pattern: str) -> None:
    """Raise UsageError for a regular expression that is none."""
    import regex

    try:
        if len(pattern) > _LONGEST_PATTERN:
            raise regex.error("it is too long")
        regex.compile(pattern, regex.VERSION0)
    except regex.error as error:
        raise UsageError(
            keyed("the_pattern_cannot_be_used", "The pattern {pattern} cannot be used", pattern=f"{pattern!r:.80}"),
            str(error),
            keyed("write_a_regular_expression", "write a regular expression"),
        ) from None


def schema_of(text: str) -> object:
    """Return the JSON Schema in a text. Raises UsageError for a text that is none."""
    try:
        if len(text) > _LARGEST_SCHEMA:
            raise ValueError("it is larger than 1 MiB")
        held = parsed_json(text)
        if not isinstance(held, (dict, bool)):
            raise ValueError("a schema is an object")
    except ValueError as error:
        raise UsageError(
            keyed("the_schema_is_none", "The JSON schema cannot be used"),
            re.sub(r"\s+", " ", str(error)),
            keyed("write_a_json_schema", "write a JSON Schema, for example {example}", example='{"type": "object"}'),
        ) from None
    structured.check_schema(held)
    return held
