"""The curves of one run and the machine under it, as they stand now."""

from __future__ import annotations

import math
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from app.config.schema import parse
from app.errors import WorkbenchError
from app.hardware import GB, Readings
from app.jobs.directory import JobDirectory, Status
from app.planner import estimate, settled
from app.planner.machine import request_on
from app.planner.request import Device
from app.planner.tracing.store import with_traces
from app.runs.results import curves
from app.runs.results.curves import Curves
from app.runs.results.series import MOST_POINTS, Series
from app.ui.components import number_format
from app.ui.components.axes import Span
from app.ui.components.charts import Line, Mark, chart
from app.ui.components.markup import Html, element
from app.ui.shell.language import Translator

# Small charts are drawn some 400 pixels wide.
_SMALL_POINTS = 400
_MOST_LABELS = 8
_MOST_SMOOTHING = 99
_MOST_TICKS = 60
# Drawings of this many different views of runs are kept.
_KEPT_DRAWINGS = 16
# What happens so often that it is a tick at the foot of the curve and not a label.
_QUIET = frozenset({"checkpoint", "validation", "samples", "unloaded", "note"})
_STEPS = re.compile(r"\s*([0-9]{0,9})\s*[-–]\s*([0-9]{0,9})\s*")
_BAD = frozenset({"failed", "not finite", "diverged"})
# Curves of the machine: series, title, scale, unit.
_MACHINE: tuple[tuple[str, str, float, str], ...] = (
    ("gpu_load_percent", "train.gpu_load", 1, "%"),
    ("gpu_temperature_c", "train.gpu_temperature", 1, "°C"),
    ("gpu_power_w", "train.gpu_power", 1, "W"),
    ("ram_free_bytes", "train.ram_free", GB, "GB"),
    ("disk_free_bytes", "train.disk_free", GB, "GB"),
)
# Every machine can be asked for these: their place is kept before the first reading, so that nothing jumps.
_ALWAYS_READ: frozenset[str] = frozenset({"ram_free_bytes", "disk_free_bytes"})


@dataclass(frozen=True)
class View:
    """How curves are looked at: the steps from `low` to `high` (None is the end), the scale and smoothing of the loss.

    `smoothing` is the weight of the past in percent; 0 lets it follow the length of the run.
    """

    low: float | None = None
    high: float | None = None
    log: bool = False
    smoothing: int = 0

    @classmethod
    def of(cls, steps: Any, log: Any, smoothing: Any = 0) -> View:
        """Return the view of what a form holds: steps such as `20-60`, `20-` or `-60`; anything else is the whole."""
        match = _STEPS.fullmatch(steps) if isinstance(steps, str) else None
        ends = [float(end) if end else None for end in match.groups()] if match else [None, None]
        is_share = isinstance(smoothing, (int, float)) and 0 <= smoothing <= _MOST_SMOOTHING
        return cls(ends[0], ends[1], bool(log), int(smoothing) if is_share else 0)

    @property
    def steps(self) -> str:
        """Return the steps as the form holds them."""
        low, high = ("" if end is None else f"{end:.0f}" for end in (self.low, self.high))
        return f"{low}-{high}" if low or high else ""

    def span(self, found: Curves, of: int) -> Span | None:
        """Return the steps that are shown, or None to follow the data."""
        ends = [float(of)] if of else list(found["loss"].steps[-1:])
        if not ends:
            return None
        low = self.low or 0.0
        high = ends[0] if self.high is None else self.high
        return Span(low, high) if high > low else Span(0.0, max(ends[0], 1.0))

    def zoomed(self, shares: str, whole: Span) -> View:
        """Return the view of a part of what is shown now, given as `0.25:0.5`; anything else shows all."""
        try:
            first, last = sorted(float(word) for word in shares.split(":"))
        except ValueError:
            return View(log=self.log, smoothing=self.smoothing)
        if not (0 <= first < last <= 1) or (last - first) * (whole.high - whole.low) < 1:
            return self
        width = whole.high - whole.low
        return replace(self, low=round(whole.low + first * width), high=round(whole.low + last * width))


WHOLE = View()


def charts(job: JobDirectory, view: View, t: Translator) -> Html:
    """Return the loss chart and the small ones below it; every open page that shows the same gets the same drawing."""
    found, status = curves.read(job.metrics_file), job.status()
    mark = (job.metrics_file, found.inode, found.offset, status.of, status.final, view, t.language)
    with _lock:
        drawn = _drawn.get(mark)
    if drawn is None:
        drawn = _draw(job, found, status, view, t)
        with _lock:
            _drawn[mark] = drawn
            while len(_drawn) > _KEPT_DRAWINGS:
                _drawn.popitem(last=False)
    return drawn


_drawn: OrderedDict[tuple[Any, ...], Html] = OrderedDict()
_lock = threading.Lock()


def _draw(job: JobDirectory, found: Curves, status: Status, view: View, t: Translator) -> Html:
    span = view.span(found, status.of)
    empty = t("train.no_points") if status.final else t("train.waiting")
    large = chart(
        loss_lines(found, span, t, view.smoothing),
        t("train.loss"),
        marks=[*_event_marks(found, t), *_gap_marks(found["loss"], t)],
        x_span=span,
        x_title=t("train.steps"),
        height_px=260,
        empty=empty,
        log=view.log,
    )
    return element("div", large, element("div", *_small(job, found, span, t, empty), class_="wb-small-charts"))


def loss_lines(found: Curves, span: Span | None, t: Translator, smoothing: int = 0) -> list[Line]:
    """Return the loss of each step, smoothed, and on the rows kept back."""
    low, high = (span.low, span.high) if span else (-math.inf, math.inf)
    loss, validation = found["loss"], found["eval_loss"]
    lines = [
        Line(loss.thinned(MOST_POINTS, low, high), t("train.loss_raw"), "series-0", "faint"),
        Line(loss.smoothed(MOST_POINTS, low, high, smoothing / 100 or None), t("train.loss_smooth"), "series-0"),
    ]
    if len(validation):
        shown = validation.thinned(MOST_POINTS, low, high)
        lines.append(Line(shown, t("train.loss_validation"), "series-1", "dotted"))
    return lines


def _preferences(found: Curves, span: Span | None, t: Translator) -> list[Html]:
    """Return the curves of a run on preferences; none of another run."""
    low, high = (span.low, span.high) if span else (-math.inf, math.inf)

    def line(name: str, title: str = "", colour: str = "series-0", scale: float = 1) -> Line:
        points = found[name].thinned(_SMALL_POINTS, low, high)
        return Line([(x, y * scale) for x, y in points], title, colour)

    drawn: list[tuple[str, str, list[Line]]] = []
    if len(found["rewards_margin"]):
        drawn.append(("train.rewards_margin", "", [line("rewards_margin")]))
    if len(found["rewards_accuracy"]):
        drawn.append(("train.rewards_accuracy", "%", [line("rewards_accuracy", scale=100)]))
    sides = [
        ("rewards_chosen", "train.rewards_chosen", "series-0"),
        ("rewards_rejected", "train.rewards_rejected", "series-1"),
    ]
    lines = [line(name, t(title), colour) for name, title, colour in sides if len(found[name])]
    if lines:
        drawn.append(("train.rewards", "", lines))
    if len(found["kl"]):
        drawn.append(("train.kl", "", [line("kl")]))
    return [
        chart(lines, t(title), unit=unit, x_span=span, height_px=96, empty=t("train.waiting"))
        for title, unit, lines in drawn
    ]


def _small(job: JobDirectory, found: Curves, span: Span | None, t: Translator, empty: str) -> list[Html]:
    on_card = len(found["vram_bytes"]) > 0
    memory = found["vram_bytes"] if on_card else found["rss_bytes"]
    planned = planned_bytes(job.job_file, on_card) if len(memory) else None
    limits = [Mark(planned / GB, t("train.planned"), "warn")] if planned else []
    shown: list[tuple[str, Series, float, str, list[Mark]]] = [
        ("train.learning_rate", found["learning_rate"], 1, "", []),
        ("train.grad_norm", found["grad_norm"], 1, "", []),
        ("train.pace", found["tokens_per_s"], 1, "", []),
        ("train.vram" if on_card else "train.ram", memory, GB, "GB", limits),
    ]
    # Of the machine only what it can be asked for: no empty chart of a card that is not there.
    expected = frozenset() if job.status().final else _ALWAYS_READ
    readable = [one for one in _MACHINE if len(found[one[0]]) or one[0] in expected]
    shown += [(key, found[name], scale, unit, []) for name, key, scale, unit in readable]
    low, high = (span.low, span.high) if span else (-math.inf, math.inf)
    return _preferences(found, span, t) + [
        chart(
            [Line([(x, y / scale) for x, y in series.thinned(_SMALL_POINTS, low, high)], "", "series-0")],
            t(title),
            unit=unit,
            limits=levels,
            x_span=span,
            height_px=96,
            empty=empty,
            from_zero=True,
        )
        for title, series, scale, unit, levels in shown
    ]


def planned_bytes(job_file: Path, on_card: bool) -> int | None:
    """Return what the planner foresaw for a run as it was handed in, with what it has settled since.

    On a card it is the peak of live tensors, which is what the trainer counts there; without one it is the whole
    process, libraries included.
    """
    file = job_file.parent / settled.FILE
    return _planned_bytes(job_file, on_card, file.stat().st_mtime_ns if file.exists() else 0)


@lru_cache(maxsize=256)
def _planned_bytes(job_file: Path, on_card: bool, settled_ns: int) -> int | None:
    try:
        config = parse(JobDirectory(job_file.parent).config, job_file.parent.name)
        config, workspace = settled.applied(config, job_file.parent), job_file.parents[2]
        device: Device = "cuda" if on_card else "cpu"
        planned = estimate(with_traces(request_on(device, config, workspace=workspace), workspace))
        return planned.allocated_peak if on_card else planned.device_peak
    except WorkbenchError:  # a model that is not there any more; the curve is shown without the line
        return None


def _event_marks(found: Curves, t: Translator) -> list[Mark]:
    """Return the events as marks: the newest with their names, the frequent ones as ticks."""
    quiet = [event for event in found.events if event.get("event") in _QUIET]
    loud = [event for event in found.events if event.get("event") not in _QUIET]
    return [_mark(event, t, True) for event in quiet[-_MOST_TICKS:]] + [
        _mark(event, t, False) for event in loud[-_MOST_LABELS:]
    ]


def _mark(event: dict[str, object], t: Translator, quiet: bool) -> Mark:
    name, step = str(event.get("event")), event.get("step")
    colour = "bad" if name in _BAD else "muted"
    at = float(step) if isinstance(step, (int, float)) else 0.0
    label = "" if quiet else t.known(f"event.{name}", name[:30])
    return Mark(at, label, colour, f"{at:.0f}: {t.heard(str(event.get('message', '')))[:300]}", quiet)


def _gap_marks(loss: Series, t: Translator) -> Iterator[Mark]:
    """Yield a mark where a stretch of values that are not finite begins; after the first few of them a tick."""
    before, count = -math.inf, 0
    for gap in loss.gaps[:_MOST_TICKS]:
        if gap > before + 1:
            note = t("train.gap_note", step=f"{gap:.0f}")
            yield Mark(gap, t("train.gap"), "bad", note, quiet=count >= _MOST_LABELS)
            count += 1
        before = gap


def instruments(job: JobDirectory, readings: Readings, t: Translator) -> Html:
    """Return what the machine does under a living run: card, memory, disk."""
    status = job.status()
    if not status.live:
        return Html("")
    shown = [
        (t("train.ram_free"), number_format.gigabytes(readings.ram_free_bytes)),
        (t("train.disk_free"), number_format.gigabytes(readings.disk_free_bytes)),
    ]
    card = readings.gpu
    if card is None:
        shown.insert(0, (t("train.cpu_load"), f"{readings.cpu_percent:.0f} %"))
    else:
        known = [
            (
                t("train.gpu_memory"),
                None
                if card.used_bytes is None or card.total_bytes is None
                else f"{card.used_bytes / GB:.1f} / {number_format.gigabytes(card.total_bytes)}",
            ),
            (t("train.gpu_load"), None if card.load_percent is None else f"{card.load_percent} %"),
            (t("train.gpu_temperature"), None if card.temperature_c is None else f"{card.temperature_c} °C"),
            (t("train.gpu_power"), None if card.power_w is None else f"{card.power_w:.0f} W"),
        ]
        shown = [(name, value) for name, value in known if value is not None] + shown
    return element(
        "dl",
        *(element("div", element("dt", name), element("dd", value, class_="wb-number")) for name, value in shown),
        class_="wb-instruments",
    )
