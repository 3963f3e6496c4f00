"""A model of an architecture that has no reader of its own: the few numbers that a plan and a page name.

What such a model costs is found by a trace of its class (app/planner/tracing), which reads the whole configuration.
"""

from __future__ import annotations

from typing import Any

from app.catalog.fields import LIMITS, ConfigFields

_HIDDEN = ("hidden_size", "n_embd", "d_model", "dim")
_DEPTH = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads")


def numbers(fields: ConfigFields) -> dict[str, Any]:
    """Return what a config.json says of itself; a number that it leaves to its class is 1 here."""
    heads = fields.integer(*_HEADS, limit=LIMITS["heads"], default=1)
    hidden = fields.integer(*_HIDDEN, limit=LIMITS["width"], default=1)
    return {
        "hidden": hidden,
        "layers": fields.integer(*_DEPTH, limit=LIMITS["layers"], default=1),
        "heads": heads,
        "kv_heads": _one(fields, ("num_key_value_heads",), LIMITS["heads"], heads),
        "head_dim": _one(fields, ("head_dim",), LIMITS["width"], max(1, hidden // heads)),
        "intermediate": _one(fields, ("intermediate_size", "ffn_dim", "n_inner"), LIMITS["width"], 1),
        "vocab": fields.integer("vocab_size", limit=LIMITS["vocab"], default=1),
        "tied": fields.flag("tie_word_embeddings", True),
        "max_positions": fields.positions("max_position_embeddings", "n_positions", "max_sequence_length"),
        "simulated": True,
    }


def _one(fields: ConfigFields, names: tuple[str, ...], limit: int, default: int) -> int:
    """Return a number that some classes list by layer, where it is one number."""
    single = {name: value for name in names if isinstance(value := fields.values.get(name), int) and value > 0}
    return ConfigFields(single, fields.source).integer(*names, limit=limit, default=default)
