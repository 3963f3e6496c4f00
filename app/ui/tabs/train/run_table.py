"""All runs as one table whose columns the browser sorts; figures of a run that goes on stand with its curves."""

from __future__ import annotations

from collections.abc import Sequence

from app.jobs.directory import JobDirectory
from app.runs.current import config_of
from app.runs.results import summary
from app.ui.components import number_format
from app.ui.components.markup import Html, element, joined
from app.ui.shell.language import Translator
from app.ui.shell.status_bar import job_name

# Runs in the table; older ones are found by the filter or `jobs list`.
_MOST_RUNS = 200
_COLUMNS = ("name", "state", "tags", "model", "rank", "steps", "loss", "validation", "time", "memory")


def table(jobs: Sequence[JobDirectory], t: Translator) -> Html:
    """Return the runs, folded; nothing where there are not two to be sorted."""
    if len(jobs) < 2:
        return Html("")
    heads = [
        element("th", element("button", t(f"train.table.{name}"), type="button", class_="wb-link"), scope="col")
        for name in _COLUMNS
    ]
    rows = [_row(job, t) for job in jobs[:_MOST_RUNS]]
    body = element("table", element("thead", element("tr", *heads)), element("tbody", *rows), class_="wb-sortable")
    summary_ = element("summary", t("train.table", count=len(jobs)))
    return element("details", summary_, element("div", body, class_="wb-table", tabindex="0"), class_="wb-run-table")


def _row(job: JobDirectory, t: Translator) -> Html:
    status, config = job.recorded_status(), config_of(job)
    found = summary.of(job) if status.final else summary.RunSummary()
    label = job.label
    name = element("a", job_name(job, t), href=f"#/train/{job.id}", title=label.note or None)
    rank = None if config is None or config.adapter.method == "full" else config.adapter.r
    return element(
        "tr",
        element("td", name),
        element("td", t.known(f"state.{status.state}", status.state)),
        element("td", tags(label.tags), data_sort=", ".join(label.tags)),
        element("td", config.model.name.rpartition("/")[2] if config else ""),
        _number(rank, "" if rank is None else str(rank)),
        _number(found.steps or None, number_format.count(found.steps)),
        _number(found.last_loss, f"{found.last_loss or 0:.4f}"),
        _number(found.last_validation, f"{found.last_validation or 0:.4f}"),
        _number(found.seconds, number_format.duration(found.seconds or 0)),
        _number(found.memory_bytes, number_format.gigabytes(found.memory_bytes or 0)),
    )


def tags(found: Sequence[str]) -> Html:
    """Return the tags of a run as chips; nothing where it has none."""
    return joined(element("span", tag, class_="wb-tag") for tag in found)


def _number(value: float | None, text: str) -> Html:
    """Return a cell that is sorted by its value and not by how it is written."""
    sort = "" if value is None else f"{value:.9g}"
    return element("td", "-" if value is None else text, class_="wb-number", data_sort=sort)
