"""Runs as cards, those that wait in their order, and the bin.

What is clicked comes back as `verb:rest`, such as `show:ID` or `tick:ID`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from app.config import RunConfig, parse
from app.errors import WorkbenchError
from app.jobs import bin as removed
from app.jobs import queue, records
from app.jobs.directory import JobDirectory, Status
from app.jobs.records import Record
from app.ui import figures
from app.ui.charts import sparkline
from app.ui.language import Speech
from app.ui.markup import Html, element, joined
from app.ui.runs_view import state, state_word
from app.ui.strip import job_name
from app.workspace import Workspace

# Cards shown; older runs are found by the filter or `jobs list`.
MOST_CARDS = 30
# What the filter of states offers, and the states it stands for.
STATES: dict[str, frozenset[str]] = {
    "all": frozenset(),
    "going": frozenset({"queued", "starting", "running", "stopping", "pausing", "silent"}),
    "finished": frozenset({"finished"}),
    "paused": frozenset({"paused", "stopped", "interrupted"}),
    "failed": frozenset({"failed"}),
}


@dataclass(frozen=True)
class Filter:
    """Which runs are shown: every word must be found in the run, and its state must be of the kind."""

    words: str = ""
    states: str = "all"

    @classmethod
    def of(cls, words: object, states: object) -> Filter:
        """Return the filter of what a form holds; anything odd shows all."""
        kind = states if isinstance(states, str) and states in STATES else "all"
        return cls(words.strip().lower()[:200] if isinstance(words, str) else "", kind)

    def takes(self, job: JobDirectory) -> bool:
        """Tell whether a run is shown."""
        kinds = STATES[self.states]
        if kinds and state_word(job, job.status()) not in kinds:
            return False
        if not self.words:
            return True
        text = _searched(job)
        return all(word in text for word in self.words.split())


EVERY = Filter()


def _searched(job: JobDirectory) -> str:
    """Return the text in which the filter looks."""
    config = config_of(job)
    parts = [job.id, job.name, job.label.note, str(job.job.get("sweep", ""))]
    if config is not None:
        parts += [config.model.name, config.method, f"r={config.adapter.r}", Path(config.data.file).name]
    return " ".join(parts).lower()


def config_of(job: JobDirectory) -> RunConfig | None:
    """Return a run's settings, or None when they are of another version and cannot be read."""
    try:
        return parse(job.config, job.id)
    except WorkbenchError:
        return None


def cards(jobs: Sequence[JobDirectory], chosen: str, ticked: Collection[str], say: Speech) -> Html:
    """Return the runs as cards, newest first; those of one sweep stand together under its name."""
    shown = jobs[:MOST_CARDS]
    blocks: list[Html] = []
    for sweep, members in groupby(shown, key=lambda job: str(job.job.get("sweep") or "")):
        listed = list(members)
        if sweep:
            blocks.append(_sweep_heading(sweep, listed, say))
        blocks += [card(job, say, job.id == chosen, job.id in ticked) for job in listed]
    if not jobs:
        blocks.append(element("p", say("train.no_match"), class_="wb-note wb-muted"))
    if len(jobs) > len(shown):
        more = say("train.more_runs", shown=len(shown), count=len(jobs))
        blocks.append(element("p", more, class_="wb-note wb-muted"))
    return element("div", joined(blocks), class_="wb-cards")


def _sweep_heading(sweep: str, members: Sequence[JobDirectory], say: Speech) -> Html:
    done = sum(job.recorded_status().state == "finished" for job in members)
    return element(
        "div",
        element("b", sweep),
        element("span", say("train.sweep_done", done=done, count=len(members)), class_="wb-muted"),
        element("button", say("train.sweep_compare"), type="button", class_="wb-small", data_pick=f"sweep:{sweep}"),
        class_="wb-sweep-head",
    )


def card(job: JobDirectory, say: Speech, chosen: bool, ticked: bool) -> Html:
    """Return one run as a card that can be looked at and ticked for comparison."""
    status, record = job.status(), records.of(job)
    tick = element(
        "button",
        "✓" if ticked else "",
        type="button",
        class_="wb-tick-box",
        role="checkbox",
        aria_checked="true" if ticked else "false",
        aria_label=say("train.tick"),
        title=say("train.tick"),
        data_pick=f"tick:{job.id}",
    )
    body = element(
        "button",
        element(
            "span",
            element("b", _own_name(job, say), title=job.name),
            state(status, say, state_word(job, status)),
            class_="wb-card-head",
        ),
        sparkline(record.spark, say("train.loss")),
        element("span", *_what(job, status), class_="wb-card-foot"),
        element("span", *_figures(record, say), class_="wb-card-foot"),
        type="button",
        class_="wb-card-body",
        data_pick=f"show:{job.id}",
        aria_pressed="true" if chosen else "false",
    )
    return element("div", tick, body, class_="wb-card" + (" wb-chosen" if chosen else ""))


def _own_name(job: JobDirectory, say: Speech) -> str:
    """Return a run's name; in a sweep, whose name stands above its runs, what tells it from its siblings."""
    before = f"{job.job.get('sweep') or ''}: "
    return job.name.removeprefix(before)[:40] if job.name.startswith(before) else job_name(job, say)


def _what(job: JobDirectory, status: Status) -> list[Html]:
    config = config_of(job)
    facts = [figures.moment(job.job.get("created"))]
    if config is not None:
        rank = "" if config.adapter.method == "full" else f" r={config.adapter.r}"
        facts = [{"qlora": "QLoRA", "lora": "LoRA", "full": "Full"}[config.method] + rank, _short(config), *facts]
    if status.of:
        facts.insert(-1, f"{status.step}/{status.of}")
    return [element("span", fact, class_="wb-number wb-muted") for fact in facts]


def _short(config: RunConfig) -> str:
    return config.model.name.rsplit("/", 1)[-1][:20]


def _figures(record: Record, say: Speech) -> list[Html]:
    """Return the figures of a run: loss with its best, validation, time, memory."""
    parts = []
    if record.last_loss is not None:
        best = say("train.best", loss=figures.loss(record.best_loss))
        parts.append(element("span", say("strip.loss", loss=figures.loss(record.last_loss)), title=best))
    if record.last_validation is not None:
        best = say("train.best", loss=figures.loss(record.best_validation))
        parts.append(
            element("span", say("train.card_validation", loss=figures.loss(record.last_validation)), title=best)
        )
    if record.seconds is not None:
        parts.append(element("span", figures.duration(record.seconds), title=say("train.card_time")))
    if record.memory_bytes is not None:
        parts.append(element("span", figures.gigabytes(record.memory_bytes), title=say("train.card_memory")))
    return [element("span", part, class_="wb-number") for part in parts]


def waiting(workspace: Workspace, say: Speech) -> Html:
    """Return the jobs that wait, the next one first, each with its place; empty when none waits."""
    found = queue.waiting(workspace)
    if not found:
        return Html("")
    rows = [
        element(
            "li",
            element("span", str(place), class_="wb-number wb-muted"),
            element("span", job_name(job, say), class_="wb-queue-name"),
            _small("↑", say("train.queue_up"), f"up:{job.id}", place > 1),
            _small("↓", say("train.queue_down"), f"down:{job.id}", place < len(found)),
            _small("✕", say("train.queue_out"), f"out:{job.id}", True),
        )
        for place, job in enumerate(found, start=1)
    ]
    heading = element("div", say("train.waiting_runs", count=len(rows)), class_="wb-heading")
    return element("div", heading, element("ol", *rows, class_="wb-queue"))


def _small(sign: str, label: str, pick: str, on: bool) -> Html:
    return element(
        "button", sign, type="button", class_="wb-small", data_pick=pick, title=label, aria_label=label, disabled=not on
    )


def bin_list(workspace: Workspace, say: Speech) -> Html:
    """Return the removed runs, newest first, each with its way back."""
    found = list(reversed(removed.discarded(workspace)))
    if not found:
        return element("p", say("train.bin_empty"), class_="wb-note wb-muted")
    rows = [
        element(
            "li",
            element("span", job_name(job, say), class_="wb-queue-name"),
            element("span", figures.moment(job.job.get("created")), class_="wb-number wb-muted"),
            element("button", say("train.restore"), type="button", class_="wb-small", data_pick=f"restore:{job.id}"),
        )
        for job in found[:MOST_CARDS]
    ]
    room = say("train.bin_holds", count=len(found), size=figures.gigabytes(removed.size_bytes(workspace)))
    return element("div", element("p", room, class_="wb-note wb-muted"), element("ul", *rows, class_="wb-queue"))
