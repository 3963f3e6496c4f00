"""How long a row a model has positions for: beyond, learned ones end in an IndexError and rotary ones in silence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.catalog.spec import ModelSpec
from app.errors import keyed
from app.planner.request import PlanRequest, wrong_setting

_SCALING = ("rope_scaling", "rope_parameters")
# Kinds of scaling whose config keeps the length of before; the others write the extended one.
_KEPT_LENGTH = ("linear", "dynamic", "yarn")


def longest_row(spec: ModelSpec) -> int:
    """Return how many tokens a row may have, a scaling of rotary positions counted in; 0 where there is no limit."""
    if spec.alibi:
        return 0
    return max([spec.max_positions, *(_scaled(part, spec.max_positions) for part in _scalings(spec.config))])


def _scalings(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the scalings that a config names, also in its part for text and by kinds of layers."""
    text = config.get("text_config")
    places = [config, text] if isinstance(text, Mapping) else [config]
    found = [place[name] for place in places for name in _SCALING if isinstance(place.get(name), Mapping)]
    return found + [part for one in found for part in one.values() if isinstance(part, Mapping)]


def _scaled(scaling: Mapping[str, Any], positions: int) -> int:
    kind, factor = scaling.get("rope_type", scaling.get("type")), scaling.get("factor")
    original = scaling.get("original_max_position_embeddings", positions if kind in _KEPT_LENGTH else 0)
    numbers = (one for one in (factor, original) if isinstance(one, (int, float)) and 0 < one < 1 << 30)
    known = list(numbers)
    return int(known[0] * known[1]) if len(known) == 2 else 0


def too_long(spec: ModelSpec, length: int) -> str:
    """Return why rows of this length cannot be trained, nothing where they can."""
    longest = longest_row(spec)
    if not longest or length <= longest:
        return ""
    return keyed(
        "row_beyond_positions",
        "rows of {length} tokens are longer than the {longest} positions (max_position_embeddings) of {model}",
        length=f"{length:,}",
        longest=f"{longest:,}",
        model=spec.name,
    )


def refuse_too_long(request: PlanRequest) -> None:
    """Raise PlanError for a training run with longer rows than its model has positions for."""
    why = too_long(request.model, request.seq_len) if request.is_training else ""
    if why:
        remedy = keyed("choose_at_most_tokens", "Choose at most {a} tokens", a=f"{longest_row(request.model):,}")
        raise wrong_setting("seq_len", why, remedy)
