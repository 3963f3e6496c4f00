"""Find a name that a JSON object gives twice with different values, of which the parser keeps only the last."""

from __future__ import annotations

import json
from typing import Any

from app.data.reading.rows import BadRow


def refuse_repeated_names(value: object, text: str) -> None:
    """Raise BadRow where an object of the parsed `value` gave a name two different values in its JSON `text`.

    A name given the same value twice loses nothing and passes.
    """
    # Every name is followed by a colon. Where no more colons follow a quote than names were kept, none was given twice.
    # This costs two searches of the text; a text that may have one, or that only quotes JSON, is parsed once more.
    if text.count('":') + text.count('" :') > _names(value) and (name := _repeated(text)) is not None:
        raise BadRow("json", f"The row gives {name} twice, with different values", "Keep one of them, or join them")


def _names(value: object) -> int:
    """Return how many names the objects within a value have."""
    if isinstance(value, dict):
        return len(value) + sum(_names(item) for item in value.values() if isinstance(item, (dict, list)))
    if isinstance(value, list):
        return sum(_names(item) for item in value if isinstance(item, (dict, list)))
    return 0


def _repeated(text: str) -> str | None:
    found: list[str] = []

    def keep(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        held = dict(pairs)
        if len(held) < len(pairs):
            found.extend(name[:60] for name, item in pairs if held[name] != item)
        return held

    try:
        json.JSONDecoder(object_pairs_hook=keep, strict=False).raw_decode(text, len(text) - len(text.lstrip()))
    except (ValueError, RecursionError):
        return None
    return found[0] if found else None
