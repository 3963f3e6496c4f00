"""Reading one config.json with care: every number present, of the right kind and of sane size, or one error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.errors import ModelError

# Limits far above any published model, so that an absurd file is refused before it costs time or memory.
LIMITS: dict[str, int] = {"vocab": 4_000_000, "layers": 1024, "heads": 4096, "width": 1_048_576, "experts": 4096}
_POSITIONS_LIMIT = 1 << 31


class OtherLayoutError(ModelError):
    """A model of a known family whose layers lie otherwise than its reader can say: its own class knows them."""


class ConfigFields:
    """Give typed values out of a config mapping; `source` names it in errors."""

    def __init__(self, values: Mapping[str, Any], source: str) -> None:
        self.values = values
        self.source = source

    def fail(self, field: str, why: str) -> ModelError:
        """Return the error that names a field."""
        return ModelError(
            f"The configuration of {self.source} cannot be used",
            f"field {field}: {why}",
            "Check that the file belongs to a decoder-only language model and is complete",
        )

    def integer(self, *names: str, limit: int, default: int | None = None) -> int:
        """Return the first present field of `names` as a positive integer of at most `limit`."""
        for name in names:
            value = self.values.get(name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int):
                raise self.fail(name, f"expected a whole number, found {type(value).__name__}")
            if not 0 < value <= limit:
                raise self.fail(name, f"{str(value)[:40]} is not between 1 and {limit:,}")
            return value
        if default is None:
            raise self.fail(names[0], "is missing")
        return default

    def optional(self, *names: str, limit: int) -> int | None:
        """Return the first present field as a positive integer, or None; zero and -1 count as absent."""
        present = [name for name in names if self.values.get(name) not in (None, 0, -1)]
        return self.integer(*present, limit=limit) if present else None

    def positions(self, *names: str) -> int:
        """Return the longest supported position, 0 when the file does not say."""
        return self.optional(*names, limit=_POSITIONS_LIMIT) or 0

    def flag(self, name: str, default: bool) -> bool:
        """Return a boolean field."""
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.fail(name, f"expected true or false, found {type(value).__name__}")
        return value

    def share(self, *names: str, default: float = 0.0) -> float:
        """Return a dropout probability in [0, 1)."""
        for name in names:
            value = self.values.get(name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
                raise self.fail(name, "expected a number of at least 0 and below 1")
            return float(value)
        return default

    def part(self, name: str, default: float, values: Mapping[str, Any] | None = None) -> float:
        """Return a share above 0 and at most 1, of `values` where the field lies in a nested mapping."""
        value = (self.values if values is None else values).get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1:
            raise self.fail(name, "expected a number above 0 and at most 1")
        return float(value)

    def text(self, name: str, default: str = "") -> str:
        """Return a short text field."""
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, str) or len(value) > 200:
            raise self.fail(name, "expected a short text")
        return value
