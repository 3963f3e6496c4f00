"""The vision part of a multimodal config.json: its parameters where its numbers are known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.catalog.fields import LIMITS, ConfigFields

FIELD = "vision_config"
# Vision towers of which every parameter is known: SigLIP as Gemma 3 carries it, with its projection to the text width.
_SIGLIP = "siglip_vision_model"
_PIXELS = 65_536


def vision_parameters(config: Mapping[str, Any], text_hidden: int, source: str) -> int | None:
    """Return the parameters of tower and projection; 0 without one, None when its kind is not known here.

    Raises ModelError that names a field whose number is missing or absurd.
    """
    values = config.get(FIELD)
    if values is None:
        return 0
    if not isinstance(values, dict) or values.get("model_type") != _SIGLIP or config.get("model_type") != "gemma3":
        return None
    fields = ConfigFields(values, f"{source} ({FIELD})")
    hidden = fields.integer("hidden_size", limit=LIMITS["width"])
    inner = fields.integer("intermediate_size", limit=LIMITS["width"])
    layers = fields.integer("num_hidden_layers", limit=LIMITS["layers"])
    image = fields.integer("image_size", limit=_PIXELS, default=224)
    patch = fields.integer("patch_size", limit=image, default=16)
    attention = 4 * (hidden * hidden + hidden)
    mlp = 2 * hidden * inner + inner + hidden
    layer = attention + mlp + 4 * hidden
    embeddings = 3 * patch * patch * hidden + hidden + (image // patch) ** 2 * hidden
    projection = hidden * text_hidden + hidden
    return layers * layer + embeddings + 2 * hidden + projection
