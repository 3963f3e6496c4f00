"""The cards of what can be taken away: how large, where it goes, how long, and when it is done how it is run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from app.jobs.directory import JobDirectory, Status
from app.ui import figures
from app.ui.language import Speech
from app.ui.markup import Html, element
from app.ui.runs_view import state
from app.ui.strip import meter
from app.ui.takeaway_sources import TARGETS, Source
from app.workspace import Workspace

# Share of a 16-bit model's size that a Q8_0 file takes: 34 bytes for 32 values.
_Q8_SHARE = 34 / 64
# A child that loads the libraries takes 5 to 15 s (measured on two cores); a model is read, written and read again at
# the pace of a plain disk. Only good for "seconds or minutes".
_START_S, _BYTES_PER_S = 12.0, 50e6


@dataclass(frozen=True)
class Card:
    """One card: what it shows and what can be done."""

    html: Html
    can_make: bool = False
    can_stop: bool = False
    is_done: bool = False


def cards(
    workspace: Workspace, source: Source, jobs: Mapping[str, JobDirectory], dtype: str, say: Speech
) -> dict[str, Card]:
    """Return the cards of a source, by target. `jobs` are its newest; `dtype` is the chosen format of GGUF files."""
    return {target: _card(workspace, source, target, jobs.get(target), dtype, say) for target in TARGETS}


def _card(workspace: Workspace, source: Source, target: str, job: JobDirectory | None, dtype: str, say: Speech) -> Card:
    if not source.takes(target):
        return Card(_article(target, say("take.needs_adapter"), [], say))
    status = job.status() if job is not None else None
    if status is None:
        return Card(_planned(workspace, source, target, dtype, say), can_make=True)
    if not status.final and job is not None:
        asked = job.stop_requested()
        status = replace(status, state="stopping") if asked else status
        return Card(_running(source, target, job, status, dtype, say), can_stop=not asked)
    if status.state == "finished":
        return Card(_done(target, status.result, say), can_make=target != "model", is_done=True)
    return Card(_ended(workspace, source, target, dtype, status, say), can_make=True)


def _planned(workspace: Workspace, source: Source, target: str, dtype: str, say: Speech, *rest: object) -> Html:
    size = _expected_bytes(source, target, dtype)
    time = _START_S + (size or 0) / _BYTES_PER_S
    heavy = target in ("model", "gguf", "ollama") and size is None
    facts = [
        (say("take.size"), say("take.size_unknown") if size is None else figures.size(size)),
        (say("take.where"), element("code", free_place(workspace, source, target))),
        (say("take.time_ahead"), say("take.time_unknown") if heavy else say("take.about", time=_rough(time))),
    ]
    return _article(target, say(f"take.card.{target}.text"), facts, say, *rest)


def _running(source: Source, target: str, job: JobDirectory, status: Status, dtype: str, say: Speech) -> Html:
    """Return a card at work: as many rows as before it began, so that nothing jumps."""
    size = _expected_bytes(source, target, dtype)
    facts = [
        (say("take.size"), say("take.size_unknown") if size is None else figures.size(size)),
        (say("take.where"), element("code", job.config.get("out") or "")),
        (say("take.state"), element("span", state(status, say), " ", _progress(status, say))),
    ]
    return _article(target, say(f"take.card.{target}.text"), facts, say)


def _expected_bytes(source: Source, target: str, dtype: str) -> int | None:
    if target in ("adapter", "vllm") or (target == "hub" and source.trial is not None):
        return folder_bytes(source.folder)
    weights = source.weights_bytes
    if weights is None or target not in ("gguf", "ollama"):
        return weights
    return round(weights * _Q8_SHARE) if dtype == "q8_0" else weights


def free_place(workspace: Workspace, source: Source, target: str) -> Path:
    """Return a folder of the workspace that is not there yet; an export is never overwritten."""
    name = f"{source.stem}-{'merged' if target == 'model' else target}"
    out, number = workspace.output_dir(name), 2
    while out.exists():
        out, number = workspace.output_dir(f"{name}-{number}"), number + 1
    return out


def _progress(status: Status, say: Speech) -> Html:
    bar = meter(status.step / status.of, say("strip.progress")) if status.of else ""
    return element("span", bar, " ", say.known(f"phase.{status.phase}", status.phase))


def _rough(seconds: float) -> str:
    """Return a guessed time in its largest unit; more digits would promise too much."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _ended(workspace: Workspace, source: Source, target: str, dtype: str, status: Status, say: Speech) -> Html:
    said = element("p", state(status, say), " ", status.page_reason)
    return _planned(workspace, source, target, dtype, say, said)


def _done(target: str, result: Mapping[str, Any], say: Speech) -> Html:
    """Return what was made: the receipt first, then where it lies and the line that runs it."""
    facts: list[tuple[str, object]] = []
    if size := _bytes_of(result):
        facts.append((say("take.size"), figures.size(size)))
    facts.append((say("take.where"), element("code", result.get("out") or result.get("model") or "")))
    facts += [(say("take.time"), f"{result['seconds']:,.1f} s")] if result.get("seconds") is not None else []
    parts: list[object] = [receipt(result, say)] if result.get("verdict") else []
    parts += [element("p", note, class_="wb-muted") for note in result.get("notes") or []]
    line = str(result.get("run") or _python_line(result))
    return _article(target, "", facts, say, copyable(say("take.use"), line, say), before=parts)


def _bytes_of(result: Mapping[str, Any]) -> int:
    if isinstance(result.get("bytes"), int):
        return int(result["bytes"])
    folder = Path(str(result.get("model") or ""))
    return folder_bytes(folder) if folder.is_absolute() and folder.is_dir() else 0


def _python_line(result: Mapping[str, Any]) -> str:
    loaded = f"AutoModelForCausalLM.from_pretrained({str(result.get('model', ''))!r})"
    return f"from transformers import AutoModelForCausalLM; model = {loaded}"


def receipt(result: Mapping[str, Any], say: Speech) -> Html:
    """Return a receipt: the verdict first, then the figures it rests on."""
    verdict = str(result.get("verdict", ""))
    colour = "wb-good" if verdict == "pass" else "wb-warn"
    numbers = [
        ("take.agreement", _share(result.get("greedy_agreement"))),
        ("take.kl", _number(result.get("mean_kl"))),
        ("take.difference", _number(result.get("max_logit_diff"))),
        ("take.memory", _size(result.get("peak_rss_bytes"))),
    ]
    facts: list[tuple[str, object]] = [(say(key), value) for key, value in numbers if value is not None]
    facts.append((say("take.receipt_file"), element("code", result.get("receipt") or "")))
    word = say.known(f"take.verdict.{verdict}", verdict)
    head = element("p", element("b", say("take.receipt")), " ", element("span", word, class_=colour))
    why = [element("p", reason, class_="wb-warn") for reason in _reasons(result)]
    return element("div", head, *why, _facts(facts), class_="wb-receipt")


def _reasons(result: Mapping[str, Any]) -> list[str]:
    """Return why a verdict is not a pass, from the receipt itself; nothing where it has been moved away."""
    if result.get("verdict") == "pass" or not result.get("receipt"):
        return []
    try:
        found = json.loads(Path(str(result["receipt"])).read_text(encoding="utf-8"))
        return [str(reason) for reason in found["reasons"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _share(value: Any) -> str | None:
    return f"{100 * value:.1f} %" if isinstance(value, (int, float)) else None


def _number(value: Any) -> str | None:
    return f"{value:.3g}" if isinstance(value, (int, float)) else None


def _size(value: Any) -> Html | None:
    return figures.size(value) if isinstance(value, (int, float)) else None


def copyable(label: str, text: str, say: Speech) -> Html:
    """Return text that one click copies."""
    button = element("button", say("take.copy"), type="button", class_="wb-small", data_copy=text)
    return element("div", element("span", label, class_="wb-muted"), button, element("pre", text), class_="wb-copyable")


def folder_bytes(folder: Path) -> int:
    """Return the size of all files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _article(
    target: str,
    text: str,
    facts: Sequence[tuple[str, object]],
    say: Speech,
    *rest: object,
    before: Sequence[object] = (),
) -> Html:
    title = element("h3", say(f"take.card.{target}"))
    told = element("p", text) if text else ""
    return element("article", title, told, *before, _facts(facts), *rest, class_="wb-take-card")


def _facts(facts: Sequence[tuple[str, object]]) -> Html:
    rows = [element("div", element("dt", name), element("dd", value)) for name, value in facts]
    return element("dl", *rows) if rows else Html("")
