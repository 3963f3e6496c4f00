"""An adapter alone as GGUF LoRA, for llama.cpp's --lora: A and B of every layer, in the order of the base's file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from gguf import GGMLQuantizationType, GGUFType, GGUFWriter
from transformers import PreTrainedConfig

from app.errors import ExportError
from app.export.adapter_kinds import refuse_for_llama_cpp
from app.export.gguf import writer as files
from app.export.gguf.architecture import linear_attention
from app.export.gguf.architecture.families import Family, family_of
from app.export.gguf.model import GgufFile
from app.export.gguf.tensors import Names, paired
from app.export.gguf.writer import Entry
from app.models.adapters import AdapterFolder, LoraUpdate
from app.models.peft_keys import refuse_ignored


def write_adapter(
    adapter: AdapterFolder, config: PreTrainedConfig, path: Path, *, name: str, pause: Callable[[], None] = lambda: None
) -> GgufFile:
    """Write an adapter for a base of this configuration, in float32. Raises ExportError for what llama.cpp lacks."""
    refuse_for_llama_cpp(adapter)
    refuse_ignored(adapter, config, refusal=ExportError)
    family, text = family_of(config), config.get_text_config(decoder=True)
    writer = GGUFWriter(path, family.arch)
    writer.add_type(GGUFType.ADAPTER)
    writer.add_name(name)
    writer.add_string("adapter.type", "lora")
    alpha = float(adapter.config.get("lora_alpha") or 8)
    writer.add_float32("adapter.lora.alpha", alpha)
    entries = [entry for update in adapter.updates() for entry in _entries(update, alpha, family, text)]
    sha256, _ = files.write(path, files.head_of(writer, path, entries), entries, pause)
    return GgufFile(path, sha256, files.check(path, entries, pause), [])


def _entries(update: LoraUpdate, alpha: float, family: Family, config: PreTrainedConfig) -> Iterator[Entry]:
    """Yield A and B. llama.cpp multiplies by alpha / rank; what a layer's scaling differs from that goes into B."""
    parameter = f"{update.module}.weight"
    names = Names(family, config)
    name, heads = names.of(parameter), names.heads(parameter)
    factor = update.scaling * update.rank / alpha
    a, b = update.a.float(), update.b.float()
    b = paired(b, heads) if heads else b
    rows, columns = linear_attention.order_of(parameter, config)
    a, b = a if columns is None else a[:, columns], b if rows is None else b[rows]
    b = b if factor == 1.0 else b * factor
    yield _entry(f"{name}.lora_a", a)
    yield _entry(f"{name}.lora_b", b)


def _entry(name: str, values: torch.Tensor) -> Entry:
    def blocks() -> Iterator[torch.Tensor]:
        yield values

    return Entry(name, tuple(values.shape), GGMLQuantizationType.F32, blocks)
