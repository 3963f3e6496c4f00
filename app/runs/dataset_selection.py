"""The look at some data: which file, how it is read, and what its check said.

What a person looks at lives in the browser's storage, as the draft does, and is checked when it comes back.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import get_args

from app.config.schema import RunConfig
from app.data.dataset.options import DROPPABLE, REPAIRABLE, DataOptions, OverLength
from app.data.formats.conversation import Conversation
from app.data.formats.conversions import conversation_of, parse_mapping
from app.data.reading.readers import read_rows
from app.data.reading.rows import BadRow, RowProblem
from app.errors import DataError, WorkbenchError, keyed
from app.hub.client import cached_tokenizer
from app.hub.ids import is_local
from app.models.names import resolve
from app.runs import request_paths
from app.workspace import Workspace, file_sha256

MOST_PASTED_CHARS = 8_000_000
OVER_LENGTH = get_args(OverLength)
_MOST_COLUMNS = 60
SAMPLES = ("pirate.json", "structured.jsonl", "teacher.json")

# No path, and no mapping of columns, is longer.
_LONGEST = 32_768


# Rows that one search reads; a million would take minutes.
_MOST_SEARCHED = 200_000


@dataclass(frozen=True)
class DatasetSelection:
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

    def to_browser(self) -> dict[str, object]:
        """Return plain data for the browser's storage."""
        plain = {"file": self.file, "label": self.label, "format": self.format, "mapping": dict(self.mapping)}
        return {**plain, "drop": list(self.drop), "repair": list(self.repair), "over_length": self.over_length}

    def with_repair(self, action: str, kind: str) -> DatasetSelection:
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

    def options(self, config: RunConfig) -> DataOptions:
        """Return the data options of this look under a plan. Raises UsageError for wrong ones."""
        own: dict[str, object] = {"format": self.format, "mapping": dict(self.mapping)}
        own |= {"drop": list(self.drop), "repair": list(self.repair)}
        own |= {"over_length": self.over_length} if self.over_length else {}
        return DataOptions.of(config, **own)


def from_browser(value: object) -> DatasetSelection:
    """Return the stored look; anything of the wrong kind is forgotten."""
    if not isinstance(value, dict):
        return DatasetSelection()
    texts = {name: value.get(name) for name in ("file", "label", "format")}
    mapping = value.get("mapping")
    lists = {name: value.get(name) for name in ("drop", "repair")}
    if not all(isinstance(text, str) and len(text) <= _LONGEST for text in texts.values()):
        return DatasetSelection()
    if not isinstance(mapping, dict) or sum(len(str(pair)) for pair in mapping.items()) > _LONGEST:
        return DatasetSelection()
    over_length = value.get("over_length")
    kinds = {name: tuple(str(kind) for kind in kinds) for name, kinds in lists.items() if isinstance(kinds, list)}
    return DatasetSelection(
        file=str(texts["file"]),
        label=str(texts["label"])[:200],
        format=str(texts["format"]) or "auto",
        mapping={str(role): str(column) for role, column in mapping.items()},
        drop=kinds.get("drop", ()),
        repair=kinds.get("repair", ()),
        over_length=str(over_length) if over_length in OVER_LENGTH else "",
    )


def sample(name: str) -> DatasetSelection:
    """Return the look at a sample set. Raises DataError for a name that is none."""
    if name not in SAMPLES:
        raise DataError(
            keyed("there_is_no_sample", "There is no sample {name}", name=f"{name!r:.60}"),
            "",
            keyed("choose_one_of_2", "choose one of {samples}", samples=", ".join(SAMPLES)),
        )
    return DatasetSelection(file=str(request_paths.SAMPLES / name), label=name)


def keep_upload(workspace: Workspace, incoming: str) -> DatasetSelection:
    """Move a file that came through the page to where uploads are kept, under its content hash."""
    source = Path(incoming)
    if not source.is_file():
        raise DataError(
            keyed("the_file_did_not_arrive", "The file did not arrive"), "", keyed("drop_it_again", "drop it again")
        )
    target = workspace.upload_path(source.name, file_sha256(source))
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(source, target)
    return DatasetSelection(file=str(target), label=target.name)


def keep_pasted(workspace: Workspace, text: str) -> DatasetSelection:
    """Keep pasted rows as an upload. Raises DataError for no text or too much of it."""
    if not text.strip():
        raise DataError(
            keyed("nothing_was_pasted", "Nothing was pasted"),
            "",
            keyed("paste_rows_as_json_json_lines", "paste rows as JSON, JSON lines, CSV or text"),
        )
    if len(text) > MOST_PASTED_CHARS:
        raise DataError(
            keyed("this_is_too_much_to_paste", "This is too much to paste"),
            keyed("it_has_characters", "it has {text} characters", text=f"{len(text):,}"),
            keyed("save_it_and_drop_the_file", "save it and drop the file"),
        )
    # Without an ending the reader looks at the content; the first sign of these two says enough.
    name = "pasted" + {"{": ".jsonl", "[": ".json"}.get(text.lstrip()[:1], "")
    data = text.encode("utf-8", "surrogatepass")
    target = workspace.upload_path(name, hashlib.sha256(data).hexdigest())
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    return DatasetSelection(file=str(target), label=name)


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
    """One row for the table: its number and line, its conversation or what is wrong with it, and its columns' texts."""

    number: int | None
    line: int | None
    conversation: Conversation | None = None
    problem: str = ""
    texts: Mapping[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """Return everything that is shown of the row, in small letters, to be searched."""
        if self.conversation is None:
            return self.problem.lower()
        turns = (f"{turn.role} {turn.content} {turn.reasoning or ''}" for turn in self.conversation.turns)
        return " ".join([self.conversation.text or "", *turns]).lower()


def rows(look: DatasetSelection, start: int, count: int) -> list[ShownRow]:
    """Return some rows as conversations, counted from 0. Raises DataError for a file that cannot be read."""
    return list(_converted(look, start, count))


@dataclass(frozen=True)
class RowPage:
    """Some rows of a file, or of those in which words are found. `total` is None where it is not counted."""

    rows: tuple[ShownRow, ...]
    start: int = 0
    more: bool = False
    words: str = ""
    total: int | None = None


def page(look: DatasetSelection, start: int, count: int, words: str = "", total: int | None = None) -> RowPage:
    """Return a page of rows, counted from 0; with `words`, of the rows that hold each of them, in any letter case.

    A search reads the first _MOST_SEARCHED rows. Raises DataError for a file that cannot be read.
    """
    wanted = words.lower().split()
    if not wanted:
        found = list(_converted(look, start, count + 1))
        return RowPage(tuple(found[:count]), start, len(found) > count, total=total)
    matching = (row for row in _converted(look, 0, _MOST_SEARCHED) if all(word in row.text for word in wanted))
    found = list(islice(matching, start, start + count + 1))
    return RowPage(tuple(found[:count]), start, len(found) > count, words)


def _converted(look: DatasetSelection, start: int, count: int) -> Iterator[ShownRow]:
    mapping = parse_mapping(dict(look.mapping))
    named = "" if look.format == "auto" else look.format
    for record in islice(read_rows(Path(look.file)), start, start + count):
        if isinstance(record, RowProblem):
            yield ShownRow(record.row, record.line, problem=record.message)
            continue
        texts = {name: value for name, value in record.fields.items() if isinstance(value, str)}
        try:
            yield ShownRow(record.number, record.line, conversation_of(record.fields, named, mapping), texts=texts)
        except BadRow as bad:
            yield ShownRow(record.number, record.line, problem=bad.message, texts=texts)


def columns(look: DatasetSelection) -> list[str]:
    """Return the names of the columns of the first rows, in their order. Raises DataError for an unreadable file."""
    names: dict[str, None] = {}
    for record in islice(read_rows(Path(look.file)), 50):
        if not isinstance(record, RowProblem):
            names |= dict.fromkeys(record.fields)
    return list(names)[:_MOST_COLUMNS]
