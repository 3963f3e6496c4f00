"""The plan as the page shows it: one sentence, the stacked bar, the methods compared, the curve, the remedies."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from app import catalog, hardware, planner
from app.catalog import ModelSpec
from app.config import RunConfig
from app.planner import Plan, PlanRequest, Suggestion, compare_methods, largest
from app.planner.from_config import config_changes, request_from_config
from app.planner.history import CPU, corrections
from app.ui import figures, notices
from app.ui.axes import Span
from app.ui.bars import Part, stacked
from app.ui.charts import Line, Mark, chart
from app.ui.forms import CARDS_GB
from app.ui.language import Speech
from app.ui.markup import Html, element
from app.ui.notices import sentence
from app.workspace import Workspace

_LENGTHS = (128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
_MOST_SUGGESTIONS = 4


@dataclass(frozen=True)
class PlanView:
    """What the right half of the Plan tab shows."""

    sentence: Html
    facts: Html
    remedies: Html
    bars: Html
    curve: Html


def request_of(config: RunConfig, workspace: Workspace) -> PlanRequest:
    """Return the planner's request for a config on the card it names, or on this machine, with what was measured here.

    A processor's measurements are for plans of the processor alone.
    """
    model = catalog.find(config.model.name, config.model.revision)
    machine = hardware.readings()
    if machine.gpu is None and config.memory.vram_gb is None:
        # On the processor everything is computed in fp32, and the machine's memory is the limit.
        request = request_from_config(config, model, dtype="fp32").changed(device="cpu")
        return request.changed(free_bytes=machine.ram_free_bytes, corrections=corrections(workspace, CPU))
    measured = corrections(workspace, machine.gpu.name) if machine.gpu is not None else ()
    request = request_from_config(config, model).changed(corrections=measured)
    if machine.gpu is None or config.memory.vram_gb is not None:
        return request
    reserve = int(config.memory.reserve_gb * figures.GB)
    return request.changed(free_bytes=max(0, machine.gpu.free_bytes - reserve), reserve_bytes=reserve)


def view(config: RunConfig, workspace: Workspace, say: Speech) -> PlanView:
    """Return the whole view. Raises WorkbenchError for a model or a combination that cannot be planned."""
    request = request_of(config, workspace)
    plan = planner.estimate(request)
    found = planner.suggestions(request) if plan.fits is False else []
    return PlanView(
        sentence=sentence(verdict(plan, found, say)),
        facts=facts(plan, say),
        remedies=remedies(found, say) if found else room(request, plan, say),
        bars=element("div", parts(plan, say), methods(request, plan, say)),
        curve=peak_curve(request, plan, say),
    )


def verdict(plan: Plan, found: list[Suggestion], say: Speech) -> Html:
    """Return whether it fits, with the numbers; a remedy when it does not."""
    peak = figures.size(plan.device_peak)
    if plan.free_bytes is None:
        return element("span", say("plan.peak"), " ", peak, ".")
    free = figures.size(plan.free_bytes)
    if plan.fits:
        spare = figures.size(plan.free_bytes - plan.device_peak)
        said = element("span", say("plan.fits"), class_="wb-good")
        return element("span", said, " ", *_filled(say("plan.fits_numbers"), peak=peak, free=free, spare=spare))
    said = element("span", say("plan.not"), class_="wb-bad")
    rest: list[object] = [" ", *_filled(say("plan.not_numbers"), peak=peak, free=free)]
    if found and found[0].fits:
        saved = figures.size(found[0].saves_bytes)
        rest += [" ", *_filled(say("plan.remedy", remedy=say.planned(found[0].text)), saved=saved)]
    return element("span", said, *rest)


def _filled(text: str, **values: Html) -> list[object]:
    """Return a text with `[name]` replaced by markup."""
    parts: list[object] = [text]
    for name, value in values.items():
        split: list[object] = []
        for part in parts:
            if isinstance(part, Html) or not isinstance(part, str):
                split.append(part)
                continue
            before, mark, after = part.partition(f"[{name}]")
            split += [before, value, after] if mark else [part]
        parts = split
    return parts


def parts(plan: Plan, say: Speech) -> Html:
    """Return the stacked bar of the parts against the free memory."""
    drawn = [Part(part.key, _part_name(part.key, plan, say), part.size_bytes) for part in plan.display]
    limit = say("plan.free_line", size=figures.gigabytes(plan.free_bytes)) if plan.free_bytes else ""
    reserve = (plan.request.reserve_bytes or 0) if plan.request.device == "cuda" else 0
    kept = Part("reserve", say("part.reserve"), reserve)
    return element(
        "section", element("h3", say("plan.parts")), stacked(drawn, plan.free_bytes, limit, say("plan.parts"), kept)
    )


def _part_name(key: str, plan: Plan, say: Speech) -> str:
    """Return what a part is called; on a processor the libraries stand where a card's allocator keeps its reserve."""
    on_processor = plan.request.device == "cpu" and key == "allocator_reserve"
    return say("part.libraries") if on_processor else say.known(f"part.{key}", key)


def methods(request: PlanRequest, plan: Plan, say: Speech) -> Html:
    """Return full fine-tuning, LoRA and QLoRA as a table with their numbers; the chosen one is marked."""
    heads = ("method", "weights", "trained", "step", "peak", "longest")
    cells = [element("th", say(f"plan.table.{name}"), scope="col") for name in heads]
    rows = [_method_row(name, other, name == request.method, say) for name, other in compare_methods(request).items()]
    table = element("table", element("thead", element("tr", *cells)), element("tbody", *rows))
    return element("section", element("h3", say("plan.methods")), element("div", table, class_="wb-table wb-methods"))


def _method_row(name: str, plan: Plan, chosen: bool, say: Speech) -> Html:
    parts = plan.parts
    trained = parts["adapter_weights"] + parts["gradients"] + parts["optimizer"]
    rest = plan.device_peak - parts["base_weights"] - trained
    verdict = "" if plan.fits is None else say("plan.short_fits") if plan.fits else say("plan.short_not")
    longest = largest(plan.request, "seq_len") if plan.free_bytes is not None else None
    sizes = [element("td", figures.size(size)) for size in (parts["base_weights"], trained, rest)]
    peak = element("td", figures.size(plan.device_peak), " ", verdict, class_="wb-good" if plan.fits else "wb-bad")
    last = element("td", "-" if longest is None else figures.count(longest), class_="wb-number")
    head = element("th", say(f"method.{name}"), scope="row")
    return element("tr", head, *sizes, peak, last, class_="wb-chosen" if chosen else "")


def peak_curve(request: PlanRequest, plan: Plan, say: Speech) -> Html:
    """Return the peak against the sequence length, with the card sizes as levels."""
    top = request.model.max_positions or _LENGTHS[-1]
    lengths = sorted({length for length in _LENGTHS if length <= max(top, 512)} | {request.seq_len})
    points = planner.curve(request, lengths)
    drawn = [(float(point.seq_len), point.device_peak / figures.GB) for point in points]
    highest = max(y for _, y in drawn)
    free = [Mark(plan.free_bytes / figures.GB, say("plan.free"), "warn")] if plan.free_bytes else []
    sizes = [Mark(float(size), f"{size} GB") for size in CARDS_GB if size <= highest * 1.6]
    limits = [mark for mark in free if mark.at <= highest * 2.5] + sizes[-3:]
    return chart(
        [Line(drawn, "", "series-0")],
        say("plan.curve"),
        unit="GB",
        marks=[Mark(float(request.seq_len), say("plan.chosen_length"), "accent")],
        limits=limits,
        x_span=Span(0.0, float(lengths[-1])),
        x_title=say("plan.curve_x"),
        height_px=180,
        from_zero=True,
    )


def remedies(found: list[Suggestion], say: Speech) -> Html:
    """Return what would make it fit, as buttons that set the form."""
    listed = [
        notices.note(say.planned(suggestion.text) + say("planner.stop"))
        if suggestion.fits is False
        else _button(
            config_changes(suggestion.changes),
            say.planned(suggestion.text),
            _saving(suggestion, say),
            _each(suggestion, say),
        )
        for suggestion in found[:_MOST_SUGGESTIONS]
    ]
    return element("div", element("h3", say("plan.remedies")), *listed, class_="wb-remedies")


def _each(suggestion: Suggestion, say: Speech) -> str:
    """Return what each change of a set saves, for the hover."""
    return "; ".join(f"{say.planned(step.text)}: -{figures.gigabytes(step.saves_bytes)}" for step in suggestion.steps)


def _saving(suggestion: Suggestion, say: Speech) -> str:
    return say("plan.saves", size=figures.gigabytes(suggestion.saves_bytes))


def _button(changes: dict[str, Any], text: str, note: str, hover: str = "") -> Html:
    return element(
        "button",
        element("span", text),
        element("span", note, class_="wb-muted wb-number"),
        type="button",
        class_="wb-remedy",
        title=hover,
        data_pick=json.dumps(changes),
    )


def room(request: PlanRequest, plan: Plan, say: Speech) -> Html:
    """Return what else would fit: the longest rows, as a button."""
    if not plan.fits:
        return Html("")
    longest = planner.largest(request, "seq_len")
    if longest is None or longest <= request.seq_len:
        return Html("")
    text = say("plan.longest", length=figures.count(longest))
    return element("div", _button({"data.max_length": longest}, text, say("plan.longest_note")), class_="wb-remedies")


def facts(plan: Plan, say: Speech) -> Html:
    """Return what is known of the model, what is trained, and what a reader should know."""
    shares = say(
        "plan.trained",
        trained=figures.count(plan.trainable_params),
        total=figures.count(plan.total_params),
        percent=f"{100 * plan.trainable_params / max(1, plan.total_params):.2g}",
    )
    notes = [element("li", say.planned(warning)) for warning in plan.warnings]
    return element(
        "div", notices.note(shares), element("ul", *notes, class_="wb-notes") if notes else "", class_="wb-facts"
    )


def model_facts(spec: ModelSpec, say: Speech) -> Html:
    """Return a model's size, licence and whether its publisher asks for a login."""
    listing = spec.listing
    if listing is None:
        return notices.note(say("plan.model_own", layers=spec.layers, hidden=figures.count(spec.hidden)))
    gated = " " + say("plan.gated") if listing.gated else ""
    text = say("plan.model", size=f"{listing.parameters / 1e9:.2g}", licence=listing.licence, id=listing.hub_id)
    return notices.note(text + gated)
