"""Hold the planner's formulas against traces of the real training step on fake tensors.

Run: python benchmarks/planner_trace.py [--models NAME ...] [--out benchmarks/results/planner_trace.json] [--fresh]

Every row is written as soon as it is traced; a run that was cut short goes on where it stopped. Rows keep their trace,
and the plan is made anew, so that a change of the formulas is scored in a second; --fresh traces everything again.

Each case runs transformers' model with PEFT's adapters under torch autograd without data
(app/planner/tracing/worker.py) and compares the peak of live tensors with the formula's. No GPU; a few seconds a case.
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
from app.planner.simulation.adapter import adapts_experts  # noqa: E402

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
    "qwen3-30b-a3b",
    "mixtral-8x7b",
    "qwen1.5-moe-a2.7b",
    "deepseek-v2-lite",
    "gpt-oss-20b",
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


def applies(name: str, case: str) -> bool:
    """Tell whether a case can be run: PEFT has neither dropout nor DoRA for adapters on experts.

    The classic path turns experts into fp32, for which torch has no grouped product on a processor.
    """
    request = PlanRequest(model=catalog.find(name), **CASES[case])
    if request.model.experts is not None and request.kbit_prepared:
        return False
    return not (adapts_experts(request.model, request.targets) and (request.dora or request.lora_dropout))


def traced(name: str, case: str) -> dict[str, Any]:
    """Return the traced peak of one case and the seconds that it took."""
    from app.planner.tracing.worker import trace

    started = time.perf_counter()
    peak = trace(PlanRequest(model=catalog.find(name), **CASES[case]))["allocated_peak"]
    return {"model": name, "case": case, "traced_bytes": peak, "seconds": round(time.perf_counter() - started, 1)}


def planned(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row with the planner's peak beside the traced one."""
    plan = estimate(PlanRequest(model=catalog.find(row["model"]), **CASES[row["case"]]))
    error = round(plan.allocated_peak / row["traced_bytes"] - 1, 5)
    return {**row, "planned_bytes": plan.allocated_peak, "error": error, "moment": plan.peak_moment}


def known_rows(path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the rows of an earlier run by model and case."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    except (OSError, ValueError, KeyError):
        return {}
    return {(row["model"], row["case"]): row for row in rows if row["case"] in CASES}


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
    parser.add_argument("--fresh", action="store_true", help="trace every case again")
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    known = {} if options.fresh else known_rows(options.out)
    rows: list[dict[str, Any]] = []
    answer: dict[str, Any] = {}
    for name in options.models:
        for case in (case for case in CASES if applies(name, case)):
            rows.append(planned(known.get((name, case)) or traced(name, case)))
            size, error = rows[-1]["traced_bytes"] / 2**30, rows[-1]["error"]
            print(f"{name:18} {case:34} {size:8.3f} GiB {error:+8.2%}", flush=True)
            # Rows that are still to come keep what an earlier run knows of them.
            done = {(row["model"], row["case"]) for row in rows}
            rest = [planned(row) for key, row in known.items() if key not in done]
            answer = {"summary": summary([*rows, *rest]), "rows": [*rows, *rest]}
            partial = options.out.with_suffix(".partial")
            partial.write_text(json.dumps(answer, indent=1) + "\n", encoding="utf-8")
            partial.replace(options.out)
    print(json.dumps(answer["summary"], indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
