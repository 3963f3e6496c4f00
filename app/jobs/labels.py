"""The label of a job: what a person calls it and has noted about it. It can change; job.yaml, the request, cannot."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from app.reading import parsed_json, whole_text

LONGEST_NAME, LONGEST_NOTE = 80, 4000
LONGEST_TAG, MOST_TAGS = 24, 12
# What stands between tags: commas and semicolons, also those of Chinese.
_BETWEEN_TAGS = re.compile(r"[,;，；、\n]")


@dataclass(frozen=True)
class Label:
    """A name, a note and tags; an empty name leaves the one that the job was handed in with."""

    name: str = ""
    note: str = ""
    tags: tuple[str, ...] = ()

    @classmethod
    def of(cls, name: str, note: str, tags: str = "") -> Label:
        """Return the label of what a person typed: a name of one line, tags with commas between.

        None of them is longer than a page can show.
        """
        called = whole_text(" ".join(name.split())[:LONGEST_NAME])
        return cls(called, whole_text(note.strip()[:LONGEST_NOTE]), _tags(tags))

    def to_json(self) -> str:
        """Return the text of the label's file."""
        return json.dumps({"name": self.name, "note": self.note, "tags": list(self.tags)}, ensure_ascii=False)


def _tags(text: str) -> tuple[str, ...]:
    """Return the tags of a text in their order; one that differs from another only by its case is the same one."""
    found: dict[str, str] = {}
    for part in _BETWEEN_TAGS.split(whole_text(text)):
        tag = " ".join(part.split())[:LONGEST_TAG].strip()
        if tag:
            found.setdefault(tag.casefold(), tag)
    return tuple(found.values())[:MOST_TAGS]


def read(file: Path) -> Label:
    """Return the label in a file; a missing or damaged one is empty."""
    try:
        held = parsed_json(file.read_bytes())
        tags = held.get("tags", [])
        together = ",".join(str(tag) for tag in tags) if isinstance(tags, list) else ""
        return Label.of(str(held.get("name", "")), str(held.get("note", "")), together)
    except (OSError, ValueError, AttributeError):
        return Label()
