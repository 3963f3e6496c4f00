"""The look at some data: which file, how it is read, and what its check said.

What a person looks at lives in the browser's storage, as the draft does, and is checked when it comes back.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, get_args

from app.catalog.hub import cached_tokenizer
from app.config import RunConfig
from app.data.conversation import Conversation
from app.data.conversions import conversation_of, parse_mapping
from app.data.options import DROPPABLE, REPAIRABLE, OverLength
from app.data.readers import SUFFIXES, read_rows
from app.data.rows import BadRow, RowProblem
from app.errors import DataError, WorkbenchError
from app.models.names import is_local, resolve
from app.ui import allowed
from app.workspace import Workspace, file_sha256

MOST_PASTED_CHARS = 8_000_000
OVER_LENGTH = get_args(OverLength)
_MOST_COLUMNS = 60
SAMPLES = ("pirate.json", "structured.jsonl", "teacher.json")


@dataclass(frozen=True)
class Look:
    """Data that a person looks at: the file, what it is called, and how its rows are read and mended.

    `over_length` is empty where the plan's own choice holds.
    """

    file: str = ""
    label: str = ""
    format: str = "auto"
    mapping: Mapping[str, str] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    repair: tuple[str, ...] = ()
    over_length: str = ""

    def to_browser(self) -> dict[str, Any]:
        """Return plain data for the browser's storage."""
        plain = {"file": self.file, "label": self.label, "format": self.format, "mapping": dict(self.mapping)}
        return {**plain, "drop": list(self.drop), "repair": list(self.repair), "over_length": self.over_length}

    def mended(self, action: str, kind: str) -> Look:
        """Return the look with one kind of problem dropped or repaired, or left as it is again.

        The action `undo` takes every choice back. What is not known changes nothing.
        """
        if action == "undo":
            return replace(self, drop=(), repair=(), over_length="")
        if action == "length" and kind in OVER_LENGTH:
            return replace(self, over_length=kind)
        if action == "drop" and kind in DROPPABLE:
            return replace(self, drop=tuple(sorted({*self.drop} ^ {kind})))
        if action == "repair" and kind in REPAIRABLE:
            return replace(self, repair=tuple(sorted({*self.repair} ^ {kind})))
        return self

    def options(self, config: RunConfig) -> dict[str, Any]:
        """Return the data options of this look under a plan, as the data child takes them."""
        data = config.data
        return {
            "format": self.format,
            "mapping": dict(self.mapping),
            "max_length": data.max_length,
            "packing": data.packing,
            "train_on": data.train_on,
            "over_length": self.over_length or data.over_length,
            "validation_split": data.validation_split,
            "seed": config.training.seed,
            "chat_template": data.chat_template or "",
            "drop": list(self.drop),
            "repair": list(self.repair),
        }


def from_browser(value: Any) -> Look:
    """Return the stored look; anything of the wrong kind is forgotten."""
    if not isinstance(value, dict):
        return Look()
    texts = {name: value.get(name) for name in ("file", "label", "format")}
    mapping = value.get("mapping")
    lists = {name: value.get(name) for name in ("drop", "repair")}
    if not all(isinstance(text, str) for text in texts.values()) or not isinstance(mapping, dict):
        return Look()
    over_length = value.get("over_length")
    kinds = {name: tuple(str(kind) for kind in kinds) for name, kinds in lists.items() if isinstance(kinds, list)}
    return Look(
        file=str(texts["file"]),
        label=str(texts["label"])[:200],
        format=str(texts["format"]) or "auto",
        mapping={str(role): str(column) for role, column in mapping.items()},
        drop=kinds.get("drop", ()),
        repair=kinds.get("repair", ()),
        over_length=str(over_length) if over_length in OVER_LENGTH else "",
    )


def sample(name: str) -> Look:
    """Return the look at a sample set. Raises DataError for a name that is none."""
    if name not in SAMPLES:
        raise DataError(f"There is no sample {name!r:.60}", "", f"choose one of {', '.join(SAMPLES)}")
    return Look(file=str(allowed.SAMPLES / name), label=name)


def keep_upload(workspace: Workspace, incoming: str) -> Look:
    """Move a file that came through the page to where uploads are kept, under its content hash."""
    source = Path(incoming)
    if not source.is_file():
        raise DataError("The file did not arrive", "", "drop it again")
    target = workspace.upload_path(source.name, file_sha256(source))
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(source, target)
    return Look(file=str(target), label=target.name)


def keep_pasted(workspace: Workspace, text: str) -> Look:
    """Keep pasted rows as an upload. Raises DataError for no text or too much of it."""
    if not text.strip():
        raise DataError("Nothing was pasted", "", "paste rows as JSON, JSON lines, CSV or text")
    if len(text) > MOST_PASTED_CHARS:
        raise DataError("This is too much to paste", f"it has {len(text):,} characters", "save it and drop the file")
    name = "pasted" + _ending(text)
    data = text.encode("utf-8", "surrogatepass")
    target = workspace.upload_path(name, hashlib.sha256(data).hexdigest())
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    return Look(file=str(target), label=name)


def _ending(text: str) -> str:
    """Return no ending, so that the reader looks at the content, except where the first sign says enough."""
    first = text.lstrip()[:1]
    return {"{": ".jsonl", "[": ".json"}.get(first, "")


def tokenizer_folder(config: RunConfig) -> Path | None:
    """Return the folder of the plan's tokenizer when it lies on this machine; nothing is fetched for a preview."""
    try:
        resolved = resolve(config.model.name)
    except WorkbenchError:
        return None
    if is_local(resolved):
        return Path(resolved)
    return cached_tokenizer(resolved, config.model.revision)


@dataclass(frozen=True)
class ShownRow:
    """One row for the table: its number and line, and its conversation or what is wrong with it."""

    number: int | None
    line: int | None
    conversation: Conversation | None = None
    problem: str = ""


def rows(look: Look, start: int, count: int) -> list[ShownRow]:
    """Return some rows as conversations, counted from 0. Raises DataError for a file that cannot be read."""
    return list(_converted(look, start, count))


def _converted(look: Look, start: int, count: int) -> Iterator[ShownRow]:
    mapping = parse_mapping(dict(look.mapping))
    named = "" if look.format == "auto" else look.format
    for record in islice(read_rows(Path(look.file)), start, start + count):
        if isinstance(record, RowProblem):
            yield ShownRow(record.row, record.line, problem=record.message)
            continue
        try:
            yield ShownRow(record.number, record.line, conversation_of(record.fields, named, mapping))
        except BadRow as bad:
            yield ShownRow(record.number, record.line, problem=bad.message)


def columns(look: Look) -> list[str]:
    """Return the names of the columns of the first rows, in their order. Raises DataError for an unreadable file."""
    names: dict[str, None] = {}
    for record in islice(read_rows(Path(look.file)), 50):
        if not isinstance(record, RowProblem):
            names |= dict.fromkeys(record.fields)
    return list(names)[:_MOST_COLUMNS]


@lru_cache(maxsize=1)
def accepted() -> list[str]:
    """Return the endings of files that can be dropped."""
    return sorted(SUFFIXES)
