"""One run as the page shows it: its head, its events, its log."""

from __future__ import annotations

from pathlib import Path

from app.jobs.directory import JobDirectory, Status
from app.redaction import redact
from app.runs.current import state_word
from app.runs.results import curves
from app.runs.results import verdict as verdicts
from app.training import checkpoints
from app.ui.components import number_format
from app.ui.components.markup import Html, element
from app.ui.shell.language import Translator
from app.ui.shell.status_bar import job_name, meter, phase_name
from app.ui.tabs.train import run_table

_LOG_BYTES = 12_000
_STATE_COLOUR = {"finished": "good", "failed": "bad", "interrupted": "warn", "stopped": "warn"}


def state(status: Status, t: Translator, word: str = "") -> Html:
    """Return the state in words, or the better word for it, in its colour."""
    word = "silent" if status.silent else word or status.state
    colour = "warn" if status.silent else _STATE_COLOUR.get(status.state, "accent")
    return element("span", t.known(f"state.{word}", word), class_=f"wb-state wb-{colour}")


def head(job: JobDirectory, t: Translator) -> Html:
    """Return the head of the shown run: name, state, step, loss, time left, and why it ended."""
    status = job.status()
    last = job.last_metrics() or {}
    left = job.eta_seconds()
    facts: list[object] = [element("b", job_name(job, t)), state(status, t, state_word(job, status))]
    if status.of:
        facts.append(meter(status.step / status.of, t("strip.progress")))
        facts.append(element("span", t("train.step", step=status.step, of=status.of), class_="wb-number"))
    if last.get("loss") is not None:
        facts.append(element("span", t("strip.loss", loss=number_format.loss(last["loss"])), class_="wb-number"))
    if left is not None:
        facts.append(element("span", t("strip.left", time=number_format.duration(left)), class_="wb-number"))
    if status.live and status.phase and status.phase != "training":
        facts.append(element("span", phase_name(status.phase, t), class_="wb-muted"))
    if status.started and status.ended and status.final:
        facts.append(element("span", t("train.took", time=number_format.duration(status.ended - status.started))))
    return element(
        "div",
        element("div", *facts, class_="wb-run-head"),
        *_remarks(job, status, t),
        verdict(job, t),
        _saving(job, t),
        data_run=job.id,
    )


def _remarks(job: JobDirectory, status: Status, t: Translator) -> list[Html]:
    """Return why a run ended, what a pause means, and what a person has noted."""
    remarks = []
    if status.page_reason and not status.live:
        remarks.append(element("p", t.heard_line(status.page_reason), class_="wb-reason"))
    if job.paused(status):
        remarks.append(element("p", t("train.paused", step=status.step), class_="wb-reason"))
    label = job.label
    if label.tags:
        remarks.append(element("p", run_table.tags(label.tags), class_="wb-tags"))
    if label.note:
        remarks.append(element("p", label.note, class_="wb-run-note"))
    return remarks


def _saving(job: JobDirectory, t: Translator) -> Html:
    """Return what saves the curves of a run: as a picture, which the browser draws, and as numbers."""
    if not len(curves.read(job.metrics_file)["loss"]):
        return Html("")
    plain: dict[str, object] = {"type": "button", "class_": "wb-small"}
    picture = element("button", "PNG", aria_label=t("train.save_png"), data_png=job_name(job, t), **plain)
    numbers = element("button", "CSV", aria_label=t("train.save_csv"), data_pick=f"csv:{job.id}", **plain)
    return element("div", element("span", t("play.save_as"), class_="wb-muted"), picture, numbers, class_="wb-saving")


def verdict(job: JobDirectory, t: Translator) -> Html:
    """Return how a finished run went, in words, and what to do next; nothing of one that goes on or came to nothing."""
    status = job.status()
    if status.state not in ("finished", "stopped"):
        return Html("")
    found = verdicts.of(curves.read(job.metrics_file), checkpoints.steps(job.checkpoints))
    if found is None:
        return Html("")
    colour = {"learned": "good", "overfitted": "warn", "unmoved": "bad"}.get(found.word, "accent")
    name = t(f"verdict.{found.word}")
    said = t(f"verdict.{found.word}.text", step=found.step or 0, steps=found.steps or 0)
    button: Html | str = ""
    if found.word == "overfitted" and found.step is not None:
        pick = f"{job.id}:{found.step}"
        label = t("verdict.try_step", step=found.step)
        button = element("button", label, type="button", class_="wb-small", data_pick=f"try:{pick}")
    return element("p", element("b", name, class_=f"wb-{colour}"), " ", said, " ", button, class_="wb-verdict-line")


def events(job: JobDirectory, t: Translator) -> Html:
    """Return the newest events as a list, newest first."""
    rows = [
        element(
            "li",
            element("span", str(event.get("step", "")), class_="wb-number wb-muted"),
            element("span", t.heard(str(event.get("message", "")))[:500]),
        )
        for event in reversed(curves.read(job.metrics_file).events[-20:])
    ]
    return element("ul", *rows, class_="wb-events") if rows else Html("")


def log_tail(path: Path) -> Html:
    """Return the end of a log, inert and without secrets: what libraries print goes there unread."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _LOG_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        text = ""
    return element("pre", redact(text[-_LOG_BYTES:]), class_="wb-log", tabindex="0")
