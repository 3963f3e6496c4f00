"""The plan against the card: two real steps of our own worker at true shapes, each in a process of its own.

    python -m benchmarks.planner_gpu [--seconds 540] [--out ROWS.jsonl]    on a machine with a CUDA card
    python -m benchmarks.planner_gpu --dry-run                             tiny shapes on any machine

Every row is written at once and never measured again, so that the work can be done in several calls: `--seconds` says
after how long no further row is begun. A model's weights lie on the disk while its rows are measured, one model at a
time. Without a card every row says "not measured".
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from app import catalog, hardware
from app.config.schema import RunConfig
from app.planner import estimate
from app.planner.from_config import request_from_config
from app.planner.history import COMPARED, CPU
from benchmarks.fresh_children import (
    NOT_MEASURED,
    Answer,
    FreshChildren,
    answer_one,
    append_row,
    card_arguments,
    keep_measured,
    measured_rows,
)

ROWS = Path(__file__).parent / "results" / "planner_gpu.jsonl"
_SMALL = ("smollm2-360m", "qwen2.5-0.5b", "gemma-3-1b", "gpt2-medium")
_MIDDLE = ("llama-3.2-1b", "qwen3-1.7b", "gemma-2-2b", "phi-3-mini", "qwen3-4b")
_LARGE = ("llama-3.1-8b", "mistral-7b-v0.3")
_MIXTURE = ("deepseek-v2-lite",)
_PADDED = {"data.packing": False}
_LORA = {"quantization.load_in_4bit": False}
CASES: dict[str, dict[str, Any]] = {
    "qlora, recomputed, 2048": {**_PADDED, "data.max_length": 2048},
    "qlora, kept, 1024": {**_PADDED, "memory.checkpointing": "none"},
    "qlora, packed, 2 x 1024, rank 64": {"training.per_device_train_batch_size": 2, "adapter.r": 64},
    "lora, recomputed, 4 x 512": {
        **_PADDED,
        **_LORA,
        "training.per_device_train_batch_size": 4,
        "data.max_length": 512,
    },
    "full, 8-bit optimiser, 1024": {
        **_PADDED,
        **_LORA,
        "adapter.method": "full",
        "model.dtype": "bf16",
        "training.optim": "adamw_bnb_8bit",
    },
    "dora, recomputed, 1024": {**_PADDED, "adapter.use_dora": True},
    "qlora, eager, accumulated, 1024": {**_PADDED, "model.attn_implementation": "eager"},
}
_ACCUMULATED = "training.gradient_accumulation_steps"
_LAST = tuple(CASES)[-1]


def wanted() -> list[tuple[str, str]]:
    """Return model and case of every row, those of one model together."""
    plain = [case for case in CASES if not case.startswith("full")]
    of_models = [(_SMALL, list(CASES)), (_MIDDLE, plain[:5]), (_LARGE, plain[:3]), (_MIXTURE, plain[:1])]
    return [(model, case) for models, cases in of_models for model in models for case in cases]


def config_of(name: str, case: str, dry: bool) -> RunConfig:
    """Return the run of one row; `name` is a catalogue name or a folder."""
    changes = {"model.name": name, _ACCUMULATED: 2 if case == _LAST else 1, **CASES[case]}
    if dry:
        changes |= {"data.max_length": 128, "model.dtype": "fp32"}
    return RunConfig().changed(changes)


def planned(config: RunConfig, name: str) -> Answer:
    """Return the planner's parts and peaks."""
    plan = estimate(request_from_config(config, catalog.find(name)))
    return {"allocated": plan.allocated_peak, "reserved": plan.reserved_peak, "parts": dict(plan.parts)}


def answer(question: Answer) -> Answer:
    """Measure one row in this process."""
    import torch

    from app.jobs import directory
    from app.jobs.child import JobChild
    from app.training.memory import measure
    from app.workspace import open_workspace
    from benchmarks.random_models import exact_rows

    folder = question["folder"]
    config = measure.shortened(config_of(folder, question["case"], question["dry"]))
    with tempfile.TemporaryDirectory() as scratch:
        child = JobChild(directory.create(open_workspace(scratch), "measure", config.as_dict()))
        training = config.training
        count = training.per_device_train_batch_size * training.gradient_accumulation_steps * measure.STEPS
        rows = exact_rows(config.data.max_length, count, config.data.packing)
        found = measure.measure(child, config, folder, rows)
    assert found is not None, "nobody asks this job to stop"
    measured = found[0]
    on_card = torch.cuda.is_available()
    return {
        "card": measured.device,
        "planned_by_part": measured.predicted,
        "measured": {
            "by_part": measured.measured,
            "allocated": torch.cuda.max_memory_allocated() if on_card else measured.measured[COMPARED[-1]],
            "reserved": torch.cuda.max_memory_reserved() if on_card else NOT_MEASURED,
        },
    }


def write_for(model: str, folder: Path, dry: bool, filled_gb: int) -> None:
    """Write the model's folder in place of whatever is there."""
    from benchmarks.random_models import tiny, write_model

    shutil.rmtree(folder, ignore_errors=True)
    config = dict(catalog.find(model).config)
    write_model(folder, tiny(config) if dry else config, filled_gb << 30)


def measure_all(options: argparse.Namespace, scratch: Path) -> None:
    """Measure the rows that are not known yet, until the time is up."""
    begun = time.monotonic()
    known = {(row["model"], row["case"]) for row in keep_measured(options.out)}
    asked = [pair for pair in wanted() if not options.models or pair[0] in options.models]
    left = [pair for pair in asked if pair not in known][: options.rows]
    present = ""
    with FreshChildren("benchmarks.planner_gpu") as children:
        for place, (model, case) in enumerate(left):
            if time.monotonic() - begun > options.seconds:
                break
            folder = scratch / "model"
            if model != present:
                write_for(model, folder, options.dry_run, options.filled_gb)
                present = model
            question = {"folder": str(folder), "case": case, "dry": options.dry_run}
            row = {"model": model, "case": case, **children.ask(question, another=place + 1 < len(left))}
            row["planned"] = planned(config_of(model, case, options.dry_run), str(folder))
            append_row(options.out, row)
            print(line(row), flush=True)


def line(row: Answer) -> str:
    """Return a row for people."""
    head = f"{row['model']:18} {row['case']:34}"
    if "error" in row or row["measured"] == NOT_MEASURED:
        return f"{head} {row.get('error', NOT_MEASURED)}"
    size = row["measured"]["allocated"] / 2**30
    if row["card"] == CPU:
        return f"{head} {size:8.3f} GiB of the process, a dry run"
    return f"{head} {size:8.3f} GiB, planned {_off(row, 'allocated'):+.2%}"


def _off(row: Answer, figure: str) -> float:
    return float(row["planned"][figure] / row["measured"][figure] - 1)


def summary(rows: list[Answer]) -> Answer:
    """Return mean and worst error of what was measured on a card."""
    rows = [row for row in rows if row["card"] != CPU]
    found: Answer = {"rows": len(rows), "cards": sorted({row["card"] for row in rows})}
    for figure in ("allocated", "reserved"):
        errors = [_off(row, figure) for row in rows]
        if errors:
            sizes = [abs(error) for error in errors]
            found[figure] = {
                "mean_absolute": round(sum(sizes) / len(sizes), 5),
                "lowest": round(min(errors), 5),
                "highest": round(max(errors), 5),
            }
    return found


def main() -> int:
    """Measure, or say that nothing was measured."""
    parser = card_arguments(__doc__, ROWS)
    parser.add_argument("--seconds", type=float, default=540, help="begin no row after so long")
    parser.add_argument("--models", nargs="+", help="only these of the catalogue")
    parser.add_argument("--rows", type=int, default=1000, help="measure at most so many")
    options = parser.parse_args()
    if options.child:
        import app.training.memory.measure  # noqa: F401 (loaded while another row is measured)

        answer_one(answer)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        options.out = options.out or (Path(scratch) / "rows.jsonl" if options.dry_run else ROWS)
        if options.dry_run or hardware.readings().gpu is not None:
            measure_all(options, Path(scratch))
        else:
            known = {(row["model"], row["case"]) for row in keep_measured(options.out)}
            for model, case in (each for each in wanted() if each not in known):
                row = {"model": model, "case": case, "planned": planned(config_of(model, case, False), model)}
                append_row(options.out, {**row, "measured": NOT_MEASURED})
        print(json.dumps(summary(measured_rows(options.out)), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
