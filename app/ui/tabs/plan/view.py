"""The plan as the page shows it: one sentence, the stacked bar, the methods compared, the curve, the remedies."""

from __future__ import annotations

import json
from dataclasses import dataclass

from app import catalog, hardware, planner
from app.catalog import ModelSpec
from app.config.schema import RunConfig
from app.errors import WorkbenchError
from app.hardware import GB
from app.planner import Plan, PlanRequest, Suggestion, compare_methods, largest, packing
from app.planner.alternatives.cards import fitting
from app.planner.alternatives.compare import by_method
from app.planner.alternatives.spend import spending
from app.planner.from_config import config_changes
from app.planner.machine import request_here, this_machine, within_free_memory
from app.planner.parts.positions import refuse_too_long
from app.planner.tracing import client
from app.runs.submission import measurement
from app.ui.components import messages, number_format
from app.ui.components.axes import Span
from app.ui.components.bars import Part, stacked
from app.ui.components.charts import Line, Mark, chart
from app.ui.components.forms import CARDS_GB
from app.ui.components.markup import Html, element, joined
from app.ui.components.messages import sentence
from app.ui.shell import status_bar
from app.ui.shell.language import Translator
from app.ui.shell.status_bar import meter
from app.workspace import Workspace

_LENGTHS = (128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
_MOST_SUGGESTIONS = 4
# A card reports a little less than its name says; within this share it is the same size.
_SAME_CARD = 0.1


@dataclass(frozen=True)
class PlanView:
    """What the right half of the Plan tab shows."""

    sentence: Html
    facts: Html
    remedies: Html
    bars: Html
    curve: Html
    cards: Html


@dataclass(frozen=True)
class Simulating:
    """What the Plan tab shows while a model's class is simulated."""

    sentence: Html


def request_of(config: RunConfig, workspace: Workspace) -> PlanRequest:
    """Return the planner's request for a config on the card it names, or within what is free on this machine."""
    model = catalog.find(config.model.name, config.model.revision)
    if config.data.packing:
        packing.settle_beside(model, config.model.attn_implementation, workspace.root)
    here = this_machine()
    return within_free_memory(request_here(config, workspace, model, machine=here), here)


def view(config: RunConfig, workspace: Workspace, t: Translator) -> PlanView | Simulating:
    """Return the whole view, or how far the simulation is that it waits for.

    Raises WorkbenchError for a model or a combination that cannot be planned.
    """
    request = request_of(config, workspace)
    refuse_too_long(request)
    progress = client.begin(request, workspace.root, list(by_method(request).values()))
    if progress is not None:
        return simulating(request, progress, t)
    plan = planner.estimate(request)
    found = planner.suggestions(request) if plan.fits is False else []
    return PlanView(
        sentence=sentence(joined([verdict(plan, found, t), " ", what_if(config, t)])),
        facts=facts(plan, t),
        remedies=remedies(found, t) if found else room(request, plan, t),
        bars=element("div", parts(plan, t), methods(request, plan, t)),
        curve=peak_curve(request, plan, t),
        cards=cards(config, request, workspace, t),
    )


def cards(config: RunConfig, request: PlanRequest, workspace: Workspace, t: Translator) -> Html:
    """Return on which sizes of card these settings fit, as a row of badges; nothing where that is not known."""
    try:
        if request.device != "cuda":
            named = config.changed({"memory.vram_gb": CARDS_GB[-1]})
            request = request_here(named, workspace, request.model, machine=this_machine())
        found = fitting(request, CARDS_GB)
    except WorkbenchError:
        return Html("")
    badges = []
    for size, fits in found.items():
        words = t("plan.card_fits" if fits else "plan.card_not", size=size)
        mark = element("i", "✓" if fits else "✕", aria_hidden="true")
        colour = "good" if fits else "muted"
        badges.append(element("li", mark, f" {size} GB", class_=f"wb-badge wb-{colour}", title=words, aria_label=words))
    return element("ul", element("li", t("plan.cards"), class_="wb-muted"), *badges, class_="wb-badges")


def what_if(config: RunConfig, t: Translator) -> Html:
    """Return that the card which was chosen is not this machine's, and what this machine has; nothing where it is."""
    size = config.memory.vram_gb
    if size is None:
        return Html("")
    own = hardware.readings().gpu
    if own is None:
        has = t("plan.what_if.none")
    elif own.total_bytes is None:
        has = t("plan.what_if.unsized", name=own.name)
    elif abs(own.total_bytes / GB - size) < _SAME_CARD * size:
        return Html("")
    else:
        has = t("plan.what_if.card", name=own.name, size=f"{own.total_bytes / GB:.0f}")
    return element("span", t("plan.what_if", size=f"{size:g}", has=has), class_="wb-what-if")


def simulating(request: PlanRequest, progress: client.Progress, t: Translator) -> Simulating:
    """Return that a model is measured by simulation, and how far that is."""
    numbers = {"percent": f"{100 * progress.share:.0f}", "seconds": f"{progress.seconds:.0f}"}
    words = t("plan.simulating", model=request.model.name, **numbers)
    bar = meter(progress.share, t("strip.progress"))
    return Simulating(sentence(element("span", words, " ", bar, role="status", class_="wb-simulating")))


def standing(config: RunConfig, workspace: Workspace) -> str:
    """Return a word that changes when a simulation for these settings gets further; empty when none runs."""
    model = catalog.find(config.model.name, config.model.revision)
    if not model.simulated:
        return ""
    request = request_of(config, workspace)
    return client.standing(request, list(by_method(request).values()), workspace.root)


def verdict(plan: Plan, found: list[Suggestion], t: Translator) -> Html:
    """Return whether it fits, with the numbers; a remedy when it does not."""
    peak = number_format.size(plan.device_peak)
    if plan.free_bytes is None:
        return element("span", t("plan.peak"), " ", peak, ".")
    free = number_format.size(plan.free_bytes)
    if plan.fits:
        spare = number_format.size(plan.free_bytes - plan.device_peak)
        said = element("span", t("plan.fits"), class_="wb-good")
        return element("span", said, " ", *_filled(t("plan.fits_numbers"), peak=peak, free=free, spare=spare))
    said = element("span", t("plan.not"), class_="wb-bad")
    rest: list[object] = [" ", *_filled(t("plan.not_numbers"), peak=peak, free=free)]
    if found and found[0].fits:
        saved = number_format.size(found[0].saves_bytes)
        rest += [" ", *_filled(t("plan.remedy", remedy=t.planned(found[0].text)), saved=saved)]
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


def parts(plan: Plan, t: Translator) -> Html:
    """Return the stacked bar of the parts against the free memory."""
    drawn = [Part(part.key, _part_name(part.key, plan, t), part.size_bytes) for part in plan.display]
    limit = t("plan.free_line", size=number_format.gigabytes(plan.free_bytes)) if plan.free_bytes else ""
    reserve = (plan.request.reserve_bytes or 0) if plan.request.device == "cuda" else 0
    kept = Part("reserve", t("part.reserve"), reserve)
    return element(
        "section", element("h3", t("plan.parts")), stacked(drawn, plan.free_bytes, limit, t("plan.parts"), kept)
    )


def _part_name(key: str, plan: Plan, t: Translator) -> str:
    """Return what a part is called; on a processor the libraries stand where a card's allocator keeps its reserve."""
    on_processor = plan.request.device == "cpu" and key == "allocator_reserve"
    return t("part.libraries") if on_processor else t.known(f"part.{key}", key)


def methods(request: PlanRequest, plan: Plan, t: Translator) -> Html:
    """Return full fine-tuning, LoRA and QLoRA as a table with their numbers; the chosen one is marked."""
    heads = ("method", "weights", "trained", "step", "peak", "longest")
    cells = [element("th", t(f"plan.table.{name}"), scope="col") for name in heads]
    rows = [_method_row(name, other, name == request.method, t) for name, other in compare_methods(request).items()]
    table = element("table", element("thead", element("tr", *cells)), element("tbody", *rows))
    return element(
        "section", element("h3", t("plan.methods")), element("div", table, class_="wb-table wb-methods", tabindex="0")
    )


def _method_row(name: str, plan: Plan, chosen: bool, t: Translator) -> Html:
    parts = plan.parts
    trained = parts["adapter_weights"] + parts["gradients"] + parts["optimizer"]
    rest = plan.device_peak - parts["base_weights"] - trained
    verdict = "" if plan.fits is None else t("plan.short_fits") if plan.fits else t("plan.short_not")
    longest = largest(plan.request, "seq_len") if plan.free_bytes is not None else None
    sizes = [element("td", number_format.size(size)) for size in (parts["base_weights"], trained, rest)]
    peak = element(
        "td", number_format.size(plan.device_peak), " ", verdict, class_="wb-good" if plan.fits else "wb-bad"
    )
    last = element("td", "-" if longest is None else number_format.count(longest), class_="wb-number")
    head = element("th", t(f"method.{name}"), scope="row")
    return element("tr", head, *sizes, peak, last, class_="wb-chosen" if chosen else "")


def peak_curve(request: PlanRequest, plan: Plan, t: Translator) -> Html:
    """Return the peak against the sequence length, with the card sizes as levels."""
    top = request.model.max_positions or _LENGTHS[-1]
    lengths = sorted({length for length in _LENGTHS if length <= max(top, 512)} | {request.seq_len})
    points = planner.curve(request, lengths)
    drawn = [(float(point.seq_len), point.device_peak / GB) for point in points]
    highest = max(y for _, y in drawn)
    free = [Mark(plan.free_bytes / GB, t("plan.free"), "warn")] if plan.free_bytes else []
    sizes = [Mark(float(size), f"{size} GB") for size in CARDS_GB if size <= highest * 1.6]
    limits = [mark for mark in free if mark.at <= highest * 2.5] + sizes[-3:]
    return chart(
        [Line(drawn, "", "series-0")],
        t("plan.curve"),
        unit="GB",
        marks=[Mark(float(request.seq_len), t("plan.chosen_length"), "accent")],
        limits=limits,
        x_span=Span(0.0, float(lengths[-1])),
        x_title=t("plan.curve_x"),
        height_px=180,
        from_zero=True,
    )


def remedies(found: list[Suggestion], t: Translator) -> Html:
    """Return what would make it fit, as buttons that set the form."""
    listed = [
        messages.note(t.planned(suggestion.text) + t("planner.stop"))
        if suggestion.fits is False
        else _button(
            config_changes(suggestion.changes),
            t.planned(suggestion.text),
            t("plan.saves", size=number_format.gigabytes(suggestion.saves_bytes)),
            _each(suggestion, t),
        )
        for suggestion in found[:_MOST_SUGGESTIONS]
    ]
    return element("div", element("h3", t("plan.remedies")), *listed, class_="wb-remedies")


def _each(suggestion: Suggestion, t: Translator) -> str:
    """Return what each change of a set saves, for the hover."""
    return "; ".join(
        f"{t.planned(step.text)}: -{number_format.gigabytes(step.saves_bytes)}" for step in suggestion.steps
    )


def _button(changes: dict[str, object], text: str, note: str, hover: str = "") -> Html:
    return element(
        "button",
        element("span", text),
        element("span", note, class_="wb-muted wb-number"),
        type="button",
        class_="wb-remedy",
        title=hover,
        data_pick=json.dumps(changes),
    )


def room(request: PlanRequest, plan: Plan, t: Translator) -> Html:
    """Return what else would fit: the longest rows, as a button."""
    if not plan.fits:
        return Html("")
    longest = planner.largest(request, "seq_len")
    if longest is None or longest <= request.seq_len:
        return Html("")
    text = t("plan.longest", length=number_format.count(longest))
    return element("div", _button({"data.max_length": longest}, text, t("plan.longest_note")), class_="wb-remedies")


def facts(plan: Plan, t: Translator) -> Html:
    """Return what is known of the model, what is trained, and what a reader should know."""
    shares = t(
        "plan.trained",
        trained=number_format.count(plan.trainable_params),
        total=number_format.count(plan.total_params),
        percent=f"{100 * plan.trainable_params / max(1, plan.total_params):.2g}",
    )
    bought = spending(plan.request)
    said = [*plan.warnings, *([bought.why] if bought and plan.fits else [])]
    notes = [element("li", t.planned(warning)) for warning in said]
    return element(
        "div", messages.note(shares), element("ul", *notes, class_="wb-notes") if notes else "", class_="wb-facts"
    )


def model_facts(spec: ModelSpec, t: Translator, here: Html | str = "") -> Html:
    """Return a model's size, licence, whether its publisher asks for a login, and what is said of it `here`."""
    listing = spec.listing
    if listing is None:
        return messages.note(t("plan.model_own", layers=spec.layers, hidden=number_format.count(spec.hidden)))
    gated = " " + t("plan.gated") if listing.gated else ""
    text = t("plan.model", size=f"{listing.parameters / 1e9:.2g}", licence=listing.licence, id=listing.hub_id)
    kind = " " + t("plan.model_instruct" if listing.is_instruct else "plan.model_base")
    unknown = t("plan.unknown")
    context = number_format.count(spec.max_positions) if spec.max_positions else unknown
    files = number_format.size(listing.file_bytes) if listing.file_bytes else element("span", unknown)
    reach = _filled(t("plan.model_reach", context=context), files=files)
    return messages.note(element("span", text, kind, " ", *reach, gated, here))


def measured(standing: measurement.Standing, t: Translator) -> Html:
    """Return how a measurement stands, in one line."""
    found = standing.found
    if not standing.ended:
        return messages.note(t("plan.measuring", phase=status_bar.phase_name(standing.phase, t)))
    if found is None:
        return messages.note(t("plan.measure_failed", reason=t.heard_line(standing.reason)))
    return messages.note(
        t(
            "plan.measured_cpu" if found.on_processor else "plan.measured",
            device=found.device,
            measured=number_format.gigabytes(found.measured.allocated_peak),
            predicted=number_format.gigabytes(found.predicted.allocated_peak),
            off=f"{found.off_percent:+.1f}",
        )
    )
