"""Runs as the page shows them: cards with a sparkline, the head of one run, its charts."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import Any

from app.config import parse
from app.errors import WorkbenchError
from app.jobs.directory import JobDirectory, Status
from app.planner import estimate
from app.planner.from_config import request_from_config
from app.ui import curves, figures
from app.ui.charts import Line, Mark, Point, Span, chart, smoothed, sparkline
from app.ui.curves import Curves
from app.ui.language import Speech
from app.ui.markup import Html, element, joined
from app.ui.strip import job_name, meter

# Events that are marks on the curve; checkpoints come too often to be written beside it.
_MARKED = ("resumed", "failed", "checkpoint refused", "spike", "not finite", "memory")
_LOG_BYTES = 12_000
_STATE_COLOUR = {"finished": "good", "failed": "bad", "interrupted": "warn", "stopped": "warn"}


def card(job: JobDirectory, say: Speech, chosen: bool) -> Html:
    """Return one run as a card that can be picked."""
    status = job.status()
    points = curves.read(job.metrics_file).points("loss")
    last = figures.loss(points[-1][1]) if points and math.isfinite(points[-1][1]) else "-"
    return element(
        "button",
        element("span", element("b", job_name(job, say)), state(status, say), class_="wb-card-head"),
        sparkline(points, say("train.loss")),
        element(
            "span",
            element("span", f"{status.step}/{status.of}" if status.of else "", class_="wb-number"),
            element("span", say("strip.loss", loss=last), class_="wb-number"),
            element("span", figures.moment(job.job.get("created")), class_="wb-number wb-muted"),
            class_="wb-card-foot",
        ),
        type="button",
        class_="wb-card" + (" wb-chosen" if chosen else ""),
        data_pick=job.id,
        aria_pressed="true" if chosen else "false",
    )


def state(status: Status, say: Speech) -> Html:
    """Return the state in words, in its colour."""
    text = say("strip.silent") if status.silent else say.known(f"state.{status.state}", status.state)
    colour = "warn" if status.silent else _STATE_COLOUR.get(status.state, "accent")
    return element("span", text, class_=f"wb-state wb-{colour}")


def head(job: JobDirectory, say: Speech) -> Html:
    """Return the head of the shown run: name, state, step, loss, time left, and why it ended."""
    status = job.status()
    last = job.last_metrics() or {}
    left = job.eta_seconds()
    facts: list[object] = [element("b", job_name(job, say)), state(status, say)]
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
    reason = [element("p", status.reason, class_="wb-reason")] if status.reason and not status.live else []
    return element("div", element("div", *facts, class_="wb-run-head"), *reason)


def charts(job: JobDirectory, say: Speech) -> Html:
    """Return the loss chart and the small ones below it."""
    found, status = curves.read(job.metrics_file), job.status()
    span = Span(0, max(status.of, 1)) if status.of else None
    empty = say("train.waiting") if not status.final else say("train.no_points")
    loss = found.points("loss")
    lines = [
        Line(loss, say("train.loss_raw"), "series-0", "faint"),
        Line(smoothed(loss), say("train.loss_smooth"), "series-0"),
    ]
    validation = found.points("eval_loss")
    if validation:
        lines.append(Line(validation, say("train.loss_validation"), "series-1", "dotted"))
    planned = _planned(job) if found.points("vram_bytes") else []
    large = chart(
        lines,
        say("train.loss"),
        marks=_marks(found, say),
        x_span=span,
        x_title=say("train.steps"),
        height_px=260,
        empty=empty,
    )
    return element("div", large, element("div", *_small(found, say, span, empty, planned), class_="wb-small-charts"))


@lru_cache(maxsize=64)
def _planned_bytes(job_file: Path) -> int | None:
    """Return what the planner foresaw for a run, of which the configuration never changes."""
    try:
        config = parse(JobDirectory(job_file.parent).config, job_file.parent.name)
        return estimate(request_from_config(config)).allocated_peak
    except WorkbenchError:  # a model that is not there any more; the curve is shown without the line
        return None


def _planned(job: JobDirectory) -> list[Mark]:
    """Return the planned peak of live tensors, which is what the trainer's memory figure counts."""
    planned = _planned_bytes(job.job_file)
    return [Mark(planned / figures.GB, "", "warn")] if planned else []


def _small(found: Curves, say: Speech, span: Span | None, empty: str, planned: list[Mark]) -> list[Html]:
    memory = found.points("vram_bytes") or found.points("rss_bytes")
    limits = [Mark(mark.at, say("train.planned"), mark.colour) for mark in planned]
    shown: list[tuple[str, list[Point], str, list[Mark]]] = [
        ("train.learning_rate", found.points("learning_rate"), "", []),
        ("train.grad_norm", found.points("grad_norm"), "", []),
        ("train.pace", found.points("tokens_per_s"), "", []),
        ("train.memory", [(step, value / figures.GB) for step, value in memory], "GB", limits),
    ]
    return [
        chart(
            [Line(points, "", "series-0")],
            say(title),
            unit=unit,
            limits=levels,
            x_span=span,
            height_px=96,
            empty=empty,
            from_zero=True,
        )
        for title, points, unit, levels in shown
    ]


def _marks(found: Curves, say: Speech) -> list[Mark]:
    marked = [event for event in found.events if event.get("event") in _MARKED]
    return [
        Mark(
            float(event.get("step") or 0),
            say.known(f"event.{event['event']}", str(event["event"])),
            "bad" if event["event"] == "failed" else "muted",
        )
        for event in marked[-8:]
    ]


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


def cards(jobs: list[JobDirectory], chosen: str, say: Speech) -> Html:
    """Return the runs as cards, newest first."""
    return element("div", joined(card(job, say, job.id == chosen) for job in jobs), class_="wb-cards")


def outcome(job: JobDirectory) -> dict[str, Any]:
    """Return the figures of a finished run."""
    return dict(job.recorded_status().result)
