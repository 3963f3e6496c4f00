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


def read_columns(path: Path) -> Iterator[Record]:
    """Read the rows of a Parquet, Feather or Arrow file; the line is the row's position from 1."""
    import pyarrow as pa

    position = 0
    try:
        for batch in _batches(path):
            for fields in batch.to_pylist():
                position += 1
                yield position, _checked(fields)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path.name} cannot be read as a column file", str(error)[:200], "Write it again, or use JSONL",
            position + 1,
        ) from error  # fmt: skip


def _batches(path: Path) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with path.open("rb") as file:
        magic = file.read(6)
    if magic.startswith(b"PAR1"):
        parquet = pq.ParquetFile(path)
        _refuse_bomb(path, parquet.metadata)
        yield from parquet.iter_batches(batch_size=_BATCH_ROWS)
        return
    with pa.memory_map(str(path)) as mapped:
        opener = pa.ipc.open_file if magic == b"ARROW1" else pa.ipc.open_stream
        reader = opener(mapped)
        batches = (reader.get_batch(i) for i in range(reader.num_record_batches)) if magic == b"ARROW1" else reader
        for batch in batches:
            for start in range(0, batch.num_rows, _BATCH_ROWS):
                yield batch.slice(start, _BATCH_ROWS)


def _refuse_bomb(path: Path, metadata: Any) -> None:
    if metadata.num_columns > limits.MAX_COLUMNS:
        raise DataError(f"{path.name} has {metadata.num_columns:,} columns", "", f"Keep below {limits.MAX_COLUMNS:,}")
    unpacked = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    if unpacked > _MAX_COLUMN_RATIO * max(path.stat().st_size, 1024):
        raise DataError(
            f"{path.name} unpacks to more than {_MAX_COLUMN_RATIO:,} times its size",
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
