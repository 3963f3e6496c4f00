"""What a merged model's folder holds beside its weights: configuration, tokenizer, template, licence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch

from app.export.merge.base_model import BaseModel, base_config
from app.export.merge.plan import Plan
from app.models.adapters import AdapterFolder

TOKENIZER_FILES = (
    "tokenizer*.json",
    "tokenizer.model",
    "vocab.*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "spiece.model",
    "sentencepiece*.model",
)
_CONFIG_FILES = ("generation_config.json", "preprocessor_config.json", "processor_config.json", "LICENSE*")


def copy_small_files(folder: Path, base: BaseModel, adapter: AdapterFolder) -> None:
    """Copy tokenizer, template and generation settings; the adapter's own tokenizer files go before the base's."""
    own_tokenizer = (adapter.path / "tokenizer.json").is_file() or (adapter.path / "tokenizer.model").is_file()
    sources = [(base.folder, _CONFIG_FILES), (adapter.path if own_tokenizer else base.folder, TOKENIZER_FILES)]
    if not own_tokenizer:
        sources.append((adapter.path, ("chat_template.jinja",)))
    for source, patterns in sources:
        for pattern in patterns:
            for path in source.glob(pattern):
                if path.is_file():
                    shutil.copyfile(path, folder / path.name)


def write_config(folder: Path, base: BaseModel, plan: Plan, dtype: torch.dtype | None) -> None:
    """Write config.json: the base's, with what the merge changed."""
    config = base_config(base.folder)
    parts = [config, *(part for part in (config.get("text_config"),) if isinstance(part, dict))]
    for part in parts:
        if plan.untied and (part is config or "tie_word_embeddings" in part):
            part["tie_word_embeddings"] = False
        if plan.vocabulary is not None and "vocab_size" in part:
            part["vocab_size"] = plan.vocabulary
        part.pop("quantization_config", None)  # MXFP4 is read as numbers; any other base is refused
        if dtype is not None:
            _set_dtype(part, str(dtype).removeprefix("torch."))
    (folder / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False), encoding="utf-8")


def _set_dtype(part: dict[str, object], name: str) -> None:
    for key in ("dtype", "torch_dtype"):
        if key in part:
            part[key] = name
    if "torch_dtype" not in part:
        part["dtype"] = name
