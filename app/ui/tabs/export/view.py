"""The cards of what can be taken away: how large, where it goes, how long, and when it is done how it is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from app.files import folder_bytes
from app.jobs.directory import JobDirectory, Status
from app.reading import parsed_json
from app.runs.on_disk import exports
from app.runs.on_disk.exports import TARGETS, Source
from app.ui.components import icons, number_format
from app.ui.components.markup import Html, element
from app.ui.shell.language import Translator
from app.ui.shell.status_bar import meter
from app.ui.tabs.train.run_view import state
from app.workspace import Workspace

_ICONS = {
    "adapter": "folder",
    "model": "merge",
    "ollama": "llama",
    "lmstudio": "screen",
    "nf4": "merge",
    "vllm": "server",
    "hub": "cloud",
}


@dataclass(frozen=True)
class Card:
    """One card: what it shows and what can be done."""

    html: Html
    can_make: bool = False
    can_stop: bool = False
    is_done: bool = False


def cards(
    workspace: Workspace, source: Source, jobs: Mapping[str, JobDirectory], dtype: str, t: Translator
) -> dict[str, Card]:
    """Return the cards of a source, by target. `jobs` are its newest; `dtype` is the chosen format of GGUF files."""
    return {target: _card(workspace, source, target, jobs.get(target), dtype, t) for target in TARGETS}


def _card(
    workspace: Workspace, source: Source, target: str, job: JobDirectory | None, dtype: str, t: Translator
) -> Card:
    if not source.takes(target):
        return Card(_article(target, t("take.needs_adapter"), [], t))
    status = job.status() if job is not None else None
    if status is None:
        return Card(_planned(workspace, source, target, dtype, t), can_make=True)
    if not status.final and job is not None:
        asked = job.stop_requested()
        status = replace(status, state="stopping") if asked else status
        return Card(_running(source, target, job, status, dtype, t), can_stop=not asked)
    if status.state == "finished":
        return Card(_done(target, status.result, t), can_make=target != "model", is_done=True)
    said = element("p", state(status, t), " ", t.heard_line(status.page_reason))
    return Card(_planned(workspace, source, target, dtype, t, said), can_make=True)


def _planned(workspace: Workspace, source: Source, target: str, dtype: str, t: Translator, *rest: object) -> Html:
    size = exports.expected_bytes(source, target, dtype)
    time = _rough(exports.expected_seconds(source, target, dtype))
    heavy = target in ("model", *exports.GGUF_TARGETS) and size is None
    at_most = dtype == exports.SMALLEST and target in exports.GGUF_TARGETS
    told = t("take.at_most", time=time) if at_most else t("take.about", time=time)
    facts = [
        (t("take.size"), _expected(source, target, dtype, t)),
        (t("take.where"), element("code", exports.free_place(workspace, source, target))),
        (t("take.time_ahead"), t("take.time_unknown") if heavy else told),
    ]
    return _article(target, t(f"take.card.{target}.text"), facts, t, *rest)


def _running(source: Source, target: str, job: JobDirectory, status: Status, dtype: str, t: Translator) -> Html:
    """Return a card at work: as many rows as before it began, so that nothing jumps."""
    facts = [
        (t("take.size"), _expected(source, target, dtype, t)),
        (t("take.where"), element("code", job.config.get("out") or "")),
        (t("take.state"), element("span", state(status, t), " ", _progress(status, t))),
    ]
    return _article(target, t(f"take.card.{target}.text"), facts, t)


def _expected(source: Source, target: str, dtype: str, t: Translator) -> str | Html:
    """Return how large an export will be; of the smallest file, between which sizes it will be."""
    if dtype == exports.SMALLEST and target in exports.GGUF_TARGETS:
        found = exports.expected_range(source, target)
        if found is not None:
            least, most = map(number_format.gigabytes, found)
            return t("take.size_range", least=least, most=most)
    size = exports.expected_bytes(source, target, dtype)
    return t("take.size_unknown") if size is None else number_format.size(size)


def _progress(status: Status, t: Translator) -> Html:
    bar = meter(status.step / status.of, t("strip.progress")) if status.of else ""
    return element("span", bar, " ", t.known(f"phase.{status.phase}", status.phase))


def _rough(seconds: float) -> str:
    """Return a guessed time in its largest unit; more digits would promise too much."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _done(target: str, result: Mapping[str, Any], t: Translator) -> Html:
    """Return what was made: the receipt first, then where it lies and the line that runs it."""
    facts: list[tuple[str, object]] = []
    if size := _bytes_of(result):
        facts.append((t("take.size"), number_format.size(size)))
    facts.append((t("take.where"), element("code", result.get("out") or result.get("model") or "")))
    facts += [(t("take.time"), f"{result['seconds']:,.1f} s")] if result.get("seconds") is not None else []
    parts: list[object] = [receipt(result, t)] if result.get("verdict") else []
    if result.get("created"):
        parts.append(element("p", t("take.ollama.answers", name=result["created"]), " ", result.get("answer") or ""))
    if result.get("create_error"):
        said = t("take.ollama.refused"), " ", t.heard_line(str(result["create_error"]))
        parts.append(element("p", *said, class_="wb-warn"))
    parts += [element("p", note, class_="wb-muted") for note in result.get("notes") or []]
    line = str(result.get("run") or _python_line(result))
    return _article(target, "", facts, t, copyable(t("take.use"), line, t), before=parts)


def _bytes_of(result: Mapping[str, Any]) -> int:
    if isinstance(result.get("bytes"), int):
        return int(result["bytes"])
    folder = Path(str(result.get("model") or ""))
    return folder_bytes(folder) if folder.is_absolute() and folder.is_dir() else 0


def _python_line(result: Mapping[str, object]) -> str:
    folder = str(result.get("model", ""))
    kind = exports.model_class(Path(folder))
    return f"from transformers import {kind}; model = {kind}.from_pretrained({folder!r})"


def receipt(result: Mapping[str, object], t: Translator) -> Html:
    """Return a receipt: the verdict first, then the figures it rests on."""
    verdict = str(result.get("verdict", ""))
    colour = "wb-good" if verdict == "pass" else "wb-warn"
    numbers = [
        ("take.agreement", _share(result.get("greedy_agreement"))),
        ("take.file_agreement", _share(result.get("agreement"))),
        ("take.chosen_dtype", str(result["dtype"]).upper() if result.get("dtype") else None),
        ("take.kl", _number(result.get("mean_kl"))),
        ("take.file_pace", _pace(result.get("tokens_per_s"))),
        ("take.difference", _number(result.get("max_logit_diff"))),
        ("take.memory", _size(result.get("peak_rss_bytes"))),
    ]
    facts: list[tuple[str, object]] = [(t(key), value) for key, value in numbers if value is not None]
    facts.append((t("take.receipt_file"), element("code", result.get("receipt") or "")))
    word = t.known(f"take.verdict.{verdict}", verdict)
    head = element("p", element("b", t("take.receipt")), " ", element("span", word, class_=colour))
    why = [element("p", reason, class_="wb-warn") for reason in _reasons(result)]
    return element("div", head, *why, _facts(facts), class_="wb-receipt")


def _reasons(result: Mapping[str, Any]) -> list[str]:
    """Return why a verdict is not a pass, from the receipt itself; nothing where it has been moved away."""
    if result.get("verdict") == "pass" or not result.get("receipt"):
        return []
    try:
        found = parsed_json(Path(str(result["receipt"])).read_text(encoding="utf-8"))
        return [str(reason) for reason in found["reasons"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _share(value: object) -> str | None:
    return f"{100 * value:.1f} %" if isinstance(value, (int, float)) else None


def _pace(value: object) -> str | None:
    return f"{value:,.1f} tokens/s" if isinstance(value, (int, float)) else None


def _number(value: object) -> str | None:
    return f"{value:.3g}" if isinstance(value, (int, float)) else None


def _size(value: object) -> Html | None:
    return number_format.size(value) if isinstance(value, (int, float)) else None


def copyable(label: str, text: str, t: Translator) -> Html:
    """Return text that one click copies."""
    button = element("button", t("take.copy"), type="button", class_="wb-small", data_copy=text)
    return element("div", element("span", label, class_="wb-muted"), button, element("pre", text), class_="wb-copyable")


def _article(
    target: str,
    text: str,
    facts: Sequence[tuple[str, object]],
    t: Translator,
    *rest: object,
    before: Sequence[object] = (),
) -> Html:
    title = element("h3", icons.icon(_ICONS.get(target, "file"), 22), t(f"take.card.{target}"))
    told = element("p", text) if text else ""
    return element("article", title, told, *before, _facts(facts), *rest, class_="wb-take-card")


def _facts(facts: Sequence[tuple[str, object]]) -> Html:
    rows = [element("div", element("dt", name), element("dd", value)) for name, value in facts]
    return element("dl", *rows) if rows else Html("")
