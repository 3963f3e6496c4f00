"""Measure how soon the second turn of a long conversation starts, with what the first turn read kept and without.

    python -m benchmarks.kept_prefix [--repeat 7] [--tokens 1000] [--columns 1 4] [--hidden 512] [--layers 8]

One model with random weights in one process, its columns asked together (the first is the base, the others have rank-16
adapters on all linear layers), by the very thread that serves the playground. The first turn's prompt has `--tokens`
tokens and its answer 16; the second turn asks 24 tokens more. A round asks both turns of a fresh conversation with the
prefix kept and without, in turn; the time is that from handing in the second turn to the first token of the last
column, of the clock and of the processor. The ratio is the median of the rounds' own ratios. The greedy tokens of both
ways must be equal in every round.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import statistics
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from app.engine.batching.sampling import Sampling
from app.engine.batching.sequence import DecodeSequence, Done, Event
from app.engine.batching.text import TextStream
from app.engine.scheduler import Decoder
from app.engine.variants import BASE, VariantSet
from app.jobs.directory import versions
from benchmarks.engine_columns import VOCABULARY, NoTokenizer, build_adapters, build_base

_ANSWER_TOKENS, _MORE_TOKENS = 16, 24
_RESULTS = Path(__file__).parent / "results" / "kept_prefix.json"


@dataclass(frozen=True)
class SecondTurn:
    """Its greedy tokens by column, the prompt tokens that were known, and the seconds to the last column's first."""

    tokens: list[list[int]]
    cached: int
    clock_s: float
    processor_s: float


def prompt(tokens: int, seed: int) -> list[int]:
    """Return random tokens."""
    generator = torch.Generator().manual_seed(seed)
    found: list[int] = torch.randint(10, VOCABULARY, (tokens,), generator=generator).tolist()
    return found


def ask(decoder: Decoder, prompts: dict[str, list[int]], tokens: int) -> dict[str, tuple[DecodeSequence, Done]]:
    """Ask all columns at once and wait for their ends."""
    events: queue.Queue[tuple[str, Event]] = queue.Queue()
    rows = {}
    for name, ids in prompts.items():
        rows[name] = DecodeSequence(
            name,
            ids,
            Sampling(temperature=0.0, max_tokens=tokens),
            TextStream(lambda found: "x" * len(found)),
            frozenset(),
            lambda event, name=name: events.put((name, event)),  # type: ignore[misc]
        )
    for row in rows.values():
        decoder.submit(row)
    ended: dict[str, tuple[DecodeSequence, Done]] = {}
    while len(ended) < len(rows):
        name, event = events.get(timeout=600)
        if isinstance(event, Done):
            ended[name] = rows[name], event
    return ended


def second_turn(decoder: Decoder, names: list[str], tokens: int, seed: int) -> SecondTurn:
    """Hold a conversation of two turns by all columns; time the first token of the second, then answer it."""
    first = ask(decoder, dict.fromkeys(names, prompt(tokens, seed)), _ANSWER_TOKENS)
    more = prompt(_MORE_TOKENS, seed + 1)
    prompts = {name: [*row.prompt, *row.tokens, *more] for name, (row, _) in first.items()}
    begin, begin_cpu = time.perf_counter(), time.process_time()
    second = ask(decoder, prompts, 1)
    taken = time.perf_counter() - begin, time.process_time() - begin_cpu
    third = ask(decoder, prompts, _ANSWER_TOKENS)
    return SecondTurn(
        [third[name][0].tokens for name in names], min(done.cached_tokens for _, done in second.values()), *taken
    )


def measure(columns: VariantSet, names: list[str], tokens: int, repeat: int) -> dict[str, Any]:
    """Compare the tokens of both ways, then time paired rounds. Raises SystemExit when the tokens differ."""
    ways = {"kept": Decoder(columns), "read anew": Decoder(columns, keep_prefixes=False)}
    for decoder in ways.values():
        decoder.start()
    clock: dict[str, list[float]] = {way: [] for way in ways}
    processor: dict[str, list[float]] = {way: [] for way in ways}
    found: dict[str, SecondTurn] = {}
    for number in range(-1, repeat):  # the first round is compared and not timed
        for way in list(ways) if number % 2 else reversed(list(ways)):
            found[way] = second_turn(ways[way], names, tokens, 10 * (number + 1))
            if number >= 0:
                clock[way].append(found[way].clock_s)
                processor[way].append(found[way].processor_s)
        if found["kept"].tokens != found["read anew"].tokens:
            sys.exit(f"round {number}: the greedy tokens differ between the ways; nothing is reported")
    for decoder in ways.values():
        decoder.close()
    return {
        "columns": len(names),
        "tokens_equal": True,
        "prompt_tokens_known": found["kept"].cached,
        "clock": _figures(clock),
        "processor": _figures(processor),
    }


def _figures(times: dict[str, list[float]]) -> dict[str, Any]:
    ratios = [slow / fast for slow, fast in zip(times["read anew"], times["kept"], strict=True)]
    return {
        "seconds": {way: _spread(found) for way, found in times.items()},
        "sooner_by_factor": _spread(ratios),
    }


def _spread(found: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(found), 4), "min": round(min(found), 4), "max": round(max(found), 4)}


def main() -> None:
    """Run and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--columns", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=1000)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--json", type=Path, default=_RESULTS)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        parameters = build_base(folder / "base", arguments.hidden, arguments.layers)
        adapters = build_adapters(folder, folder / "base", max(arguments.columns) - 1)
        model = AutoModelForCausalLM.from_pretrained(
            folder / "base", dtype=torch.float32, device_map={"": arguments.device}
        )
        columns = VariantSet(model.eval().requires_grad_(False), NoTokenizer())  # type: ignore[arg-type]
        for name, adapter in adapters.items():
            columns.add(name, adapter)
        rows = []
        for count in arguments.columns:
            rows.append(measure(columns, [BASE, *adapters][:count], arguments.tokens, arguments.repeat))
            print(json.dumps(rows[-1]), file=sys.stderr)
    result = {
        "what": "seconds from handing in the second turn to the first token of the last column, float32",
        "device": torch.cuda.get_device_name() if arguments.device == "cuda" else "cpu",
        "parameters": parameters,
        "hidden_size": arguments.hidden,
        "layers": arguments.layers,
        "first_prompt_tokens": arguments.tokens,
        "first_answer_tokens": _ANSWER_TOKENS,
        "second_prompt_tokens_more": _MORE_TOKENS,
        "repeat": arguments.repeat,
        "threads": arguments.threads,
        "load_average": [round(load, 1) for load in os.getloadavg()],
        "measured": time.strftime("%Y-%m-%d"),
        "versions": versions(),
        "rows": rows,
    }
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(arguments.json)


if __name__ == "__main__":
    main()
