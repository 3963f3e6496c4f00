"""Hold the plans of models without a formula against traces of the whole model at settings they were not fitted on.

Run: python benchmarks/planner_general.py [--families NAME ...] [--out FILE.json] [--fresh]

For every class the planner's polynomials are found as `plan` finds them, from a shallow model at five or six settings.
Each case is then traced at the model's full depth with another length, batch or rank. Both run the class itself with
PEFT's adapters under torch autograd without data; no GPU. Rows are written as they come; a run that was cut short goes
on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from app.catalog.reader import spec_from_config  # noqa: E402
from app.planner import PlanRequest  # noqa: E402

_SEVEN = {"hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32, "num_key_value_heads": 8}
_TWO = {"hidden_size": 2048, "intermediate_size": 6144, "num_attention_heads": 16, "num_key_value_heads": 4}
# Widths as published or near it; twelve layers, for the depth decides how long a whole trace takes.
CONFIGS: dict[str, dict[str, Any]] = {
    "qwen3_5_text": {"hidden_size": 2560, "intermediate_size": 9216, "num_attention_heads": 16, "vocab_size": 248_320},
    "qwen3_next": {"hidden_size": 2048, "num_experts": 64, "num_attention_heads": 16, "vocab_size": 151_936},
    "gemma4_text": {"hidden_size": 1536, "intermediate_size": 6144, "num_attention_heads": 8, "vocab_size": 262_144},
    "lfm2": {"hidden_size": 2048, "vocab_size": 65_536, "num_attention_heads": 32, "num_key_value_heads": 8},
    "olmo3": {**_SEVEN, "sliding_window": 1024, "vocab_size": 100_278},
    "granitemoehybrid": {
        **_TWO,
        "vocab_size": 100_352,
        "num_local_experts": 0,
        "layers_block_type": (["mamba"] * 5 + ["attention"]) * 2,
        "shared_intermediate_size": 8192,
        "position_embedding_type": "nope",
    },
    "ministral3": {**_SEVEN, "vocab_size": 131_072},
    "glm4_moe_lite": {"n_routed_experts": 16, "vocab_size": 154_880},
    "exaone4": {**_TWO, "vocab_size": 102_400, "sliding_window": 512},
    "cohere2": {**_TWO, "vocab_size": 256_000, "sliding_window": 512},
    "arcee": {**_TWO, "vocab_size": 128_004},
    "apertus": {**_TWO, "vocab_size": 131_072},
    "seed_oss": {**_TWO, "head_dim": 128, "vocab_size": 155_136},
    "helium": {**_TWO, "head_dim": 128, "vocab_size": 48_000},
    "minicpm3": {"hidden_size": 2560, "vocab_size": 73_448},
    "bamba": {**_TWO, "attn_layer_indices": [5, 11], "vocab_size": 128_256},
    "olmo_hybrid": {**_TWO, "vocab_size": 100_352},
    "diffllama": {**_TWO, "vocab_size": 32_000},
}
LAYERS = 12
# Settings that make the graph; and the length, batch and rank at which the whole model is traced.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "qlora, 2000 tokens, rank 64": ({"seq_len": 2000}, {"rank": 64}),
    "qlora, 900 tokens, accumulated": ({"seq_len": 900}, {"gradient_accumulation": 4}),
    "qlora, kept, 3 rows of 700, rank 4": ({"seq_len": 700, "micro_batch": 3, "checkpointing": "none"}, {"rank": 4}),
    "lora in bf16, 1500 tokens, 8-bit": (
        {"seq_len": 1500, "method": "lora", "adapter_dtype": "bf16"},
        {"optimizer": "adamw_8bit", "rank": 32},
    ),
    "full, 1200 tokens": ({"seq_len": 1200, "method": "full"}, {}),
}


def request_of(family: str, settings: dict[str, Any]) -> PlanRequest:
    """Return the request for a class in its benchmark's size."""
    config = {"model_type": family, "num_hidden_layers": LAYERS, **CONFIGS[family]}
    spec = spec_from_config(config, family)
    # Classes of the table are traced here as if they had no formula.
    return PlanRequest(model=replace(spec, simulated=True), **settings)


def row(family: str, case: str) -> dict[str, Any]:
    """Return planned and traced peak of one case."""
    from app.planner.tracing import composition, measure

    settings, others = CASES[case]
    request = request_of(family, settings)
    decoder = measure.decoder_of(request)
    counts = measure.counts(decoder, measure.DTYPES[request.dtype])
    started = time.perf_counter()
    graph = measure.graph_trace(request, decoder, counts.windows)
    fitted = time.perf_counter()
    (step,) = graph.steps.values()
    request = request.changed(**others)
    model = composition.TracedModel(counts, graph, {request.recompute == "full": step})
    held = composition.resident(request, model)
    peak = max(moment.total_bytes for moment in composition.moments(request, model, held))
    planned = held.weights + held.trained + held.states + held.constants + peak
    traced = measure.whole_peak(request, decoder, held)
    return {
        "family": family,
        "case": case,
        "planned_bytes": planned,
        "traced_bytes": traced,
        "error": round(planned / traced - 1, 5),
        "fit_seconds": round(fitted - started, 1),
        "trace_seconds": round(time.perf_counter() - fitted, 1),
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return mean and worst error over all rows, and the worst by class."""
    errors = [abs(one["error"]) for one in rows]
    families = sorted({one["family"] for one in rows})
    return {
        "cases": len(rows),
        "classes": len(families),
        "mean_error": round(sum(errors) / len(errors), 5),
        "worst_error": round(max(errors), 5),
        "worst_by_class": {
            family: max(abs(one["error"]) for one in rows if one["family"] == family) for family in families
        },
    }


def known_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of an earlier run."""
    try:
        rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["rows"]
    except (OSError, ValueError, KeyError):
        return []
    return [one for one in rows if one["family"] in CONFIGS and one["case"] in CASES]


def main() -> int:
    """Run all cases, print one line each and a summary, write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", nargs="*", default=list(CONFIGS), help="model types; all of the list by default")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "planner_general.json")
    parser.add_argument("--fresh", action="store_true", help="trace every case again")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    rows = [] if options.fresh else known_rows(options.out)
    done = {(one["family"], one["case"]) for one in rows}
    for family in options.families:
        for case in CASES:
            if (family, case) in done:
                continue
            rows.append(row(family, case))
            size, error = rows[-1]["traced_bytes"] / 2**30, rows[-1]["error"]
            print(f"{family:18} {case:36} {size:8.3f} GiB {error:+8.2%}", flush=True)
            partial = options.out.with_suffix(".partial")
            partial.write_text(json.dumps({"summary": summary(rows), "rows": rows}, indent=1) + "\n", encoding="utf-8")
            partial.replace(options.out)
    print(json.dumps(summary(rows), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
