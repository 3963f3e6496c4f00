from typing import Any

import pytest

from app import catalog
from app.errors import PlanError
from app.planner import PlanRequest, estimate
from app.planner.simulation.adapter import PEFT_ADAPTS_EXPERTS

MODEL = catalog.find("qwen2.5-0.5b")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rank", 0),
        ("rank", -4),
        ("rank", 10**9),
        ("rank", 1.5),
        ("rank", True),
        ("seq_len", 0),
        ("seq_len", 10**9),
        ("micro_batch", 0),
        ("gradient_accumulation", 0),
        ("columns", 0),
        ("vram_gb", -1),
        ("vram_gb", 0),
        ("vram_gb", float("nan")),
        ("vram_gb", float("inf")),
        ("free_bytes", -1),
        ("method", "qqlora"),
        ("quant", "int3"),
        ("optimizer", "adam"),
        ("attn", "math"),
        ("dtype", "fp8"),
        ("adapter_dtype", "int8"),
        ("profile", "unsloth"),
        ("checkpointing", "every-0"),
        ("checkpointing", "every-x"),
        ("checkpointing", "sometimes"),
        ("targets", ()),
        ("targets", ("no_such_proj",)),
        ("lora_dropout", 1.0),
    ],
)
def test_a_wrong_value_is_one_error_that_names_its_field(field: str, value: Any) -> None:
    with pytest.raises(PlanError, match=field):
        PlanRequest(model=MODEL, **{field: value})


def test_many_tokens_in_one_micro_batch_are_refused() -> None:
    with pytest.raises(PlanError, match="seq_len"):
        PlanRequest(model=MODEL, micro_batch=65_536, seq_len=65_536)


def test_methods_and_storages_must_agree() -> None:
    with pytest.raises(PlanError, match="quant"):
        PlanRequest(model=MODEL, method="full", quant="nf4")
    with pytest.raises(PlanError, match="quant"):
        PlanRequest(model=MODEL, method="qlora", quant="none")


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(PlanError, match="ranks"):
        PlanRequest(model=MODEL).changed(ranks=4)


def test_extreme_but_allowed_requests_stay_finite_and_positive() -> None:
    plan = estimate(PlanRequest(model=MODEL, seq_len=16_777_216, attn="eager", checkpointing="none", rank=65_536))
    assert all(size >= 0 for size in plan.parts.values())
    assert 0 < plan.allocated_peak < 1 << 80


@pytest.mark.parametrize("field", ["lora_dropout", "dora"])
@pytest.mark.parametrize("name", ["qwen3-30b-a3b", "glm-4.7-flash"])
def test_what_peft_does_not_do_for_experts_is_refused_before_anything_is_fetched(name: str, field: str) -> None:
    asked = PlanRequest(model=catalog.find(name), targets=("q_proj",) if name == "qwen3-30b-a3b" else ("o_proj",))
    assert asked.changed(**{field: 0.1 if field == "lora_dropout" else True})
    with pytest.raises(PlanError, match="experts of"):
        asked.changed(**{field: 0.1 if field == "lora_dropout" else True, "targets": ("all-linear",)})


def test_the_families_whose_experts_peft_adapts_are_those_of_the_library() -> None:
    from peft.utils import transformers_weight_conversion as peft
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    known = {name for name, way in peft._MODEL_TO_CONVERSION_PATTERN.items() if way in peft._MOE_TARGET_MODULE_MAPPING}
    assert {name for name in known if name in CONFIG_MAPPING} == PEFT_ADAPTS_EXPERTS
