"""Single rows of data changed or dropped on the page: each step is a copy of the file, which knows the one before.

What a person gave stays as it is. The copy holds the same columns, so that it is read as the file was; a line that
could not be read is carried over as it stands.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from app.data.reading.readers import read_rows
from app.data.reading.rows import Row
from app.errors import DataError, WorkbenchError, keyed
from app.files import replace_file
from app.reading import parsed_json
from app.runs import request_paths
from app.runs.dataset_selection import DatasetSelection
from app.workspace import Workspace

# A copy is written at each click: more than this would be waited for.
_MOST_BYTES = 64 << 20
_MARK = ".edited"
_BEFORE = ".before.json"


def changed(
    workspace: Workspace, look: DatasetSelection, number: int, texts: Mapping[str, str] | None
) -> DatasetSelection:
    """Return the look at a copy whose row `number`, counted from 1, has these texts in its columns; None drops it.

    Raises DataError for a row or a column that is not there, and for a file that is too large to be copied at a click.
    """
    path = request_paths.data_file(workspace, look.file)
    if not path.is_file() or path.stat().st_size > _MOST_BYTES:
        raise DataError(
            keyed("too_large_for_edits", "This file is too large to change single rows here"),
            keyed("each_step_copies", "each step keeps a copy of it"),
            keyed("change_it_yourself", "change it in a program of your own and drop it again"),
        )
    lines = list(_lines(path, number, texts))
    if not lines:
        raise DataError(
            keyed("last_row", "This is the only row"),
            "",
            keyed("drop_other_file", "drop another file instead"),
        )
    data = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass")
    name = path.name if path.name.endswith(f"{_MARK}.jsonl") else f"{path.stem}{_MARK}.jsonl"
    target = workspace.upload_path(name, hashlib.sha256(data + str(path).encode()).hexdigest())
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    replace_file(_note(target), json.dumps({"file": look.file, "label": look.label}, ensure_ascii=False))
    return replace(look, file=str(target), label=target.name)


def before(workspace: Workspace, look: DatasetSelection) -> DatasetSelection | None:
    """Return the look at the data before the last change; None for data that nobody has changed here."""
    try:
        held = parsed_json(_note(request_paths.data_file(workspace, look.file)).read_bytes())
        file, label = str(held["file"]), str(held["label"])
        request_paths.data_file(workspace, file)
    except (OSError, ValueError, KeyError, TypeError, WorkbenchError):
        return None
    return replace(look, file=file, label=label)


def is_changed(look: DatasetSelection) -> bool:
    """Tell whether there is a change to take back."""
    return bool(look.file) and _note(Path(look.file)).is_file()


def _note(path: Path) -> Path:
    return path.with_name(path.name + _BEFORE)


def _lines(path: Path, number: int, texts: Mapping[str, str] | None) -> Iterator[str]:
    """Yield the rows as JSON, with one of them changed or left out."""
    found = False
    for record in read_rows(path):
        if not isinstance(record, Row):
            if record.original.strip():
                yield " ".join(record.original.split("\n"))
            continue
        fields = dict(record.fields)
        if record.number == number:
            found = True
            if texts is None:
                continue
            strange = sorted(set(texts) - {name for name, value in fields.items() if isinstance(value, str)})
            if strange:
                raise DataError(keyed("no_text_column", "The row has no text in the column {name}", name=strange[0]))
            fields |= texts
        yield json.dumps(fields, ensure_ascii=False, default=str)
    if not found:
        raise DataError(keyed("no_such_row", "There is no row {number} to change", number=number))
