"""The draft: the plan and the data a person has chosen and not started yet.

It lives in the browser's storage. What comes back from there is a stranger's input and is checked as such; anything
that does not hold is forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from app import hardware
from app.config import presets
from app.config.schema import RunConfig, parse
from app.errors import ConfigError
from app.hardware import GB
from app.runs.dataset_selection import DatasetSelection

CPU_PRESET = "cpu-starter"
# The data tab's own settings; a new plan keeps them.
_FROM_DATA = ("file", "format", "mapping", "drop", "repair", "over_length")


@dataclass(frozen=True)
class Draft:
    """What the next run would be. `rows` counts the usable rows; `label` is what a person calls the data."""

    config: RunConfig
    planned: bool = False
    label: str = ""
    rows: int = 0

    def with_config(self, config: RunConfig, *, planned: bool = True) -> Draft:
        """Return the draft with another plan; the data chosen before stay."""
        mine = self.config.data
        kept = {f"data.{name}": getattr(mine, name) for name in _FROM_DATA}
        return replace(self, config=config.changed(kept), planned=planned)

    def with_data(self, seen: DatasetSelection, rows: int) -> Draft:
        """Return the draft with other data, of which `rows` rows are usable; the plan stays."""
        changes: dict[str, object] = {
            "data.file": seen.file,
            "data.format": seen.format,
            "data.mapping": dict(seen.mapping),
            "data.drop": list(seen.drop),
            "data.repair": list(seen.repair),
            "data.over_length": seen.over_length or self.config.data.over_length,
        }
        return replace(self, config=self.config.changed(changes), label=seen.label, rows=rows)

    def to_browser(self) -> dict[str, object]:
        """Return plain data for the browser's storage."""
        return {"config": self.config.as_dict(), "planned": self.planned, "label": self.label, "rows": self.rows}


def from_browser(value: object) -> Draft:
    """Return the stored draft, or the one this machine starts with."""
    if not isinstance(value, dict):
        return first()
    label, rows = value.get("label"), value.get("rows")
    try:
        config = parse(value.get("config"), "the draft")
    except ConfigError:
        return first()
    return Draft(
        config,
        planned=value.get("planned") is True,
        label=label[:200] if isinstance(label, str) else "",
        rows=rows if isinstance(rows, int) and not isinstance(rows, bool) and rows >= 0 else 0,
    )


@lru_cache(maxsize=1)
def first() -> Draft:
    """Return the draft before anyone chose: the preset of this machine's card, or the starter on the processor."""
    card = hardware.readings().gpu
    if card is not None and card.total_bytes is not None:
        size_gb = card.total_bytes / GB + 0.7
        fitting = [p for p in presets.all_presets() if p.vram_gb is not None and p.vram_gb <= size_gb]
        if fitting:
            return Draft(fitting[-1].on(card.kind).config)
    return Draft(presets.load(CPU_PRESET).config)
