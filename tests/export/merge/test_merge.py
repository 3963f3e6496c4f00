from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from app.errors import ExportError, ModelError
from app.export.merge import job as merge_job
from app.export.merge.base_model import is_quantised, original_name
from app.export.merge.dequantise import write_copy
from app.jobs import directory
from app.jobs.child import JobChild
from app.models.loading import keep_layout
from app.models.tensors import read_checkpoint
from app.workspace import open_workspace
from tests.export.merging import merge
from tests.models import tiny_models

IDS = torch.arange(3, 67)[None]
ALL = {"llama": "all-linear", "qwen3": "all-linear", "gpt2": ["c_attn", "c_proj", "c_fc"], "bloom": "all-linear"}
EMBEDDING = {"llama": "embed_tokens", "qwen3": "embed_tokens", "gpt2": "wte", "bloom": "word_embeddings"}
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rslora": {"use_rslora": True, "r": 16},
    "patterns": {"rank_pattern": {".*": 3}, "alpha_pattern": {"mlp.*": 33}},
    "dora": {"use_dora": True},
    "dora-rslora": {"use_dora": True, "use_rslora": True},
}


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(IDS).logits


def adapted(base: Path, adapter: Path) -> torch.Tensor:
    """Return the logits of base and adapter as PEFT computes them, in float32."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    with tiny_models.quiet_peft():
        return logits(PeftModel.from_pretrained(model, str(adapter)))


def loaded(folder: Path, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    return logits(model)


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("family", list(ALL))
def test_the_merged_model_is_base_plus_adapter(tmp_path: Path, family: str, kind: str) -> None:
    base = tiny_models.save_model(tmp_path / "base", family)
    settings = {"target_modules": ALL[family], "fan_in_fan_out": family == "gpt2", **KINDS[kind]}
    adapter = tiny_models.save_adapter(tmp_path / "adapter", base, **settings)
    found, expected = loaded(merge(adapter, tmp_path / "out")), adapted(base, adapter)
    torch.testing.assert_close(found, expected, rtol=2e-4, atol=2e-4)
    assert float((expected - loaded(base)).abs().max()) > 0.1


@pytest.mark.parametrize("family", list(ALL))
def test_the_merged_model_in_bf16_is_within_its_rounding(tmp_path: Path, family: str) -> None:
    base = tiny_models.save_model(tmp_path / "base", family, dtype=torch.bfloat16)
    settings = {"target_modules": ALL[family], "fan_in_fan_out": family == "gpt2", "scale": 0.04}
    adapter = tiny_models.save_adapter(tmp_path / "adapter", base, **settings)
    found, expected = loaded(merge(adapter, tmp_path / "out")), adapted(base, adapter)
    # bf16 rounds each weight by at most 2^-9 of it; the errors of a sum of many add up like a random walk.
    assert 0 < float((found - expected).norm() / expected.norm()) < 4 * 2.0**-9
    assert float((expected - loaded(base)).norm() / expected.norm()) > 0.05


@pytest.mark.parametrize(
    ("name", "original"),
    [
        ("unsloth/Qwen3-4B-unsloth-bnb-4bit", "unsloth/Qwen3-4B"),
        ("owner/Llama-3.2-1B-Instruct-bnb-4bit", "owner/Llama-3.2-1B-Instruct"),
        ("owner/model-AWQ", "owner/model"),
        ("owner/model", ""),
        ("/home/ann/model-4bit", ""),
    ],
)
def test_the_sixteen_bit_original_is_named(name: str, original: str) -> None:
    assert original_name(name) == original


@pytest.mark.parametrize("double", [True, False])
def test_a_base_in_four_bits_is_dequantised_only_on_demand(tmp_path: Path, double: bool) -> None:
    plain = tiny_models.save_model(tmp_path / "plain", "llama", dtype=torch.bfloat16)
    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=double,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    quantised = AutoModelForCausalLM.from_pretrained(plain, quantization_config=settings)
    keep_layout(quantised)
    quantised.save_pretrained(tmp_path / "base")
    tiny_models.tokenizer().save_pretrained(tmp_path / "base")
    adapter = tiny_models.save_adapter(tmp_path / "adapter", plain)
    with pytest.raises(ExportError, match=r"quantised.*--dequantise"):
        merge(adapter, tmp_path / "out", base=str(tmp_path / "base"))
    write_copy(tmp_path / "base", tmp_path / "copy")
    copied = AutoModelForCausalLM.from_pretrained(tmp_path / "copy", dtype=torch.float32)
    for name, parameter in copied.named_parameters():
        module = quantised.get_submodule(name.rpartition(".")[0])
        expected = module.weight
        if hasattr(expected, "quant_state"):
            expected = dequantize_4bit(expected.data, expected.quant_state)
        assert torch.equal(parameter, expected.float()), name
    assert not is_quantised(tmp_path / "copy") and is_quantised(tmp_path / "base")
    workspace = open_workspace(tmp_path)
    if double:
        wish = {
            "adapter": str(adapter),
            "out": str(tmp_path / "out"),
            "base": str(tmp_path / "base"),
            "dequantise": True,
        }
        _, answer = merge_job.run(JobChild(directory.create(workspace, "merge", wish)))
        assert "dequantised" in (tmp_path / "out" / "receipt.md").read_text()
        assert answer["verdict"] in ("pass", "warn") and not list(workspace.jobs.glob("*/base"))
        torch.testing.assert_close(loaded(tmp_path / "out"), adapted(tmp_path / "copy", adapter), rtol=0.1, atol=0.1)
    with pytest.raises(ExportError, match="not stored in"):
        write_copy(plain, tmp_path / "other")


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["embedding"]},
        {"target_modules": ["embedding"], "use_dora": True},
        {"target_modules": ["lm_head"]},
        {"modules_to_save": ["lm_head"]},
        {"modules_to_save": ["embedding"]},
        {"modules_to_save": ["embedding", "lm_head"]},
    ],
    ids=lambda settings: "-".join(f"{name}={value}" for name, value in settings.items()),
)
@pytest.mark.parametrize("family", ["qwen3", "gpt2"])
def test_embeddings_and_heads_tied_and_not(tmp_path: Path, family: str, settings: dict[str, Any], tied: bool) -> None:
    base = tiny_models.save_model(tmp_path / "base", family, tie_word_embeddings=tied)
    named = {
        key: [EMBEDDING[family] if v == "embedding" else v for v in value] if isinstance(value, list) else value
        for key, value in settings.items()
    }
    named.setdefault("target_modules", [ALL["gpt2"][0] if family == "gpt2" else "q_proj"])
    adapter = tiny_models.save_adapter(tmp_path / "adapter", base, **named)
    out = merge(adapter, tmp_path / "out")
    torch.testing.assert_close(loaded(out), adapted(base, adapter), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("target", ["q_proj", "embed_tokens", "lm_head"])
def test_a_base_that_is_tied_by_its_word_only(tmp_path: Path, target: str) -> None:
    """With two different matrices in the files transformers 5 does not tie, whatever the configuration says."""
    base = tiny_models.save_model(tmp_path / "base", "qwen3")
    weights = load_file(base / "model.safetensors")
    weights["lm_head.weight"] = torch.randn_like(weights["model.embed_tokens.weight"]) * 0.08
    save_file(weights, base / "model.safetensors", {"format": "pt"})
    adapter = tiny_models.save_adapter(tmp_path / "adapter", base, target_modules=[target])
    out = merge(adapter, tmp_path / "out")
    torch.testing.assert_close(loaded(out), adapted(base, adapter), rtol=2e-4, atol=2e-4)
    assert json.loads((out / "config.json").read_text())["tie_word_embeddings"] is False


def test_tied_embeddings_stay_tied_when_the_adapter_keeps_them_so(tmp_path: Path) -> None:
    base = tiny_models.save_model(tmp_path / "base", "qwen3")
    settings = {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True, "target_modules": ["q_proj"]}
    adapter = tiny_models.save_adapter(tmp_path / "adapter", base, **settings)
    out = merge(adapter, tmp_path / "out")
    assert json.loads((out / "config.json").read_text())["tie_word_embeddings"] is True
    torch.testing.assert_close(loaded(out), adapted(base, adapter), rtol=2e-4, atol=2e-4)


def test_embeddings_part_where_the_wish_to_tie_them_was_not_heard(tmp_path: Path) -> None:
    """PEFT 0.21 knows embeddings by two names; GPT-2's have another, and the adapter changes one end."""
    base = tiny_models.save_model(tmp_path / "base", "gpt2")
    settings = {"modules_to_save": ["wte"], "ensure_weight_tying": True, "target_modules": ["c_fc"]}
    adapter = tiny_models.save_adapter(tmp_path / "adapter", base, **settings)
    torch.testing.assert_close(loaded(merge(adapter, tmp_path / "out")), adapted(base, adapter), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("bias", ["all", "lora_only"])
def test_trained_biases(tmp_path: Path, bias: str) -> None:
    base = tiny_models.save_model(tmp_path / "base", "gpt2")
    settings = {"bias": bias, "target_modules": ["c_attn"], "fan_in_fan_out": True}
    adapter = tiny_models.save_adapter(tmp_path / "adapter", base, **settings)
    torch.testing.assert_close(loaded(merge(adapter, tmp_path / "out")), adapted(base, adapter), rtol=2e-4, atol=2e-4)


def test_lora_bias(tmp_path: Path) -> None:
    base = tiny_models.save_model(tmp_path / "base", "llama", attention_bias=True)
    adapter = tiny_models.save_adapter(tmp_path / "adapter", base, lora_bias=True, target_modules=["q_proj"])
    torch.testing.assert_close(loaded(merge(adapter, tmp_path / "out")), adapted(base, adapter), rtol=2e-4, atol=2e-4)
    plain = tiny_models.save_model(tmp_path / "plain", "llama")
    with pytest.raises(ExportError, match=r"lora_bias.*none there"):
        merge(adapter, tmp_path / "other", base=str(plain))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bit_weights_are_rounded_once(tmp_path: Path, dtype: torch.dtype) -> None:
    base = tiny_models.save_model(tmp_path / "base", "llama", dtype=dtype)
    adapter = tiny_models.save_adapter(tmp_path / "adapter", base, use_rslora=True, r=4)
    out = merge(adapter, tmp_path / "out", shard_bytes=1 << 30)
    before, after = load_file(base / "model.safetensors"), load_file(out / "model.safetensors")
    parts = load_file(adapter / "adapter_model.safetensors")
    assert set(before) == set(after)
    changed = 0
    for name, weight in before.items():
        stem = "base_model.model." + name.removesuffix(".weight")
        expected = weight
        if f"{stem}.lora_A.weight" in parts:
            delta = parts[f"{stem}.lora_B.weight"] @ parts[f"{stem}.lora_A.weight"] * (16 / 4**0.5)
            exact = weight.double() + delta.double()
            assert float((after[name].double() - exact).abs().max()) <= float(_half_step(exact, dtype).max())
            expected, changed = (weight.float() + delta).to(dtype), changed + 1
            assert float((after[name] == expected).float().mean()) > 0.999  # the rest differ in float32's last bit
        else:
            assert torch.equal(after[name], expected)
        assert after[name].dtype == dtype
    assert changed == 14


def _half_step(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return half of the distance between neighbours of a format, and a little for float32's own rounding."""
    return values.abs() * torch.finfo(dtype).eps * 0.5 * 1.001 + 1e-6


def test_another_dtype_converts_weights_and_configuration(tmp_path: Path) -> None:
    base = tiny_models.save_model(tmp_path / "base", "llama")
    adapter = tiny_models.save_adapter(tmp_path / "adapter", base)
    out = merge(adapter, tmp_path / "out", dtype=torch.bfloat16)
    assert {tensor.dtype for tensor in read_checkpoint(out).values()} == {torch.bfloat16}
    assert json.loads((out / "config.json").read_text())["dtype"] == "bfloat16"
    model = AutoModelForCausalLM.from_pretrained(out)
    assert model.dtype == torch.bfloat16


def test_a_checkpoint_without_the_model_s_prefix(tmp_path: Path) -> None:
    base = tiny_models.save_model(tmp_path / "base", "gpt2")
    tensors = load_file(base / "model.safetensors")
    save_file(
        {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()},
        base / "model.safetensors",
        {"format": "pt"},
    )
    adapter = tiny_models.save_adapter(
        tmp_path / "adapter", base, target_modules=["c_attn", "c_fc"], fan_in_fan_out=True
    )
    torch.testing.assert_close(loaded(merge(adapter, tmp_path / "out")), adapted(base, adapter), rtol=2e-4, atol=2e-4)


def test_tokenizer_template_and_generation_settings_come_along(tmp_path: Path) -> None:
    base = tiny_models.save_model(tmp_path / "base", "llama")
    (base / "generation_config.json").write_text('{"eos_token_id": [2, 0], "max_new_tokens": 7}')
    (base / "evil.py").write_text("raise SystemExit")
    adapter = tiny_models.save_adapter(tmp_path / "adapter", base)
    out = merge(adapter, tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert tokenizer.chat_template == tiny_models.CHATML
    assert json.loads((out / "generation_config.json").read_text())["max_new_tokens"] == 7
    assert not list(out.glob("*.py")) and not (out / "progress.json").exists()
    assert (out / "model.safetensors.index.json").is_file()


def test_an_existing_export_is_never_touched(tmp_path: Path) -> None:
    base = tiny_models.save_model(tmp_path / "base", "llama")
    adapter = tiny_models.save_adapter(tmp_path / "adapter", base)
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious").write_text("mine")
    with pytest.raises(ExportError, match="exists"):
        merge(adapter, out)
    assert [path.name for path in out.iterdir()] == ["precious"]


def test_bases_that_cannot_be_merged_into_are_refused(tmp_path: Path) -> None:
    base = tiny_models.save_model(tmp_path / "base", "llama")
    adapter = tiny_models.save_adapter(tmp_path / "adapter", base)
    other = tiny_models.save_model(tmp_path / "other", "llama", hidden_size=64)
    with pytest.raises(ExportError, match="does not fit"):
        merge(adapter, tmp_path / "out", base=str(other))
    with pytest.raises(ExportError, match="cannot be used"):
        merge(adapter, tmp_path / "out", base="http://127.0.0.1/x")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "bitsandbytes"}}))
    with pytest.raises(ExportError, match="quantised"):
        merge(adapter, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_adapters_that_cannot_be_merged_are_refused(tmp_path: Path) -> None:
    base = tiny_models.save_model(tmp_path / "base", "llama")
    adapter = tiny_models.save_adapter(tmp_path / "adapter", base)
    config = json.loads((adapter / "adapter_config.json").read_text())
    for change, kind in (({"init_lora_weights": "olora"}, ModelError), ({"use_qalora": True}, ExportError)):
        (adapter / "adapter_config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(kind):
            merge(adapter, tmp_path / "out")


def test_the_base_is_the_one_of_the_training_job(tmp_path: Path) -> None:
    base = tiny_models.save_model(tmp_path / "base", "llama")
    job = tmp_path / "20260101-000000-train-abcdef"
    adapter = tiny_models.save_adapter(job / "result" / "adapter", base)
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "nowhere/at-all"}))
    (job / "job.yaml").write_text(json.dumps({"kind": "train", "config": {"model": {"name": str(base)}}}))
    assert merge(adapter, tmp_path / "out").is_dir()
