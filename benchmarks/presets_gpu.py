"""Every preset for 20 steps at its model's true shape, with the process held to what the preset's card offers.

    python -m benchmarks.presets_gpu [--seconds 540] [--out ROWS.jsonl]    on a machine with a CUDA card
    python -m benchmarks.presets_gpu --dry-run                             tiny shapes, 2 steps, on any machine

The training worker does what it does in a run; its allocator may take the preset's card less the desktop's reserve and
less the CUDA context. A run that had to go down the memory ladder did not fit. Gradients are accumulated over two
micro-batches, not the preset's sixteen: further ones need no more memory. Rows that are known are not run again.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from app import catalog, hardware
from app.config import presets
from app.config.schema import RunConfig
from app.planner import estimate
from app.planner.from_config import request_from_config
from app.planner.request import GIB
from app.planner.tracing.client import traced
from benchmarks.fresh_children import (
    NOT_MEASURED,
    Answer,
    FreshChildren,
    answer_one,
    append_row,
    card_arguments,
    keep_measured,
)
from benchmarks.planner_gpu import write_for

ROWS = Path(__file__).parent / "results" / "presets_gpu.jsonl"
STEPS = 20
_DRY_STEPS = 2
_ROW_WORDS = 60
_ROWS = 1200


def names() -> list[str]:
    """Return the presets that are made for a card, smallest first."""
    return [preset.name for preset in presets.all_presets() if preset.vram_gb]


def config_of(preset: str, folder: str, data: Path, dry: bool) -> RunConfig:
    """Return the preset's run on a model of its own shape."""
    changes = {
        "model.name": folder,
        "data.file": str(data),
        "training.max_steps": _DRY_STEPS if dry else STEPS,
        "training.gradient_accumulation_steps": 2,
        "training.save_steps": STEPS,
    }
    if dry:
        changes |= {"data.max_length": 128, "model.dtype": "fp32", "training.optim": "adamw_torch"}
    return presets.load(preset).config.changed(changes)


def allowed_bytes(preset: str) -> tuple[int, int]:
    """Return what the allocator may take of the preset's card, and the planned peak that it holds itself."""
    config = presets.load(preset).config
    request = request_from_config(config, catalog.find(config.model.name))
    with tempfile.TemporaryDirectory() as scratch:  # a class without a formula is measured by a simulation
        plan = estimate(traced(request, Path(scratch)))
    assert plan.free_bytes is not None
    return plan.free_bytes - plan.parts["cuda_context"], plan.reserved_peak


def write_data(path: Path) -> None:
    """Write rows that fill packed rows of any length."""
    text = " ".join(["treasure map and a tall ship"] * (_ROW_WORDS // 6))
    rows = [{"instruction": f"Tell me of voyage {number}.", "output": f"{number}: {text}"} for number in range(_ROWS)]
    path.write_text(json.dumps(rows), encoding="utf-8")


def answer(question: Answer) -> Answer:
    """Train one preset in this process."""
    import torch

    from app.jobs import directory
    from app.jobs.child import run_locked
    from app.jobs.metrics import read_rows
    from app.training import worker
    from app.workspace import open_workspace

    on_card = torch.cuda.is_available()
    if on_card:
        share = question["allowed_bytes"] / torch.cuda.mem_get_info()[1]
        torch.cuda.set_per_process_memory_fraction(min(1.0, share))
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "rows.json"
        write_data(data)
        config = config_of(question["preset"], question["folder"], data, question["dry"])
        job = directory.create(open_workspace(Path(scratch) / "workspace"), "train", config.as_dict())
        run_locked(job, lambda: worker.work)
        status, rows = job.status(), read_rows(job.metrics_file)
    lowered = [row["message"] for row in rows if row.get("event") == "memory step"]
    if status.state != "finished":
        return {"error": status.reason or status.state, "fits": False}
    return {
        "card": torch.cuda.get_device_name() if on_card else "cpu",
        "fits": not lowered,
        "lowered": lowered,
        "measured": {
            "steps": status.result["steps"],
            "allocated": torch.cuda.max_memory_allocated() if on_card else NOT_MEASURED,
            "reserved": torch.cuda.max_memory_reserved() if on_card else NOT_MEASURED,
            "last_loss": status.result["last_loss"],
            "seconds": round(time.monotonic() - began, 1),
        },
    }


def run_all(options: argparse.Namespace, scratch: Path) -> None:
    """Run the presets that are not known yet, until the time is up."""
    begun = time.monotonic()
    known = {row["preset"] for row in keep_measured(options.out)}
    left = [name for name in options.presets or names() if name not in known]
    present = ""
    with FreshChildren("benchmarks.presets_gpu") as children:
        for place, name in enumerate(left):
            if time.monotonic() - begun > options.seconds:
                break
            model, folder = presets.load(name).config.model.name, scratch / "model"
            if model != present:
                write_for(model, folder, options.dry_run, options.filled_gb)
                present = model
            allowed, planned = allowed_bytes(name)
            question = {"preset": name, "folder": str(folder), "allowed_bytes": allowed, "dry": options.dry_run}
            told = children.ask(question, another=place + 1 < len(left))
            row = {"preset": name, "model": model, "allowed_bytes": allowed, "planned_reserved": planned, **told}
            append_row(options.out, row)
            print(line(row), flush=True)


def line(row: Answer) -> str:
    """Return a row for people."""
    head = f"{row['preset']:8} {row['model']:28} may take {row['allowed_bytes'] / GIB:6.2f} GB"
    if "error" in row:
        return f"{head}: {row['error']}"
    return f"{head}: {'fits' if row['fits'] else row['lowered']}, {row['measured']}"


def main() -> int:
    """Run the presets, or say that nothing was measured."""
    parser = card_arguments(__doc__, ROWS)
    parser.add_argument("--presets", nargs="+", choices=names(), help="only these")
    parser.add_argument("--seconds", type=float, default=540, help="begin no preset after so long")
    options = parser.parse_args()
    if options.child:
        import app.training.worker  # noqa: F401 (loaded while another preset runs)

        answer_one(answer)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        options.out = options.out or (Path(scratch) / "rows.jsonl" if options.dry_run else ROWS)
        if options.dry_run or hardware.readings().gpu is not None:
            run_all(options, Path(scratch))
            return 0
        known = {row["preset"] for row in keep_measured(options.out)}
        for name in (each for each in names() if each not in known):
            allowed, planned = allowed_bytes(name)
            row = {"preset": name, "model": presets.load(name).config.model.name, "allowed_bytes": allowed}
            append_row(options.out, {**row, "planned_reserved": planned, "measured": NOT_MEASURED})
        print(f"no CUDA card: {options.out} says {NOT_MEASURED}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
