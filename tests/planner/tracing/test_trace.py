"""The formulas against a trace of the real training step: a few cases here, all of them in benchmarks/."""

from typing import Any

import pytest

from app import catalog
from app.errors import PlanError
from app.planner import PlanRequest, estimate
from app.planner.tracing.client import traced_plan
from app.planner.tracing.request import plan_with_trace, request_as_json, request_from_json

# PEFT 0.21 uses names that transformers 5.23 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore")


def test_a_request_survives_the_way_to_the_child() -> None:
    request = PlanRequest(model=catalog.find("gemma-3-1b"), rank=4, targets=("q_proj",), checkpointing="every-2")
    assert request_from_json(request_as_json(request)) == request


def test_a_model_without_configuration_cannot_be_traced() -> None:
    bare = catalog.ModelSpec("bare", "llama", 64, 2, 4, 4, 16, 128, 320, True)
    with pytest.raises(PlanError, match="cannot be traced"):
        request_as_json(PlanRequest(model=bare))


def test_a_trace_replaces_the_formula() -> None:
    plan = estimate(PlanRequest(model=catalog.find("gpt2")))
    traced = plan_with_trace(plan, {"allocated_peak": plan.allocated_peak + 1000})
    assert traced.basis == "traced"
    assert traced.allocated_peak == plan.allocated_peak + 1000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("qwen2.5-0.5b", {}),
        ("qwen2.5-0.5b", {"checkpointing": "none", "adapter_dtype": "bf16"}),
        ("gpt2", {"method": "lora"}),
        ("ministral-3-3b", {}),
        ("gemma-3-270m", {"attn": "eager"}),
        ("qwen2.5-0.5b", {"profile": "peft-classic", "checkpointing": "none", "dtype": "fp16"}),
    ],
)
def test_the_formula_meets_the_trace(name: str, settings: dict[str, str]) -> None:
    request = PlanRequest(model=catalog.find(name), **settings)  # type: ignore[arg-type]
    traced = traced_plan(request).allocated_peak
    assert estimate(request).allocated_peak == pytest.approx(traced, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("qwen3-30b-a3b", {}),
        ("qwen3-30b-a3b", {"checkpointing": "none", "targets": ("q_proj", "v_proj")}),
        ("mixtral-8x7b", {"gradient_accumulation": 4}),
        ("qwen1.5-moe-a2.7b", {"targets": ("q_proj", "experts")}),
        ("gpt-oss-20b", {"checkpointing": "none"}),
    ],
)
def test_experts_in_4_bits_meet_the_trace(name: str, settings: dict[str, Any]) -> None:
    request = PlanRequest(model=catalog.find(name), **settings)
    traced = traced_plan(request).allocated_peak
    assert estimate(request).allocated_peak == pytest.approx(traced, rel=0.01)
