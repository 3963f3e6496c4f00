"""The receipt of an export: the merge's, where there was one, and what was proven of the files that left."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.export.parcel import Parcel
from app.export.receipt import RECEIPT
from app.jobs.directory import versions


@dataclass
class ExportReceipt:
    """What is known of an export. `reasons` says why it is not a plain pass."""

    name: str
    merge: Mapping[str, Any] | None = None
    merge_text: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """Return pass or warn; a merge that was not a pass makes no better file."""
        merged = self.merge is None or self.merge.get("verdict") == "pass"
        return "pass" if merged and not self.reasons else "warn"

    def answer(self) -> dict[str, Any]:
        """Return what `export --json` says of it: verdict, notes, and the merge's figures where there was one."""
        measured = (self.merge or {}).get("merged_against_adapter")
        figures = dict(measured) if isinstance(measured, Mapping) else {}
        return {"verdict": self.verdict, "notes": self.notes, **figures}

    def write(self, parcel: Parcel) -> None:
        """Write receipt.json and receipt.md."""
        content = {
            **(self.merge or {}),
            "schema": 1,
            "model": self.name,
            "verdict": self.verdict,
            "reasons": [*((self.merge or {}).get("reasons") or []), *self.reasons],
            "notes": [*((self.merge or {}).get("notes") or []), *self.notes],
            "export": self.facts,
            "versions": versions(),
        }
        parcel.add_text(RECEIPT, json.dumps(content, indent=2, ensure_ascii=False))
        head = [
            f"# Receipt: {self.name}",
            "",
            f"Verdict: **{self.verdict}**",
            *(f"- {why}" for why in self.reasons),
            "",
        ]
        body = [*self.lines, *(f"- {note}" for note in self.notes)]
        parcel.add_text(
            "receipt.md", "\n".join([*head, *body]) + "\n" + (f"\n{self.merge_text}" if self.merge_text else "")
        )
