"""Where the time of a step of the shown run goes, folded: measured when it is asked for, by a job of its own."""

from __future__ import annotations

import gradio as gr

from app.config.schema import parse
from app.errors import JobError, WorkbenchError
from app.jobs.directory import JobDirectory
from app.planner.step_profile import StepProfile
from app.runs.current import picked_run, shown_run
from app.runs.results import flame
from app.runs.submission import profiling
from app.ui.components import messages
from app.ui.components.handlers import EVENT_DEFAULTS, Updates, handler, held
from app.ui.components.markup import Html, element
from app.ui.shell.language import Key, Translator
from app.ui.shell.page_context import PageContext
from app.ui.shell.serving.open_pages import POLL_S
from app.ui.shell.status_bar import meter
from app.ui.tabs import job_progress
from app.workspace import Workspace

_STEPS = 3


def start(workspace: Workspace, run: JobDirectory) -> JobDirectory:
    """Hand in a profile of a run's own settings. Raises WorkbenchError, as when something else has the accelerator."""
    return profiling.start(workspace, parse(run.config, run.id), steps=_STEPS, run=run.id)


def shown(job: JobDirectory | None, t: Translator) -> Html:
    """Return how a profile stands, or what it found: the parts of a step as a table, the limit, the flame picture."""
    if job is None:
        return Html("")
    if job.status().state != "finished":
        return job_progress.line(job, t)
    try:
        return found(profiling.read(job), t)
    except JobError as error:
        return messages.problem(error, t)


def found(profile: StepProfile, t: Translator) -> Html:
    """Return what a profile found."""
    head = t(
        "profile.sentence", seconds=f"{profile.seconds:.3f}", least=f"{profile.least_seconds:.3f}",
        most=f"{profile.most_seconds:.3f}", tokens=f"{profile.tokens:,.0f}", dtype=profile.dtype, device=profile.device,
    )  # fmt: skip
    parts = [head]
    if profile.share_of_limit is not None:
        parts.append(t("profile.limit", share=f"{100 * profile.share_of_limit:.0f}"))
    picture = flame.svg(profile)
    save = element(
        "button", t("profile.save"), type="button", class_="wb-small", data_save="profile.svg", data_text=picture
    )
    drawn = element("div", Html(picture), class_="wb-flame", role="img", tabindex="0", aria_label=t("profile.flame"))
    return element("div", element("p", " ".join(parts)), _table(profile, t), drawn, element("p", save))


def _table(profile: StepProfile, t: Translator) -> Html:
    """Return the parts that take time, as seconds and as shares of the step with a bar."""
    heads = [element("th", t(f"profile.head.{name}"), scope="col") for name in ("part", "seconds", "share")]
    rows = []
    for part in profile.parts:
        if not part.seconds:
            continue
        name = t(f"profile.part.{part.name.replace(': ', '_').replace(' ', '_')}")
        share = element("td", meter(part.share, name), f" {100 * part.share:.1f} %", class_="wb-number")
        rows.append(element("tr", element("th", name, scope="row"), element("td", f"{part.seconds:.4f} s"), share))
    table = element("table", element("thead", element("tr", *heads)), element("tbody", *rows))
    return element("div", table, class_="wb-table", tabindex="0")


def build(context: PageContext, selected: gr.State) -> None:
    """Build the fold and wire it; it looks for a profile when it is opened, and while one is measured."""
    make, workspace, t = context.translated.make, context.workspace, context.language_field
    with make(gr.Accordion, label=Key("profile.title"), open=False, elem_id="wb-profile") as box:
        make(gr.HTML, value=Key("profile.note"))
        with gr.Row(elem_classes="wb-actions"):
            begin = make(gr.Button, value=Key("profile.start"), size="sm", elem_id="wb-profile-start", scale=0)
        wrong = gr.HTML(elem_id="wb-profile-error")
        tables = gr.HTML(elem_id="wb-profile-found")
    opened, digest, timer = gr.State(False), gr.State(0), gr.Timer(POLL_S, active=False)

    def measure(chosen: object, t: Translator) -> Html:
        try:
            run = picked_run(workspace, chosen)
            if run is not None:
                start(workspace, run)
        except WorkbenchError as error:
            return messages.problem(error, t)
        return Html("")

    def look(is_open: object, chosen: object, t: Translator, seen: object) -> Updates:
        run = shown_run(workspace, chosen) if is_open else None
        if run is None:
            return Updates({timer: gr.Timer(active=False)})
        job = profiling.newest(workspace, run.id)
        mark = job_progress.mark(t.language, run.id, jobs=[job])
        goes = {timer: gr.Timer(active=job is not None and not job.status().final)}
        return Updates(goes if mark == seen else {**goes, tables: shown(job, t), digest: mark})

    reads = [held(opened), held(selected), t, held(digest)]
    looked = handler(look, reads, [tables, digest, timer])
    box.expand(**handler(lambda: True, shows=[opened])).then(**looked)
    box.collapse(**handler(lambda: False, shows=[opened]))
    begin.click(**handler(measure, [held(selected), t], [wrong])).then(**looked)
    selected.change(None, None, wrong, js="() => ''", **EVENT_DEFAULTS)
    gr.on([selected.change, timer.tick, context.language.change], **looked)
