"""The tensors of a GGUF file: their names, where their values lie, and the order and offset that llama.cpp expects."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from gguf import TensorNameMap, get_tensor_name_map

from app.errors import ExportError
from app.export.gguf.families import Family
from app.models.tensors import StoredTensor

_ENDS = (".weight", ".bias")
# The text part's names in checkpoints of models that also see.
_TEXT_PREFIXES = ("model.language_model.", "language_model.model.", "language_model.")
_FOREIGN = re.compile(r"(model\.)?(vision_tower|vision_model|multi_modal_projector|visual|audio_tower)\.")
# Buffers that old checkpoints carry along; they follow from the configuration.
_IGNORED = (".rotary_emb.inv_freq", ".attn.masked_bias")


@dataclass(frozen=True)
class Part:
    """One tensor of the file: its source, its rotary heads if its rows are permuted, and what is added to it."""

    name: str
    source: StoredTensor
    heads: int = 0
    shift: float = 0.0

    def blocks(self, elements: int) -> Iterator[torch.Tensor]:
        """Yield the values in order, in blocks of about this many elements and of whole heads."""
        rows = self.source.rows
        step = max(1, elements // max(1, self.source.row_elements))
        if self.heads:
            head = rows // self.heads
            step = max(1, step // head) * head
        for first in range(0, rows, step):
            block = self.source.read(first, min(first + step, rows))
            if self.heads:
                block = paired(block, len(block) // (rows // self.heads))
            yield block + self.shift if self.shift else block


def paired(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """Return rows with the two halves of each head interleaved.

    transformers rotates the first half of a head against the second; llama.cpp's Llama rotates neighbours.
    """
    return rows.reshape(heads, 2, len(rows) // heads // 2, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape)


class Names:
    """From the names of transformers to those of a GGUF architecture."""

    def __init__(self, family: Family, config: Any) -> None:
        self._family, self._config = family, config
        self._map: TensorNameMap = get_tensor_name_map(family.arch, config.num_hidden_layers)

    def of(self, parameter: str) -> str:
        """Return the name in the file. Raises ExportError for a parameter that llama.cpp does not have."""
        found: str | None = self._map.get_name(plain(parameter), try_suffixes=_ENDS)
        if found is None:
            raise ExportError(
                "This model cannot be written as GGUF",
                f"llama.cpp has no place for {parameter} in its {self._family.arch.name.lower()} architecture",
                "use the merged model with transformers or vLLM",
            )
        return found

    def heads(self, parameter: str) -> int:
        """Return the heads of a projection whose rows are permuted, 0 for all others."""
        if not self._family.permuted:
            return 0
        if ".q_proj." in parameter:
            return int(self._config.num_attention_heads)
        if ".k_proj." in parameter:
            return int(getattr(self._config, "num_key_value_heads", None) or self._config.num_attention_heads)
        return 0


def parts_of(
    stored: Mapping[str, StoredTensor], family: Family, config: Any, tied: bool
) -> tuple[list[Part], list[str]]:
    """Return the tensors of the file in order, and notes for people. Raises ExportError."""
    names, parts, left_out = Names(family, config), [], 0
    for name, source in stored.items():
        if _FOREIGN.match(name):
            left_out += 1
            continue
        if name.endswith(_IGNORED) or (_is_head(name) and tied):
            continue
        if _is_head(name) and family.always_tied:
            raise ExportError(
                "This Gemma cannot be written as GGUF",
                "its output layer is no longer tied to its embeddings, and llama.cpp has no place for two",
                "train without lm_head, or with ensure_weight_tying",
            )
        shift = family.norm_shift if name.endswith("norm.weight") else 0.0
        parts.append(Part(names.of(name), source, names.heads(name), shift))
    return parts, [f"{left_out} tensors for pictures or sound are left out: text only."] if left_out else []


def _is_head(name: str) -> bool:
    return name in ("lm_head.weight", "language_model.lm_head.weight")


def plain(parameter: str) -> str:
    """Return a parameter's name as in a model of text alone."""
    for prefix in _TEXT_PREFIXES:
        if parameter.startswith(prefix):
            rest = parameter.removeprefix(prefix)
            return rest if rest.startswith(("model.", "lm_head.")) else f"model.{rest}"
    return parameter if parameter.startswith(("model.", "lm_head.")) else f"model.{parameter}"
