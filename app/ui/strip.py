"""The strip at the top: what the machine does and which run is going, at every moment and on every tab."""

from __future__ import annotations

import time

from app import hardware
from app.jobs import directory as jobs
from app.jobs import requests
from app.jobs.directory import JobDirectory, Status
from app.ui import figures
from app.ui.language import Speech
from app.ui.markup import Html, element
from app.workspace import Workspace

BRAND = "LoRA Workbench"
# The newest jobs are looked at; an older one that still runs is a queue longer than anyone has seen.
_LOOKED_AT = 200
# A job is followed a little longer than it lives, so that its end is shown.
_LATELY_S = 10.0


def living_jobs(workspace: Workspace) -> list[JobDirectory]:
    """Return the jobs that live now, newest first."""
    return [job for job in reversed(jobs.all_jobs(workspace)[-_LOOKED_AT:]) if job.recorded_status().live]


def current_job(workspace: Workspace) -> JobDirectory | None:
    """Return the job that the strip shows: the newest living one that owns the accelerator, else any that lives."""
    living = [job for job in living_jobs(workspace) if job.status().live]
    owners = [job for job in living if job.kind.accelerator and not job.kind.gives_way]
    return next(iter(owners or living), None)


def is_busy(workspace: Workspace) -> bool:
    """Tell whether a job runs or has just ended. An engine that waits for questions is nothing to follow."""
    lately = time.time() - _LATELY_S
    newest = (job for job in jobs.all_jobs(workspace)[-_LOOKED_AT:] if not job.kind.gives_way)
    return any(status.live or (status.ended or 0.0) > lately for status in (job.recorded_status() for job in newest))


def machine(readings: hardware.Readings, say: Speech) -> Html:
    """Return the machine's readings: the card with its memory, or the processor."""
    card = readings.gpu
    if card is None:
        return element(
            "span",
            say("strip.cpu", count=readings.cpu_count, cpus=readings.cpu_count),
            ", ",
            element(
                "span",
                say("strip.free", size=figures.gigabytes(readings.ram_free_bytes)),
                class_="wb-number",
                title=f"{readings.ram_free_bytes:,} bytes",
            ),
            class_="wb-machine",
            title=readings.cpu_name,
        )
    used = f"{card.used_bytes / figures.GB:.1f} / {figures.gigabytes(card.total_bytes)}"
    extras = [f"{card.temperature_c} °C"] if card.temperature_c is not None else []
    extras += [f"{card.load_percent} %"] if card.load_percent is not None else []
    return element(
        "span",
        element("span", _short_name(card.name), class_="wb-machine-name"),
        meter(card.used_bytes / max(1, card.total_bytes), say("strip.memory")),
        element("span", used, class_="wb-number", title=f"{card.used_bytes:,} / {card.total_bytes:,} bytes"),
        *(element("span", extra, class_="wb-number") for extra in extras),
        class_="wb-machine",
        title=card.name,
    )


def _short_name(name: str) -> str:
    return name.replace("NVIDIA ", "").replace("GeForce ", "")[:28]


def meter(share: float, label: str) -> Html:
    """Return a bar that is filled to a share between 0 and 1."""
    percent = round(100 * min(1.0, max(0.0, share)))
    bar = element("span", class_="wb-meter-fill", style=f"width:{percent}%")
    return element("span", bar, class_="wb-meter", role="meter", aria_label=label, aria_valuenow=percent)


def progress(job: JobDirectory, status: Status, say: Speech) -> Html:
    """Return the running job in one line: name, step, loss, time left."""
    last = job.last_metrics() or {}
    left = job.eta_seconds()
    parts: list[Html] = [element("span", job_name(job, say), class_="wb-job-name")]
    if status.of and not job.kind.gives_way:
        parts.append(meter(status.step / status.of, say("strip.progress")))
        parts.append(element("span", f"{status.step}/{status.of}", class_="wb-number"))
    if last.get("loss") is not None:
        parts.append(element("span", say("strip.loss", loss=figures.loss(last["loss"])), class_="wb-number"))
    if left is not None:
        parts.append(element("span", say("strip.left", time=figures.duration(left)), class_="wb-number"))
    if status.silent:
        parts.append(element("span", say("strip.silent"), class_="wb-warn"))
    elif job.kind.gives_way or (status.phase and status.phase != "training"):
        parts.append(element("span", say.known(f"phase.{status.phase}", status.phase), class_="wb-muted"))
    elif status.state != "running":
        parts.append(element("span", say.known(f"state.{status.state}", status.state), class_="wb-muted"))
    return element("span", *parts, class_="wb-job", data_job=job.id)


def job_name(job: JobDirectory, say: Speech) -> str:
    """Return a job's own name, else its kind and time."""
    name = job.name
    kind = str(job.job.get("kind", ""))
    return name[:40] or f"{say.known(f'kind.{kind}', kind)} {figures.moment(job.job.get('created'))}"


def waiting() -> Html:
    """Return the strip before anything is known: it takes its place, so that nothing moves when the page is filled."""
    return element("div", element("span", BRAND, class_="wb-brand"), class_="wb-strip")


def content(workspace: Workspace, say: Speech) -> Html:
    """Return the strip. Where no job stands in it, the style sheet hides the stop button."""
    readings = hardware.readings(workspace.root)
    job = current_job(workspace)
    brand = element("span", BRAND, class_="wb-brand")
    if job is None:
        idle = element("span", say("strip.idle"), class_="wb-job wb-muted")
        return element("div", brand, machine(readings, say), idle, class_="wb-strip")
    running = progress(job, job.status(), say)
    return element("div", brand, machine(readings, say), running, class_="wb-strip")


def stop_current(workspace: Workspace) -> None:
    """Ask the job in the strip to end after its step; the strip shows what comes of it."""
    job = current_job(workspace)
    if job is not None:
        requests.stop(workspace, job)
