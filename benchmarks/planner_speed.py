"""Time the planner: one plan, one plan with its inverse, and every catalogue model under every preset.

Run: python benchmarks/planner_speed.py [--out benchmarks/results/planner_speed.json]

Times are of the processor (time.process_time), so that other work on the machine does not count; the last figure is
given on the wall clock as well.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from app import catalog  # noqa: E402
from app.config import presets  # noqa: E402
from app.planner import PlanRequest, estimate, plan  # noqa: E402
from app.planner.from_config import request_from_config  # noqa: E402
from app.planner.simulation.layer_cost import clear_layer_costs  # noqa: E402

LENGTHS = range(1024, 1124)


def forget() -> None:
    """Empty every cache of results, so that the next plan is worked out anew."""
    estimate.cache_clear()
    clear_layer_costs()


def timed(request: PlanRequest, function: object) -> float:
    """Return the milliseconds of one call."""
    assert callable(function)
    started = time.process_time()
    function(request)
    return (time.process_time() - started) * 1000


def main() -> int:
    """Time and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "planner_speed.json")
    options = parser.parse_args()
    request = PlanRequest(model=catalog.find("llama-3.1-8b"), vram_gb=12)
    plan(request)
    fresh = [timed(request.changed(seq_len=length), estimate) for length in LENGTHS]
    inverse = [timed(request.changed(seq_len=length), plan) for length in list(LENGTHS)[:20]]
    strangers = []
    for model in catalog.all_models():
        forget()
        strangers.append(timed(request.changed(model=model), plan))
    plan(request)
    again = [timed(request, plan) for _ in LENGTHS]
    configs = [preset.config for preset in presets.all_presets()]
    forget()
    started, wall = time.process_time(), time.perf_counter()
    plans = [estimate(request_from_config(config, model)) for config in configs for model in catalog.all_models()]
    everything, wall = time.process_time() - started, time.perf_counter() - wall
    answer = {
        "new_settings_ms": round(statistics.median(fresh), 3),
        "new_settings_with_inverse_ms": round(statistics.median(inverse), 3),
        "new_model_with_inverse_ms": {
            "median": round(statistics.median(strangers), 3),
            "slowest": round(max(strangers), 3),
        },
        "same_settings_with_inverse_ms": round(statistics.median(again), 3),
        "catalogue_times_presets": {"plans": len(plans), "cpu_s": round(everything, 3), "wall_s": round(wall, 3)},
    }
    print(json.dumps(answer, indent=1))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(answer, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
