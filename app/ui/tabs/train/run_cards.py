"""Runs as cards, those that wait in their order, and the bin.

What is clicked comes back as `verb:rest`, such as `show:ID` or `tick:ID`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import groupby

from app.evaluation.held_out import records
from app.jobs import queue
from app.jobs import trash as removed
from app.jobs.directory import JobDirectory, Status
from app.runs.current import config_of, state_word
from app.runs.results import summary
from app.runs.results.summary import RunSummary
from app.ui.components import number_format
from app.ui.components.charts import sparkline
from app.ui.components.markup import Html, element, joined
from app.ui.shell.language import Translator
from app.ui.shell.status_bar import job_name
from app.ui.tabs.train import run_table
from app.ui.tabs.train.run_view import state
from app.workspace import Workspace

# Cards shown; older runs are found by the filter or `jobs list`.
MOST_CARDS = 30


def cards(jobs: Sequence[JobDirectory], chosen: str, ticked: Collection[str], t: Translator) -> Html:
    """Return the runs as cards, newest first; those of one sweep stand together under its name."""
    shown = jobs[:MOST_CARDS]
    blocks: list[Html] = []
    for sweep, members in groupby(shown, key=lambda job: str(job.job.get("sweep") or "")):
        listed = list(members)
        if sweep:
            blocks.append(_sweep_heading(sweep, listed, t))
        blocks += [card(job, t, job.id == chosen, job.id in ticked) for job in listed]
    if not jobs:
        blocks.append(element("p", t("train.no_match"), class_="wb-note wb-muted"))
    if len(jobs) > len(shown):
        more = t("train.more_runs", shown=len(shown), count=len(jobs))
        blocks.append(element("p", more, class_="wb-note wb-muted"))
    return element("div", joined(blocks), class_="wb-cards")


def _sweep_heading(sweep: str, members: Sequence[JobDirectory], t: Translator) -> Html:
    done = sum(job.recorded_status().state == "finished" for job in members)
    return element(
        "div",
        element("b", sweep),
        element("span", t("train.sweep_done", done=done, count=len(members)), class_="wb-muted"),
        element("button", t("train.sweep_compare"), type="button", class_="wb-small", data_pick=f"sweep:{sweep}"),
        class_="wb-sweep-head",
    )


def card(job: JobDirectory, t: Translator, chosen: bool, ticked: bool) -> Html:
    """Return one run as a card that can be looked at and ticked for comparison."""
    status, record, tagged = job.status(), summary.of(job), job.label.tags
    tick = element(
        "button",
        "✓" if ticked else "",
        type="button",
        class_="wb-tick-box",
        role="checkbox",
        aria_checked="true" if ticked else "false",
        aria_label=t("train.tick"),
        title=t("train.tick"),
        data_pick=f"tick:{job.id}",
    )
    body = element(
        "button",
        element(
            "span",
            element("b", _own_name(job, t), title=job.name),
            state(status, t, state_word(job, status)),
            class_="wb-card-head",
        ),
        sparkline(record.spark, t("train.loss")),
        element("span", *_what(job, status, t), class_="wb-card-foot"),
        element("span", *_figures(record, t), *_evaluated(job, t), class_="wb-card-foot"),
        element("span", run_table.tags(tagged), class_="wb-tags") if tagged else "",
        type="button",
        class_="wb-card-body",
        data_pick=f"show:{job.id}",
        aria_pressed="true" if chosen else "false",
    )
    return element("div", tick, body, class_="wb-card" + (" wb-chosen" if chosen else ""))


def _own_name(job: JobDirectory, t: Translator) -> str:
    """Return a run's name; in a sweep, whose name stands above its runs, what tells it from its siblings."""
    before = f"{job.job.get('sweep') or ''}: "
    return job.name.removeprefix(before)[:40] if job.name.startswith(before) else job_name(job, t)


def _what(job: JobDirectory, status: Status, t: Translator) -> list[Html]:
    config = config_of(job)
    facts = [number_format.moment(job.job.get("created"), t)]
    if config is not None:
        rank = "" if config.adapter.method == "full" else f" r={config.adapter.r}"
        facts = [
            {"qlora": "QLoRA", "lora": "LoRA", "full": t("method.full")}[config.method] + rank,
            config.model.name.rsplit("/", 1)[-1][:20],
            *facts,
        ]
    if status.of:
        facts.insert(-1, f"{status.step}/{status.of}")
    return [element("span", fact, class_="wb-number wb-muted") for fact in facts]


def _figures(record: RunSummary, t: Translator) -> list[Html]:
    """Return the figures of a run: loss with its best, validation, time, memory."""
    parts = []
    if record.last_loss is not None:
        best = t("train.best", loss=number_format.loss(record.best_loss))
        parts.append(element("span", t("strip.loss", loss=number_format.loss(record.last_loss)), title=best))
    if record.last_validation is not None:
        best = t("train.best", loss=number_format.loss(record.best_validation))
        parts.append(
            element("span", t("train.card_validation", loss=number_format.loss(record.last_validation)), title=best)
        )
    if record.seconds is not None:
        parts.append(element("span", number_format.duration(record.seconds), title=t("train.card_time")))
    if record.memory_bytes is not None:
        parts.append(element("span", number_format.gigabytes(record.memory_bytes), title=t("train.card_memory")))
    return [element("span", part, class_="wb-number") for part in parts]


def _evaluated(job: JobDirectory, t: Translator) -> list[Html]:
    """Return the newest evaluation of a run's result: its first metric, else the loss, with what it was measured on."""
    newest = next((one for one in records.of_run(job) if one.folder.startswith("result/")), None)
    if newest is None or not newest.column.metrics:
        return []
    name = next((name for name in newest.column.metrics if name != "loss"), "loss")
    text = f"{t.known(f'evaluate.metric.{name}', name)} {number_format.loss(newest.column.metrics[name].value)}"
    about = t("train.card_evaluated", data=newest.data, n=number_format.count(newest.n))
    if newest.trained:
        about += " " + t("train.card_evaluated_trained", trained=number_format.count(newest.trained))
    return [element("span", text, class_="wb-number wb-evaluated", title=about)]


def waiting(workspace: Workspace, t: Translator) -> Html:
    """Return the jobs that wait, the next one first, each with its place; empty when none waits."""
    found = queue.waiting(workspace)
    if not found:
        return Html("")
    rows = [
        element(
            "li",
            element("span", str(place), class_="wb-number wb-muted"),
            element("span", job_name(job, t), class_="wb-queue-name"),
            _small("↑", t("train.queue_up"), f"up:{job.id}", place > 1),
            _small("↓", t("train.queue_down"), f"down:{job.id}", place < len(found)),
            _small("✕", t("train.queue_out"), f"out:{job.id}", True),
        )
        for place, job in enumerate(found, start=1)
    ]
    heading = element("div", t("train.waiting_runs", count=len(rows)), class_="wb-heading")
    return element("div", heading, element("ol", *rows, class_="wb-queue"))


def _small(sign: str, label: str, pick: str, on: bool) -> Html:
    return element(
        "button", sign, type="button", class_="wb-small", data_pick=pick, title=label, aria_label=label, disabled=not on
    )


def bin_list(workspace: Workspace, t: Translator) -> Html:
    """Return the removed runs, newest first, each with its way back."""
    found = list(reversed(removed.trashed(workspace)))
    if not found:
        return element("p", t("train.bin_empty"), class_="wb-note wb-muted")
    rows = [
        element(
            "li",
            element("span", job_name(job, t), class_="wb-queue-name"),
            element("span", number_format.moment(job.job.get("created"), t), class_="wb-number wb-muted"),
            element("button", t("train.restore"), type="button", class_="wb-small", data_pick=f"restore:{job.id}"),
            element("button", t("train.delete_one"), type="button", class_="wb-small", data_pick=f"delete:{job.id}"),
        )
        for job in found[:MOST_CARDS]
    ]
    room = t("train.bin_holds", count=len(found), size=number_format.gigabytes(removed.size_bytes(workspace)))
    return element("div", element("p", room, class_="wb-note wb-muted"), element("ul", *rows, class_="wb-queue"))
