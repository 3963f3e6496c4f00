"""A whole model as GGUF: a model folder in, one file out, in bounded memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from gguf import GGMLQuantizationType, GGUFType, GGUFWriter
from transformers import PreTrainedConfig

from app.errors import ExportError
from app.export.gguf import writer as files
from app.export.gguf.architecture.families import describe, family_of
from app.export.gguf.architecture.rope import describe_rope
from app.export.gguf.quantization import mixes
from app.export.gguf.quantization.formats import FORMATS, format_of
from app.export.gguf.quantization.llama_cpp import Floats
from app.export.gguf.sources import rows_of
from app.export.gguf.tensors import Part, parts_of
from app.export.gguf.vocabulary import read_vocabulary
from app.export.gguf.writer import Entry, Written
from app.export.merge.base_model import BaseModel
from app.export.targets.turn_format import Turns

# How much each column counts, (columns) or (experts, columns), by the name of the matrix in the file.
Importance = Mapping[str, Floats]
_EMBEDDINGS = "token_embd.weight"
_PHI3_TOKENS = ("</s>", "<unk>", "<s>", "<|endoftext|>")


@dataclass(frozen=True)
class GgufFile:
    """A written file: its hash, what reading it back found, and notes for people."""

    path: Path
    sha256: str
    written: Written
    notes: list[str]


def write_model(
    model: BaseModel,
    turns: Turns,
    path: Path,
    dtype: str,
    max_ram_bytes: int,
    *,
    name: str,
    importance: Importance | None = None,
    pause: Callable[[], None] = lambda: None,
    progress: Callable[[int, int, str], None] = lambda done_bytes, all_bytes, phase: None,
) -> GgufFile:
    """Write a model folder as one GGUF file and read it back. A file at `path` that was broken off is gone on with.

    `dtype` is one of FORMATS. Raises ExportError for a model or tokenizer that llama.cpp does not have.
    """
    config = model.config.get_text_config(decoder=True)
    family = family_of(model.config)
    wanted = FORMATS[dtype]
    parts, notes = parts_of(model.tensors, family, config, model.tied)
    rows = _embedding_rows(parts)
    writer = GGUFWriter(path, family.arch)
    writer.add_type(GGUFType.MODEL)
    writer.add_name(_spoken(name, turns))
    writer.add_file_type(wanted.file_type)
    notes += describe(config, family, writer)
    factors = describe_rope(config, writer)
    vocabulary = read_vocabulary(turns, rows)
    vocabulary.write(writer, turns.template.source)
    elements = files.block_elements(max_ram_bytes)
    kinds, weights = _kinds(parts, dtype, config), importance or {}
    entries = [_constant(factor, values) for factor, values in factors.items()]
    entries += [
        Entry(one.name, one.source.shape, kinds[one.name], partial(one.blocks, elements), weights.get(one.name))
        for one in parts
    ]
    size = files.total_bytes(entries)
    head = files.head_of(writer, path, entries)
    while True:
        sha256, kept = files.write(path, head, entries, pause, lambda done: progress(done, size, "writing GGUF"))
        progress(size, size, "reading GGUF back")
        written = files.check(path, entries, pause)
        if written.as_expected or not kept:
            return GgufFile(path, sha256, written, [*notes, *vocabulary.notes])
        path.unlink()  # what was there was of other values, or never came onto the disk: all is written anew


def refuse_unfit_tokenizer(model: BaseModel, turns: Turns) -> None:
    """Raise ExportError for a tokenizer that the file cannot hold, before anything is asked of the model with it."""
    config = model.config.get_text_config(decoder=True)
    parts, _ = parts_of(model.tensors, family_of(model.config), config, model.tied)
    read_vocabulary(turns, _embedding_rows(parts))


def _kinds(parts: list[Part], dtype: str, config: PreTrainedConfig) -> dict[str, GGMLQuantizationType]:
    """Return the format of each tensor."""
    wanted, shapes = FORMATS[dtype], {part.name: part.source.shape for part in parts}
    if not wanted.is_mix:
        return {
            name: format_of(shape, wanted.matrices) if mixes.may_be_quantised(name, shape) else GGMLQuantizationType.F32
            for name, shape in shapes.items()
        }
    return mixes.types_of(shapes, dtype, wanted.matrices, mixes.Model.of(config, shapes))


def _embedding_rows(parts: list[Part]) -> int:
    for part in parts:
        if part.name == _EMBEDDINGS:
            return rows_of(part.source)
    raise ExportError("The model cannot be written as GGUF", "its files have no embeddings", "check the model folder")


def _constant(name: str, values: torch.Tensor) -> Entry:
    def blocks() -> Iterator[torch.Tensor]:
        yield values

    return Entry(name, tuple(values.shape), format_of(tuple(values.shape), FORMATS["f16"].matrices), blocks)


def _spoken(name: str, turns: Turns) -> str:
    """Return the name of the model in the file.

    By the word phi-3 in it llama.cpp lets special tokens swallow the spaces behind them, and looks for some by name.
    """
    name = re.sub(r"\s+", " ", name).strip() or "model"
    name = re.sub("phi-?3", "phi 3", name, flags=re.IGNORECASE)
    tokens = {token.content: token for token in turns.tokenizer.added_tokens_decoder.values()}
    swallows = [text for text, token in tokens.items() if token.special and token.rstrip and text not in _PHI3_TOKENS]
    return f"{name} (phi-3)" if swallows and all(text in tokens for text in _PHI3_TOKENS) else name
