"""docs/speed.md, made from the measurements in `results/`: `python -m benchmarks.speed_page` writes it anew.

Every figure stands in one of the files there, which says with what versions, on what machine and under what other load
it was measured. What is in no file is not measured, and the page says so.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
FILE = RESULTS.parents[1] / "docs" / "speed.md"
NOT_MEASURED = "not measured"
Held = Mapping[str, Any]


@dataclass(frozen=True)
class Figure:
    """One row: a ratio, its spread over the rounds where it was kept, and what it is held to."""

    what: str
    beside: str
    source: str
    command: str
    value: Callable[[Held], float]
    spread: Callable[[Held], Sequence[float]] | None = None
    unit: str = "x"
    goal: str = ""


def _against(way: str) -> Callable[[Held], float]:
    return lambda held: held["ours_against"][way]


def _rounds(way: str) -> Callable[[Held], Sequence[float]]:
    def of(held: Held) -> Sequence[float]:
        ours, theirs = (held["ways"][name]["rounds"] for name in ("ours", way))
        return [a["per_processor_s"] / b["per_processor_s"] for a, b in zip(ours, theirs, strict=True)]

    return of


def _columns(count: int, against: str) -> Callable[[Held], float]:
    def of(held: Held) -> float:
        (row,) = (row for row in held["rows"] if row["columns"] == count)
        return float(row["processor"][against])

    return of


def _second_turn(columns: int) -> Callable[[Held], Mapping[str, float]]:
    def of(held: Held) -> Mapping[str, float]:
        (row,) = (row for row in held["rows"] if row["columns"] == columns)
        found: Mapping[str, float] = row["processor"]["sooner_by_factor"]
        return found

    return of


def _warm(held: Held) -> Mapping[str, float]:
    found: Mapping[str, float] = held["ratio"]
    return found


def _cold(held: Held) -> Mapping[str, float]:
    found: Mapping[str, float] = held["ratio_cold"]
    return found


def _ends(of: Callable[[Held], Mapping[str, float]]) -> Callable[[Held], Sequence[float]]:
    return lambda held: [of(held)["min"], of(held)["max"]]


def _median(of: Callable[[Held], Mapping[str, float]]) -> Callable[[Held], float]:
    return lambda held: of(held)["median"]


_TRAIN = ("train_speed", "python -m benchmarks.train_speed")
_SPEED = "real tokens a second, a run's defaults"
_COLUMNS = ("engine_columns", "python -m benchmarks.engine_columns")
_TURN = ("kept_prefix", "python -m benchmarks.kept_prefix")
_FIRST = ("first_step", "python -m benchmarks.first_step")
_MERGE = ("merge", "python -m benchmarks.merge")
_DATA = ("data_throughput", "python -m benchmarks.data_throughput")
FIGURES = (
    Figure(_SPEED, "TRL as it comes", *_TRAIN, _against("trl"), _rounds("trl"), goal="3.5 or more"),
    Figure(_SPEED, "TRL, packed", *_TRAIN, _against("trl packed"), _rounds("trl packed"), goal="2.2 or more"),
    Figure(
        _SPEED,
        "TRL, packed and tuned by hand",
        *_TRAIN,
        _against("trl tuned"),
        _rounds("trl tuned"),
        goal="1.4 or more",
    ),
    Figure(_SPEED, "itself with everything off that is faster", *_TRAIN, _against("plain"), _rounds("plain")),
    Figure(
        "share of the machine's own matrix limit",
        "products at the same shapes",
        *_TRAIN,
        lambda held: held["ways"]["ours"]["share_of_limit"],
        lambda held: [each["share_of_limit"] for each in held["ways"]["ours"]["rounds"]],
        unit="",
        goal="0.6 or more",
    ),
    Figure(
        "Train pressed to first step, second time",
        "the same training as a bare script",
        *_FIRST,
        _median(_warm),
        _ends(_warm),
        goal="0.7 or less",
    ),
    Figure(
        "the same from the command line", "the same training as a bare script", *_FIRST, _median(_cold), _ends(_cold)
    ),
    Figure("8 columns", "one by one", *_COLUMNS, _columns(8, "ours_against_one_by_one"), goal="4.5 or more"),
    Figure("8 columns", "PEFT's mixed batch", *_COLUMNS, _columns(8, "ours_against_peft_mixed"), goal="2 or more"),
    Figure(
        "second turn of a conversation of 1,000 tokens, to its first token",
        "without the kept prefix",
        *_TURN,
        _median(_second_turn(1)),
        _ends(_second_turn(1)),
        goal="3 or more",
    ),
    Figure(
        "the same in four columns", "without the kept prefix", *_TURN, _median(_second_turn(4)), _ends(_second_turn(4))
    ),
    Figure(
        "merge under 1 GB: memory",
        "PEFT",
        *_MERGE,
        lambda held: held["ours"]["peak_rss_bytes"] / held["peft"]["peak_rss_bytes"],
        goal="0.2 or less",
    ),
    Figure("merge under 1 GB: time", "PEFT", *_MERGE, lambda held: held["time_over_peft"], goal="0.8 or less"),
    Figure("data build, tokens a second", "TRL", *_DATA, lambda held: held["against_trl"]),
    Figure("data build, tokens a second", "LLaMA-Factory", *_DATA, lambda held: held["against_llama_factory"]),
    Figure(
        "3 GB written as Q4_K_M: time",
        "llama.cpp's own quantiser",
        "gguf_speed",
        "python -m benchmarks.gguf_speed --llama-cpp FOLDER",
        lambda held: held["ratio"],
        goal="1.3 or less",
    ),
    Figure(
        "an evaluation of base and four adapters",
        "row after row",
        "evaluation",
        "python -m benchmarks.evaluation",
        lambda held: held["speed"]["against_one_by_one"]["processor"],
    ),
    Figure(
        "what instruments cost a step",
        "a bare trainer",
        "train_overhead",
        "python -m benchmarks.train_overhead",
        lambda held: held["overhead_percent_median"],
        lambda held: held["overhead_percent_95"],
        unit=" %",
        goal="2 or less",
    ),
    Figure(
        "a plan for new settings",
        "",
        "planner_speed",
        "python -m benchmarks.planner_speed",
        lambda held: held["new_settings_ms"],
        unit=" ms",
    ),
    Figure(
        "8B on a card, 2,048 tokens, tokens a second",
        "TRL and PEFT",
        "throughput_gpu",
        "python -m benchmarks.gpu --only throughput-8b",
        lambda held: _card(held, "ours") / _card(held, "trl and peft"),
    ),
)
_HEAD = """# Speed

Made from `benchmarks/results/` by `python -m benchmarks.speed_page`; measure anew to change it. A figure is ours
against the other in one run, the median of paired rounds with the least and the most of them where they were kept.
What to aim at and how it is measured stands in [the benchmarks](../benchmarks/README.md).

| what | beside | figure | least to most | aim | source |
|---|---|---|---|---|---|"""


def page() -> str:
    """Write the whole page."""
    return "\n".join([_HEAD, *map(_row, FIGURES), "", *_sources(), ""])


def value_of(figure: Figure) -> float | None:
    """Return a figure, None where it is not measured."""
    return _found(figure, figure.value)


def _row(figure: Figure) -> str:
    value, rounds = value_of(figure), _found(figure, figure.spread) if figure.spread else None
    said = NOT_MEASURED if value is None else f"{_number(value)}{figure.unit}"
    ends = ""
    if value is not None and rounds:
        ends = f"{_number(min(rounds))} to {_number(max(rounds))}" if len(rounds) > 1 else "one round"
    link = f"[{figure.source}](../benchmarks/results/{figure.source}.json)"
    return f"| {figure.what} | {figure.beside} | {said} | {ends} | {figure.goal} | {link} |"


def _found(figure: Figure, of: Callable[[Held], Any]) -> Any:
    try:
        return of(json.loads((RESULTS / f"{figure.source}.json").read_text(encoding="utf-8")))
    except (OSError, KeyError, TypeError, ValueError):
        return None


def _card(held: Held, way: str) -> float:
    return statistics.median(each["tokens_per_s"] for each in held["ways"][way])


def _number(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def _sources() -> Iterator[str]:
    """Yield what was measured where, when, with what, as far as the file says so."""
    yield "| source | command | measured | machine | other load | versions |"
    yield "|---|---|---|---|---|---|"
    for source, command in dict.fromkeys((figure.source, figure.command) for figure in FIGURES):
        try:
            held = json.loads((RESULTS / f"{source}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            held = {}
        kept = held.get("versions") or {}
        names = ("torch", "transformers", "trl", "peft", "bitsandbytes")
        versions = ", ".join(f"{name} {kept[name]}" for name in names if name in kept)
        machine = held.get("processor") or held.get("device") or _machine(held.get("machine"))
        load = held.get("load_average") or held.get("load") or []
        cells = (
            source,
            f"`{command}`",
            str(held.get("measured", "")),
            str(machine),
            ", ".join(f"{each:.1f}" for each in load),
            versions,
        )
        yield "| " + " | ".join(cells) + " |"


def _machine(held: object) -> str:
    if isinstance(held, dict):
        return ", ".join(f"{name} {held[name]}" for name in ("cpu_count", "python") if name in held)
    return str(held or "")


if __name__ == "__main__":
    FILE.write_text(page(), encoding="utf-8")
