"""Real tokens a second of a run with its defaults beside TRL: as it comes, packed, and packed and tuned by hand.

    python -m benchmarks.train_speed [--hidden 512 --layers 6] [--tokens 16000] [--rounds 3] [--threads 1]

All train NF4 QLoRA (rank 16, all linear layers) of the same random model on the same mixed rows (log-normal lengths,
60 % of the tokens trained), each in a process of its own, the order turned round every time. `trl` is SFTTrainer with
PEFT's adapter as the documentation shows it, `trl packed` has packing=True and nothing else (TRL 1.16 then lays the 8
rows of a step into one row of 8,192 tokens, whose attention costs more than all else), `trl tuned` is packed, does not
recompute, and takes the number format and micro-batch that are fastest here. `plain` is the workbench with
`memory.spend=none` and `training.fast_paths=false`. `--add` puts the rounds to those of the same settings that lie in
the result already, so that they can be taken at quiet moments.

The figure is tokens that are no padding over the processor time of the steps after the first, so that other work on the
machine, which takes the clock's time, does not decide; the clock's figure stands beside it. The share of the machine's
limit is 4 operations a weight and token over that time, against a product of matrices at the same shapes and in the
same number format, in the same process.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app import hardware
from benchmarks.fresh_children import Answer, FreshChildren, answer_one

if TYPE_CHECKING:
    import torch

RESULT = Path(__file__).parent / "results" / "train_speed.json"
WAYS = ("ours", "plain", "trl", "trl packed", "trl tuned")
_LENGTH, _VOCABULARY, _RANK = 1024, 8192, 16
Document = tuple[list[int], list[int]]


def shape(hidden: int, layers: int) -> dict[str, Any]:
    """Return a Qwen3-like configuration."""
    return {
        "model_type": "qwen3",
        "vocab_size": _VOCABULARY,
        "hidden_size": hidden,
        "intermediate_size": 3 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // 64,
        "num_key_value_heads": max(1, hidden // 128),
        "head_dim": 64,
        "tie_word_embeddings": True,
        "max_position_embeddings": 8 * _LENGTH,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }


def documents(tokens: int) -> list[Document]:
    """Return ids and labels of rows of 16 to 1,024 tokens, the median about 110."""
    import torch

    generator, made, total = torch.Generator().manual_seed(0), [], 0
    while total < tokens:
        drawn = math.log(110) + 0.8 * float(torch.randn((), generator=generator))
        length = min(_LENGTH, max(16, int(math.exp(drawn))))
        ids = torch.randint(10, 1500, (length,), generator=generator).tolist()
        prompt = int(0.4 * length)
        made.append((ids, [-100] * prompt + ids[prompt:]))
        total += length
    return made


def ours(question: Answer, scratch: Path, clock: Any) -> Any:
    """Return the workbench's trainer with its defaults, or with everything switched off that is faster."""
    from datasets import Dataset

    from app.config.schema import RunConfig
    from app.data.dataset.packing import pack
    from app.jobs import directory
    from app.jobs.child import JobChild
    from app.models.loading import load_tokenizer
    from app.training import assembly
    from app.training.memory.spending import settle_spending
    from app.training.number_format import settle_dtype
    from app.training.rows import TrainingRows
    from app.workspace import open_workspace

    rows = documents(question["tokens"])
    packed = pack([len(ids) for ids, _ in rows], _LENGTH)
    columns = {
        "input_ids": [[token for one in group for token in rows[one][0]] for group in packed],
        "labels": [[label for one in group for label in (-100, *rows[one][1][1:])] for group in packed],
        "seq_lengths": [[len(rows[one][0]) for one in group] for group in packed],
    }
    config = RunConfig().changed({"model.name": question["folder"], "training.num_train_epochs": 1})
    if question["way"] == "plain":
        config = config.changed({"memory.spend": "none", "training.fast_paths": False})
    child = JobChild(directory.create(open_workspace(scratch), "train", config.as_dict()))
    config = settle_spending(child, settle_dtype(child, config, question["folder"]))
    training = TrainingRows(Dataset.from_dict(columns), None, len(rows), "", scratch)
    model, tokenizer = assembly.build_model(config, question["folder"]), load_tokenizer(question["folder"])
    trainer = assembly.build_trainer(child, config, model, tokenizer, training, [clock])
    trainer._save_checkpoint = lambda *args, **kwargs: None
    return trainer


def trl(question: Answer, scratch: Path, clock: Any) -> Any:
    """Return TRL's trainer with PEFT's adapter."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
    from trl import SFTConfig, SFTTrainer

    tuned = question["way"] == "trl tuned"
    dtype = torch.float32 if tuned and not hardware.has_bf16_instructions() else torch.bfloat16
    model = AutoModelForCausalLM.from_pretrained(
        question["folder"],
        dtype=dtype,
        device_map={"": "cpu"},
        quantization_config=BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        ),
    )
    settings: dict[str, Any] = {"packing": question["way"] != "trl"}
    if tuned:
        settings |= {"activation_checkpointing": False, "bf16": dtype == torch.bfloat16}
        settings |= {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8}
    rows = documents(question["tokens"])
    return SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=str(scratch),
            num_train_epochs=1,
            logging_steps=1,
            save_strategy="no",
            disable_tqdm=True,
            learning_rate=2e-4,
            use_cpu=not torch.cuda.is_available(),
            **settings,
        ),
        train_dataset=Dataset.from_dict({"input_ids": [ids for ids, _ in rows], "labels": [own for _, own in rows]}),
        processing_class=AutoTokenizer.from_pretrained(question["folder"]),
        peft_config=LoraConfig(r=_RANK, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
        callbacks=[clock],
    )


def answer(question: Answer) -> Answer:
    """Train one way in this process."""
    import torch
    from transformers import TrainerCallback

    torch.set_num_threads(question["threads"])
    marks: list[tuple[float, float]] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        """Note clock and processor time when a step begins and when the training ends."""

        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            """Note both."""
            marks.append((time.perf_counter(), time.process_time()))

        on_train_end = on_step_begin

    with tempfile.TemporaryDirectory() as scratch:
        make = ours if question["way"] in ("ours", "plain") else trl
        trainer = make(question, Path(scratch), Clock())
        trainer.train()
    logged = [row for row in trainer.state.log_history if "loss" in row]
    if len(logged) < 2:
        return {"error": "one step is too few; ask for more --tokens"}
    warm = min(question["warm"], len(logged) - 1)
    tokens = logged[-1]["num_tokens"] - logged[warm - 1]["num_tokens"]
    clock_s, processor_s = (after - before for before, after in zip(marks[warm], marks[-1], strict=True))
    dtype = next(iter(trainer.model.get_input_embeddings().parameters())).dtype
    limit = matrix_limit(question["hidden"], dtype)
    weights = question["layers"] * _layer_weights(question["hidden"]) + _VOCABULARY * question["hidden"]
    return {
        "tokens": tokens,
        "per_processor_s": round(tokens / processor_s, 1),
        "per_clock_s": round(tokens / clock_s, 1),
        "share_of_limit": round(4 * weights * tokens / processor_s / limit, 3),
        "losses": [logged[0]["loss"], logged[-1]["loss"]],
        "dtype": str(dtype),
    }


def _layer_weights(hidden: int) -> int:
    heads = 64 * (hidden // 64) + 2 * 64 * max(1, hidden // 128)
    return hidden * (heads + hidden + 9 * hidden)


def matrix_limit(hidden: int, dtype: torch.dtype) -> float:
    """Return operations a second of processor time of products of 1,024 tokens by the model's widest weight.

    Both are of the number format that the way computes in, and the weight lies as a linear layer's does.
    """
    import torch

    left, right = torch.randn(_LENGTH, hidden, dtype=dtype), torch.randn(3 * hidden, hidden, dtype=dtype).T
    best = math.inf
    for _ in range(20):
        begun = time.process_time()
        left @ right
        best = min(best, time.process_time() - begun)
    return 2 * _LENGTH * hidden * 3 * hidden / best


def main() -> int:
    """Compare and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--tokens", type=int, default=16_000)
    parser.add_argument("--warm", type=int, default=1, help="steps that are not counted")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--add", action="store_true", help="add to the rounds that the result holds already")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        answer_one(answer)
        return 0
    from app.jobs.directory import versions
    from benchmarks.random_models import write_model

    asked = {name: getattr(options, name) for name in ("hidden", "layers", "tokens", "warm", "threads")}
    found = earlier(options.out, asked) if options.add else {}
    found = {way: found.get(way, []) for way in options.ways}
    begun = min(map(len, found.values()))
    load = [round(one, 1) for one in os.getloadavg()]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        parameters = write_model(folder, shape(options.hidden, options.layers), 1 << 40)
        for number in range(begun, begun + options.rounds):
            with FreshChildren("benchmarks.train_speed") as children:
                for way in options.ways if number % 2 == 0 else reversed(options.ways):
                    question = {**asked, "way": way, "folder": str(folder)}
                    found[way].append(children.ask(question, another=False))
                    print(way, found[way][-1], file=sys.stderr, flush=True)
    result = {
        **asked,
        "parameters": parameters,
        "ways": {way: summary(rows) for way, rows in found.items()},
        "ours_against": {way: ratio(found, way) for way in options.ways if way != "ours"},
        "load_average": load,
        "processor": hardware.cpu_name(),
        "bf16_instructions": hardware.has_bf16_instructions(),
        "measured": time.strftime("%Y-%m-%d"),
        "versions": versions(),
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))
    return 0


def earlier(out: Path, asked: Answer) -> dict[str, list[Answer]]:
    """Return the rounds of each way that a result holds. Raises SystemExit where it is of other settings."""
    held = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else asked
    if {name: held[name] for name in asked} != asked:
        raise SystemExit(f"{out} holds rounds of other settings; name another file with --out")
    return {way: told["rounds"] for way, told in held.get("ways", {}).items()}


def summary(rows: list[Answer]) -> Answer:
    """Return medians and all rounds."""
    good = [row for row in rows if "error" not in row]
    names = ("per_processor_s", "per_clock_s", "share_of_limit") if good else ()
    return {**{name: statistics.median(row[name] for row in good) for name in names}, "rounds": rows}


def ratio(found: dict[str, list[Answer]], way: str) -> float | None:
    """Return the median over the rounds of ours against another way, by processor time; None where one failed."""
    pairs = zip(found.get("ours", []), found[way], strict=True)
    ratios = [a["per_processor_s"] / b["per_processor_s"] for a, b in pairs if not {"error"} & (a.keys() | b.keys())]
    return round(statistics.median(ratios), 2) if ratios else None


if __name__ == "__main__":
    sys.exit(main())
