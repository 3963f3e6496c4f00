"""What can be taken away, as cards: each says what it is, how large, where it lies and how it is run elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from app.jobs import directory as jobs
from app.jobs.directory import JobDirectory
from app.models.names import resolve
from app.ui import figures
from app.ui.language import Speech
from app.ui.markup import Html, element
from app.ui.runs_view import state
from app.ui.strip import meter
from app.ui.trials import Trial
from app.workspace import Workspace


def merges_of(workspace: Workspace, trial: Trial) -> list[JobDirectory]:
    """Return the merges of an adapter, newest first."""
    found = [job for job in reversed(jobs.all_jobs(workspace)) if "-merge-" in job.id]
    return [job for job in found if job.config.get("adapter") == str(trial.folder.absolute())]


def adapter_card(trial: Trial, say: Speech) -> Html:
    """Return the card of the adapter folder: it is there already."""
    snippet = (
        "from peft import PeftModel\n"
        "from transformers import AutoModelForCausalLM\n"
        f"base = AutoModelForCausalLM.from_pretrained({resolve(trial.config.model.name)!r})\n"
        f"model = PeftModel.from_pretrained(base, {str(trial.folder)!r})"
    )
    facts = [
        (say("take.size"), figures.size(folder_bytes(trial.folder))),
        (say("take.where"), element("code", trial.folder)),
        (say("take.base"), trial.config.model.name),
    ]
    return _card(say("take.adapter"), say("take.adapter_text"), facts, copyable(say("take.use"), snippet, say))


def merged_card(workspace: Workspace, trial: Trial, say: Speech) -> Html:
    """Return the card of the merged model: not made yet, on its way, or done with its receipt."""
    newest = next(iter(merges_of(workspace, trial)), None)
    if newest is None:
        return _card(say("take.merged"), say("take.merged_text"), [], "")
    status = newest.status()
    if status.state == "finished":
        return _card(say("take.merged"), "", [], receipt(status.result, say))
    facts = [(say("take.state"), state(status, say))]
    bar = meter(status.step / status.of, say("strip.progress")) if status.of else ""
    phase = say.known(f"phase.{status.phase}", status.phase) if status.live else status.reason
    return _card(say("take.merged"), say("take.merged_text"), facts, element("p", bar, " ", phase))


def receipt(figures_: Mapping[str, Any], say: Speech) -> Html:
    """Return a merge's receipt: the verdict first, then the figures it rests on."""
    verdict = str(figures_.get("verdict", ""))
    colour = "wb-good" if verdict == "pass" else "wb-warn"
    numbers = [
        ("take.agreement", _share(figures_.get("greedy_agreement"))),
        ("take.kl", _number(figures_.get("mean_kl"))),
        ("take.difference", _number(figures_.get("max_logit_diff"))),
        ("take.memory", _size(figures_.get("peak_rss_bytes"))),
        ("take.time", _time(figures_.get("seconds"))),
    ]
    facts = [(say(key), value) for key, value in numbers if value is not None]
    where = [(say("take.where"), element("code", figures_.get("model", "")))]
    where += [(say("take.receipt_file"), element("code", figures_.get("receipt", "")))]
    snippet = (
        "from transformers import AutoModelForCausalLM\n"
        f"model = AutoModelForCausalLM.from_pretrained({str(figures_.get('model', ''))!r})"
    )
    head = element("p", element("b", say("take.receipt")), " ", element("span", verdict, class_=colour))
    return element("div", head, _facts([*facts, *where]), copyable(say("take.use"), snippet, say), class_="wb-receipt")


def _share(value: Any) -> str | None:
    return f"{100 * value:.1f} %" if isinstance(value, (int, float)) else None


def _number(value: Any) -> str | None:
    return f"{value:.3g}" if isinstance(value, (int, float)) else None


def _size(value: Any) -> Html | None:
    return figures.size(value) if isinstance(value, (int, float)) else None


def _time(value: Any) -> str | None:
    return f"{value:,.1f} s" if isinstance(value, (int, float)) else None


def copyable(label: str, text: str, say: Speech) -> Html:
    """Return text that one click copies."""
    button = element("button", say("take.copy"), type="button", class_="wb-small", data_copy=text)
    return element("div", element("span", label, class_="wb-muted"), button, element("pre", text), class_="wb-copyable")


def folder_bytes(folder: Path) -> int:
    """Return the size of all files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _card(title: str, text: str, facts: Sequence[tuple[str, object]], *rest: object) -> Html:
    return element(
        "article", element("h3", title), element("p", text) if text else "", _facts(facts), *rest, class_="wb-take-card"
    )


def _facts(facts: Sequence[tuple[str, object]]) -> Html:
    rows = [element("div", element("dt", name), element("dd", value)) for name, value in facts]
    return element("dl", *rows) if rows else Html("")
