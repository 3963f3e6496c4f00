"""Which tensor of a file gets which of llama.cpp's formats: the usual mixes, such as Q4_K_M.

A mix is named after the format of most matrices; what the model is most sensitive to gets more bits. The rules are
llama.cpp's own (src/llama-quant.cpp, its functions for the tensor type and for what may be quantised at all; read in
November 2026), so that a file from here is what people know under its name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from gguf import GGML_QUANT_SIZES
from gguf import GGMLQuantizationType as Type
from transformers import PreTrainedConfig

Shape = tuple[int, ...]
# Where the rows of a matrix do not fill the blocks of its format, it gets one with blocks of 32.
_NARROWER = {
    Type.Q2_K: Type.Q4_0,
    Type.Q3_K: Type.Q4_0,
    Type.IQ4_XS: Type.IQ4_NL,
    Type.Q4_K: Type.Q5_0,
    Type.Q5_K: Type.Q5_1,
    Type.Q6_K: Type.Q8_0,
}
# Small or delicate matrices that every mix leaves as they are: routers, convolutions of state space layers, and norms.
_LEFT = (
    "_norm.weight",
    "ffn_gate_inp.weight",
    "ssm_conv1d",
    "shortconv.conv.weight",
    "altup",
    "laurel",
    "per_layer_model_proj",
)
_EMBEDDINGS = ("token_embd.weight", "per_layer_token_embd.weight")
_LAYER = re.compile(r"blk\.(\d+)\.")


class Part(Enum):
    """What a matrix does, as far as the mixes tell."""

    OUTPUT = auto()
    EMBEDDINGS = auto()
    VALUES = auto()
    ATTENTION_OUTPUT = auto()
    FFN_DOWN = auto()
    OTHER = auto()


@dataclass(frozen=True)
class Model:
    """What the mixes look at: layers, query heads to a key head, experts of a layer (1 without), tied embeddings."""

    layers: int
    heads_to_key: int
    experts: int
    tied: bool

    @property
    def shares_keys(self) -> bool:
        """Tell whether the value projections are so small that more bits cost next to nothing."""
        return self.heads_to_key >= 4

    @property
    def like_llama_70b(self) -> bool:
        """Tell whether llama.cpp would take the model for one of the 70B ones with shared keys."""
        return self.layers == 80 and self.heads_to_key > 1

    @classmethod
    def of(cls, config: PreTrainedConfig, names: Mapping[str, Shape]) -> Model:
        """Read it from the text part of a configuration and the names of the file's tensors."""
        heads = int(config.num_attention_heads)
        keys = int(getattr(config, "num_key_value_heads", None) or heads)
        experts = [getattr(config, name, None) for name in ("num_local_experts", "num_experts", "n_routed_experts")]
        found = next((int(count) for count in experts if count), 1)
        return cls(int(config.num_hidden_layers), heads // keys, found, "output.weight" not in names)


def types_of(shapes: Mapping[str, Shape], mix: str, wanted: Type, model: Model) -> dict[str, Type]:
    """Return the format of every tensor of a file by its name. `wanted` is the one that the mix is named after."""
    found, values_before = {}, 0
    values = sum(_part(name) is Part.VALUES for name in shapes)
    for name in sorted(shapes, key=_place):
        shape, part = shapes[name], _part(name)
        if not may_be_quantised(name, shape):
            found[name] = Type.F32
            continue
        kind = _raised(part, name, shape, mix, wanted, model, (values_before, values))
        values_before += part is Part.VALUES
        found[name] = _fitting(kind, shape)
    return found


def may_be_quantised(name: str, shape: Shape) -> bool:
    """Tell whether a tensor may have fewer than 32 bits: a matrix that is not one of the small delicate ones."""
    return len(shape) >= 2 and name.endswith("weight") and not any(left in name for left in _LEFT)


def _part(name: str) -> Part:
    if name == "output.weight":
        return Part.OUTPUT
    if name in _EMBEDDINGS:
        return Part.EMBEDDINGS
    # Values alone, or joined with what is as easily hurt as they are.
    if any(joined in name for joined in ("attn_v.weight", "attn_qkv.weight", "attn_kv_b.weight")):
        return Part.VALUES
    if "attn_output.weight" in name:
        return Part.ATTENTION_OUTPUT
    return Part.FFN_DOWN if "ffn_down" in name else Part.OTHER


def _place(name: str) -> tuple[int, str]:
    """Return where llama.cpp comes to a tensor: by layers, what belongs to none first."""
    found = _LAYER.match(name)
    return (int(found[1]) if found else -1, name)


def _fitting(kind: Type, shape: Shape) -> Type:
    """Return a format whose blocks the rows fill."""
    for one in (kind, _NARROWER.get(kind, Type.F16)):
        if shape[-1] % GGML_QUANT_SIZES[one][0] == 0:
            return one
    return Type.F16


def _raised(part: Part, name: str, shape: Shape, mix: str, kind: Type, model: Model, values: tuple[int, int]) -> Type:
    """Return the format that a mix gives to a matrix before it is fitted to the shape.

    `values` is how many value projections come before this matrix, and how many there are.
    """
    if part is Part.OUTPUT or (part is Part.EMBEDDINGS and model.tied):
        fills = shape[-1] % GGML_QUANT_SIZES[kind][0] == 0
        return Type.Q6_K if fills and kind is not Type.Q8_0 else Type.Q8_0
    if part is Part.VALUES:
        return _of_values(mix, kind, model, *values)
    if ".attn_k.weight" in name and model.experts == 8:
        return Type.Q8_0
    if part is Part.FFN_DOWN:
        return _of_ffn_down(mix, kind, _place(name)[0], model.layers)
    if part is Part.ATTENTION_OUTPUT:
        return _of_attention_output(mix, kind, model)
    return kind


def _more_bits(place: int, count: int) -> bool:
    """Tell whether an M mix gives a layer more: those of the first and last eighth, and each third between."""
    return place < count // 8 or place >= 7 * count // 8 or (place - count // 8) % 3 == 2


def _of_values(mix: str, kind: Type, model: Model, place: int, count: int) -> Type:
    if mix == "q2_k":
        kind = Type.Q4_K if model.shares_keys else Type.Q3_K
    elif mix == "q3_k_m":
        kind = Type.Q5_K if place < 2 else Type.Q4_K
    elif mix == "iq4_xs" and model.shares_keys:
        kind = Type.Q5_K
    elif mix in ("q4_k_m", "q5_k_m") and _more_bits(place, count):
        kind = Type.Q6_K
    elif mix == "q4_k_s" and place < 4:
        kind = Type.Q5_K
    if model.like_llama_70b and kind in (Type.Q3_K, Type.Q4_K):
        kind = Type.Q5_K
    return Type.Q8_0 if model.experts == 8 else kind


def _of_ffn_down(mix: str, kind: Type, layer: int, layers: int) -> Type:
    if mix == "q2_k":
        return Type.Q3_K
    if mix == "q3_k_m":
        return Type.Q5_K if layer < layers // 16 else Type.Q4_K
    if mix in ("q4_k_m", "q5_k_m"):
        return Type.Q6_K if _more_bits(layer, layers) else kind
    return Type.Q5_K if mix in ("iq4_xs", "q4_k_s") and layer < layers // 8 else kind


def _of_attention_output(mix: str, kind: Type, model: Model) -> Type:
    if model.experts == 8:
        return Type.Q5_K if mix in ("q2_k", "q3_k_m", "q4_k_s", "q4_k_m", "iq4_xs") else kind
    return {"q2_k": Type.Q3_K, "q3_k_m": Type.Q4_K}.get(mix, kind)
