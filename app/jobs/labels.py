"""The label of a job: what a person calls it and has noted about it. It can change; job.yaml, the request, cannot."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from app.reading import parsed_json, whole_text

LONGEST_NAME, LONGEST_NOTE = 80, 4000


@dataclass(frozen=True)
class Label:
    """A name and a note; an empty name leaves the one that the job was handed in with."""

    name: str = ""
    note: str = ""

    @classmethod
    def of(cls, name: str, note: str) -> Label:
        """Return the label of what a person typed: a name of one line, and neither longer than a page can show."""
        return cls(whole_text(" ".join(name.split())[:LONGEST_NAME]), whole_text(note.strip()[:LONGEST_NOTE]))

    def to_json(self) -> str:
        """Return the text of the label's file."""
        return json.dumps({"name": self.name, "note": self.note}, ensure_ascii=False)


def read(file: Path) -> Label:
    """Return the label in a file; a missing or damaged one is empty."""
    try:
        held = parsed_json(file.read_bytes())
        return Label.of(str(held.get("name", "")), str(held.get("note", "")))
    except (OSError, ValueError, AttributeError):
        return Label()
