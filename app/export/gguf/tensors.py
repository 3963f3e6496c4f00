"""The tensors of a GGUF file: their names, where their values lie, and the order and offset that llama.cpp expects."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from gguf import MODEL_ARCH_NAMES, get_tensor_name_map
from transformers import PreTrainedConfig

from app.errors import ExportError
from app.export.gguf.architecture import experts, linear_attention
from app.export.gguf.architecture.families import Family
from app.export.gguf.sources import Source, row_elements, rows_of
from app.models.tensors import StoredTensor

_ENDS = (".weight", ".bias")
# The text part's names in checkpoints of models that also see.
_TEXT_PREFIXES = ("model.language_model.", "language_model.model.", "language_model.")
_FOREIGN = re.compile(r"(model\.)?(vision_tower|vision_model|multi_modal_projector|visual|audio_tower)\.")
_LAYER = re.compile(r"model\.layers\.(\d+)\.")
# Buffers that old checkpoints carry along; they follow from the configuration.
_IGNORED = (".rotary_emb.inv_freq", ".attn.masked_bias")


@dataclass(frozen=True)
class Part:
    """One tensor of the file: its source, its rotary heads if its rows are permuted, and what is done to its values."""

    name: str
    source: Source
    heads: int = 0
    shift: float = 0.0
    negated_exp: bool = False

    def blocks(self, elements: int) -> Iterator[torch.Tensor]:
        """Yield the values in order, in blocks of about this many elements and of whole heads."""
        rows = rows_of(self.source)
        step = max(1, elements // max(1, row_elements(self.source)))
        if self.heads:
            head = rows // self.heads
            step = max(1, step // head) * head
        for first in range(0, rows, step):
            block = self.source.read(first, min(first + step, rows))
            if self.heads:
                block = paired(block, len(block) // (rows // self.heads))
            block = -block.float().exp() if self.negated_exp else block
            yield block + self.shift if self.shift else block


def paired(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """Return rows with the two halves of each head interleaved.

    transformers rotates the first half of a head against the second; llama.cpp's Llama rotates neighbours.
    """
    return rows.reshape(heads, 2, len(rows) // heads // 2, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape)


class Names:
    """From the names of transformers to those of a GGUF architecture."""

    def __init__(self, family: Family, config: PreTrainedConfig) -> None:
        self._family, self._config = family, config
        known = {name: arch for arch, name in MODEL_ARCH_NAMES.items()}.get(family.arch)
        self._map = None if known is None else get_tensor_name_map(known, config.num_hidden_layers)

    def of(self, parameter: str) -> str:
        """Return the name in the file. Raises ExportError for a parameter that llama.cpp does not have."""
        found = self.known(parameter)
        if found is None:
            raise ExportError(
                "This model cannot be written as GGUF",
                f"llama.cpp has no place for {parameter} in its {self._family.arch} architecture",
                "use the merged model with transformers or vLLM",
            )
        return found

    def known(self, parameter: str) -> str | None:
        """Return the name in the file, None for a parameter that llama.cpp does not have."""
        own = self._own(plain(parameter))
        if own is not None or self._map is None:
            return own
        found: str | None = self._map.get_name(plain(parameter), try_suffixes=_ENDS)
        return found

    def _own(self, parameter: str) -> str | None:
        """Return the name that the family's own table gives."""
        layer = _LAYER.match(parameter)
        rest, place = parameter[layer.end() :] if layer else parameter, f"blk.{layer[1]}." if layer else ""
        names = self._family.names
        if rest in names:  # a parameter that is neither weight nor bias
            return place + names[rest]
        stem, dot, end = rest.rpartition(".")
        return f"{place}{names[stem]}{dot}{end}" if f".{end}" in _ENDS and stem in names else None

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
    stored: Mapping[str, StoredTensor], family: Family, config: PreTrainedConfig, tied: bool
) -> tuple[list[Part], list[str]]:
    """Return the tensors of the file in order, and notes for people. Raises ExportError."""
    names, parts, left_out = Names(family, config), [], 0
    single = {}
    for name, source in stored.items():
        if _FOREIGN.match(name):
            left_out += 1
        elif not name.endswith(_IGNORED) and not (_is_head(name) and tied):
            single[name] = source
    for name, expert in experts.parts_of(single, transposed=config.model_type == "gpt_oss").items():
        parts.append(Part(name, expert))
    for name, source in single.items():
        if experts.is_expert(name):
            continue
        if _is_head(name) and family.always_tied:
            raise ExportError(
                "This Gemma cannot be written as GGUF",
                "its output layer is no longer tied to its embeddings, and llama.cpp has no place for two",
                "train without lm_head, or with ensure_weight_tying",
            )
        shift = family.norm_shift if name.endswith("norm.weight") and "linear_attn" not in name else 0.0
        arranged = linear_attention.arranged(name, source, config)
        parts.append(Part(names.of(name), arranged, names.heads(name), shift, name.endswith(".A_log")))
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
