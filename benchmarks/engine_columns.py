"""Measure how long 1, 2, 4 and 8 columns take: one after another, PEFT's mixed batch, and the engine's stacked batch.

    python -m benchmarks.engine_columns [--repeat 5] [--tokens 64] [--hidden 512] [--layers 8] [--threads 1]
    python -m benchmarks.engine_columns --device cuda --hidden 2048 --layers 28 --json RESULTS.json

Everything runs in one process on one model with random weights, one prompt, rank-16 adapters on all linear layers (the
first column is the base). Rounds are paired: each repeats the three ways one after another, so that other load on the
machine meets all of them; the speed-up is the median of the rounds' own ratios. Seconds of the clock and of the
processor are both taken: with one thread they are the same on a quiet machine, and on a busy one the latter count the
work alone. The greedy tokens of all three ways are compared before anything is timed. On a card sums are taken in
another order for every batch size, so the share of equal tokens is reported there instead of demanded.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen3Config

from app.engine.batching.decode_batch import DecodeBatch
from app.engine.batching.sampling import Sampling
from app.engine.batching.sequence import DecodeSequence, Event
from app.engine.batching.text import TextStream
from app.engine.variants import BASE, VariantSet
from app.jobs.directory import versions

VOCABULARY = 8192
_RANK = 16
_PROMPT_TOKENS = 48
_RESULTS = Path(__file__).parent / "results" / "engine_columns.json"
Tokens = list[list[int]]


def build_base(folder: Path, hidden: int, layers: int) -> int:
    """Write a Qwen3-like model with random weights and return its number of parameters."""
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        num_key_value_heads=max(1, hidden // 128),
        head_dim=64,
        tie_word_embeddings=True,
    )
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    return sum(parameter.numel() for parameter in model.parameters())


def build_adapters(folder: Path, base: Path, count: int) -> dict[str, Path]:
    """Write adapters with random weights, B included, large enough to change answers."""
    made = {}
    for number in range(count):
        torch.manual_seed(100 + number)
        model = get_peft_model(
            AutoModelForCausalLM.from_pretrained(base),
            LoraConfig(r=_RANK, lora_alpha=2 * _RANK, target_modules="all-linear", task_type="CAUSAL_LM"),
        )
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.02)
        made[f"adapter{number}"] = folder / f"adapter{number}"
        model.save_pretrained(str(made[f"adapter{number}"]))
    return made


class Ways:
    """The three ways of answering one prompt by several columns. Each returns the new tokens of every column."""

    def __init__(self, base: Path, adapters: dict[str, Path], prompt: list[int], tokens: int, device: str) -> None:
        self._prompt, self._tokens, self.device = prompt, tokens, torch.device(device)
        model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, device_map={"": self.device})
        for name, folder in adapters.items():
            if isinstance(model, PeftModel):
                model.load_adapter(str(folder), adapter_name=name)
            else:
                model = PeftModel.from_pretrained(model, str(folder), adapter_name=name)
        self._peft = model.eval()
        plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, device_map={"": self.device})
        plain = plain.eval().requires_grad_(False)
        self._columns = VariantSet(plain, NoTokenizer())  # type: ignore[arg-type]
        for name, folder in adapters.items():
            self._columns.add(name, folder)

    def one_by_one(self, names: list[str]) -> Tokens:
        """Switch with set_adapter and generate, column after column."""
        answers = []
        for name in names:
            if name == BASE:
                with self._peft.disable_adapter():
                    answers += self._generate(1)
            else:
                self._peft.set_adapter(name, inference_mode=True)
                answers += self._generate(1)
        return answers

    def peft_mixed(self, names: list[str]) -> Tokens:
        """Generate all columns in one batch with PEFT's adapter_names."""
        return self._generate(len(names), adapter_names=["__base__" if name == BASE else name for name in names])

    def ours(self, names: list[str]) -> Tokens:
        """Decode all columns in one lane of the engine."""
        rows = [self._row(name) for name in names]
        batch = DecodeBatch(self._columns)
        batch.join(rows)
        while batch.rows:
            batch.step()
        return [row.tokens for row in rows]

    def adding_s(self, names: list[str]) -> float:
        """Return what it takes until a batch is routed to one more adapter that is loaded already."""
        self._columns._select(names[:-1])
        self.wait()
        begin = time.perf_counter()
        self._columns._select(names)
        self.wait()
        return time.perf_counter() - begin

    def loading_s(self, folder: Path) -> float:
        """Return what it takes to load one more adapter, its identity proof included, while the base stays."""
        begin = time.perf_counter()
        self._columns.add("one more", folder)
        self.wait()
        taken = time.perf_counter() - begin
        self._columns.remove("one more")
        return taken

    def wait(self) -> None:
        """Wait until a card has done what was asked of it."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def _generate(self, rows: int, **settings: Any) -> Tokens:
        ids = torch.tensor([self._prompt] * rows, device=self.device)
        with torch.inference_mode():
            found = self._peft.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=self._tokens,
                do_sample=False,
                eos_token_id=None,
                pad_token_id=0,
                **settings,
            )
        answers: Tokens = found[:, ids.shape[1] :].tolist()
        return answers

    def _row(self, name: str) -> DecodeSequence:
        events: list[Event] = []
        sampling = Sampling(temperature=0.0, max_tokens=self._tokens)
        return DecodeSequence(
            name, self._prompt, sampling, TextStream(lambda ids: "x" * len(ids)), frozenset(), events.append
        )


class NoTokenizer(PreTrainedTokenizerFast):  # type: ignore[misc]
    """Stands in where only the identity proof wants token ids."""

    def __init__(self) -> None:
        pass

    def __call__(self, text: str, **settings: Any) -> dict[str, list[int]]:  # type: ignore[override]
        """Return fixed ids."""
        return {"input_ids": list(range(10, 26))}


def measure(ways: Ways, columns: int, repeat: int) -> dict[str, Any]:
    """Compare the tokens, then time paired rounds. Raises SystemExit when the tokens differ."""
    names = [BASE, *(f"adapter{number}" for number in range(columns - 1))]
    runs: dict[str, Callable[[list[str]], Tokens]] = {
        "one_by_one": ways.one_by_one,
        "peft_mixed": ways.peft_mixed,
        "ours": ways.ours,
    }
    answers = {way: run(names) for way, run in runs.items()}
    equal = answers["one_by_one"] == answers["peft_mixed"] == answers["ours"]
    if not equal and ways.device.type == "cpu":
        sys.exit(f"the greedy tokens of {columns} columns differ between the ways; nothing is timed")
    clock: dict[str, list[float]] = {way: [] for way in runs}
    processor: dict[str, list[float]] = {way: [] for way in runs}
    for number in range(repeat):
        order = list(runs) if number % 2 == 0 else list(reversed(runs))
        for way in order:
            begin, begin_cpu = time.perf_counter(), time.process_time()
            runs[way](names)
            clock[way].append(time.perf_counter() - begin)
            processor[way].append(time.process_time() - begin_cpu)
    shares = {way: equal_share(answers["one_by_one"], answers[way]) for way in ("peft_mixed", "ours")}
    return {
        "columns": columns,
        "tokens_equal": equal,
        "equal_share": shares,
        "clock": _figures(clock),
        "processor": _figures(processor),
    }


def equal_share(expected: Tokens, found: Tokens) -> float:
    """Return the share of tokens up to which both answers of a column are the same; 1 when all are."""
    same = 0
    for a, b in zip(expected, found, strict=True):
        same += next((place for place, (x, y) in enumerate(zip(a, b, strict=True)) if x != y), len(a))
    return round(same / sum(map(len, expected)), 4)


def measure_adding(ways: Ways, adapters: dict[str, Path], repeat: int) -> dict[str, Any]:
    """Time how an adapter joins: one that is loaded joins the conversation, and a new one is loaded."""
    names = [BASE, *adapters]
    adding = [1000 * ways.adding_s(names) for _ in range(10 * repeat)]
    loading = [1000 * ways.loading_s(next(iter(adapters.values()))) for _ in range(repeat)]
    return {"adapters": len(adapters), "joining_ms": _spread(adding), "loading_ms": _spread(loading)}


def _figures(times: dict[str, list[float]]) -> dict[str, Any]:
    return {
        "seconds": {way: _spread(found) for way, found in times.items()},
        "ours_against_one_by_one": _ratio(times["one_by_one"], times["ours"]),
        "ours_against_peft_mixed": _ratio(times["peft_mixed"], times["ours"]),
        "peft_mixed_against_one_by_one": _ratio(times["one_by_one"], times["peft_mixed"]),
    }


def _spread(found: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(found), 4), "min": round(min(found), 4), "max": round(max(found), 4)}


def _ratio(slow: list[float], fast: list[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(slow, fast, strict=True)), 3)


def main() -> None:
    """Run and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--columns", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=64)
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
        prompt = torch.randint(10, VOCABULARY, (_PROMPT_TOKENS,), generator=torch.Generator().manual_seed(3)).tolist()
        ways = Ways(folder / "base", adapters, prompt, arguments.tokens, arguments.device)
        rows = []
        for columns in arguments.columns:
            rows.append(measure(ways, columns, arguments.repeat))
            print(json.dumps(rows[-1]), file=sys.stderr)
        adding = measure_adding(ways, adapters, arguments.repeat)
        print(json.dumps(adding), file=sys.stderr)
    result = {
        "what": "seconds until all columns have their last token, float32",
        "device": torch.cuda.get_device_name() if arguments.device == "cuda" else "cpu",
        "parameters": parameters,
        "hidden_size": arguments.hidden,
        "layers": arguments.layers,
        "rank": _RANK,
        "prompt_tokens": _PROMPT_TOKENS,
        "new_tokens": arguments.tokens,
        "repeat": arguments.repeat,
        "threads": arguments.threads,
        "load_average": [round(load, 1) for load in os.getloadavg()],
        "measured": time.strftime("%Y-%m-%d"),
        "versions": versions(),
        "rows": rows,
        "adding": adding,
    }
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(arguments.json)


if __name__ == "__main__":
    main()
