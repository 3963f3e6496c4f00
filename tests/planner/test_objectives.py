"""What preference objectives take: a pair's two sides, the frozen copy of an adapter, ORPO's whole logits."""

from __future__ import annotations

from typing import Any

import pytest

from app import catalog
from app.config import presets
from app.errors import PlanError
from app.planner import PlanRequest, estimate
from app.planner.from_config import request_from_config

MODEL = catalog.find("qwen2.5-0.5b")


def test_a_pair_brings_two_sequences_and_a_thumb_one() -> None:
    pairs = estimate(PlanRequest(model=MODEL, objective="dpo", micro_batch=2))
    rows = estimate(PlanRequest(model=MODEL, micro_batch=4))
    assert pairs.parts == rows.parts
    assert estimate(PlanRequest(model=MODEL, objective="kto", micro_batch=4)).parts == rows.parts


def test_a_reference_adapter_is_held_once_more_in_fp32() -> None:
    plain = PlanRequest(model=MODEL, objective="dpo", adapter_dtype="bf16")
    held = estimate(plain.changed(reference_adapter=True)).parts["adapter_weights"]
    assert held == 3 * estimate(plain).parts["adapter_weights"]


def test_orpo_holds_all_logits() -> None:
    odds = estimate(PlanRequest(model=MODEL, objective="orpo", seq_len=512))
    assert odds.peak_moment == "loss" and odds.parts["logits"] > 4 * 4 * 2 * 512 * MODEL.vocab


def test_a_run_s_request_is_that_of_the_run_as_it_is_settled() -> None:
    config = presets.load("cpu-starter").config
    kto = config.changed({"training.objective": "kto", "training.per_device_train_batch_size": 1})
    request = request_from_config(kto)
    assert (request.objective, request.packed, request.micro_batch) == ("kto", False, 2)
    begun = request_from_config(config.changed({"training.objective": "dpo", "adapter.start_from": "/somewhere"}))
    assert begun.reference_adapter and not request.reference_adapter
    assert not request_from_config(config.changed({"adapter.start_from": "/somewhere"})).reference_adapter
    with pytest.raises(PlanError, match="objective"):
        PlanRequest(model=MODEL, objective="dpo", packed=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "settings",
    [
        {"objective": "dpo"},
        {"objective": "dpo", "checkpointing": "none", "reference_adapter": True, "rank": 64},
        {"objective": "dpo", "method": "lora", "dtype": "fp32"},
        {"objective": "kto", "micro_batch": 2, "gradient_accumulation": 4},
        {"objective": "orpo"},
        {"objective": "orpo", "method": "lora", "checkpointing": "none", "micro_batch": 2},
    ],
)
def test_the_formula_meets_the_trace_of_the_step(settings: dict[str, Any]) -> None:
    """The policy's pass, the reference's beside what it keeps, the loss of TRL, and the way back."""
    from app.planner.tracing.worker import trace_depth

    request = PlanRequest(model=MODEL.with_layers(3), seq_len=256, **settings)
    traced = trace_depth(request, 3)["allocated_peak"]
    assert estimate(request).allocated_peak == pytest.approx(traced, rel=0.05)
