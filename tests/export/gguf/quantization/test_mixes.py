"""The format of every tensor is llama.cpp's own choice.

The counts are those that llama.cpp prints when it loads the files that people share under these names
("llama_model_loader: - type q4_K: 193 tensors"), for models of the published shapes. Phi-3's are those of the rule of
2026, in which the joined projection of queries, keys and values is raised as values are.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest
from gguf import GGMLQuantizationType as Type

from app.export.gguf.quantization.formats import FORMATS
from app.export.gguf.quantization.mixes import Model, types_of

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Shape:
    """A published model: layers, width, inner width, width of all query heads and of all key heads, heads to a key."""

    layers: int
    width: int
    inner: int
    queries: int
    keys: int
    shared: int
    tied: bool
    norms: int = 2
    biases: int = 0
    joined: bool = False

    def tensors(self) -> Shapes:
        vocabulary = (1000, self.width)
        found: Shapes = {"token_embd.weight": vocabulary, "output_norm.weight": (self.width,)}
        found |= {} if self.tied else {"output.weight": vocabulary}
        for layer in range(self.layers):
            place = f"blk.{layer}"
            if self.joined:
                attention = {"attn_qkv": (self.queries + 2 * self.keys, self.width)}
                up = {"ffn_up": (2 * self.inner, self.width)}
            else:
                sides = {"attn_q": self.queries, "attn_k": self.keys, "attn_v": self.keys}
                attention = {name: (rows, self.width) for name, rows in sides.items()}
                up = dict.fromkeys(("ffn_gate", "ffn_up"), (self.inner, self.width))
            matrices = attention | up
            matrices |= {"attn_output": (self.width, self.queries), "ffn_down": (self.width, self.inner)}
            found |= {f"{place}.{name}.weight": shape for name, shape in matrices.items()}
            found |= {f"{place}.norm{number}_norm.weight": (self.width,) for number in range(self.norms)}
            found |= {f"{place}.{number}.bias": (self.width,) for number in range(self.biases)}
        return found

    def chosen(self, mix: str) -> dict[str, Type]:
        model = Model(self.layers, self.shared, 1, self.tied)
        return types_of(self.tensors(), mix, FORMATS[mix].matrices, model)


SHAPES = {
    "llama-3.1-8b": Shape(32, 4096, 14336, 4096, 1024, 4, tied=False),
    "qwen2.5-7b": Shape(28, 3584, 18944, 3584, 512, 7, tied=False, biases=3),
    "qwen2.5-0.5b": Shape(24, 896, 4864, 896, 128, 7, tied=True, biases=3),
    "gemma-2-2b": Shape(26, 2304, 9216, 2048, 1024, 2, tied=True, norms=4),
    "gemma-3-1b": Shape(26, 1152, 6912, 1024, 256, 4, tied=True, norms=6),
    "qwen3-8b": Shape(36, 4096, 12288, 4096, 1024, 4, tied=False, norms=4),
    "phi-3-mini": Shape(32, 3072, 8192, 3072, 3072, 1, tied=False, joined=True),
}
COUNTS: dict[tuple[str, str], dict[Type, int]] = {
    ("llama-3.1-8b", "q4_k_m"): {Type.F32: 65, Type.Q4_K: 193, Type.Q6_K: 33},
    ("llama-3.1-8b", "q5_k_m"): {Type.F32: 65, Type.Q5_K: 193, Type.Q6_K: 33},
    ("llama-3.1-8b", "q6_k"): {Type.F32: 65, Type.Q6_K: 226},
    ("llama-3.1-8b", "q2_k"): {Type.F32: 65, Type.Q2_K: 129, Type.Q3_K: 64, Type.Q4_K: 32, Type.Q6_K: 1},
    ("llama-3.1-8b", "q3_k_m"): {Type.F32: 65, Type.Q3_K: 129, Type.Q4_K: 92, Type.Q5_K: 4, Type.Q6_K: 1},
    ("llama-3.1-8b", "q4_k_s"): {Type.F32: 65, Type.Q4_K: 217, Type.Q5_K: 8, Type.Q6_K: 1},
    ("qwen2.5-7b", "q4_k_m"): {Type.F32: 141, Type.Q4_K: 169, Type.Q6_K: 29},
    ("qwen2.5-0.5b", "q4_k_m"): {Type.F32: 121, Type.Q5_0: 132, Type.Q8_0: 13, Type.Q4_K: 12, Type.Q6_K: 12},
    ("gemma-2-2b", "q4_k_m"): {Type.F32: 105, Type.Q4_K: 156, Type.Q6_K: 27},
    ("gemma-3-1b", "q4_k_m"): {Type.F32: 157, Type.Q5_0: 117, Type.Q8_0: 14, Type.Q4_K: 39, Type.Q6_K: 13},
    ("qwen3-8b", "q4_k_m"): {Type.F32: 145, Type.Q4_K: 217, Type.Q6_K: 37},
    ("phi-3-mini", "q4_k_m"): {Type.F32: 65, Type.Q4_K: 97, Type.Q6_K: 33},
}


@pytest.mark.parametrize(("name", "mix"), list(COUNTS), ids=lambda value: value)
def test_a_mix_has_the_tensors_that_people_know(name: str, mix: str) -> None:
    assert Counter(SHAPES[name].chosen(mix).values()) == COUNTS[name, mix]


def test_the_first_and_last_layers_and_each_third_between_get_more() -> None:
    found = SHAPES["llama-3.1-8b"].chosen("q4_k_m")
    raised = [layer for layer in range(32) if found[f"blk.{layer}.attn_v.weight"] == Type.Q6_K]
    assert raised == [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]
    assert raised == [layer for layer in range(32) if found[f"blk.{layer}.ffn_down.weight"] == Type.Q6_K]


def test_of_eight_experts_the_small_projections_are_kept_well_and_the_router_whole() -> None:
    shapes: Shapes = {
        "token_embd.weight": (1000, 4096),
        "output.weight": (1000, 4096),
        "blk.0.attn_k.weight": (1024, 4096),
        "blk.0.attn_v.weight": (1024, 4096),
        "blk.0.attn_output.weight": (4096, 4096),
        "blk.0.ffn_gate_inp.weight": (8, 4096),
        "blk.0.ffn_gate_exps.weight": (8, 14336, 4096),
        "blk.0.ffn_down_exps.weight": (8, 4096, 14336),
    }
    found = types_of(shapes, "q4_k_m", Type.Q4_K, Model(32, 4, 8, tied=False))
    assert found["blk.0.attn_k.weight"] == found["blk.0.attn_v.weight"] == Type.Q8_0
    assert found["blk.0.attn_output.weight"] == Type.Q5_K
    assert found["blk.0.ffn_gate_inp.weight"] == Type.F32
    assert found["blk.0.ffn_gate_exps.weight"] == Type.Q4_K and found["blk.0.ffn_down_exps.weight"] == Type.Q6_K


def test_rows_that_fill_no_block_of_any_kind_stay_in_16_bits() -> None:
    found = types_of({"blk.0.attn_q.weight": (64, 40)}, "q4_k_m", Type.Q4_K, Model(1, 1, 1, tied=True))
    assert found == {"blk.0.attn_q.weight": Type.F16}
