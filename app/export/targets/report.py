"""The receipt of an export: the merge's, where there was one, and what was proven of the files that left."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.export.merge.check import Gap
from app.export.merge.report import CANNOT_TELL, RECEIPT
from app.export.staging import Staging
from app.jobs.directory import versions
from app.reading import parsed_as


@dataclass
class ExportReceipt:
    """What is known of an export. `reasons` says why it is not a plain pass, `untold` what could not be proven.

    `merge` is the content of the merge's receipt.json, which may be of another version; `merge_text` its receipt.md.
    """

    name: str
    merge: Mapping[str, Any] | None = None
    merge_text: str = ""
    facts: dict[str, object] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    untold: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """Return pass, warn or "cannot tell"; a merge that was not a pass makes no better file."""
        merged = "pass" if self.merge is None else str(self.merge.get("verdict"))
        if self.reasons or merged not in ("pass", CANNOT_TELL):
            return "warn"
        return CANNOT_TELL if self.untold else merged

    @property
    def all_reasons(self) -> list[str]:
        """Return why the export is not a plain pass, the merge's reasons first."""
        return [*self._of_merge("reasons"), *self.reasons, *self.untold]

    @property
    def gap(self) -> Gap | None:
        """Return how far the merged model is from the adapter, None where that was not measured."""
        try:
            return parsed_as(Gap, (self.merge or {}).get("merged_against_adapter"))
        except ValueError:
            return None

    def _of_merge(self, name: str) -> list[str]:
        listed = (self.merge or {}).get(name)
        return [str(one) for one in listed] if isinstance(listed, list) else []

    def write(self, staging: Staging) -> None:
        """Write receipt.json and receipt.md."""
        content = {
            **(self.merge or {}),
            "schema": 1,
            "model": self.name,
            "verdict": self.verdict,
            "reasons": self.all_reasons,
            "notes": [*self._of_merge("notes"), *self.notes],
            "export": self.facts,
            "versions": versions(),
        }
        staging.add_text(RECEIPT, json.dumps(content, indent=2, ensure_ascii=False))
        head = [
            f"# Receipt: {self.name}",
            "",
            f"Verdict: **{self.verdict}**",
            *(f"- {why}" for why in [*self.reasons, *self.untold]),
            "",
        ]
        body = [*self.lines, *(f"- {note}" for note in self.notes)]
        staging.add_text(
            "receipt.md", "\n".join([*head, *body]) + "\n" + (f"\n{self.merge_text}" if self.merge_text else "")
        )
