"""One run as the page shows it: its head, its events, its log."""

from __future__ import annotations

from pathlib import Path

from app.jobs import curves
from app.jobs.directory import JobDirectory, Status
from app.ui import figures
from app.ui.language import Speech
from app.ui.markup import Html, element
from app.ui.strip import job_name, meter

_LOG_BYTES = 12_000
_STATE_COLOUR = {"finished": "good", "failed": "bad", "interrupted": "warn", "stopped": "warn"}


def state(status: Status, say: Speech, word: str = "") -> Html:
    """Return the state in words, or the better word for it, in its colour."""
    word = "silent" if status.silent else word or status.state
    colour = "warn" if status.silent else _STATE_COLOUR.get(status.state, "accent")
    return element("span", say.known(f"state.{word}", word), class_=f"wb-state wb-{colour}")


def state_word(job: JobDirectory, status: Status) -> str:
    """Return the state as a person would say it: a run that was paused has not simply stopped."""
    if status.silent:
        return "silent"
    if job.paused(status):
        return "paused"
    return "pausing" if status.live and job.pause_requested() else status.state


def head(job: JobDirectory, say: Speech) -> Html:
    """Return the head of the shown run: name, state, step, loss, time left, and why it ended."""
    status = job.status()
    last = job.last_metrics() or {}
    left = job.eta_seconds()
    facts: list[object] = [element("b", job_name(job, say)), state(status, say, state_word(job, status))]
    if status.of:
        facts.append(meter(status.step / status.of, say("strip.progress")))
        facts.append(element("span", say("train.step", step=status.step, of=status.of), class_="wb-number"))
    if last.get("loss") is not None:
        facts.append(element("span", say("strip.loss", loss=figures.loss(last["loss"])), class_="wb-number"))
    if left is not None:
        facts.append(element("span", say("strip.left", time=figures.duration(left)), class_="wb-number"))
    if status.live and status.phase and status.phase != "training":
        facts.append(element("span", say.known(f"phase.{status.phase}", status.phase), class_="wb-muted"))
    if status.started and status.ended and status.final:
        facts.append(element("span", say("train.took", time=figures.duration(status.ended - status.started))))
    return element("div", element("div", *facts, class_="wb-run-head"), *_remarks(job, status, say))


def _remarks(job: JobDirectory, status: Status, say: Speech) -> list[Html]:
    """Return why a run ended, what a pause means, and what a person has noted."""
    remarks = []
    if status.page_reason and not status.live:
        remarks.append(element("p", status.page_reason, class_="wb-reason"))
    if job.paused(status):
        remarks.append(element("p", say("train.paused", step=status.step), class_="wb-reason"))
    if job.label.note:
        remarks.append(element("p", job.label.note, class_="wb-run-note"))
    return remarks


def events(job: JobDirectory) -> Html:
    """Return the newest events as a list, newest first."""
    rows = [
        element(
            "li",
            element("span", str(event.get("step", "")), class_="wb-number wb-muted"),
            element("span", str(event.get("message", ""))[:500]),
        )
        for event in reversed(curves.read(job.metrics_file).events[-20:])
    ]
    return element("ul", *rows, class_="wb-events") if rows else Html("")


def log_tail(path: Path) -> Html:
    """Return the end of a log, inert."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _LOG_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        text = ""
    return element("pre", text[-_LOG_BYTES:], class_="wb-log", tabindex="0")
