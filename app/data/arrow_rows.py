"""Read Parquet and Arrow files in batches. pyarrow is imported only here and in the writers, at first use."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app.data import limits
from app.data.encodings import refuse_bad_text
from app.data.json_rows import Record
from app.data.rows import BadRow
from app.errors import DataError

_BATCH_ROWS = 1024
# Dictionary and run-length encoding pack repeated values far better than deflate does, so the cap is wider.
_MAX_COLUMN_RATIO = 5_000
_SMALL_FILE_BYTES = 1024
# The text of the rows themselves is held to the ratio of archives, once the file is larger than this or its text than
# 200 times this: a dictionary can stand for the same long text millions of times.
_HARMLESS_BYTES = 128 * 1024


def read_columns(path: Path, name: str) -> Iterator[Record]:
    """Read the rows of a Parquet, Feather or Arrow file, called `name` in errors; the line is the position from 1."""
    import pyarrow as pa

    position, chars = 0, 0
    most_chars = limits.MAX_ARCHIVE_RATIO * max(path.stat().st_size, _HARMLESS_BYTES)
    try:
        for batch in _batches(path, name):
            for fields in batch.to_pylist():
                position += 1
                chars += sum(len(value) for value in fields.values() if isinstance(value, str))
                if chars > most_chars:
                    raise _bomb(name, limits.MAX_ARCHIVE_RATIO)
                yield position, _checked(fields)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{name} cannot be read as a column file", str(error)[:200], "Write it again, or use JSONL",
            position + 1,
        ) from error  # fmt: skip


def _batches(path: Path, name: str) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with path.open("rb") as file:
        magic = file.read(6)
    if magic.startswith(b"PAR1"):
        parquet = pq.ParquetFile(path)
        _refuse_bomb(path, name, parquet.metadata)
        yield from parquet.iter_batches(batch_size=_BATCH_ROWS)
        return
    with pa.memory_map(str(path)) as mapped:
        opener = pa.ipc.open_file if magic == b"ARROW1" else pa.ipc.open_stream
        reader = opener(mapped)
        batches = (reader.get_batch(i) for i in range(reader.num_record_batches)) if magic == b"ARROW1" else reader
        for batch in batches:
            for start in range(0, batch.num_rows, _BATCH_ROWS):
                yield batch.slice(start, _BATCH_ROWS)


def _refuse_bomb(path: Path, name: str, metadata: Any) -> None:
    if metadata.num_columns > limits.MAX_COLUMNS:
        raise DataError(f"{name} has {metadata.num_columns:,} columns", "", f"Keep below {limits.MAX_COLUMNS:,}")
    unpacked = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    if unpacked > _MAX_COLUMN_RATIO * max(path.stat().st_size, _SMALL_FILE_BYTES):
        raise _bomb(name, _MAX_COLUMN_RATIO)


def _bomb(name: str, ratio: int) -> DataError:
    return DataError(
        f"{name} unpacks to more than {ratio:,} times its size",
        "This is how archive bombs look",
        "Write it as JSONL if you trust it",
    )


def _checked(fields: dict[str, Any]) -> dict[str, Any] | BadRow:
    try:
        for value in fields.values():
            if isinstance(value, str):
                refuse_bad_text(value)
                if len(value) > limits.MAX_ROW_CHARS:
                    raise BadRow("too_long", "A cell is too long", "Split it, or leave it out")
    except BadRow as problem:
        return problem.about(json.dumps(fields, ensure_ascii=False, default=str)[: limits.MAX_ROW_CHARS])
    return fields
