"""Evaluate: the chosen columns on rows that were not trained, what they gained and what they forgot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from app.errors import UsageError, WorkbenchError, keyed
from app.evaluation.held_out import results
from app.evaluation.held_out.requests import CURVES, EvaluationRequest, Expectations, start_evaluation
from app.evaluation.held_out.results import EvaluationResult
from app.evaluation.metrics.catalogue import METRICS
from app.jobs import directory as jobs
from app.jobs import requests
from app.jobs.directory import JobDirectory
from app.runs import dataset_selection, request_paths
from app.runs.engine_session import Choice
from app.runs.on_disk import artifacts
from app.runs.on_disk.artifacts import Artifact
from app.ui.components import messages, number_format
from app.ui.components.handlers import QUEUED, Control, Updates, handler, held, listed, raw, text
from app.ui.components.markup import Html
from app.ui.components.number_fields import NumberField
from app.ui.shell.language import Key, Translator
from app.ui.shell.page_context import CLICK_JS, PageContext
from app.ui.tabs import job_progress
from app.ui.tabs.playground import blend, chooser, evaluate_view
from app.ui.tabs.playground.blend import Recipe
from app.ui.tabs.playground.chooser import Asked, Chooser
from app.workspace import Workspace

_MOST_RUNS, _MOST_FILES = 40, 40
# The rows of the first chosen run's own file that it was not trained on.
OWN_ROWS = "run"
LIMIT = NumberField("wb-evaluate-limit", Key("evaluate.limit"), 0, 1_000_000, may_be_empty=True)
TOLERANCE = NumberField("wb-evaluate-tolerance", Key("evaluate.tolerance"), 0, 1e12, may_be_empty=True)


@dataclass(frozen=True)
class Wanted:
    """What the mode's own controls hold, as it came from the browser; it is checked when it is used."""

    data: object
    metrics: object = ()
    forgetting: object = True
    curves: object = ()
    limit: object = 200
    pattern: object = ""
    schema: object = ""
    choices: object = ""
    tolerance: object = None

    def request(self, workspace: Workspace, choice: Choice, max_tokens: int) -> EvaluationRequest:
        """Return what is asked of the job. Raises WorkbenchError."""
        if choice.server is not None:
            raise UsageError(
                keyed("an_evaluation_runs_here", "An evaluation runs on this machine's engine"),
                "",
                keyed("leave_the_remote_server_s_address", "leave the remote server's address empty"),
            )
        first = choice.adapters[0]
        expected = Expectations(
            str(self.pattern or ""),
            str(self.schema or "").strip(),
            tuple(one.strip() for one in str(self.choices or "").split(",") if one.strip()),
            TOLERANCE.real(self.tolerance),
        )
        return EvaluationRequest(
            model=request_paths.model_name(workspace, first.config.model.name),
            data=str(self._file(workspace, first)),
            adapters={artifact.column: str(artifact.folder) for artifact in choice.adapters},
            titles={artifact.column: artifact.name for artifact in choice.adapters},
            metrics=tuple(name for name in _words(self.metrics) if name in METRICS),
            forgetting=self.forgetting is True,
            curves=tuple(curve for curve in CURVES if curve in _words(self.curves)),
            expectations=expected,
            quant=first.quant,
            dtype=first.config.model.dtype,
            max_tokens=max_tokens,
            limit=LIMIT.whole(self.limit) or 0,
            skip_trained=self.data == OWN_ROWS,
        )

    def _file(self, workspace: Workspace, first: Artifact) -> Path:
        """Return the rows; a run's own file is named by the run and not by the request."""
        if self.data == OWN_ROWS:
            return Path(first.config.data.file)
        return request_paths.data_file(workspace, str(self.data or ""))


def _words(value: object) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def files(workspace: Workspace, t: Translator) -> list[tuple[str, str]]:
    """Return what can be evaluated on: the first run's own held-out rows, uploads, and the sample sets."""
    kept = [one for one in workspace.uploads.glob("*/*") if one.is_file() and one.parent.name != "hub"]
    kept += [one for one in workspace.uploads.glob("*") if one.is_file()]
    newest = sorted(kept, key=lambda one: one.stat().st_mtime, reverse=True)[:_MOST_FILES]
    samples = [(name, str(request_paths.SAMPLES / name)) for name in dataset_selection.SAMPLES]
    return [(t("evaluate.own_rows"), OWN_ROWS), *((one.name, str(one)) for one in newest), *samples]


def runs(workspace: Workspace) -> list[JobDirectory]:
    """Return the newest evaluations, newest first."""
    return list(reversed(jobs.all_jobs(workspace, "evaluate")))[:_MOST_RUNS]


def run_choices(workspace: Workspace, t: Translator) -> list[tuple[str, str]]:
    """Return the evaluations as choices of a form: file, columns, time."""
    return [(_label(job, t), job.id) for job in runs(workspace)]


def _label(job: JobDirectory, t: Translator) -> str:
    titles = ", ".join(str(title) for title in (job.config.get("titles") or job.config.get("adapters") or {}).values())
    name = Path(str(job.config.get("data"))).name
    return f"{name}: {titles[:60]}, {number_format.moment(job.job.get('created'), t)}"


def found_run(workspace: Workspace, value: object) -> JobDirectory | None:
    """Return the evaluation that a form's value stands for, while it is there."""
    try:
        job = jobs.find(workspace, value) if isinstance(value, str) and value else None
    except WorkbenchError:
        return None
    return job if job is not None and job.readable and job.job["kind"] == "evaluate" else None


def looked(workspace: Workspace, value: object, t: Translator) -> tuple[Html, Html]:
    """Return the line and the result of an evaluation, or what will appear there."""
    job = found_run(workspace, value)
    if job is None:
        return Html(""), messages.empty(t("evaluate.none"), t("evaluate.none_text"))
    result = results.read(job)
    return job_progress.line(job, t), evaluate_view.shown(result, t, column_names(result, t)) if result else Html("")


def column_names(result: EvaluationResult, t: Translator) -> dict[str, str]:
    """Return what people call the columns of a result."""
    return {one.name: t("play.base") if one.name == "base" else one.title for one in result.columns}


def keep_best(workspace: Workspace, value: object, picked: str) -> JobDirectory:
    """Hand in the blend that makes the marked weight of a column an adapter of its own. Raises WorkbenchError."""
    job, column = found_run(workspace, value), picked.removeprefix("keep:")
    result = results.read(job) if job is not None else None
    curves = result.curves if result else ()
    curve = next((one for one in curves if one.column == column and one.over == "weight"), None)
    folder = str((job.config.get("adapters") or {}).get(column)) if job is not None else ""
    artifact = next((one for one in artifacts.all_artifacts(workspace) if str(one.folder) == folder), None)
    if curve is None or not curve.best or artifact is None:
        raise UsageError(
            keyed("this_adapter_is_not_there", "This adapter is not there"),
            keyed("its_run_may_have_been_removed", "its run may have been removed"),
            keyed("choose_another_run", "choose another run"),
        )
    recipe = Recipe(f"{artifact.name} at {curve.best:g}", "cat")
    return blend.save(workspace, [artifact], [curve.best], recipe)


@dataclass(frozen=True)
class WantedFields:
    """The controls of Wanted."""

    data: gr.Dropdown
    metrics: gr.Dropdown
    forgetting: gr.Checkbox
    curves: gr.CheckboxGroup
    limit: gr.Number
    pattern: gr.Textbox
    schema: gr.Textbox
    choices: gr.Textbox
    tolerance: gr.Textbox

    def inputs(self) -> list[Control]:
        """Return the controls."""
        return [
            *(self.data, self.metrics, self.forgetting, self.curves, self.limit),
            *(self.pattern, self.schema, self.choices, self.tolerance),
        ]

    def read(self, values: Sequence[object]) -> Wanted:
        """Return what they hold."""
        return Wanted(*values)


@dataclass(frozen=True)
class _Controls:
    wanted: WantedFields
    drop: gr.UploadButton
    run: gr.Button
    stop: gr.Button
    wrong: gr.HTML
    shown: gr.Dropdown
    line: gr.HTML
    result: gr.HTML
    digest: gr.State
    made: gr.State
    kept: gr.HTML


def build(context: PageContext, tab: gr.Tab, shared: Chooser) -> None:
    """Build the mode and wire it."""
    make = context.translated.make
    make(gr.HTML, value=Key("evaluate.help"), elem_classes="wb-help wb-muted")
    with gr.Row(elem_classes="wb-end-row"):
        data = make(gr.Dropdown, label=Key("evaluate.data"), choices=[], elem_id="wb-evaluate-data", min_width=220)
        look = {"size": "sm", "scale": 0, "min_width": 120}
        drop = make(gr.UploadButton, label=Key("evaluate.upload"), elem_id="wb-evaluate-upload", **look)
    names: list[Any] = [(Key(f"evaluate.metric.{name}"), name) for name in METRICS]
    metrics = make(
        gr.Dropdown, label=Key("evaluate.metrics"), info=Key("evaluate.metrics_help"), choices=names, value=[],
        multiselect=True, elem_id="wb-evaluate-metrics",
    )  # fmt: skip
    wanted = WantedFields(data, metrics, *_build_options(context))
    with gr.Row(elem_classes="wb-actions"):
        run = make(gr.Button, value=Key("evaluate.run"), variant="primary", elem_id="wb-evaluate-run", scale=0)
        stop = make(gr.Button, value=Key("evaluate.stop"), variant="stop", scale=0)
    wrong = gr.HTML(elem_id="wb-evaluate-error", js_on_load=messages.AT_FIELDS)
    shown = make(gr.Dropdown, label=Key("evaluate.shown"), choices=[], elem_id="wb-evaluate-shown")
    line, result = gr.HTML(elem_id="wb-evaluate-line"), gr.HTML(elem_id="wb-evaluate-result", js_on_load=CLICK_JS)
    kept = gr.HTML(elem_id="wb-evaluate-kept")
    controls = _Controls(wanted, drop, run, stop, wrong, shown, line, result, gr.State(0), gr.State(""), kept)
    _wire_request(context, tab, shared, controls)
    _wire_result(context, tab, controls)
    _wire_keeping(context, shared, controls)


def _build_options(
    context: PageContext,
) -> tuple[
    gr.Checkbox, gr.CheckboxGroup, gr.Number, gr.Textbox, gr.Textbox, gr.Textbox, gr.Textbox
]:  # fmt: skip
    """Build what is measured besides the metrics, and what holds for rows that do not say it themselves."""
    make = context.translated.make
    forgetting = make(gr.Checkbox, label=Key("evaluate.forgetting"), value=True, elem_id="wb-evaluate-forgetting")
    over: list[Any] = [(Key(f"evaluate.draw.{name}"), name) for name in CURVES]
    curves = make(gr.CheckboxGroup, label=Key("evaluate.curves"), choices=over, value=[], elem_id="wb-evaluate-curves")
    with make(gr.Accordion, label=Key("evaluate.expected"), open=False, elem_id="wb-evaluate-expected"):
        with gr.Row(elem_classes="wb-pair"):
            limit = make(gr.Number, label=LIMIT.label, value=200, min_width=120, elem_id=LIMIT.element_id)
            tolerance = make(
                gr.Textbox, label=TOLERANCE.label, value="", max_lines=1, min_width=120, elem_id=TOLERANCE.element_id
            )
        pattern = make(gr.Textbox, label=Key("evaluate.pattern"), max_lines=1, elem_id="wb-evaluate-pattern")
        choices = make(gr.Textbox, label=Key("evaluate.choices"), max_lines=1, elem_id="wb-evaluate-choices")
        schema = make(gr.Textbox, label=Key("evaluate.schema"), lines=2, max_lines=8, elem_id="wb-evaluate-schema")
    return forgetting, curves, limit, pattern, schema, choices, tolerance


def _wire_request(context: PageContext, tab: gr.Tab, shared: Chooser, c: _Controls) -> None:
    workspace, t = context.workspace, context.language_field

    def run(t: Translator, wanted: Wanted, asked: Asked) -> Updates:
        try:
            request = wanted.request(workspace, asked.choice(workspace), asked.settings().max_tokens)
            job = start_evaluation(workspace, request)
        except WorkbenchError as error:
            return Updates({c.wrong: messages.problem(error, t)})
        return Updates({c.wrong: Html(""), c.shown: gr.update(choices=run_choices(workspace, t), value=job.id)})

    def offer(t: Translator, value: object) -> Updates:
        offered = files(workspace, t)
        known = [one for _, one in offered]
        return Updates({c.wanted.data: gr.update(choices=offered, value=value if value in known else OWN_ROWS)})

    def upload(t: Translator, path: str) -> Updates:
        try:
            kept = dataset_selection.keep_upload(workspace, path)
        except WorkbenchError as error:
            return Updates({c.wrong: messages.problem(error, t)})
        return Updates({c.wanted.data: gr.update(choices=files(workspace, t), value=kept.file), c.wrong: Html("")})

    def halt(value: object) -> None:
        job = found_run(workspace, value)
        if job is not None:
            requests.stop(workspace, job)

    c.run.click(**handler(run, [t, c.wanted, shared], [c.wrong, c.shown], how=QUEUED))
    chooser.clear_when_changed(shared, c.wanted.inputs(), c.wrong)
    c.stop.click(**handler(halt, [raw(c.shown)]))
    c.drop.upload(**handler(upload, [t, text(c.drop)], [c.wanted.data, c.wrong]))
    offers = [context.blocks.load, tab.select, context.language.change]
    gr.on(offers, **handler(offer, [t, raw(c.wanted.data)], [c.wanted.data]))


def _wire_result(context: PageContext, tab: gr.Tab, c: _Controls) -> None:
    workspace = context.workspace

    def offer(t: Translator, value: object) -> Updates:
        offered = run_choices(workspace, t)
        known = [one for _, one in offered]
        kept = value if value in known else next(iter(known), None)
        return Updates({c.shown: gr.update(choices=offered, value=kept)})

    def look(t: Translator, value: object, seen: object) -> Updates:
        mark = job_progress.mark(t.language, value, jobs=[found_run(workspace, value)])
        if mark == seen:
            return Updates()
        line, result = looked(workspace, value, t)
        return Updates({c.line: line, c.result: result, c.digest: mark})

    gr.on([context.blocks.load, tab.select], **handler(offer, [context.language_field, raw(c.shown)], [c.shown]))
    gr.on(
        [context.poll_timers["playground"].tick, c.shown.change, context.language.change],
        **handler(look, [context.language_field, raw(c.shown), held(c.digest)], [c.line, c.result, c.digest]),
    )


def _wire_keeping(context: PageContext, shared: Chooser, c: _Controls) -> None:
    """One click on a picture makes the marked weight an adapter, which is chosen as soon as it is there."""
    workspace, t = context.workspace, context.language_field

    def keep(t: Translator, value: object, picked: str) -> Updates:
        if not picked.startswith("keep:"):
            return Updates()
        try:
            return Updates({c.made: keep_best(workspace, value, picked).id, c.wrong: Html("")})
        except WorkbenchError as error:
            return Updates({c.wrong: messages.problem(error, t)})

    def follow(t: Translator, made: str, values: list[object], seen: object) -> Updates:
        shown = blend.outcome(workspace, made, t)
        if hash(shown) == seen:
            return Updates()
        job = jobs.find(workspace, made) if made else None
        there = job is not None and job.recorded_status().state == "finished"
        chosen = [*values, made] if there and made not in values else values
        offered = gr.update(choices=artifacts.choices(workspace, chosen), value=chosen)
        return Updates({c.kept: shown, digest: hash(shown), shared.chosen: offered})

    digest = gr.State(0)
    c.result.select(**handler(keep, [t, raw(c.shown)], [c.made, c.wrong]))
    gr.on(
        [context.poll_timers["playground"].tick, c.made.change, context.language.change],
        **handler(follow, [t, held(c.made), listed(shared.chosen), held(digest)], [c.kept, digest, shared.chosen]),
    )
