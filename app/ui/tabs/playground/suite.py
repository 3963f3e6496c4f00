"""Suite: a saved list of prompts, run over the chosen columns as a job, and compared with an earlier run."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import gradio as gr

from app.errors import TakenError, UsageError, WorkbenchError, keyed
from app.evaluation import preferences, suites
from app.evaluation.suites import Suite, SuiteAnswer, SuiteColumn, SuiteRequest, SuiteResult, SuiteRow
from app.jobs import directory as jobs
from app.jobs import requests
from app.jobs.directory import JobDirectory
from app.runs import request_paths
from app.runs.engine_session import Choice, Settings
from app.runs.on_disk import artifacts
from app.ui.components import messages, number_format, questions
from app.ui.components.handlers import Parts, Updates, handler, held, raw, text
from app.ui.components.markup import Html, element
from app.ui.components.questions import Question, Saving
from app.ui.shell.language import Key, Translator
from app.ui.shell.page_context import PageContext
from app.ui.tabs import job_progress
from app.ui.tabs.playground import chooser, view
from app.ui.tabs.playground.chooser import Asked, Chooser
from app.ui.tabs.playground.learning import Learning
from app.workspace import Workspace

_MOST_RUNS, _MOST_ROWS, _SAMPLED = 40, 300, 24


def start(workspace: Workspace, suite: Suite, choice: Choice, settings: Settings) -> JobDirectory:
    """Save a suite and run it over the chosen columns. Raises WorkbenchError."""
    if choice.server is not None:
        raise UsageError(
            keyed("a_suite_runs_on_this_machine", "A suite runs on this machine's engine"),
            "",
            keyed("leave_the_remote_server_s_address", "leave the remote server's address empty"),
        )
    first = choice.adapters[0]
    model = request_paths.model_name(workspace, first.config.model.name)
    with suppress(TakenError):  # a saved suite stays as it is; the run has its own copy of the prompts
        suites.save(workspace, suite)
    request = SuiteRequest(
        suite.name,
        suite.items,
        model,
        {artifact.column: str(artifact.folder) for artifact in choice.adapters},
        titles={artifact.column: artifact.name for artifact in choice.adapters},
        quant=first.quant,
        dtype=first.config.model.dtype,
        max_tokens=settings.max_tokens,
        base=choice.base,
    )
    return suites.start_suite(workspace, request)


def runs(workspace: Workspace) -> list[JobDirectory]:
    """Return the newest runs of suites, newest first."""
    return list(reversed(jobs.all_jobs(workspace, "suite")))[:_MOST_RUNS]


def run_choices(workspace: Workspace, t: Translator) -> list[tuple[str, str]]:
    """Return the runs as choices of a form: suite, adapters, time."""
    return [(_label(job, t), job.id) for job in runs(workspace)]


def _label(job: JobDirectory, t: Translator) -> str:
    titles = ", ".join(str(title) for title in (job.config.get("titles") or {}).values())
    return f"{job.config.get('suite')}: {titles[:60]}, {number_format.moment(job.job.get('created'), t)}"


def found_run(workspace: Workspace, value: object) -> JobDirectory | None:
    """Return the run that a form's value stands for, while it is there."""
    try:
        job = jobs.find(workspace, value) if isinstance(value, str) and value else None
    except WorkbenchError:
        return None
    return job if job is not None and job.readable and job.job["kind"] == "suite" else None


def table(result: SuiteResult, earlier: SuiteResult | None, t: Translator) -> Html:
    """Return a run as a table with its counts, what broke, and buttons that save it."""
    changes = {column.name: suites.change(result, column.name, earlier) for column in result.columns}
    expects = any(row.expect for row in result.rows)
    head = [element("th", t("play.prompt")), *([element("th", t("play.expected"))] if expects else [])]
    head += [element("th", _heading(result, column, changes[column.name], t)) for column in result.columns]
    rows = [_row(result, row, changes, expects, t) for row in result.rows[:_MOST_ROWS]]
    drawn = element("table", element("thead", element("tr", *head)), element("tbody", *rows))
    files = view.saving(
        t,
        (f"{result.suite}.csv", "CSV", suites.as_csv(result)),
        (f"{result.suite}.json", "JSON", suites.as_json(result)),
        (f"{result.suite}.md", "Markdown", suites.as_markdown(result)),
    )
    return element("div", element("div", drawn, class_="wb-table wb-suite", tabindex="0"), files)


def _heading(result: SuiteResult, column: SuiteColumn, changed: suites.Change, t: Translator) -> Html:
    good, judged = result.passed(column.name)
    parts: list[object] = [element("div", column.title)]
    if judged:
        parts.append(element("div", t("play.passed", good=good, of=judged), class_="wb-muted"))
    if changed.broke:
        parts.append(
            element("div", t("play.broke", count=len(changed.broke), number=len(changed.broke)), class_="wb-bad")
        )
    if changed.mended:
        text = t("play.mended", count=len(changed.mended), number=len(changed.mended))
        parts.append(element("div", text, class_="wb-good"))
    return element("div", *parts)


def _row(
    result: SuiteResult, row: SuiteRow, changes: Mapping[str, suites.Change], expects: bool, t: Translator
) -> Html:
    cells = [element("td", row.prompt, class_="wb-cell")]
    if expects:
        cells.append(element("td", row.expect, class_="wb-cell wb-muted"))
    for column in result.columns:
        answer = row.answers.get(column.name, SuiteAnswer())
        broke = row.prompt in changes[column.name].broke
        cells.append(element("td", _answer(answer, broke, t), class_="wb-cell" + (" wb-broke" if broke else "")))
    return element("tr", *cells)


def _answer(answer: SuiteAnswer, broke: bool, t: Translator) -> Html:
    if answer.error:
        return element("span", t.heard(answer.error), class_="wb-bad")
    mark: object = ""
    if answer.passed is not None:
        key = "play.good" if answer.passed else "play.broken" if broke else "play.bad"
        mark = element("span", t(key), class_="wb-verdict " + ("wb-good" if answer.passed else "wb-bad"))
    return element("span", mark, answer.text or t("play.empty_answer"))


def looked(workspace: Workspace, run: object, earlier: object, t: Translator) -> tuple[Html, Html]:
    """Return the line and the table of a run, or what will appear there."""
    job, before = found_run(workspace, run), found_run(workspace, earlier)
    if job is None:
        return Html(""), messages.empty(t("play.no_suite"), t("play.no_suite_text"), "chart")
    result = suites.read_result(job)
    shown = table(result, suites.read_result(before) if before else None, t) if result else Html("")
    return job_progress.line(job, t), shown


def sample_text(workspace: Workspace, values: object) -> str:
    """Return some prompts that the first chosen run was not trained on, one a line."""
    try:
        prompts = artifacts.held_out_prompts(artifacts.find(workspace, chooser.first_of(values)))
    except WorkbenchError:
        return ""
    return "\n".join(prompts[:_SAMPLED])


def saved_or_asked(workspace: Workspace, name: str, prompts: str, t: Translator) -> Saving:
    """Save a suite, or ask where another has the name."""
    try:
        suite = suites.parse_suite(name, prompts)
        suites.save(workspace, suite)
    except TakenError:
        return Saving(asked=questions.replacing(suite.name, suite, t))
    except WorkbenchError as error:
        return Saving(wrong=messages.problem(error, t))
    return Saving(suite.name)


@dataclass(frozen=True)
class _Controls:
    saved: gr.Dropdown
    name: gr.Textbox
    text: gr.Textbox
    run: gr.Button
    keep: gr.Button
    fill: gr.Button
    stop: gr.Button
    question: Question
    wrong: gr.HTML
    shown: gr.Dropdown
    earlier: gr.Dropdown
    line: gr.HTML
    table: gr.HTML
    digest: gr.State


def build(context: PageContext, tab: gr.Tab, shared: Chooser) -> Learning:
    """Build the mode and wire it; return what learns from its verdicts."""
    make = context.translated.make
    make(gr.HTML, value=Key("play.suite_help"), elem_classes="wb-help wb-muted")
    with gr.Row():
        saved = make(gr.Dropdown, label=Key("play.suites"), choices=[], elem_id="wb-suites", min_width=160)
        name = make(gr.Textbox, label=Key("play.suite_name"), max_lines=1, elem_id="wb-suite-name", min_width=160)
    prompts = make(
        gr.Textbox, label=Key("play.suite_prompts"), info=Key("play.suite_prompts_help"), lines=5, max_lines=14,
        elem_id="wb-suite-prompts",
    )  # fmt: skip
    with gr.Row(elem_classes="wb-actions"):
        run = make(gr.Button, value=Key("play.suite_run"), variant="primary", elem_id="wb-suite-run", scale=0)
        keep = make(gr.Button, value=Key("play.suite_save"), scale=0)
        fill = make(gr.Button, value=Key("play.suite_fill"), elem_id="wb-suite-fill", scale=0)
        stop = make(gr.Button, value=Key("play.suite_stop"), variant="stop", scale=0)
    question = questions.build(context, "wb-suite-replace", Key("ask.replace_yes"))
    wrong = gr.HTML(elem_id="wb-suite-error", js_on_load=messages.AT_FIELDS)
    with gr.Row():
        shown = make(gr.Dropdown, label=Key("play.suite_shown"), choices=[], elem_id="wb-suite-shown", min_width=160)
        earlier = make(
            gr.Dropdown, label=Key("play.suite_earlier"), choices=[], elem_id="wb-suite-earlier", min_width=160
        )
    line, table_ = gr.HTML(elem_id="wb-suite-line"), gr.HTML(elem_id="wb-suite-table")
    with gr.Row(elem_classes="wb-actions"):
        learn = make(gr.Button, value=Key("play.learn_suite"), elem_id="wb-learn-suite", scale=0)
    unlearned = gr.HTML(elem_id="wb-learn-suite-error")
    controls = _Controls(
        *(saved, name, prompts, run, keep, fill, stop),
        *(question, wrong, shown, earlier, line, table_),
        digest=gr.State(0),
    )
    _wire_lists(context, tab, shared, controls)
    _wire_runs(context, tab, shared, controls)
    return _learning(context, controls, learn, unlearned)


def _learning(context: PageContext, c: _Controls, learn: gr.Button, wrong: gr.HTML) -> Learning:
    def rows(value: object) -> list[preferences.Row]:
        job = found_run(context.workspace, value)
        result = suites.read_result(job) if job is not None else None
        return preferences.of_suite(result, "pairs") if result is not None else []

    return Learning(learn, wrong, rows, "verdicts.jsonl", [raw(c.shown)])


def _wire_lists(context: PageContext, tab: gr.Tab, shared: Chooser, c: _Controls) -> None:
    workspace = context.workspace

    def names() -> list[str]:
        return [suite.name for suite in suites.saved(workspace)]

    def shown(found: Saving) -> Updates:
        listed = {c.saved: gr.update(choices=names(), value=found.name)} if found.name else {}
        return Updates({**listed, c.wrong: found.wrong, **c.question.asking(found.asked)})

    def keep(t: Translator, name: str, prompts: str) -> Updates:
        return shown(saved_or_asked(workspace, name, prompts, t))

    def replace_suite(suite: Suite, t: Translator) -> Updates:
        try:
            suites.save(workspace, suite, replace=True)
        except WorkbenchError as error:
            return Updates({c.wrong: messages.problem(error, t)})
        return shown(Saving(suite.name))

    def load(name: object) -> Updates:
        found = next((suite for suite in suites.saved(workspace) if suite.name == name), None)
        return Updates({c.name: found.name, c.text: found.text} if found else {})

    def fill(values: object) -> str:
        return sample_text(workspace, values)

    def offer() -> Updates:
        return Updates({c.saved: gr.update(choices=names())})

    shows, t = [c.saved, c.wrong], context.language_field
    c.keep.click(**handler(keep, [t, text(c.name), text(c.text)], [*shows, *c.question.outputs]))
    questions.answer(c.question, replace_suite, [t], shows)
    gr.on([c.name.input, c.text.input], **handler(c.question.closed, shows=c.question.outputs))
    c.saved.input(**handler(load, [raw(c.saved)], [c.name, c.text]))
    c.fill.click(**handler(fill, [raw(shared.chosen)], [c.text]))
    gr.on([context.blocks.load, tab.select], **handler(offer, shows=[c.saved]))


def _wire_runs(context: PageContext, tab: gr.Tab, shared: Chooser, c: _Controls) -> None:
    workspace = context.workspace

    def run(t: Translator, name: str, prompts: str, asked: Asked) -> Updates:
        try:
            choice, settings = asked.choice(workspace), asked.settings()
            suite = suites.parse_suite(name, prompts)
            job = start(workspace, suite, choice, settings)
        except WorkbenchError as error:
            return Updates({c.wrong: messages.problem(error, t)})
        same = [one.id for one in runs(workspace) if one.id != job.id and one.config.get("suite") == suite.name]
        return Updates({c.wrong: Html(""), **offering(t, job.id, next(iter(same), None))})

    def offering(t: Translator, run_id: object, earlier_id: object) -> Updates:
        offered = run_choices(workspace, t)
        chosen = {c.shown: run_id, c.earlier: earlier_id}
        return Updates({control: gr.update(choices=offered, value=value) for control, value in chosen.items()})

    def offer(t: Translator, value: object, earlier: object) -> Updates:
        known = [one for _, one in run_choices(workspace, t)]
        kept = value if value in known else next(iter(known), None)
        return offering(t, kept, earlier if earlier in known else None)

    def look(t: Translator, value: object, earlier: object, seen: object) -> Updates:
        pair = [found_run(workspace, value), found_run(workspace, earlier)]
        mark = job_progress.mark(t.language, value, earlier, jobs=pair)
        if mark == seen:
            return Updates()
        line, table_ = looked(workspace, value, earlier, t)
        return Updates({c.line: line, c.table: table_, c.digest: mark})

    def halt(value: object) -> None:
        job = found_run(workspace, value)
        if job is not None:
            requests.stop(workspace, job)

    pair = [c.shown, c.earlier]
    reads: Parts = [context.language_field, text(c.name), text(c.text), shared]
    c.run.click(**handler(run, reads, [c.wrong, *pair]))
    chooser.clear_when_changed(shared, [c.name, c.text], c.wrong)
    c.stop.click(**handler(halt, [raw(c.shown)]))
    gr.on(
        [context.blocks.load, tab.select],
        **handler(offer, [context.language_field, raw(c.shown), raw(c.earlier)], pair),
    )
    gr.on(
        [context.poll_timers["playground"].tick, c.shown.change, c.earlier.change, context.language.change],
        **handler(
            look,
            [context.language_field, raw(c.shown), raw(c.earlier), held(c.digest)],
            [c.line, c.table, c.digest],
        ),
    )
