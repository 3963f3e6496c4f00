"""Adapters in bf16 or fp32 on an NF4 base: which learns better?

Each run is the same but for the adapters' number format: NF4 base with fp32 compute, LoRA on all linear layers, AdamW
whose states follow the adapters' format, rows of the pirate style of which a tenth is kept back. Compared is the
validation loss at the end, paired by seed, for several learning rates. Run it: python -m benchmarks.adapter_dtype
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from app.config import presets
from app.jobs import directory
from app.jobs.child import run_locked
from app.jobs.metrics import read_rows
from app.training import worker
from app.workspace import Workspace, open_workspace

HOUSE = Path(__file__).resolve().parents[1]
RESULT = HOUSE / "benchmarks" / "results" / "adapter_dtype.json"
DATA = HOUSE / "assets" / "datasets" / "teacher.json"
RATES = (2e-5, 2e-4, 1.5e-3)


def validation_losses(workspace: Workspace, dtype: str, rate: float, seed: int, steps: int) -> list[float]:
    """Train once and return the validation losses, before the first step excluded."""
    config = presets.load("cpu-starter").config.changed(
        {
            "data.file": str(DATA),
            "data.max_length": 128,
            "data.validation_split": 0.1,
            "adapter.dtype": dtype,
            "training.learning_rate": rate,
            "training.seed": seed,
            "training.max_steps": steps,
            "training.eval_steps": steps // 2,
            "training.save_steps": steps,
        }
    )
    job = directory.create(workspace, "train", config.as_dict())
    run_locked(job, lambda: worker.work)
    status = job.status()
    assert status.state == "finished", status.reason
    return [row["eval_loss"] for row in read_rows(job.metrics_file) if "eval_loss" in row]


def compare(workspace: Workspace, rate: float, seeds: range, steps: int) -> dict[str, Any]:
    """Return the final validation losses of both formats, paired by seed."""
    losses = {
        dtype: [validation_losses(workspace, dtype, rate, seed, steps)[-1] for seed in seeds]
        for dtype in ("bf16", "fp32")
    }
    gaps = [b / f - 1 for b, f in zip(losses["bf16"], losses["fp32"], strict=True)]
    return {
        "learning_rate": rate,
        **{f"eval_loss_{dtype}": [round(loss, 5) for loss in found] for dtype, found in losses.items()},
        "bf16_over_fp32_median": round(statistics.median(gaps), 4),
        "bf16_worse_in": sum(gap > 0 for gap in gaps),
        "of": len(gaps),
    }


def main() -> None:
    """Compare both formats and write the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        workspace = open_workspace(folder)
        rows = [compare(workspace, rate, range(arguments.seeds), arguments.steps) for rate in RATES]
    found = {"steps": arguments.steps, "versions": directory.versions(), "rates": rows}
    arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
