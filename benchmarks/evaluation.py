"""Measure an evaluation of base and four adapters in one pass against one by one, and what a marked weight keeps.

    python -m benchmarks.evaluation --adapter pirate=DIR --adapter structured=DIR --adapter teacher=DIR
        --adapter over=DIR [--over pirate] [--prompts 100] [--repeat 3]

The adapters are those of `launch.py train --preset cpu-starter` on the sample sets, and one that was trained far too
long (`--over` names its style). Speed: the whole measurement (loss, answers, scores) of all five columns on held-out
prompts, in the evaluation's own batches and row after row, column after column. Rounds are paired and the ratio is the
median of their own. Both the clock and the processor's time are taken: with one thread they agree on a quiet machine.

Curves: for every adapter, gain in exact match on its style's held-out prompts and KL from the base on the general
probes, over the weights 0 to 1.5; the marked weight against weight 1.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from app.data.chat_template.render import Renderer
from app.data.chat_template.templates import PLAIN_TEMPLATES, render_limit
from app.data.chat_template.tokenizer import load_tokenizer as load_template_tokenizer
from app.data.dataset.examples import ExampleMaker
from app.data.dataset.options import DataOptions
from app.engine.batching.adapter_stack import Mix
from app.engine.variants import BASE, VariantSet
from app.evaluation.answers import Source
from app.evaluation.held_out import curves, forgetting
from app.evaluation.held_out.cases import Case, read_cases
from app.evaluation.held_out.measuring import Measured, Measurer
from app.evaluation.held_out.requests import WEIGHTS, Expectations
from app.jobs.directory import versions
from app.models.loading import load_base, load_tokenizer
from app.models.names import resolve
from app.models.prompts import Prompts
from assets.build import world
from assets.build.samples import SAMPLES
from assets.build.styles import STYLES

_RESULTS = Path(__file__).parent / "results" / "evaluation.json"
_DATASETS = Path(__file__).resolve().parents[1] / "assets" / "datasets"
_METRICS = ["loss", "exact_match", "contains"]


def held_out(style: str) -> str:
    """Return the held-out prompts of a style as rows, with the answer in the style."""
    answers = {(question, fact.key): fact.answer for fact in world.facts() for question in fact.questions}
    file = next(sample.prompts_file for sample in SAMPLES if sample.style == style)
    lines = []
    for one in json.loads((_DATASETS / file).read_text(encoding="utf-8"))["prompts"]:
        answer = STYLES[style].dress(answers[one["prompt"], one["keys"][0]])
        row = {"prompt": one["prompt"], "completion": answer, "contains": one["keys"]}
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    return "".join(lines)


def cases_of(style: str, maker: ExampleMaker, limit: int) -> tuple[Case, ...]:
    """Return the held-out rows of a style as cases."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / f"{style}.jsonl"
        file.write_text(held_out(style), encoding="utf-8")
        return read_cases(file, maker, Expectations(), limit).cases


def measure_speed(measurer: Measurer, names: list[str], cases: tuple[Case, ...], repeat: int) -> dict[str, object]:
    """Time both ways in paired rounds. Raises SystemExit where their scores differ."""

    def one_by_one() -> list[Measured]:
        found = []
        for name in names:
            rows = [measurer.measure([case], [name], _METRICS)[0] for case in cases]
            found.append(
                Measured(
                    [row.likelihoods[0] for row in rows], [row.answers[0] for row in rows], [r.scores[0] for r in rows]
                )
            )
        return found

    ways: dict[str, Callable[[], list[Measured]]] = {
        "one_by_one": one_by_one,
        "column_by_column": lambda: [measurer.measure(cases, [name], _METRICS)[0] for name in names],
        "one_pass": lambda: measurer.measure(cases, names, _METRICS),
    }
    clock: dict[str, list[float]] = {way: [] for way in ways}
    processor: dict[str, list[float]] = {way: [] for way in ways}
    equal = 1.0
    for number in range(repeat):
        answers = {}
        for way in list(ways) if number % 2 == 0 else list(reversed(ways)):
            begin, begin_cpu = time.perf_counter(), time.process_time()
            answers[way] = [answer.text for one in ways[way]() for answer in one.answers]
            clock[way].append(time.perf_counter() - begin)
            processor[way].append(time.process_time() - begin_cpu)
        pairs = list(zip(answers["one_by_one"], answers["one_pass"], strict=True))
        equal = min(equal, sum(a == b for a, b in pairs) / len(pairs))
    return {
        "columns": len(names),
        "prompts": len(cases),
        "rounds": repeat,
        "equal_answers": equal,
        "clock_s": {way: round(statistics.median(found), 3) for way, found in clock.items()},
        "processor_s": {way: round(statistics.median(found), 3) for way, found in processor.items()},
        "against_one_by_one": _ratios(clock, processor, "one_by_one"),
        "against_column_by_column": _ratios(clock, processor, "column_by_column"),
    }


def _ratios(clock: dict[str, list[float]], processor: dict[str, list[float]], slow: str) -> dict[str, float]:
    return {
        name: round(statistics.median(a / b for a, b in zip(times[slow], times["one_pass"], strict=True)), 2)
        for name, times in (("clock", clock), ("processor", processor))
    }


def measure_curve(
    measurer: Measurer, name: str, cases: tuple[Case, ...], probes: tuple[Case, ...]
) -> dict[str, object]:
    """Draw one adapter's curve and hold the marked weight against weight 1."""
    begin = time.process_time()
    curve = curves.over_weights(measurer, name, WEIGHTS, cases, probes, "exact_match")
    whole, best = next(one for one in curve.points if one.at == 1.0), curve.best_point
    marked: Source = Mix(((name, curve.best),)) if curve.best else BASE
    base, column, kept_one = measurer.measure(probes, [BASE, name, marked], ["contains"], divergence=True)
    lost, still = (
        forgetting.forgetting(probes, base.likelihoods, one.likelihoods, base.answers, one.answers)
        for one in (column, kept_one)
    )
    kept = (
        {"gain": best.gain / whole.gain, "forgetting": best.kl / whole.kl, "flipped": still.flipped}
        if best and whole.gain and whole.kl
        else None
    )
    return {
        "adapter": name,
        "prompts": len(cases),
        "at_weight_1": {"gain": whole.gain, "kl": whole.kl, "flipped": lost.flipped, "known": lost.known},
        "best": curve.best,
        "kept_share": kept,
        "processor_s": round(time.process_time() - begin, 1),
        "points": [asdict(point) for point in curve.points],
    }


def main() -> None:
    """Run and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adapter", action="append", required=True, metavar="NAME=DIR")
    parser.add_argument("--over", default="pirate", help="style of the adapters whose name is no style")
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=("curves", "speed"), default=("curves", "speed"))
    parser.add_argument("--json", type=Path, default=_RESULTS)
    arguments = parser.parse_args()
    adapters = dict(word.split("=", 1) for word in arguments.adapter)
    model = resolve("starter")
    columns = VariantSet(load_base(model), load_tokenizer(model))
    prompts = Prompts(columns.model, columns.tokenizer, PLAIN_TEMPLATES, render_limit)
    for name, folder in adapters.items():
        columns.add(name, Path(folder))
        prompts.learn(name, Path(folder))
    measurer = Measurer(columns, prompts, 48, lambda phase, done, of: True)
    maker = ExampleMaker(Renderer(load_template_tokenizer(Path(model))), DataOptions(max_length=512))
    probes = read_cases(forgetting.PROBES, maker, Expectations()).cases
    styles = {name: name if name in STYLES else arguments.over for name in adapters}
    if "curves" in arguments.only:
        drawn: list[dict[str, object]] = []
        for name, style in styles.items():
            drawn.append(measure_curve(measurer, name, cases_of(style, maker, arguments.prompts), probes))
            note(arguments.json, curves=drawn)
    if "speed" in arguments.only:
        first = cases_of(next(iter(styles.values())), maker, arguments.prompts)
        note(arguments.json, speed=measure_speed(measurer, [BASE, *adapters], first, arguments.repeat))


def note(file: Path, **found: object) -> None:
    """Put a part of the results into their file; the other parts stay."""
    held = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    told = {"load_average": [round(load, 1) for load in os.getloadavg()], "measured": time.strftime("%Y-%m-%d")}
    result = {**held, "what": "the bundled starter in NF4 on one thread", **told, "versions": versions(), **found}
    file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
