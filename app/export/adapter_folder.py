"""A clean copy of an adapter, or of a merged model, with its card: nothing of the trainer, nothing of this machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from app.errors import ExportError
from app.export import curve_picture
from app.export.base_model import base_config, named_base, public_name
from app.export.card import PICTURE, Card
from app.export.folder import TOKENIZER_FILES
from app.export.parcel import Parcel
from app.export.receipt import RECEIPT
from app.export.run_record import RunRecord, run_of
from app.models.adapters import CONFIG_FILE, AdapterFolder

_MODEL_FILES = ("*.safetensors", "model.safetensors.index.json", "generation_config.json", RECEIPT, "receipt.md")
# Keys in which transformers keeps the folder that a model or tokenizer was loaded from.
_PLACES = ("_name_or_path", "name_or_path")


def pack_adapter(parcel: Parcel, adapter: AdapterFolder, base: str, name: str, repo: str = "") -> None:
    """Write an adapter and its card. `base` is what the base shall be called elsewhere."""
    scrubbed = {**adapter.config, "base_model_name_or_path": base}
    parcel.add_text(CONFIG_FILE, json.dumps(scrubbed, indent=2, sort_keys=True, ensure_ascii=False))
    parcel.add(adapter.weights_file)
    _add_tokenizer(parcel, adapter.path)
    run = run_of(adapter.path)
    _add_card(parcel, Card(name, base, True, run, None, repo), run)


def pack_model(
    parcel: Parcel, model: Path, name: str, repo: str = "", pause: Callable[[], None] = lambda: None
) -> None:
    """Write a model folder, its receipt and its card. Raises ExportError when it is no model folder."""
    weights = sorted(path for pattern in _MODEL_FILES for path in model.glob(pattern) if path.is_file())
    if not any(path.suffix == ".safetensors" for path in weights):
        raise ExportError(f"{model} is not a model folder", "it has no *.safetensors file", "name a merged model")
    for path in weights:
        parcel.add(path, pause=pause)
    parcel.add_text("config.json", json.dumps(_scrubbed(base_config(model)), indent=2, ensure_ascii=False))
    _add_tokenizer(parcel, model)
    receipt = read_receipt(model)
    base = str((receipt or {}).get("base", {}).get("name") or "its base model")
    run = run_of(model)
    _add_card(parcel, Card(name, base, False, run, receipt, repo), run)


def read_receipt(model: Path) -> Mapping[str, Any] | None:
    """Return the receipt that lies with a merged model, or None."""
    try:
        receipt = json.loads((model / RECEIPT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return receipt if isinstance(receipt, dict) else None


def base_name(adapter: AdapterFolder, override: str | None) -> str:
    """Return what an adapter's base shall be called on other machines. Raises ExportError when it is not known."""
    return public_name(named_base(adapter, override))


def _add_tokenizer(parcel: Parcel, folder: Path) -> None:
    for path in sorted({path for pattern in TOKENIZER_FILES for path in folder.glob(pattern) if path.is_file()}):
        if path.name == "tokenizer_config.json":
            stored = json.loads(path.read_text(encoding="utf-8"))
            parcel.add_text(path.name, json.dumps(_scrubbed(stored), indent=2, ensure_ascii=False))
        else:
            parcel.add(path)


def _scrubbed(stored: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in stored.items() if name not in _PLACES}


def _add_card(parcel: Parcel, card: Card, run: RunRecord | None) -> None:
    if run is not None and run.losses:
        parcel.add_text(PICTURE, curve_picture.draw(run.losses, run.eval_losses))
    parcel.add_text("README.md", card.text())
