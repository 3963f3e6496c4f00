"""Score the planner's peft-classic profile on published measurements, with the public formula beside it.

Run: python benchmarks/planner_truth.py [--out RESULTS.json] [--csv ROWS.csv]

The rows are measurements of others, both projects MIT: fitcheck-llm 0.3.1 (c) 2026 Anas Bouzid; can-i-finetune-this
(c) 2026 Daoyuan Li. Repeats of a configuration are averaged and count once. The peer is fitcheck-llm's published
formula with its fitted constants, written down anew from its description.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from app.catalog.spec import ModelSpec  # noqa: E402
from app.planner import PlanRequest, estimate  # noqa: E402
from app.planner.simulation.step import resident  # noqa: E402

DEFAULT_CSV = ROOT / "benchmarks" / "data" / "vram_truth.csv"
GIB = 1 << 30
Row = dict[str, str]


def read_rows(path: Path = DEFAULT_CSV) -> list[Row]:
    """Return the measured rows."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def spec_of(row: Row) -> ModelSpec:
    """Return the architecture that a row states."""
    family = "qwen2" if "qkv_bias=true" in row["notes"] else "llama"
    return ModelSpec(
        name=row["model"],
        family=family,
        hidden=int(row["hidden_size"]),
        layers=int(row["num_layers"]),
        heads=int(row["num_heads"]),
        kv_heads=int(row["num_kv_heads"]),
        head_dim=int(row["head_dim"]),
        intermediate=int(row["intermediate_size"]),
        vocab=int(row["vocab_size"]),
        tied=row["tied_embeddings"] == "true",
        qkv_bias=family == "qwen2",
        rotary_dim=int(row["head_dim"]),
    )


def request_of(row: Row) -> PlanRequest:
    """Return the request that a row measured."""
    storage: dict[tuple[str, str], Any] = {
        ("nf4", "true"): "nf4-dq",
        ("nf4", "false"): "nf4",
        ("int8", "false"): "int8",
    }
    return PlanRequest(
        model=spec_of(row),
        method=row["method"],  # type: ignore[arg-type]
        quant=storage.get((row["quant"], row["double_quant"]), "none"),
        rank=int(row["rank"] or 16),
        targets=tuple(row["targets"].split()) or ("all-linear",),
        lora_dropout=float(row["lora_dropout"] or 0),
        micro_batch=int(row["micro_batch"]),
        seq_len=int(row["seq_len"]),
        optimizer=row["optimizer"],  # type: ignore[arg-type]
        checkpointing="full" if row["grad_ckpt"] == "true" else "none",
        attn=row["attn"],  # type: ignore[arg-type]
        dtype=row["dtype"],  # type: ignore[arg-type]
        profile="peft-classic",
    )


def public_formula(request: PlanRequest) -> float:
    """Return the peak in bytes by fitcheck-llm's formula with its T4 constants."""
    spec, tokens = request.model, request.tokens
    prepared = request.kbit_prepared
    held = resident(request)
    heads, kv = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
    layer = 2.0 * tokens * (12 * spec.hidden + 3 * heads + kv + 3 * spec.intermediate)
    if request.attn == "eager":
        layer += (9 if prepared else 7.4) * 2 * request.micro_batch * spec.heads * request.seq_len**2
    logits = (4 if prepared else 3.5) * 4 * tokens * spec.vocab
    store = spec.layers * tokens * spec.hidden * (4 if prepared else 2)
    moving = store + max(logits, layer) if request.recompute == "full" else spec.layers * layer + logits
    return held.weights + held.trained + held.gradients + held.states + moving


def score(rows: list[Row]) -> list[dict[str, Any]]:
    """Return one scored line for each configuration."""
    groups: dict[PlanRequest, list[Row]] = defaultdict(list)
    for row in rows:
        groups[request_of(row)].append(row)
    lines = []
    for request, repeats in groups.items():
        measured = sum(float(row["allocated_gib"]) for row in repeats) / len(repeats)
        reserved = [float(row["reserved_gib"]) for row in repeats if row["reserved_gib"]]
        plan = estimate(request)
        lines.append(
            {
                "model": request.model.name.split("/")[-1],
                "group": f"{request.storage} {request.attn} {'recomputed' if request.recompute == 'full' else 'kept'}",
                "micro_batch": request.micro_batch,
                "seq_len": request.seq_len,
                "repeats": len(repeats),
                "measured_gib": round(measured, 4),
                "error": round(plan.allocated_peak / GIB / measured - 1, 5),
                "public_error": round(public_formula(request) / GIB / measured - 1, 5),
                "reserved_error": round(plan.reserved_peak / GIB * len(reserved) / sum(reserved) - 1, 5)
                if reserved
                else None,
                "moment": plan.peak_moment,
            }
        )
    return lines


def summary(lines: list[dict[str, Any]], key: str = "error") -> dict[str, Any]:
    """Return mean absolute, lowest and highest error, over all and by group."""
    errors = [line[key] for line in lines if line[key] is not None]
    return {
        "configurations": len(errors),
        "mean_absolute": round(sum(map(abs, errors)) / len(errors), 5),
        "lowest": min(errors),
        "highest": max(errors),
    }


def main() -> int:
    """Print the table by group and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--csv", type=Path, default=DEFAULT_CSV)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "planner_truth.json")
    options = parser.parse_args()
    lines = score(read_rows(options.csv))
    groups = sorted({line["group"] for line in lines})
    answer: dict[str, Any] = {
        "allocated": summary(lines),
        "public_formula": summary(lines, "public_error"),
        "reserved": summary(lines, "reserved_error"),
        "groups": {group: summary([line for line in lines if line["group"] == group]) for group in groups},
        "rows": lines,
    }
    for line in lines:
        print(
            f"{line['model']:28} {line['group']:26} b{line['micro_batch']} s{line['seq_len']:<5}"
            f"{line['measured_gib']:8.3f} GiB {line['error']:+8.2%}  public {line['public_error']:+8.2%}"
        )
    for name in ("allocated", "public_formula", "reserved"):
        print(name, json.dumps(answer[name]))
    for group in groups:
        print(f"{group:28}", json.dumps(answer["groups"][group]))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(answer, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
