"""Routed experts are weighed each by the tokens that are sent to it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Type

from app.export.gguf.model import write_model
from app.export.gguf.quantization import experts, importance, llama_cpp
from app.export.merge.base_model import BaseModel
from app.export.targets.turn_format import read_turns
from tests.models.moe_models import KINDS, moe_model, save_moe


@pytest.mark.parametrize("kind", list(KINDS))
def test_what_goes_into_an_expert_s_last_matrix_makes_the_layer_s_answer(kind: str) -> None:
    model = moe_model(kind)
    name, module = next(one for one in model.named_modules() if experts.can_be_weighed(one[1]))
    tokens = torch.randn(9, 64, generator=torch.Generator().manual_seed(3))
    chosen = torch.tensor([[0, 1], [1, 0], [0, 2]] * 3)  # nothing is sent to the fourth
    shares = torch.rand(9, 2, generator=torch.Generator().manual_seed(4))
    answer = torch.zeros(9, 64)
    for expert in range(3):
        sent = (chosen == expert).any(-1)
        share = (shares * (chosen == expert)).sum(-1)[sent, None]
        inner, last = experts._between(module, expert, tokens[sent]), module.down_proj[expert]
        found = inner @ (last if module.is_transposed else last.T)
        answer[sent] += share * (found + module.down_proj_bias[expert] if module.has_bias else found)
    with torch.no_grad():
        assert torch.allclose(module(tokens, chosen, shares), answer, atol=1e-5)
        layer = experts.Inputs(name, module)
        layer.add(module, (tokens[:4], chosen[:4], shares[:4]))
        layer.add(module, (tokens[4:], chosen[4:], shares[4:]))
    means = layer.means()
    block = name.split(".")[name.split(".").index("layers") + 1]
    assert set(means) == {f"blk.{block}.ffn_{part}_exps.weight" for part in ("gate", "up", "down")}
    gate = means[f"blk.{block}.ffn_gate_exps.weight"]
    assert gate.shape == (4, 64)
    for expert in range(3):
        expected = tokens[(chosen == expert).any(-1)].square().mean(0)
        assert np.allclose(gate[expert], expected.numpy(), rtol=1e-5)
    assert np.allclose(gate[3], tokens.repeat_interleave(2, 0).square().mean(0).numpy(), rtol=1e-5)


def test_each_expert_is_made_with_its_own_weights() -> None:
    pytest.importorskip("xllamacpp", reason="llama.cpp is not here")
    generator = np.random.default_rng(2)
    values = generator.standard_normal((3, 8, 256), dtype=np.float32)
    weights = generator.random((3, 256), dtype=np.float32) ** 4
    made = llama_cpp.quantise(values, Type.Q3_K, weights)
    alone = [llama_cpp.quantise(one, Type.Q3_K, its) for one, its in zip(values, weights, strict=True)]
    assert made == b"".join(alone) and made != llama_cpp.quantise(values, Type.Q3_K, weights[0])


def test_a_mixture_is_weighed_and_written_alike_in_blocks_of_any_size(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp", reason="llama.cpp is not here")
    sizes = {"hidden_size": 256, "moe_intermediate_size": 256, "head_dim": 64}
    model = BaseModel("mixture", save_moe(tmp_path / "model", "qwen3_moe", **sizes))
    rows = [{"prompt": f"What is {n} + {n}?", "completion": f"It is {2 * n}."} for n in range(12)]
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    found = importance.collect(model, tmp_path / "rows.jsonl", model.parameters, 2 << 30).columns
    assert found["blk.1.ffn_down_exps.weight"].shape == (4, 256) and found["blk.1.attn_q.weight"].shape == (256,)
    made = {}
    for name, memory, weights in (("whole", 2 << 30, found), ("pieces", 1 << 20, found), ("plain", 2 << 30, {})):
        path = tmp_path / f"{name}.gguf"
        file = write_model(model, read_turns(model.folder), path, "q3_k_m", memory, name="n", importance=weights)
        assert file.written.as_expected
        made[name] = path.read_bytes()
    assert made["whole"] == made["pieces"] != made["plain"]
