"""The bytes of weights at rest, against models as they are loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app import catalog
from app.models.loading import load_base
from app.planner import PlanRequest, estimate
from app.planner.parts.weights import weights_at_rest
from app.planner.request import GIB
from tests.models.moe_models import save_moe, save_mxfp4


@pytest.mark.parametrize("kind", ["qwen3_moe", "mixtral", "gpt_oss", "mxfp4"])
@pytest.mark.parametrize("double_quant", [True, False])
def test_experts_count_as_they_are_stored(tmp_path: Path, kind: str, double_quant: bool) -> None:
    sizes: dict[str, Any] = {"hidden_size": 256, "intermediate_size": 256, "vocab_size": 320}
    if kind == "qwen3_moe":
        sizes["moe_intermediate_size"] = 256
    folder = save_mxfp4(tmp_path, **sizes) if kind == "mxfp4" else save_moe(tmp_path, kind, **sizes)
    model = load_base(str(folder), double_quant=double_quant, dtype="bf16")
    held = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in model.parameters()}
    for module in model.modules():
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        statistics = [] if state is None else [state.absmax, *([state.state2.absmax] if double_quant else [])]
        for tensor in [*module.buffers(recurse=False), *statistics]:
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
    request = PlanRequest(
        model=catalog.find(str(folder)), method="inference", quant="nf4-dq" if double_quant else "nf4"
    )
    planned = weights_at_rest(request).total_bytes
    # The tables of codes and of rotary angles are the rest: a kilobyte here and there.
    assert planned == pytest.approx(sum(held.values()), rel=0.03)
    assert planned < 0.6 * weights_at_rest(request.changed(quant="none")).total_bytes


def test_a_30b_a3b_takes_a_quarter() -> None:
    request = PlanRequest(model=catalog.find("qwen3-30b-a3b"), targets=("q_proj", "k_proj", "v_proj", "o_proj"))
    plan, classic = estimate(request), estimate(request.changed(profile="peft-classic"))
    assert plan.parts["base_weights"] / GIB == pytest.approx(15.5, abs=0.1)
    assert plan.device_peak < 18 * GIB < 56 * GIB < classic.parts["base_weights"]
    assert not any("16-bit" in line for line in plan.warnings)
    assert any("16-bit" in line for line in classic.warnings)
