"""A clean copy of an adapter, or of a merged model, with its card: nothing of the trainer, nothing of this machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from app.errors import ExportError
from app.export.merge.base_model import base_config, named_base, public_name
from app.export.merge.model_folder import TOKENIZER_FILES
from app.export.merge.report import RECEIPT
from app.export.staging import Staging
from app.export.targets import loss_plot
from app.export.targets.model_card import PICTURE, Card
from app.export.targets.run_record import RunRecord, run_of
from app.models.adapter_files import CONFIG_FILE
from app.models.adapters import AdapterFolder
from app.models.tensors import read_checkpoint
from app.reading import read_object

_MODEL_FILES = ("*.safetensors", "model.safetensors.index.json", "generation_config.json", RECEIPT, "receipt.md")
# Keys in which transformers keeps the folder that a model or tokenizer was loaded from.
_PLACES = ("_name_or_path", "name_or_path")


def pack_adapter(staging: Staging, adapter: AdapterFolder, base: str, name: str, repo: str = "") -> None:
    """Write an adapter and its card. `base` is what the base shall be called elsewhere."""
    scrubbed = {**adapter.config, "base_model_name_or_path": base}
    staging.add_text(CONFIG_FILE, json.dumps(scrubbed, indent=2, sort_keys=True, ensure_ascii=False))
    staging.add(adapter.weights_file)
    add_tokenizer(staging, adapter.path)
    run = run_of(adapter.path)
    encodes = adapter.config.get("task_type") == "SEQ_2_SEQ_LM"
    _add_card(staging, Card(name, base, True, run, None, repo, sees=_in_tower(adapter), encodes=encodes), run)


def pack_model(
    staging: Staging,
    model: Path,
    name: str,
    repo: str = "",
    pause: Callable[[], None] = lambda: None,
    limits: Sequence[str] = (),
) -> None:
    """Write a model folder, its receipt and its card. Raises ExportError when it is no model folder,
    ModelError when its weights are not whole.

    `limits` is what the model does not do in this form; the card says it.
    """
    weights = sorted(path for pattern in _MODEL_FILES for path in model.glob(pattern) if path.is_file())
    if not any(path.suffix == ".safetensors" for path in weights):
        raise ExportError(f"{model} is not a model folder", "it has no *.safetensors file", "name a merged model")
    read_checkpoint(model)
    for path in weights:
        staging.add(path, pause=pause)
    config = base_config(model)
    staging.add_text("config.json", json.dumps(scrubbed(config), indent=2, ensure_ascii=False))
    add_tokenizer(staging, model)
    receipt = read_receipt(model)
    run = run_of(model)
    base = str((receipt or {}).get("base", {}).get("name") or (run.base if run else ""))
    encodes = config.get("is_encoder_decoder") is True
    card = Card(name, base, False, run, receipt, repo, tuple(limits), "vision_config" in config, encodes)
    _add_card(staging, card, run)


def _in_tower(adapter: AdapterFolder) -> bool:
    """Tell whether an adapter's layers are those of a language model inside of a whole model that sees."""
    return all(".language_model." in f".{layer}" or ".text_model." in f".{layer}" for layer in adapter.layers)


def read_receipt(model: Path) -> Mapping[str, Any] | None:
    """Return the receipt that lies with a merged model, or None."""
    try:
        return read_object(model / RECEIPT)
    except (OSError, ValueError):
        return None


def base_name(adapter: AdapterFolder, override: str | None) -> str:
    """Return what an adapter's base shall be called on other machines. Raises ExportError when it is not known."""
    return public_name(named_base(adapter, override))


def add_tokenizer(staging: Staging, folder: Path) -> None:
    """Copy a model's tokenizer, without the places that its settings name. Raises ExportError."""
    for path in sorted({path for pattern in TOKENIZER_FILES for path in folder.glob(pattern) if path.is_file()}):
        if path.name == "tokenizer_config.json":
            try:
                stored = read_object(path)
            except (OSError, ValueError) as error:
                raise ExportError(f"{path} cannot be read", str(error), "restore the model's own file") from None
            staging.add_text(path.name, json.dumps(scrubbed(stored), indent=2, ensure_ascii=False))
        else:
            staging.add(path)


def scrubbed(stored: Mapping[str, object]) -> dict[str, object]:
    """Return settings without the folders that they were loaded from."""
    return {name: value for name, value in stored.items() if name not in _PLACES}


def _add_card(staging: Staging, card: Card, run: RunRecord | None) -> None:
    if run is not None and run.losses:
        staging.add_text(PICTURE, loss_plot.draw(run.losses, run.eval_losses))
    staging.add_text("README.md", card.text())
