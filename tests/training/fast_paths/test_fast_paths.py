"""Each fast path held to the libraries' way: attention by document, the head of trained tokens, LoRA in one step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM, Gemma2Config, Qwen3Config
from trl.trainer.utils import add_fused_lm_head

from app.jobs.metrics import read_rows, steps_of
from app.training.fast_paths import document_attention, fused_lora, token_head
from app.training.fast_paths.kept_weights import keep_dequantized
from app.workspace import Workspace
from tests.training.in_process import run, small

LENGTHS = (5, 1, 12, 30)
_SHAPE: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
}


def model_of(**settings: Any) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(Qwen3Config(**{**_SHAPE, **settings}), attn_implementation="sdpa").eval()


def packed(lengths: tuple[int, ...] = LENGTHS) -> dict[str, Any]:
    """A packed row as TRL's padding-free collator gives it."""
    bounds = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
    ids = torch.randint(2, 96, (1, sum(lengths)), generator=torch.Generator().manual_seed(1))
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    more = {
        "cu_seq_lens_q": bounds,
        "cu_seq_lens_k": bounds,
        "max_length_q": max(lengths),
        "max_length_k": max(lengths),
    }
    return {"input_ids": ids, "position_ids": positions, "use_cache": False, **more}


def logits_and_slope(model: Any, batch: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    model.zero_grad(set_to_none=True)
    logits = model(**batch).logits
    (logits * torch.linspace(-1, 1, logits.numel()).view_as(logits)).sum().backward()
    return logits.detach(), model.model.layers[0].self_attn.q_proj.weight.grad.clone()


@pytest.mark.parametrize("lengths", [LENGTHS, (48,)])
def test_attention_by_document_is_that_of_the_mask(lengths: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = model_of(), packed(lengths)
    plain = logits_and_slope(model, batch)
    assert document_attention.install(model)
    monkeypatch.setattr(document_attention, "sdpa_attention_forward", lambda *_, **__: pytest.fail("the plain way"))
    for a, b in zip(plain, logits_and_slope(model, batch), strict=True):
        assert torch.allclose(a, b, atol=1e-5 * a.abs().max().item())


def test_a_document_does_not_see_the_one_before() -> None:
    model, batch = model_of(), packed()
    assert document_attention.install(model)
    before = model(**batch).logits[0, 6:]
    batch["input_ids"][0, :6] = 2
    assert torch.equal(before, model(**batch).logits[0, 6:])


def test_without_bounds_or_in_a_shorter_window_it_goes_the_plain_way() -> None:
    window = {"sliding_window": 8, "use_sliding_window": True, "layer_types": ["full_attention", "sliding_attention"]}
    for model, batch in ((model_of(), {**packed(), "cu_seq_lens_q": None}), (model_of(**window), packed())):
        plain = logits_and_slope(model, batch)
        assert document_attention.install(model)
        for a, b in zip(plain, logits_and_slope(model, batch), strict=True):
            assert torch.equal(a, b)


def test_models_whose_masks_say_more_keep_their_attention() -> None:
    capped = AutoModelForCausalLM.from_config(Gemma2Config(**_SHAPE), attn_implementation="eager")
    assert not document_attention.install(capped)
    assert capped.config._attn_implementation == "eager"


def scored(model: Any, labels: torch.Tensor, batch: dict[str, Any]) -> tuple[Any, torch.Tensor]:
    model.zero_grad(set_to_none=True)
    found = model(**batch, labels=labels, fused_lm_head=True)
    (found.log_probs * torch.linspace(0.5, 1.5, found.log_probs.numel()).view_as(found.log_probs)).sum().backward()
    return found, model.model.layers[0].self_attn.q_proj.weight.grad.clone()


@pytest.mark.parametrize("trained", ["some", "none", "all"])
def test_the_head_scores_as_trl_does(trained: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_head, "_TILE_BYTES", 4 * 96 * 7)  # tiles of seven tokens
    model, batch = model_of(tie_word_embeddings=False), packed()
    model.lm_head.requires_grad_(False)
    labels = batch["input_ids"].clone()
    labels[0, {"some": slice(0, 30), "none": slice(None), "all": slice(0, 0)}[trained]] = -100
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
    plain, slope = scored(model, labels, batch)
    assert token_head.install(model)
    fast, fast_slope = scored(model, labels, batch)
    for name in ("loss", "log_probs", "entropy", "is_top1", "label_mask"):
        assert torch.allclose(getattr(plain, name).float(), getattr(fast, name).float(), atol=1e-5), name
    assert torch.allclose(slope, fast_slope, atol=1e-5)
    assert torch.equal(model(**batch).logits, model(**batch).logits)  # without the fused head it is the plain forward


def test_a_head_that_is_trained_or_capped_is_left_to_trl() -> None:
    assert not token_head.install(model_of(tie_word_embeddings=False))
    capped = model_of(tie_word_embeddings=False, final_logit_softcapping=30.0).requires_grad_(False)
    assert not token_head.install(capped)


class Block(nn.Module):  # type: ignore[misc]
    """One linear layer in 4 bits and an ordinary one."""

    is_loaded_in_4bit = True

    def __init__(self, dtype: torch.dtype, bias: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        up = Linear4bit(64, 128, bias=bias, compute_dtype=dtype, quant_type="nf4").to(dtype).requires_grad_(False)
        up.support_avx512bf16_for_cpu = False
        down = nn.Linear(128, 64, bias=bias).to(dtype).requires_grad_(False)
        self.layers = nn.ModuleList([nn.ModuleDict({"up": up.to("cpu"), "down": down})])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run both."""
        return self.layers[0]["down"](self.layers[0]["up"](x))


def adapted(dtype: torch.dtype, bias: bool = False, kept: bool = False, **settings: Any) -> Any:
    block = Block(dtype, bias)
    keep_dequantized(block, int(kept))
    model = get_peft_model(block, LoraConfig(r=4, lora_alpha=7, target_modules=["up", "down"], **settings))
    generator = torch.Generator().manual_seed(2)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def slopes(model: Any, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    x = torch.randn(2, 9, 64, generator=torch.Generator().manual_seed(3)).to(dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        y = model(x)
    (y.float() * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
    named = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    return {"x": x.grad, "y": y.detach(), **named}


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("dtype", "within"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_fused_lora_has_the_gradients_of_peft(dtype: torch.dtype, within: float, bias: bool, kept: bool) -> None:
    plain, fused = adapted(dtype, bias, kept), adapted(dtype, bias, kept)
    assert fused_lora.install(fused) == 2
    expected, found = slopes(plain, dtype), slopes(fused, dtype)
    assert expected.keys() == found.keys() and len(found) == 6
    for name, value in expected.items():
        assert value.dtype == found[name].dtype
        assert (value.float() - found[name].float()).abs().max() <= within * value.float().abs().max(), name


@pytest.mark.parametrize("settings", [{"lora_dropout": 0.5}, {"use_dora": True}, {"lora_bias": True}])
def test_what_is_more_than_lora_goes_the_way_of_peft(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model = adapted(torch.float32, bias=True, **settings)
    fused_lora.install(model)
    monkeypatch.setattr(fused_lora.LoraProduct, "apply", lambda *_: pytest.fail("fused"))
    slopes(model, torch.float32)


def test_a_switched_off_adapter_is_the_base() -> None:
    model = adapted(torch.float32)
    x = torch.randn(2, 64)
    with model.disable_adapter():
        base = model(x)
    fused_lora.install(model)
    with model.disable_adapter():
        assert torch.equal(model(x), base)
    assert not torch.equal(model(x), base)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_the_run_has_the_same_curve_with_and_without(workspace: Workspace, dtype: str) -> None:
    jobs = [run(workspace, small(model__dtype=dtype, training__fast_paths=on)) for on in (False, True)]
    plain, fast = ([(row["loss"], row["grad_norm"]) for row in steps_of(read_rows(job.metrics_file))] for job in jobs)
    assert len(fast) == 12 and fast != plain
    within = 1e-4 if dtype == "fp32" else 3e-2
    for (loss, norm), (other, other_norm) in zip(plain, fast, strict=True):
        assert loss == pytest.approx(other, rel=within) and norm == pytest.approx(other_norm, rel=10 * within)
