"""Adapters on fused experts and other raw parameters, against PEFT's own forward pass and against the formula."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GptOssConfig, MixtralConfig, Qwen3MoeConfig

from app.errors import ExportError
from app.export.targets.vllm import hand_over
from app.models.adapters import AdapterFolder
from tests.export.merging import merge
from tests.models import tiny_models

IDS = torch.arange(3, 67)[None]
SIZES: dict[str, Any] = {
    "vocab_size": tiny_models.VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "bos_token_id": None,
    "num_experts_per_tok": 2,
}
FAMILIES = {
    "qwen3-moe": lambda: Qwen3MoeConfig(**SIZES, num_experts=4, moe_intermediate_size=32, mlp_only_layers=[0]),
    "mixtral": lambda: MixtralConfig(**SIZES, num_local_experts=4),
    "gpt-oss": lambda: GptOssConfig(**SIZES, num_local_experts=4, sliding_window=32),
}
BOTH = ["experts.gate_up_proj", "experts.down_proj"]
KINDS: dict[str, dict[str, Any]] = {
    "both": {"target_modules": ["q_proj"], "target_parameters": BOTH},
    "one": {"target_parameters": BOTH[1:], "use_rslora": True},
    "patterns": {
        "target_parameters": [*BOTH, "gate.weight"],
        "rank_pattern": {"experts.down_proj": 2},
        "alpha_pattern": {"up_proj": 3},
    },
}


@pytest.fixture(scope="module", params=list(FAMILIES))
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("experts") / str(request.param)
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(FAMILIES[request.param]())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.08 + (1.0 if parameter.ndim == 1 else 0.0))
    model.save_pretrained(folder)
    tiny_models.tokenizer().save_pretrained(folder)
    return folder


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(IDS).logits
        return found


def adapted(base: Path, adapter: Path) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    with tiny_models.quiet_peft():
        return logits(PeftModel.from_pretrained(model, str(adapter)))


def loaded(folder: Path) -> torch.Tensor:
    model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    return logits(model)


@pytest.mark.parametrize("kind", list(KINDS))
def test_fused_experts_are_base_plus_adapter(tmp_path: Path, base: Path, kind: str) -> None:
    adapter = tiny_models.save_adapter(tmp_path / "adapter", base, **{"target_modules": [], **KINDS[kind]})
    out = merge(adapter, tmp_path / "out", max_ram_bytes=16 << 10, shard_bytes=100_000)
    expected = adapted(base, adapter)
    torch.testing.assert_close(loaded(out), expected, rtol=2e-4, atol=2e-4)
    assert float((expected - loaded(base)).abs().max()) > 0.05


def test_every_expert_gets_its_own_product(tmp_path: Path, base: Path) -> None:
    """W[e] + s B[e] A[e], where A lies expert by expert and B has the experts innermost."""
    adapter = tiny_models.save_adapter(tmp_path / "adapter", base, target_modules=[], target_parameters=BOTH[1:])
    out = merge(adapter, tmp_path / "out")
    name = "model.layers.1.mlp.experts.down_proj"
    before, after = (
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).get_parameter(name).detach()
        for folder in (base, out)
    )
    parts = load_file(adapter / "adapter_model.safetensors")
    stem = "base_model.model.model.layers.1.mlp.experts"
    a, b = parts[f"{stem}.lora_A.weight"], parts[f"{stem}.lora_B.weight"]
    for number in range(4):
        update = 2.0 * b.view(b.shape[0], 8, 4)[:, :, number] @ a[8 * number : 8 * (number + 1)]
        update = update.T if after[number].shape != update.shape else update
        torch.testing.assert_close(after[number], before[number] + update, rtol=1e-5, atol=1e-5)


def test_single_experts_of_older_adapters_are_merged_one_by_one(tmp_path: Path, base: Path) -> None:
    """Files of transformers 4 name each expert's layers; PEFT stacks them while it loads, which changes no product."""
    stems = {"w1": "block_sparse_moe.experts", "w2": "", "w3": ""} if base.name == "mixtral" else {}
    if base.name == "gpt-oss":
        pytest.skip("its experts were always fused")
    names = ["w1", "w2", "w3"] if stems else ["gate_proj", "up_proj", "down_proj"]
    inner = stems.get("w1", "mlp.experts")
    stored = load_file(base / "model.safetensors")
    torch.manual_seed(3)
    tensors = {}
    for name, weight in stored.items():
        if f".{inner}." in name and name.removesuffix(".weight").rpartition(".")[2] in names:
            stem = f"base_model.model.{name.removesuffix('.weight')}"
            tensors[f"{stem}.lora_A.weight"] = torch.randn(4, weight.shape[1]) * 0.1
            tensors[f"{stem}.lora_B.weight"] = torch.randn(weight.shape[0], 4) * 0.1
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    save_file(tensors, adapter / "adapter_model.safetensors", {"format": "pt"})
    settings = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 6, "target_modules": names}
    settings["base_model_name_or_path"] = str(base)
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    expected = adapted(base, adapter)
    assert float((expected - loaded(base)).abs().max()) > 0.05
    torch.testing.assert_close(loaded(merge(adapter, tmp_path / "out")), expected, rtol=2e-4, atol=2e-4)
    (adapter / "adapter_config.json").write_text(json.dumps({**settings, "use_rslora": True}))
    with pytest.raises(ExportError, match="rsLoRA on single experts"):
        merge(adapter, tmp_path / "other")


def test_what_does_not_fit_is_refused(tmp_path: Path, base: Path) -> None:
    adapter = tiny_models.save_adapter(tmp_path / "adapter", base, target_modules=[], target_parameters=BOTH)
    with pytest.raises(ExportError, match="target_parameters"):
        hand_over(AdapterFolder(adapter), "owner/model", tmp_path / "vllm")
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "target_parameters": BOTH[:1]}))
    with pytest.raises(ExportError, match="more parameters"):
        merge(adapter, tmp_path / "out")
