"""Measure tokens per second of reading, masking, tokenising and packing, beside TRL's own preparation.

    python -m benchmarks.data_throughput --rows 20000 --repeat 3 [--tokenizer DIR] [--llama-factory PYTHON] [--json OUT]

Everything runs in one go on the same rows: this project's build, TRL's `_prepare_dataset`, LLaMA-Factory's own
preparation (each with one and with two processes; the better one counts) and the bare fast tokenizer in batches on the
already rendered texts. Ours and the bare tokenizer have a process of their own each time, warmed by a few rows. Ours
begins at the file; the peers' own preparation begins at loaded rows, so their loading is timed apart and two ratios are
given. LLaMA-Factory cannot be installed beside the pinned set: `--llama-factory` names the interpreter of an
environment that has it, and without it the peer is reported as `not measured`. Memory at a million rows is measured by
`benchmarks.data_scale`.
"""

from __future__ import annotations

import argparse
import email.message
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
import unittest.mock
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from app.data.chat_template.render import Renderer
from app.data.chat_template.tokenizer import load_tokenizer
from app.data.dataset.build import build
from app.data.dataset.options import DataOptions
from app.data.dataset.outcomes import BATCH_ROWS
from app.data.reading.readers import read_rows

_WORD_COUNT = 12_000
_VOCABULARY = 16_000
_WARMING_ROWS = 100
# As it was at the start: `datasets` switches the tokenizers' threads off for every process that is started after it has
# mapped with two, and the ways measured next would run on one thread.
_ENVIRONMENT = dict(os.environ)
# Seconds of the preparation, and of loading the rows before where that is timed apart.
Seconds = tuple[float, float]
# Tokens of the template that the trained tokenizer needs whole.
_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<tool_call>", "</tool_call>"]


def words() -> list[str]:
    """Return a vocabulary of real words: the names and prose of Python's own library sources."""
    text = " ".join(
        Path(str(module.__file__)).read_text("utf-8") for module in (argparse, email.message, unittest.mock)
    )
    return random.Random(1).choices(re.findall(r"[A-Za-z]{2,14}", text), k=_WORD_COUNT)


def rows(count: int, seed: int = 7) -> Iterator[dict[str, Any]]:
    """Yield conversations of one to three exchanges, about one kilobyte each, lengths as varied as real ones."""
    rng = random.Random(seed)
    vocabulary = words()
    for _ in range(count):
        messages = []
        if rng.random() < 0.3:
            messages.append({"role": "system", "content": _prose(rng, vocabulary, 12)})
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            messages.append({"role": "user", "content": _prose(rng, vocabulary, int(rng.lognormvariate(3.0, 0.6)))})
            messages.append(
                {"role": "assistant", "content": _prose(rng, vocabulary, int(rng.lognormvariate(4.2, 0.7)))}
            )
        yield {"messages": messages}


def _prose(rng: random.Random, vocabulary: list[str], length: int) -> str:
    start = rng.randrange(len(vocabulary))
    chosen = [vocabulary[(start + i * 7) % len(vocabulary)] for i in range(max(3, length))]
    marks = [", " if rng.random() < 0.08 else ". " if rng.random() < 0.06 else " " for _ in chosen]
    return "".join(word + mark for word, mark in zip(chosen, marks, strict=True)).strip() + "."


def write_rows(path: Path, count: int) -> int:
    """Write rows as JSONL; return the number of bytes."""
    with path.open("w", encoding="utf-8") as file:
        for row in rows(count):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return path.stat().st_size


def make_tokenizer(folder: Path) -> Path:
    """Train a byte-level BPE of 16,000 tokens with Qwen3's chat template as TRL ships it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(_qwen_pattern(), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=_SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = (message["content"] for row in rows(3000, seed=3) for message in row["messages"])
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.chat_template = (trl_templates() / "qwen3_training.jinja").read_text("utf-8")
    fast.save_pretrained(folder)
    return folder


def _qwen_pattern() -> Any:
    """Return the pre-tokenizer pattern of the GPT-4 family, which Qwen uses too."""
    from tokenizers import Regex

    return Regex(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )


def trl_templates() -> Path:
    """Return the folder of chat templates that the installed TRL ships."""
    spec = find_spec("trl")
    assert spec is not None and spec.origin is not None  # a pinned requirement
    return Path(spec.origin).parent / "chat_templates"


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the wall time of some work in seconds, and its result."""
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def measure_fresh(way: str, path: Path, tokenizer: Path) -> Seconds:
    """Return what `measure_build` or `measure_bare` gives in a process of its own, warmed by a build of a few rows."""
    command = [sys.executable, "-m", "benchmarks.data_throughput", "--way", way, str(path), str(tokenizer)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=Path(__file__).parents[1], env=_ENVIRONMENT)
    return float(done.stdout.splitlines()[-1]), 0.0


def answer_fresh(way: str, path: Path, tokenizer: Path) -> float:
    """Warm up and measure one way, in the process that `measure_fresh` has started."""
    with tempfile.TemporaryDirectory() as folder:
        few = Path(folder) / "few.jsonl"
        write_rows(few, _WARMING_ROWS)
        measure_build(few, tokenizer)
    if way == "workbench":
        return measure_build(path, tokenizer)
    return measure_bare([rendered.text for rendered in _rendered(path, tokenizer)], tokenizer)


def measure_build(path: Path, tokenizer: Path) -> float:
    """Return the seconds of a whole build: reading, tokens, mask, packing and both Arrow files."""
    with tempfile.TemporaryDirectory() as out:
        return timed(lambda: build(path, tokenizer, DataOptions(over_length="drop"), Path(out)))[0]


def measure_bare(texts: list[str], tokenizer: Path) -> float:
    """Return the seconds of the bare fast tokenizer in batches."""
    backend = load_tokenizer(tokenizer).backend

    def encode() -> None:
        for start in range(0, len(texts), BATCH_ROWS):
            backend.encode_batch(texts[start : start + BATCH_ROWS], add_special_tokens=False)

    return timed(encode)[0]


class TrlPeer:
    """TRL's preparation of the same rows: template, tokens, mask and packing."""

    def __init__(self, path: Path, tokenizer: Path) -> None:
        from datasets import disable_progress_bars
        from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM
        from trl import SFTConfig, SFTTrainer

        disable_progress_bars()
        self._path = path
        self.tokenizer = AutoTokenizer.from_pretrained(str(tokenizer))
        sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
        config = Qwen3Config(vocab_size=len(self.tokenizer), num_key_value_heads=1, head_dim=8, **sizes)
        self._folder = tempfile.TemporaryDirectory()
        self._args = SFTConfig(
            output_dir=self._folder.name,
            assistant_only_loss=True,
            packing=True,
            max_length=1024,
            bf16=False,
            use_cpu=True,
            disable_tqdm=True,
        )
        self._trainer = SFTTrainer(
            model=Qwen3ForCausalLM(config),
            args=self._args,
            train_dataset=self._dataset().select(range(2)),
            processing_class=self.tokenizer,
        )

    def _dataset(self) -> Any:
        from datasets import Dataset

        with self._path.open(encoding="utf-8") as file:
            return Dataset.from_list([json.loads(line) for line in file])

    def measure(self, processes: int) -> Seconds:
        """Return the seconds of TRL's preparation, and of loading the rows before."""
        loading_s, dataset = timed(self._dataset)
        self._args.dataset_num_proc = processes if processes > 1 else None
        prepare = self._trainer._prepare_dataset
        return timed(lambda: prepare(dataset, self.tokenizer, self._args, True, None, "train"))[0], loading_s


class LlamaFactoryPeer:
    """LLaMA-Factory's preparation of the same rows, in the environment of another interpreter."""

    def __init__(self, python: str, path: Path, tokenizer: Path) -> None:
        self._command = [python, str(Path(__file__).with_name("llama_factory_peer.py")), str(path), str(tokenizer)]
        self.tokens = 0

    def measure(self, processes: int) -> Seconds:
        """Return the seconds of one preparation, and of loading and aligning the rows before it."""
        environment = {**_ENVIRONMENT, "HF_HUB_OFFLINE": "1"}
        command = [*self._command, str(processes), "1"]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment)
        facts = json.loads(done.stdout.splitlines()[-1])
        self.tokens = facts["tokens"]
        return float(facts["seconds"][0]), float(facts["loading_seconds"][0])


def compare(count: int, repeat: int, tokenizer: Path | None, llama_factory: str | None) -> dict[str, Any]:
    """Measure this project, its peers and the bare tokenizer on the same rows, and return medians."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokenizer = tokenizer or make_tokenizer(folder / "tokenizer")
        path = folder / "rows.jsonl"
        size_bytes = write_rows(path, count)
        texts = [rendered.text for rendered in _rendered(path, tokenizer)]
        backend = load_tokenizer(tokenizer).backend
        tokens = sum(len(one.ids) for one in backend.encode_batch(texts, add_special_tokens=False))
        own, peer = partial(measure_fresh, path=path, tokenizer=tokenizer), TrlPeer(path, tokenizer)
        other = LlamaFactoryPeer(llama_factory, path, tokenizer) if llama_factory else None
        works: dict[str, Callable[[], Seconds]] = {
            "workbench": lambda: own("workbench"),
            "bare": lambda: own("bare"),
            "trl_1": lambda: peer.measure(1),
            "trl_2": lambda: peer.measure(2),
        }
        if other is not None:
            works |= {"llama_factory_1": lambda: other.measure(1), "llama_factory_2": lambda: other.measure(2)}
        seconds: dict[str, list[Seconds]] = {name: [] for name in works}
        for _ in range(repeat):
            for name, work in works.items():
                seconds[name].append(work())
    written = {name: other.tokens for name in works if name.startswith("llama")} if other else {}
    alone = _speeds(seconds, tokens, written, with_loading=False)
    from_file = _speeds(seconds, tokens, written, with_loading=True)
    return {
        "rows": count,
        "bytes": size_bytes,
        "tokens": tokens,
        "tokens_per_s": {name: round(speed) for name, speed in alone.items()},
        "seconds": {name: [round(value, 3) for value, _ in values] for name, values in seconds.items()},
        "loading_seconds": {name: [round(value, 3) for _, value in values] for name, values in seconds.items()},
        "against_trl": _against(alone, "trl"),
        "against_trl_from_file": _against(from_file, "trl"),
        "against_llama_factory": _against(alone, "llama_factory") if other else "not measured",
        "against_llama_factory_from_file": _against(from_file, "llama_factory") if other else "not measured",
        "against_bare_tokenizer": _against(alone, "bare"),
    }


def _speeds(
    seconds: dict[str, list[Seconds]], tokens: int, written: dict[str, int], *, with_loading: bool
) -> dict[str, float]:
    """Return tokens per second, by the median of the repeats; `written` has the tokens of ways that write others."""
    return {
        name: written.get(name, tokens) / statistics.median(own + loading * with_loading for own, loading in values)
        for name, values in seconds.items()
    }


def _against(speeds: dict[str, float], peer: str) -> float:
    """Return how many times the best speed of a peer this project reaches."""
    return round(speeds["workbench"] / max(speed for name, speed in speeds.items() if name.startswith(peer)), 2)


def _rendered(path: Path, tokenizer: Path) -> Iterator[Any]:
    from app.data.formats.conversions import conversation_of
    from app.data.reading.rows import Row

    renderer = Renderer(load_tokenizer(tokenizer))
    for row in read_rows(path):
        if isinstance(row, Row):
            yield renderer.render(conversation_of(row.fields))


def main() -> None:
    """Measure and print or write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--llama-factory", metavar="PYTHON", help="interpreter of an environment with llamafactory")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--way", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.way:
        print(answer_fresh(chosen.way[0], Path(chosen.way[1]), Path(chosen.way[2])))
        return
    result = compare(chosen.rows, chosen.repeat, chosen.tokenizer, chosen.llama_factory)
    text = json.dumps(result, indent=2)
    if chosen.json:
        chosen.json.write_text(text + "\n", "utf-8")
    print(text)


if __name__ == "__main__":
    main()
