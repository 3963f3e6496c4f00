"""Experts in 4 bits against transformers' own forward pass over the dequantised weights, and against PEFT's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import PreTrainedModel

from app.engine.loading import shell_of
from app.models.loading import load_base
from app.models.moe import expert_loading
from app.models.moe.experts import ExpertStack, StandIn, has_stacks, stack_of
from tests.models import todays_models
from tests.models.moe_models import KINDS, save_moe, save_mxfp4
from tests.models.tiny_models import PEFT_WARNING, quiet_peft, randomise

IDS = torch.arange(3, 43).view(2, 20)
NAMES = ("gate_up_proj", "down_proj")
# The error of NF4 on normal weights, with room for the few weights of these models.
NF4_ERROR = 0.11
ROUTERS = (".gate.weight", ".router.weight", ".router.layer.weight")
EXPERTS = {"target_modules": ["q_proj"], "target_parameters": ["experts.gate_up_proj", "experts.down_proj"]}
pytestmark = PEFT_WARNING


@pytest.fixture(scope="module", params=[*KINDS, "mxfp4", "qwen3_5_moe"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("experts") / str(request.param)
    if request.param == "qwen3_5_moe":
        return todays_models.save(place, request.param)  # with a vision tower, which stays on the disk
    return save_mxfp4(place) if request.param == "mxfp4" else save_moe(place, request.param)


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_moe(tmp_path_factory.mktemp("experts") / "qwen3_moe", "qwen3_moe")


def in_16_bit(folder: Path, of: PreTrainedModel, dtype: str = "fp32") -> PreTrainedModel:
    """Return transformers' own model, computing its own way, over the dequantised weights of a model in 4 bits."""
    plain = load_base(str(folder), quant="none", dtype=dtype)
    modules: dict[str, Any] = dict(plain.named_modules())
    for name, module in of.named_modules():
        for part in NAMES:
            if stack := stack_of(module, part):
                modules[name].get_parameter(part).data = torch.stack([stack.matrix(e) for e in range(stack.experts)])
        weight = getattr(module, "weight", None)
        if hasattr(weight, "quant_state"):
            modules[name].weight.data = dequantize_4bit(weight.data, weight.quant_state)
    plain.set_experts_implementation("eager")
    return plain


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(IDS, use_cache=False).logits
        return found


def test_the_answer_is_that_of_the_dequantised_weights(folder: Path) -> None:
    model = load_base(str(folder), dtype="fp32")
    plain = in_16_bit(folder, model)
    torch.testing.assert_close(logits(model), logits(plain), rtol=1e-5, atol=1e-5)
    assert plain.config._experts_implementation == "eager" and not has_stacks(plain)
    stack = next(module for module in model.modules() if isinstance(module, ExpertStack))
    stack.packed[:, :64] ^= 0x55  # the comparison sees other weights
    assert float((logits(model) - logits(plain)).abs().max()) > 1e-3


def test_weights_are_within_the_error_of_nf4_and_routers_are_kept(folder: Path) -> None:
    model, plain = load_base(str(folder), dtype="fp32"), load_base(str(folder), quant="none", dtype="fp32")
    stacks = 0
    for name, module in plain.named_modules():
        for part in NAMES:
            stack = stack_of(model.get_submodule(name), part)
            if stack is None:
                continue
            stacks += 1
            for expert, weight in enumerate(module.get_parameter(part).detach()):
                packed = quantize_4bit(weight.reshape(1, -1), compress_statistics=True, quant_type="nf4")
                assert torch.equal(stack.matrix(expert), dequantize_4bit(*packed).view(weight.shape))
                assert float((stack.matrix(expert) - weight).norm() / weight.norm()) < NF4_ERROR
    assert stacks >= 2
    routers = [name for name, _ in plain.named_parameters() if name.endswith(ROUTERS)]
    assert routers
    for name in routers:
        assert torch.equal(model.get_parameter(name), plain.get_parameter(name))


@pytest.mark.parametrize("kind", ["qwen3_moe", "gpt_oss"])
@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "recomputed"])
def test_gradients_are_those_of_the_dequantised_weights(tmp_path: Path, kind: str, checkpointing: bool) -> None:
    """With adapters on attention and experts, whose update PEFT folds into a copy of all weights in 16 bits."""
    folder = save_moe(tmp_path, kind)
    model = load_base(str(folder), dtype="fp32")
    found = [gradients(one, checkpointing, **EXPERTS) for one in (model, in_16_bit(folder, model))]
    assert found[0].keys() == found[1].keys() and sum("experts" in name for name in found[0]) == 8
    for name, gradient in found[1].items():
        torch.testing.assert_close(found[0][name], gradient, rtol=1e-4, atol=1e-6)
        assert float(gradient.norm()) > 0, name


def gradients(model: PreTrainedModel, checkpointing: bool, **targets: Any) -> dict[str, torch.Tensor]:
    with quiet_peft():
        adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM", **targets))
    randomise(adapted, 0)
    adapted.train()
    if checkpointing:
        model.activation_checkpointing_enable()
    adapted(input_ids=IDS, labels=IDS, use_cache=False).loss.backward()
    return {name: one.grad for name, one in adapted.named_parameters() if one.grad is not None}


def test_all_linear_adapts_the_experts_where_peft_does(qwen: Path) -> None:
    found = gradients(load_base(str(qwen), dtype="fp32"), False, target_modules="all-linear")
    assert any("experts.base_layer.lora_A" in name for name in found)
    assert any(name.endswith("experts.lora_B.default.weight") for name in found)


def test_an_adapter_switched_off_leaves_the_base(qwen: Path) -> None:
    model = load_base(str(qwen), dtype="fp32")
    before = logits(model)
    with quiet_peft():
        adapted = get_peft_model(model, LoraConfig(r=4, task_type="CAUSAL_LM", **EXPERTS))
    randomise(adapted, 0)
    assert float((logits(adapted) - before).abs().max()) > 0.01
    with adapted.disable_adapter():
        assert torch.equal(logits(adapted), before)


def test_two_adapters_at_once_and_merging_into_4_bits_are_refused(qwen: Path) -> None:
    with quiet_peft():
        adapted = get_peft_model(load_base(str(qwen), dtype="fp32"), LoraConfig(r=4, task_type="CAUSAL_LM", **EXPERTS))
        adapted.add_adapter("other", LoraConfig(r=4, task_type="CAUSAL_LM", **EXPERTS))
        adapted.base_model.set_adapter(["default", "other"])
        with pytest.raises(RuntimeError, match="one adapter at a time"):
            logits(adapted)
        adapted.set_adapter("default")
        with pytest.raises(RuntimeError):
            adapted.merge_and_unload()


def test_bfloat16_computes_as_the_16_bit_layer(qwen: Path) -> None:
    model = load_base(str(qwen), dtype="bf16")
    assert logits(model).dtype == torch.bfloat16
    ours, theirs = logits(model).float(), logits(in_16_bit(qwen, model, "bf16")).float()
    assert float((ours - theirs).norm() / theirs.norm()) < 0.02


@pytest.mark.parametrize("shape", [(2, 96, 64), (2, 64, 48), (2, 10, 12), (2, 7, 5)])
@pytest.mark.parametrize("double_quant", [True, False])
def test_shapes_that_fill_no_block(shape: tuple[int, int, int], double_quant: bool) -> None:
    torch.manual_seed(0)
    stack = ExpertStack(
        shape, quant_type="nf4", double_quant=double_quant, compute_dtype=torch.float32, device=torch.device("cpu")
    )
    weights = torch.randn(shape)
    for expert, weight in enumerate(weights):
        stack.put(expert, weight)
    found = torch.stack([stack.matrix(expert) for expert in range(2)])
    assert float((found - weights).norm() / weights.norm()) < NF4_ERROR


def test_memory_is_that_of_4_bits(qwen: Path) -> None:
    model = load_base(str(qwen), dtype="fp32")
    parameter = model.get_parameter("model.layers.0.mlp.experts.gate_up_proj")
    assert isinstance(parameter, StandIn) and parameter.shape == (4, 96, 64)
    assert parameter.untyped_storage().nbytes() == 4 and bool(parameter.isnan().all())
    stack = model.get_submodule("model.layers.0.mlp.experts.gate_up_proj_4bit")
    held = sum(buffer.numel() * buffer.element_size() for buffer in stack.buffers())
    assert held < 4 * 96 * 64 * 0.6


def test_whoever_computes_with_the_stand_in_gets_no_number(qwen: Path) -> None:
    model = load_base(str(qwen), dtype="fp32")
    model.set_experts_implementation("eager")
    assert not bool(logits(model).isfinite().any())


def test_a_shell_shares_the_weights(qwen: Path) -> None:
    model = load_base(str(qwen), dtype="fp32")
    shell = shell_of(model)
    ours, theirs = (one.get_submodule("model.layers.0.mlp.experts.gate_up_proj_4bit") for one in (model, shell))
    assert ours is not theirs and ours.packed.data_ptr() == theirs.packed.data_ptr()
    assert torch.equal(logits(model), logits(shell))


def test_one_expert_at_a_time_is_read(qwen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tensors of an expert are let go before those of the next are read."""
    held: list[Any] = []
    most = 0
    taken = expert_loading._taken

    def counted(source: Any) -> torch.Tensor:
        nonlocal most
        tensor = taken(source)
        held.append(torch._C._WeakTensorRef(tensor))
        most = max(most, sum(not one.expired() for one in held))
        return tensor

    monkeypatch.setattr(expert_loading, "_taken", counted)
    load_base(str(qwen), dtype="fp32")
    assert len(held) == 2 * 4 * 3 and most <= 3


def test_int8_and_no_quantisation_leave_experts_alone(qwen: Path) -> None:
    for quant in ("int8", "none"):
        model = load_base(str(qwen), quant=quant, dtype="fp32")  # type: ignore[arg-type]
        assert not has_stacks(model) and model.config._experts_implementation != "workbench_4bit"


def test_the_stand_in_is_a_plain_parameter_to_torch() -> None:
    made = StandIn((2, 3, 4), torch.bfloat16, torch.device("cpu"))
    holder = nn.Module()
    holder.weight = made
    assert holder.to("cpu").weight is made and list(holder.state_dict()) == ["weight"]
    assert not made.requires_grad and made.shape == (2, 3, 4)
    assert torch.baddbmm(made, torch.zeros(2, 3, 1), torch.zeros(2, 1, 4), alpha=2.0) is made
