"""Tokens a second of our worker beside plain TRL and PEFT, and beside Unsloth where it is installed.

    python -m benchmarks.throughput_gpu [--model llama-3.1-8b] [--length 2048] [--steps 30]
    python -m benchmarks.throughput_gpu --dry-run

All train the same QLoRA on the same random-weight model and the same rows of an exact length, each in a process of its
own, one after another in as many rounds as asked, the order turned round every time. Plain TRL is the script that its
documentation shows, with our run's own settings; it casts adapters to bf16, ours are fp32 by default (`--adapter bf16`
makes them alike). The figure is the median of the steps after the warm ones.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from app import hardware
from app.config.schema import RunConfig
from benchmarks.fresh_children import NOT_MEASURED, Answer, FreshChildren, answer_one, card_arguments
from benchmarks.planner_gpu import write_for

RESULT = Path(__file__).parent / "results" / "throughput_gpu.json"
_WARM_STEPS = 3


def config_of(question: Answer) -> RunConfig:
    """Return the run that all ways train."""
    changes = {
        "model.name": question["folder"],
        "data.packing": False,
        "data.max_length": question["length"],
        "adapter.dtype": question["adapter"],
        "training.max_steps": question["steps"],
        "training.per_device_train_batch_size": question["micro_batch"],
        "training.gradient_accumulation_steps": 1,
        "training.save_steps": 10**6,
    }
    return RunConfig().changed(changes | ({"model.dtype": "fp32"} if question["dry"] else {}))


def ours(config: RunConfig, rows: Any, scratch: Path, clock: Any) -> Any:
    """Return our worker's trainer."""
    from app.jobs import directory
    from app.jobs.child import JobChild
    from app.models.loading import load_tokenizer
    from app.training import assembly
    from app.workspace import open_workspace

    child = JobChild(directory.create(open_workspace(scratch), "train", config.as_dict()))
    folder = config.model.name
    model, tokenizer = assembly.build_model(config, folder), load_tokenizer(folder)
    watching = assembly.watchers(child, config, model, tokenizer, rows)
    return assembly.build_trainer(child, config, model, tokenizer, rows, [*watching, clock])


def plain(config: RunConfig, rows: Any, scratch: Path, clock: Any) -> Any:
    """Return TRL's trainer with PEFT's adapter, as their documentation writes it."""
    import torch
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    from app.models.loading import resolve_dtype
    from app.training.trainers.settings import lora_settings

    dtype = resolve_dtype(config.model.dtype)
    model = AutoModelForCausalLM.from_pretrained(
        config.model.name,
        dtype=dtype,
        device_map={"": 0 if torch.cuda.is_available() else "cpu"},
        quantization_config=BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        ),
    )
    return _sft(config, model, rows, scratch, clock, peft_config=LoraConfig(**lora_settings(config)))


def unsloth(config: RunConfig, rows: Any, scratch: Path, clock: Any) -> Any:
    """Return TRL's trainer on a model that Unsloth has loaded and adapted."""
    from unsloth import FastLanguageModel  # type: ignore[import-not-found,unused-ignore]

    model, _ = FastLanguageModel.from_pretrained(
        config.model.name, max_seq_length=config.data.max_length, load_in_4bit=True
    )
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    adapter = config.adapter
    model = FastLanguageModel.get_peft_model(
        model,
        r=adapter.r,
        lora_alpha=adapter.lora_alpha,
        lora_dropout=0,
        target_modules=targets,
        use_gradient_checkpointing="unsloth",
    )
    return _sft(config, model, rows, scratch, clock)


def _sft(config: RunConfig, model: Any, rows: Any, scratch: Path, clock: Any, **more: Any) -> Any:
    from trl import SFTTrainer

    from app import devices
    from app.models.loading import load_tokenizer, resolve_dtype
    from app.training.trainers.arguments import trl_arguments

    dtype = resolve_dtype(config.model.dtype)
    return SFTTrainer(
        model=model,
        args=trl_arguments(config, scratch, dtype, devices.here(), validate=False),
        train_dataset=rows.training,
        processing_class=load_tokenizer(config.model.name),
        callbacks=[clock],
        **more,
    )


WAYS = {"ours": ours, "trl and peft": plain, "unsloth": unsloth}


def answer(question: Answer) -> Answer:
    """Train one way in this process."""
    import torch
    from transformers import TrainerCallback

    from benchmarks.random_models import exact_rows

    begins: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        """Note when every step begins and ends."""

        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            """Wait for the card, then look at the clock."""
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            begins.append(time.perf_counter())

        on_train_end = on_step_begin

    config = config_of(question)
    tokens = question["length"] * question["micro_batch"]
    rows = exact_rows(question["length"], question["micro_batch"] * question["steps"], packed=False)
    with tempfile.TemporaryDirectory() as scratch:
        WAYS[question["way"]](config, rows, Path(scratch), Clock()).train()
    taken = [after - before for before, after in itertools.pairwise(begins)][_WARM_STEPS:]
    on_card = torch.cuda.is_available()
    return {
        "card": torch.cuda.get_device_name() if on_card else "cpu",
        "tokens_per_s": round(tokens / statistics.median(taken), 1),
        "allocated": torch.cuda.max_memory_allocated() if on_card else NOT_MEASURED,
        "reserved": torch.cuda.max_memory_reserved() if on_card else NOT_MEASURED,
    }


def run_all(options: argparse.Namespace, scratch: Path) -> dict[str, list[Answer]]:
    """Run every way in every round."""
    write_for(options.model, scratch / "model", options.dry_run, options.filled_gb)
    ways = [way for way in WAYS if way != "unsloth" or importlib.util.find_spec("unsloth")]
    question = {
        "folder": str(scratch / "model"),
        "length": 128 if options.dry_run else options.length,
        "micro_batch": options.micro_batch,
        "adapter": options.adapter,
        "steps": 6 if options.dry_run else options.steps,
        "dry": options.dry_run,
    }
    found: dict[str, list[Answer]] = {way: [] for way in ways}
    turns = [way for each in range(options.rounds) for way in (ways if each % 2 == 0 else reversed(ways))]
    with FreshChildren("benchmarks.throughput_gpu") as children:
        for place, way in enumerate(turns):
            found[way].append(children.ask({**question, "way": way}, another=place + 1 < len(turns)))
            print(way, found[way][-1], flush=True)
    return found


def main() -> int:
    """Compare and write the result."""
    parser = card_arguments(__doc__, RESULT)
    parser.add_argument("--model", default="llama-3.1-8b", help="catalogue name")
    parser.add_argument("--length", type=int, default=2048, help="tokens in a row")
    parser.add_argument("--micro-batch", type=int, default=1)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--adapter", choices=("auto", "bf16", "fp32"), default="auto", help="of ours")
    options = parser.parse_args()
    if options.child:
        import app.training.worker  # noqa: F401 (loaded while another way runs)

        answer_one(answer)
        return 0
    on_card = hardware.readings().gpu is not None
    asked = {name: getattr(options, name) for name in ("model", "length", "micro_batch", "steps", "adapter")}
    found: Answer = {**asked, "ways": NOT_MEASURED}
    with tempfile.TemporaryDirectory() as scratch:
        if options.dry_run or on_card:
            found["ways"] = run_all(options, Path(scratch))
    out = options.out or (None if options.dry_run else RESULT)
    if out is not None and (on_card or options.dry_run or not out.exists()):  # a measurement outlives its card
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
