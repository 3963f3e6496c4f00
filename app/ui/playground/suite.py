"""Suite: a saved list of prompts, run over the chosen columns as a job, and compared with an earlier run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.engine import suite_requests
from app.engine.suite_requests import Suite, SuiteResult
from app.errors import UsageError, WorkbenchError
from app.jobs import directory as jobs
from app.jobs import requests
from app.jobs.directory import JobDirectory
from app.ui import allowed, figures, notices, trials
from app.ui.frame import QUIET, Frame
from app.ui.language import Key, Speech
from app.ui.markup import Html, element
from app.ui.playground import chooser, progress, view
from app.ui.playground.chooser import Chooser
from app.ui.playground.session import Choice, Settings
from app.workspace import Workspace

_MOST_RUNS, _MOST_ROWS, _SAMPLED = 40, 300, 24


def start(workspace: Workspace, suite: Suite, choice: Choice, settings: Settings) -> JobDirectory:
    """Save a suite and run it over the chosen columns. Raises WorkbenchError."""
    if choice.server is not None:
        raise UsageError("A suite runs on this machine's engine", "", "leave the other server's address empty")
    first = choice.trials[0]
    model = allowed.model_name(workspace, first.config.model.name)
    suite_requests.save(workspace, suite)
    return suite_requests.start_suite(
        workspace,
        suite,
        model,
        {trial.column: trial.folder for trial in choice.trials},
        titles={trial.column: trial.name for trial in choice.trials},
        quant=first.quant,
        dtype=first.config.model.dtype,
        max_tokens=settings.max_tokens,
        base=choice.base,
    )


def runs(workspace: Workspace) -> list[JobDirectory]:
    """Return the newest runs of suites, newest first."""
    return list(reversed(jobs.all_jobs(workspace, "suite")))[:_MOST_RUNS]


def run_choices(workspace: Workspace) -> list[tuple[str, str]]:
    """Return the runs as choices of a form: suite, adapters, time."""
    return [(_label(job), job.id) for job in runs(workspace)]


def _label(job: JobDirectory) -> str:
    titles = ", ".join(str(title) for title in (job.config.get("titles") or {}).values())
    return f"{job.config.get('suite')}: {titles[:60]}, {figures.moment(job.job.get('created'))}"


def found_run(workspace: Workspace, value: Any) -> JobDirectory | None:
    """Return the run that a form's value stands for, while it is there."""
    try:
        job = jobs.find(workspace, value) if isinstance(value, str) and value else None
    except WorkbenchError:
        return None
    return job if job is not None and job.readable and job.job["kind"] == "suite" else None


@dataclass(frozen=True)
class Change:
    """What an adapter's answers lost and won against an earlier run, by prompt."""

    broke: frozenset[str]
    mended: frozenset[str]


def change(result: SuiteResult, column: str, earlier: SuiteResult | None) -> Change:
    """Compare what is expected with the last column of an earlier run; prompts of both runs count."""
    if earlier is None or not earlier.columns:
        return Change(frozenset(), frozenset())
    before, now = _judged(earlier, earlier.columns[-1]["name"]), _judged(result, column)
    both = before.keys() & now.keys()
    return Change(
        frozenset(prompt for prompt in both if before[prompt] and not now[prompt]),
        frozenset(prompt for prompt in both if now[prompt] and not before[prompt]),
    )


def _judged(result: SuiteResult, column: str) -> dict[str, bool]:
    answers = {row["prompt"]: row["answers"].get(column, {}).get("passed") for row in result.rows}
    return {prompt: passed for prompt, passed in answers.items() if passed is not None}


def table(result: SuiteResult, earlier: SuiteResult | None, say: Speech) -> Html:
    """Return a run as a table with its counts, what broke, and buttons that save it."""
    changes = {column["name"]: change(result, column["name"], earlier) for column in result.columns}
    expects = any(row["expect"] for row in result.rows)
    head = [element("th", say("play.prompt")), *([element("th", say("play.expected"))] if expects else [])]
    head += [element("th", _heading(result, column, changes[column["name"]], say)) for column in result.columns]
    rows = [_row(result, row, changes, expects, say) for row in result.rows[:_MOST_ROWS]]
    drawn = element("table", element("thead", element("tr", *head)), element("tbody", *rows))
    files = view.saving(
        say,
        (f"{result.suite}.csv", "CSV", suite_requests.as_csv(result)),
        (f"{result.suite}.json", "JSON", suite_requests.as_json(result)),
        (f"{result.suite}.md", "Markdown", suite_requests.as_markdown(result)),
    )
    return element("div", element("div", drawn, class_="wb-table wb-suite"), files)


def _heading(result: SuiteResult, column: Mapping[str, str], changed: Change, say: Speech) -> Html:
    good, judged = result.passed(column["name"])
    parts: list[object] = [element("div", column["title"])]
    if judged:
        parts.append(element("div", say("play.passed", good=good, of=judged), class_="wb-muted"))
    if changed.broke:
        parts.append(
            element("div", say("play.broke", count=len(changed.broke), number=len(changed.broke)), class_="wb-bad")
        )
    if changed.mended:
        text = say("play.mended", count=len(changed.mended), number=len(changed.mended))
        parts.append(element("div", text, class_="wb-good"))
    return element("div", *parts)


def _row(
    result: SuiteResult, row: Mapping[str, Any], changes: Mapping[str, Change], expects: bool, say: Speech
) -> Html:
    cells = [element("td", str(row["prompt"]), class_="wb-cell")]
    if expects:
        cells.append(element("td", str(row["expect"]), class_="wb-cell wb-muted"))
    for column in result.columns:
        answer = row["answers"].get(column["name"], {})
        broke = row["prompt"] in changes[column["name"]].broke
        cells.append(element("td", _answer(answer, broke, say), class_="wb-cell" + (" wb-broke" if broke else "")))
    return element("tr", *cells)


def _answer(answer: Mapping[str, Any], broke: bool, say: Speech) -> Html:
    if answer.get("error"):
        return element("span", str(answer["error"]), class_="wb-bad")
    passed = answer.get("passed")
    mark: object = ""
    if passed is not None:
        key = "play.good" if passed else "play.broken" if broke else "play.bad"
        mark = element("span", say(key), class_="wb-verdict " + ("wb-good" if passed else "wb-bad"))
    return element("span", mark, str(answer.get("text", "")) or say("play.empty_answer"))


def looked(workspace: Workspace, run: Any, earlier: Any, say: Speech) -> tuple[Html, Html]:
    """Return the line and the table of a run, or what will appear there."""
    job, before = found_run(workspace, run), found_run(workspace, earlier)
    if job is None:
        return Html(""), notices.empty(say("play.no_suite"), say("play.no_suite_text"))
    result = suite_requests.read_result(job)
    shown = table(result, suite_requests.read_result(before) if before else None, say) if result else Html("")
    return progress.line(job, say), shown


def sample_text(workspace: Workspace, values: Any) -> str:
    """Return some prompts that the first chosen run was not trained on, one a line."""
    try:
        prompts = trials.held_out_prompts(trials.find(workspace, chooser.first_of(values)))
    except WorkbenchError:
        return ""
    return "\n".join(prompts[:_SAMPLED])


@dataclass(frozen=True)
class _Controls:
    saved: gr.Dropdown
    name: gr.Textbox
    text: gr.Textbox
    run: gr.Button
    keep: gr.Button
    fill: gr.Button
    stop: gr.Button
    wrong: gr.HTML
    shown: gr.Dropdown
    earlier: gr.Dropdown
    line: gr.HTML
    table: gr.HTML
    digest: gr.State


def build(frame: Frame, tab: gr.Tab, shared: Chooser) -> None:
    """Build the mode and wire it."""
    make = frame.wording.make
    make(gr.HTML, value=Key("play.suite_help"), elem_classes="wb-help wb-muted")
    with gr.Row():
        saved = make(gr.Dropdown, label=Key("play.suites"), choices=[], elem_id="wb-suites", min_width=160)
        name = make(gr.Textbox, label=Key("play.suite_name"), max_lines=1, elem_id="wb-suite-name", min_width=160)
    text = make(
        gr.Textbox, label=Key("play.suite_prompts"), info=Key("play.suite_prompts_help"), lines=5, max_lines=14,
        elem_id="wb-suite-prompts",
    )  # fmt: skip
    with gr.Row(elem_classes="wb-actions"):
        run = make(gr.Button, value=Key("play.suite_run"), variant="primary", elem_id="wb-suite-run", scale=0)
        keep = make(gr.Button, value=Key("play.suite_save"), scale=0)
        fill = make(gr.Button, value=Key("play.suite_fill"), elem_id="wb-suite-fill", scale=0)
        stop = make(gr.Button, value=Key("play.suite_stop"), variant="stop", scale=0)
    wrong = gr.HTML()
    with gr.Row():
        shown = make(gr.Dropdown, label=Key("play.suite_shown"), choices=[], elem_id="wb-suite-shown", min_width=160)
        earlier = make(
            gr.Dropdown, label=Key("play.suite_earlier"), choices=[], elem_id="wb-suite-earlier", min_width=160
        )
    line, table_ = gr.HTML(elem_id="wb-suite-line"), gr.HTML(elem_id="wb-suite-table")
    controls = _Controls(
        saved, name, text, run, keep, fill, stop, wrong, shown, earlier, line, table_, digest=gr.State(0)
    )
    _wire_lists(frame, tab, shared, controls)
    _wire_runs(frame, tab, shared, controls)


def _wire_lists(frame: Frame, tab: gr.Tab, shared: Chooser, controls: _Controls) -> None:
    workspace = frame.workspace

    def names() -> list[str]:
        return [suite.name for suite in suite_requests.saved(workspace)]

    def keep(name: Any, text: Any) -> list[Any]:
        try:
            suite = suite_requests.parse_suite(str(name or ""), str(text or ""))
            suite_requests.save(workspace, suite)
        except WorkbenchError as error:
            return [gr.skip(), notices.problem(error)]
        return [gr.update(choices=names(), value=suite.name), Html("")]

    def load(name: Any) -> list[Any]:
        found = next((suite for suite in suite_requests.saved(workspace) if suite.name == name), None)
        return [found.name, found.text] if found else [gr.skip(), gr.skip()]

    controls.keep.click(keep, [controls.name, controls.text], [controls.saved, controls.wrong], **QUIET)
    controls.saved.input(load, controls.saved, [controls.name, controls.text], **QUIET)
    controls.fill.click(lambda values: sample_text(workspace, values), shared.chosen, controls.text, **QUIET)
    gr.on([frame.blocks.load, tab.select], lambda: gr.update(choices=names()), None, controls.saved, **QUIET)


def _wire_runs(frame: Frame, tab: gr.Tab, shared: Chooser, controls: _Controls) -> None:
    workspace = frame.workspace

    def run(name: Any, text: Any, *values: Any) -> list[Any]:
        try:
            choice, settings = chooser.read(workspace, values)
            suite = suite_requests.parse_suite(str(name or ""), str(text or ""))
            job = start(workspace, suite, choice, settings)
        except WorkbenchError as error:
            return [notices.problem(error), gr.skip(), gr.skip()]
        offered = run_choices(workspace)
        same = [one.id for one in runs(workspace) if one.id != job.id and one.config.get("suite") == suite.name]
        return [
            Html(""),
            gr.update(choices=offered, value=job.id),
            gr.update(choices=offered, value=next(iter(same), None)),
        ]

    def offer(value: Any, earlier: Any) -> list[Any]:
        offered = run_choices(workspace)
        known = [one for _, one in offered]
        kept = value if value in known else next(iter(known), None)
        return [
            gr.update(choices=offered, value=kept),
            gr.update(choices=offered, value=earlier if earlier in known else None),
        ]

    def look(language: Any, value: Any, earlier: Any, seen: Any) -> list[Any]:
        pair = [found_run(workspace, value), found_run(workspace, earlier)]
        mark = progress.mark(language, value, earlier, jobs=pair)
        return [gr.skip()] * 3 if mark == seen else [*looked(workspace, value, earlier, Speech(language)), mark]

    def halt(value: Any) -> None:
        job = found_run(workspace, value)
        if job is not None:
            requests.stop(workspace, job)

    pair = [controls.shown, controls.earlier]
    controls.run.click(run, [controls.name, controls.text, *shared.inputs], [controls.wrong, *pair], **QUIET)
    controls.stop.click(halt, controls.shown, None, **QUIET)
    gr.on([frame.blocks.load, tab.select], offer, pair, pair, **QUIET)
    gr.on(
        [frame.watches["playground"].tick, controls.shown.change, controls.earlier.change, frame.language.change],
        look,
        [frame.language, *pair, controls.digest],
        [controls.line, controls.table, controls.digest],
        **QUIET,
    )
