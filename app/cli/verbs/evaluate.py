"""`evaluate`: base and adapters on rows that were not trained, and what they forgot."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from app import outputs
from app.cli.terminal import Verbs, answer, named_folders, positive, progress, table, workspace_of
from app.cli.verbs.jobs import follow
from app.data.dataset.options import TrainOn
from app.errors import JobError, UsageError
from app.evaluation.held_out import results
from app.evaluation.held_out.requests import CURVES, WEIGHTS, EvaluationRequest, Expectations, start_evaluation
from app.evaluation.held_out.results import ColumnResult, EvaluationResult, GainCurve
from app.evaluation.metrics.catalogue import METRICS, chosen
from app.export.requests import BlendAnswer, BlendRequest, WeightedAdapter, start_blend, wait_for_answer
from app.files import replace_file
from app.workspace import Workspace, existing_file, user_path


def register(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verbs.add(
        "evaluate",
        evaluate,
        help="base and adapters on held-out rows, all in one batch: loss, metrics, what was forgotten",
        example="python3 launch.py evaluate --model starter --adapter pirate=DIR --data held.jsonl --forgetting",
    )
    parser.add_argument("--model", metavar="M", required=True, help="base model: a name, folder or hub id")
    parser.add_argument(
        "--adapter", metavar="NAME=DIR", action="append", default=[],
        help="an adapter, checkpoint, blend or merged model with its name; repeatable",
    )  # fmt: skip
    parser.add_argument("--data", metavar="FILE", required=True, help="rows with the expected answers")
    parser.add_argument(
        "--metric", metavar="NAMES", default="", help=f"of {','.join(METRICS)}; by the rows if left out"
    )
    _add_expectations(parser)
    parser.add_argument("--forgetting", action="store_true", help="KL, loss and flipped answers on general probes")
    parser.add_argument("--probe", metavar="FILE", default="", help="probes of your own, in place of the bundled ones")
    parser.add_argument(
        "--curve", choices=CURVES, action="append", default=[],
        help="gain against forgetting over an adapter's weight (0 to 1.5) or the steps of its run; repeatable",
    )  # fmt: skip
    parser.add_argument("--gain", metavar="NAME", default="", help="the metric of the curve (the first one named)")
    parser.add_argument("--weights", metavar="W,W,...", default="", help="weights of the curve, in place of 0 to 1.5")
    parser.add_argument("--keep-best", metavar="DIR", default="", help="write the adapter at the marked weight there")
    parser.add_argument("--format", metavar="F", default="", help="row format, where detection is not wanted")
    parser.add_argument("--train-on", choices=get_args(TrainOn), help="which tokens the loss is of (as trained)")
    parser.add_argument("--limit", type=positive, default=0, metavar="N", help="the first N rows alone")
    parser.add_argument("--skip-trained", action="store_true", help="leave out rows that an adapter was trained on")
    parser.add_argument("--max-tokens", type=positive, default=128, metavar="N", help="longest answer (default 128)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the intervals (default 0)")
    parser.add_argument("--quant", choices=("nf4", "int8", "none"), default="nf4", help="how the base is stored")
    parser.add_argument("--dtype", choices=("auto", "bf16", "fp16", "fp32"), default="auto")
    parser.add_argument("--queue", action="store_true", help="wait behind what runs")
    parser.add_argument("--csv", metavar="OUT", default="", help="write the table as CSV")
    parser.add_argument("--rows", metavar="OUT", default="", help="write the rows with all answers as CSV")


def _add_expectations(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pattern", metavar="REGEX", default="", help="for regex, where a row has no `pattern`")
    parser.add_argument("--schema", metavar="FILE", default="", help="for json_schema, where a row has no `schema`")
    parser.add_argument("--choices", metavar="A,B,...", default="", help="for choice, where a row has no `choices`")
    parser.add_argument("--tolerance", type=float, metavar="X", help="for numeric: how far a number may be off")


def evaluate(arguments: argparse.Namespace) -> None:
    """Evaluate as a job and print what came of it."""
    workspace, request = workspace_of(arguments), _request(arguments)
    named = getattr(arguments, "workspace", None)
    places = {name: user_path(out) for name in ("csv", "rows") if (out := getattr(arguments, name))}
    for place in places.values():
        outputs.refuse_inputs(place, [user_path(request.data)])
        outputs.refuse_foreign(named, place)
    if arguments.keep_best and (len(request.adapters) != 1 or "weight" not in request.curves):
        raise UsageError("--keep-best keeps one adapter at the best of its weights", "", "name one, and --curve weight")
    job = start_evaluation(workspace, request, queue=arguments.queue)
    follow(job)
    found = results.read(job)
    if found is None or job.status().state != "finished":
        raise JobError(f"The evaluation {job.id} was stopped", "", f"its log is {job.log_file}")
    for name, place in places.items():
        replace_file(place, results.as_csv(found) if name == "csv" else results.rows_as_csv(found))
        outputs.remember(named, place)
    kept = _keep_best(workspace, request, found, arguments.keep_best) if arguments.keep_best else {}
    answer(arguments, {**found.as_dict(), "job": job.id, **kept}, _lines(found, request))


def _request(arguments: argparse.Namespace) -> EvaluationRequest:
    schema = existing_file(arguments.schema, "schema").read_text(encoding="utf-8") if arguments.schema else ""
    choices = tuple(one.strip() for one in arguments.choices.split(",") if one.strip())
    return EvaluationRequest(
        model=arguments.model,
        data=arguments.data,
        adapters=named_folders(arguments.adapter),
        metrics=chosen(arguments.metric),
        forgetting=arguments.forgetting,
        probe=arguments.probe,
        curves=tuple(dict.fromkeys(arguments.curve)),
        weights=_weights(arguments.weights) if arguments.weights else WEIGHTS,
        gain=arguments.gain,
        expectations=Expectations(arguments.pattern, schema, choices, arguments.tolerance),
        format=arguments.format,
        train_on=arguments.train_on,
        quant=arguments.quant,
        dtype=arguments.dtype,
        max_tokens=arguments.max_tokens,
        limit=arguments.limit,
        skip_trained=arguments.skip_trained,
        seed=arguments.seed,
    )


def _weights(text: str) -> tuple[float, ...]:
    try:
        found = tuple(sorted({float(word) for word in text.split(",")}))
        if not all(map(math.isfinite, found)):
            raise ValueError
    except ValueError:
        raise UsageError(f"{text!r:.60} is no list of weights", "", "write for example 0,0.5,1") from None
    return found


def _keep_best(
    workspace: Workspace, request: EvaluationRequest, found: EvaluationResult, out: str
) -> dict[str, object]:
    """Write the one adapter at its marked weight. Raises JobError where no weight gained."""
    (name, folder), *_ = request.adapters.items()
    best = next((curve.best for curve in found.curves if curve.over == "weight"), None)
    if not best:
        raise JobError("There is no weight to keep", "no weight gained on the base", "leave --keep-best out")
    parts = [WeightedAdapter(str(user_path(folder)), best)]
    made = start_blend(workspace, BlendRequest(parts, str(user_path(out)), method="cat"))
    follow(made)
    blended = wait_for_answer(made, BlendAnswer)
    progress(f"{name} at weight {best:g} is in {blended.adapter}")
    return {"kept": {"adapter": blended.adapter, "weight": best}}


def _lines(found: EvaluationResult, request: EvaluationRequest) -> list[str]:
    """Return the result for people: the table, who beats whom, what was forgotten, what was trained."""
    names = found.metrics
    rows = [_row(column, names) for column in found.columns]
    shown = ["column", "loss", "perplexity", *(name for name in names if name != "loss")]
    if any(column.forgetting for column in found.columns):
        shown += ["KL", "loss change", "flipped"]
    lines = [f"{found.n} rows of {found.data}", "", *table(rows, shown), ""]
    lines += [f"{one.a} against {one.b}, {one.metric}: {one.words}" for one in found.paired]
    lines += [line for curve in found.curves for line in _curve_lines(curve, request)]
    for one in found.contamination:
        if one.equal or one.near:
            lines.append(
                f"warning: {one.column} was trained on {one.equal} of these rows, and on {one.near} nearly the same"
            )
        elif one.unknown:
            lines.append(f"note: whether {one.column} was trained on these rows is not known: {one.unknown}")
    left = ", ".join(f"{count} x {kind}" for kind, count in found.left_out.items())
    return [*lines, *([f"note: left out: {left}"] if left else []), *(f"note: {note}" for note in found.notes)]


def _row(column: ColumnResult, names: Sequence[str]) -> dict[str, object]:
    row: dict[str, object] = {"column": column.name}
    if column.loss is not None and column.perplexity is not None:
        row |= {"loss": f"{column.loss:.4f}", "perplexity": f"{column.perplexity:.2f}"}
    for name in names:
        if name != "loss" and name in column.metrics:
            found = column.metrics[name]
            row[name] = f"{found.value:.3g} ({found.low:.3g} to {found.high:.3g})"
    if column.forgetting is not None:
        lost = column.forgetting
        row |= {"KL": f"{lost.kl:.4f}", "loss change": f"{lost.loss_change:+.4f}"}
        row["flipped"] = f"{lost.flipped} of {lost.known}"
    return row


def _curve_lines(curve: GainCurve, request: EvaluationRequest) -> list[str]:
    lines = ["", f"{curve.column}: gain in {curve.metric} and forgetting over the {curve.over}"]
    lines += table(
        [
            {
                curve.over: f"{one.at:g}",
                curve.metric: f"{one.value:.4f}",
                "gain": f"{one.gain:+.4f}",
                "KL": f"{one.kl:.4f}",
                "": "best" if one.at == curve.best else "",
            }
            for one in curve.points
        ],
        [curve.over, curve.metric, "gain", "KL", ""],
    )
    if curve.best and curve.over == "weight":
        folder = Path(request.adapters[curve.column]).absolute()
        lines.append(f"keep it: blend --adapter {curve.column}={folder}:{curve.best:g} --method cat --out DIR")
    return lines
