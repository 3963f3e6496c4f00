"""Hold the planner's formulas against traces of the real training step on fake tensors.

Run: python benchmarks/planner_trace.py [--models NAME ...] [--out benchmarks/results/planner_trace.json]

Each case runs transformers' model with PEFT's adapters under torch autograd without data (app/planner/trace_child.py)
and compares the peak of live tensors with the formula's. No GPU; a few seconds a case.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from app import catalog  # noqa: E402
from app.planner import PlanRequest, estimate  # noqa: E402

MODELS = (
    "llama-3.1-8b",
    "qwen2.5-1.5b",
    "qwen3-4b",
    "gemma-2-2b",
    "gemma-3-1b",
    "phi-2",
    "phi-3-mini",
    "glm-4-9b",
    "falcon-7b",
    "bloom-1b1",
    "gpt2-medium",
    "starcoder2-3b",
    "pythia-1.4b",
)
CASES: dict[str, dict[str, Any]] = {
    "qlora, recomputed, 2048": {"method": "qlora", "seq_len": 2048},
    "qlora, kept, bf16 adapters": {"method": "qlora", "checkpointing": "none", "adapter_dtype": "bf16"},
    "qlora, rank 64, 4 rows padded": {"method": "qlora", "rank": 64, "micro_batch": 4, "seq_len": 512},
    "qlora, every second layer, packed": {"method": "qlora", "checkpointing": "every-2", "packed": True},
    "qlora, eager, accumulated": {"method": "qlora", "attn": "eager", "gradient_accumulation": 4},
    "qlora, dropout, kept, short": {
        "method": "qlora",
        "lora_dropout": 0.05,
        "checkpointing": "none",
        "seq_len": 512,
    },
    "lora, recomputed, 2048": {"method": "lora", "seq_len": 2048},
    "lora, kept, whole logits": {"method": "lora", "checkpointing": "none", "fused_loss": False},
    "full, recomputed": {"method": "full"},
    "dora, recomputed": {"method": "qlora", "dora": True},
    "classic qlora, kept": {"method": "qlora", "profile": "peft-classic", "checkpointing": "none", "dtype": "fp16"},
}


def measure(name: str, case: str) -> dict[str, Any]:
    """Return the traced and the planned peak of one case."""
    from app.planner.trace_child import trace

    request = PlanRequest(model=catalog.find(name), **CASES[case])
    started = time.perf_counter()
    traced = trace(request)["allocated_peak"]
    planned = estimate(request)
    error = planned.allocated_peak / traced - 1
    return {
        "model": name,
        "case": case,
        "traced_bytes": traced,
        "planned_bytes": planned.allocated_peak,
        "error": round(error, 5),
        "moment": planned.peak_moment,
        "seconds": round(time.perf_counter() - started, 1),
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return mean and worst error over all rows and by case."""
    errors = [abs(row["error"]) for row in rows]
    by_case = {case: [abs(row["error"]) for row in rows if row["case"] == case] for case in CASES}
    return {
        "cases": len(rows),
        "architectures": len({row["model"] for row in rows}),
        "mean_error": round(sum(errors) / len(errors), 5),
        "worst_error": round(max(errors), 5),
        "by_case": {case: [round(sum(e) / len(e), 5), round(max(e), 5)] for case, e in by_case.items() if e},
    }


def main() -> int:
    """Run all cases, print one line each and a summary, write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="*", default=MODELS, help="catalogue names; all of the list by default")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "planner_trace.json")
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    answer: dict[str, Any] = {}
    for name in options.models:
        for case in CASES:
            rows.append(measure(name, case))
            print(
                f"{name:18} {case:34} {rows[-1]['traced_bytes'] / 2**30:8.3f} GiB {rows[-1]['error']:+8.2%}", flush=True
            )
            answer = {"summary": summary(rows), "rows": rows}
            options.out.write_text(json.dumps(answer, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(answer["summary"], indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
