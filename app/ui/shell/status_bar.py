"""The strip at the top: what the machine does and which run is going, at every moment and on every tab."""

from __future__ import annotations

from app import hardware
from app.jobs import requests
from app.jobs.directory import JobDirectory, Status
from app.runs.current import current_job, state_word
from app.ui.components import icons, number_format
from app.ui.components.markup import Html, element
from app.ui.shell.language import Translator
from app.workspace import Workspace

BRAND = "LoRA Workbench"
# The word before the colon in the name that a job of a kind is handed in with.
_HANDED_IN = {
    **{kind: kind for kind in ("merge", "blend", "inspect", "suite", "evaluate", "download", "fetch")},
    "engine": "playground",
}


def machine(readings: hardware.Readings, t: Translator) -> Html:
    """Return the machine's readings: the card with its memory, or the processor."""
    card = readings.gpu
    if card is None:
        return element(
            "span",
            element(
                "span",
                t("strip.cpu", count=readings.cpu_count, cpus=readings.cpu_count) + t("planner.comma"),
                class_="wb-machine-kind",
            ),
            element(
                "span",
                t("strip.free", size=number_format.gigabytes(readings.ram_free_bytes)),
                class_="wb-number",
                title=number_format.exactly(readings.ram_free_bytes),
            ),
            class_="wb-machine",
            title=readings.cpu_name,
        )
    extras = [f"{card.temperature_c} °C"] if card.temperature_c is not None else []
    extras += [f"{card.load_percent} %"] if card.load_percent is not None else []
    return element(
        "span",
        element("span", card.name.replace("NVIDIA ", "").replace("GeForce ", "")[:28], class_="wb-machine-name"),
        *_card_memory(card, t),
        *(element("span", extra, class_="wb-number") for extra in extras),
        class_="wb-machine",
        title=card.name,
    )


def _card_memory(card: hardware.Gpu, t: Translator) -> list[Html]:
    """Return how much of a card's memory is in use, or as much of that as its driver tells."""
    used, total = card.used_bytes, card.total_bytes
    if total is None:
        return [element("span", t("strip.memory_unknown"), class_="wb-muted")]
    if used is None:
        return [element("span", number_format.gigabytes(total), class_="wb-number", title=number_format.exactly(total))]
    words = f"{used / hardware.GB:.1f} / {number_format.gigabytes(total)}"
    exact = f"{used:,} / {number_format.exactly(total)}"
    return [
        meter(used / max(1, total), t("strip.memory")),
        element("span", words, class_="wb-number", title=exact),
    ]


def phase_name(word: str, t: Translator) -> str:
    """Return what a job does at the moment, in the page's language; a word that is none of ours as it is."""
    verb, _, name = word.partition(" ")
    known = t.known(f"phase.{word}", "")
    return known or (t("strip.loading", name=name) if verb == "loading" else t.known(f"state.{word}", word))


def meter(share: float, label: str) -> Html:
    """Return a bar that is filled to a share between 0 and 1."""
    percent = round(100 * min(1.0, max(0.0, share)))
    bar = element("span", class_="wb-meter-fill", style=f"width:{percent}%")
    return element("span", bar, class_="wb-meter", role="meter", aria_label=label, aria_valuenow=percent)


def progress(job: JobDirectory, status: Status, t: Translator) -> Html:
    """Return the running job in one line: name, step, loss, time left."""
    last = job.last_metrics() or {}
    left = job.eta_seconds()
    parts: list[Html] = [element("span", job_name(job, t), class_="wb-job-name")]
    if status.of and not job.kind.gives_way:
        parts.append(meter(status.step / status.of, t("strip.progress")))
        parts.append(element("span", f"{status.step}/{status.of}", class_="wb-number"))
    if last.get("loss") is not None:
        parts.append(element("span", t("strip.loss", loss=number_format.loss(last["loss"])), class_="wb-number"))
    if left is not None:
        parts.append(element("span", t("strip.left", time=number_format.duration(left)), class_="wb-number"))
    word = state_word(job, status)
    if status.silent:
        parts.append(element("span", t("strip.silent"), class_="wb-warn"))
    elif word in ("stopping", "pausing"):
        parts.append(element("span", t.known(f"state.{word}", word), class_="wb-muted"))
    elif job.kind.gives_way or (status.phase and status.phase != "training"):
        parts.append(element("span", phase_name(status.phase, t), class_="wb-muted"))
    elif status.state != "running":
        parts.append(element("span", t.known(f"state.{status.state}", status.state), class_="wb-muted"))
    return element(
        "span", *parts, class_="wb-job", data_job=job.id, data_notice=None if job.kind.gives_way else job_name(job, t)
    )


def job_name(job: JobDirectory, t: Translator) -> str:
    """Return a job's own name, else its kind and time. The word that it was handed in with is the page's to say."""
    kind = str(job.job.get("kind", ""))
    said, name = t.known(f"kind.{kind}", kind), job.name
    word, colon, rest = name.partition(": ")
    if colon and word == _HANDED_IN.get(kind):
        name = t("strip.job_of", kind=said, name=rest)
    return name[:40] or f"{said} {number_format.moment(job.job.get('created'), t)}"


def brand() -> Html:
    """Return the project's mark and name, which is the one heading of the first rank."""
    return element("h1", icons.logo(), element("span", BRAND), class_="wb-brand")


def find_button() -> Html:
    """Return the button that finds everything; it says its key, which is the same in every language."""
    key = element("kbd", "Ctrl K")
    return element(
        "button", icons.icon("search", 16), key, type="button", id="wb-find", title="Ctrl K", aria_label="Ctrl K"
    )


def skip_link(t: Translator) -> Html:
    """Return the link that leads the keyboard past the bar."""
    return element("a", t("strip.skip"), href="#wb-tabs", data_go="main", class_="wb-skip")


def waiting() -> Html:
    """Return the strip before anything is known: it takes its place, so that nothing moves when the page is filled."""
    return element("div", brand(), class_="wb-strip")


def content(workspace: Workspace, t: Translator) -> Html:
    """Return the strip: the name, the machine, the job that is followed."""
    readings = hardware.readings(workspace.root)
    job = current_job(workspace)
    idle = element("span", t("strip.idle"), class_="wb-job wb-muted")
    running = idle if job is None else progress(job, job.status(), t)
    return element("div", skip_link(t), brand(), machine(readings, t), running, class_="wb-strip")


def stop_button(workspace: Workspace, t: Translator) -> Html:
    """Return the button that stops the job of the strip and says which; nothing where none runs."""
    job = current_job(workspace)
    if job is None:
        return Html("")
    label = t("strip.stop_job", name=job_name(job, t))
    word = element("span", t("strip.stop"), class_="wb-stop-word")
    name = element("span", job_name(job, t), class_="wb-stop-name")
    return element(
        "button", icons.icon("stop", 14), word, " ", name, type="button", id="wb-stop", class_="wb-stop", title=label,
        aria_label=label, data_pick=job.id, disabled=job.stop_requested(),
    )  # fmt: skip


def stop_job(workspace: Workspace, job_id: str) -> None:
    """Ask a job to end after its step, if it still runs; the strip shows what comes of it."""
    job = current_job(workspace)
    if job is not None and job.id == job_id:
        requests.stop(workspace, job)
