"""How a job that a tab waits for stands, in one line."""

from __future__ import annotations

from collections.abc import Sequence

from app.jobs.directory import JobDirectory
from app.ui.components.markup import Html, element
from app.ui.shell.language import Translator
from app.ui.shell.status_bar import meter, phase_name
from app.ui.tabs.train.run_view import state


def line(job: JobDirectory, t: Translator) -> Html:
    """Return state, progress and, when it failed, why."""
    status = job.status()
    parts: list[object] = [element("b", str(job.job.get("name") or job.id)), state(status, t)]
    if status.of and not status.final:
        parts.append(meter(status.step / status.of, t("strip.progress")))
        parts.append(element("span", f"{status.step}/{status.of}", class_="wb-number"))
    if status.live and status.phase:
        parts.append(element("span", phase_name(status.phase, t), class_="wb-muted"))
    reason = (
        element("p", t.heard_line(status.page_reason), class_="wb-reason")
        if status.final and status.page_reason
        else ""
    )
    return element("div", element("div", *parts, class_="wb-run-head"), reason)


def mark(*parts: object, jobs: Sequence[JobDirectory | None]) -> int:
    """Return a number that changes when there is something else to draw: what was asked, or how far the jobs are."""
    standing = []
    for job in jobs:
        status = job.status() if job is not None else None
        standing.append((status.state, status.step, status.phase) if status is not None else ())
    return hash(repr((parts, standing)))  # by repr: what comes from the browser may be a list
