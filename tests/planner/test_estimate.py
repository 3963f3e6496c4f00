import json

import pytest

from app import catalog
from app.planner import PART_KEYS, Plan, PlanRequest, compare_methods, curve, estimate, plan
from app.planner.parts.overhead import DESKTOP_RESERVE_BYTES
from app.planner.request import GIB

METHODS = ("qlora", "lora", "full", "inference")


def request(name: str = "qwen2.5-1.5b", **settings: object) -> PlanRequest:
    return PlanRequest(model=catalog.find(name), **settings)  # type: ignore[arg-type]


def test_json_has_exactly_the_promised_keys() -> None:
    answer = plan(request(vram_gb=12)).to_json()
    assert list(answer) == [
        "parts",
        "allocated_peak",
        "reserved_peak",
        "device_peak",
        "trainable_params",
        "total_params",
        "fits",
        "free_bytes",
        "largest",
        "basis",
        "warnings",
    ]
    assert set(answer["parts"]) == {
        "base_weights",
        "adapter_weights",
        "gradients",
        "optimizer",
        "activations",
        "logits",
        "scratch",
        "kv_cache",
        "cuda_context",
        "allocator_reserve",
    }
    assert set(answer["largest"]) == {"seq_len", "micro_batch", "rank"}
    assert json.loads(json.dumps(answer)) == answer


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("model", catalog.all_models(), ids=lambda model: model.name)
def test_every_model_and_method_has_a_sound_answer(model: catalog.ModelSpec, method: str) -> None:
    answer = estimate(PlanRequest(model=model, method=method))  # type: ignore[arg-type]
    assert all(type(size) is int and size >= 0 for size in answer.parts.values())
    assert sum(answer.parts.values()) == answer.device_peak
    assert answer.allocated_peak <= answer.reserved_peak <= answer.device_peak
    assert answer.parts["base_weights"] > 0
    assert answer.fits is None


def test_the_card_is_its_marketing_size_less_the_desktop() -> None:
    answer = estimate(request(vram_gb=12))
    assert answer.free_bytes == 12 * GIB - DESKTOP_RESERVE_BYTES
    assert answer.fits is (answer.device_peak <= answer.free_bytes)
    exact = request(free_bytes=answer.device_peak)
    assert estimate(exact).fits is True
    assert estimate(exact.changed(free_bytes=answer.device_peak - 1)).fits is False


def test_display_holds_the_parts_in_drawing_order() -> None:
    parts = estimate(request()).display
    keys = [part.key for part in parts]
    assert keys == [key for key in PART_KEYS if key in keys]
    assert sum(part.size_bytes for part in parts) == estimate(request()).device_peak


def test_methods_compare_as_expected() -> None:
    plans = compare_methods(request(seq_len=1024))
    assert plans["qlora"].device_peak < plans["lora"].device_peak < plans["full"].device_peak


def test_the_curve_rises_with_length() -> None:
    peaks = [point.device_peak for point in curve(request(), (256, 1024, 4096, 8192))]
    assert peaks == sorted(peaks)


def peak(**settings: object) -> int:
    return estimate(request(**settings)).device_peak


@pytest.mark.parametrize("attn", ["sdpa", "eager"])
@pytest.mark.parametrize("profile", ["workbench", "peft-classic"])
@pytest.mark.parametrize("checkpointing", ["full", "none", "every-3"])
@pytest.mark.parametrize("name", ["qwen2.5-0.5b", "gpt2", "gemma-3-270m", "mistral-7b-v0.1"])
def test_more_never_needs_less(name: str, checkpointing: str, profile: str, attn: str) -> None:
    fixed: dict[str, object] = {"name": name, "checkpointing": checkpointing, "profile": profile, "attn": attn}
    for field, values in {
        "rank": (1, 2, 8, 9, 64, 256),
        "seq_len": (64, 511, 512, 513, 1024, 1536, 1537, 4095, 4096, 4097, 8192),
        "micro_batch": (1, 2, 3, 4, 8, 16),
    }.items():
        peaks = [peak(**fixed, **{field: value}) for value in values]
        assert peaks == sorted(peaks), field


def test_savings_save() -> None:
    base = {"seq_len": 2048, "checkpointing": "full"}
    assert peak(**base) < peak(**base | {"checkpointing": "every-2"}) < peak(**base | {"checkpointing": "none"})
    assert peak(**base) < peak(**base, attn="eager")
    assert peak(**base) < peak(**base, fused_loss=False)
    assert peak(**base, adapter_dtype="bf16") < peak(**base, adapter_dtype="fp32")
    assert peak(**base, optimizer="adamw_8bit") < peak(**base, optimizer="adamw_torch_fused")
    assert peak(**base, quant="nf4-dq") < peak(**base, quant="nf4") < peak(**base, quant="int8")
    assert peak(**base, targets=("q_proj", "v_proj")) < peak(**base)
    assert peak(**base) < peak(**base, dora=True)


def test_nf4_bytes_are_those_of_bitsandbytes() -> None:
    from app.catalog.modules import linear_parameters
    from app.planner.parts.weights import quantised_bytes

    weights = linear_parameters(catalog.find("mistral-7b-v0.3"))
    # Published breakdown of this model on a T4: 3,328 MiB packed and 416 MiB of scales.
    assert quantised_bytes(weights, "nf4") == (3328 + 416) * (1 << 20)
    assert quantised_bytes(weights, "nf4-dq") == pytest.approx(0.5159 * weights, rel=1e-3)


def test_inference_counts_the_cache_of_every_column() -> None:
    one: Plan = estimate(request(method="inference", quant="nf4", seq_len=2048))
    four: Plan = estimate(request(method="inference", quant="nf4", seq_len=2048, columns=4))
    assert one.parts["kv_cache"] == 28 * 2 * 256 * 2048 * 2
    assert four.parts["kv_cache"] == 4 * one.parts["kv_cache"]
    assert one.parts["adapter_weights"] == 0 < four.parts["adapter_weights"]
    assert one.trainable_params == 0


def test_a_window_bounds_the_cache() -> None:
    windowed = estimate(request("gemma-3-1b", method="inference", seq_len=8192)).parts["kv_cache"]
    model = catalog.find("gemma-3-1b")
    full, sliding = model.layer_kinds.count("full"), model.layer_kinds.count("sliding")
    assert windowed == 2 * 256 * 2 * (full * 8192 + sliding * 512)
