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

# Few, since a dictionary may stand for a long text in each of them.
_BATCH_ROWS = 64
# Dictionary and run-length encoding pack repeated values far better than deflate does, so the cap is wider.
_MAX_COLUMN_RATIO = 5_000
_SMALL_FILE_BYTES = 1024
# The cells themselves are held to the ratio of archives, once the file is larger than this or its cells than 200 times
# this: a dictionary can stand for the same long text millions of times.
_HARMLESS_BYTES = 128 * 1024
# Run lengths and nulls make millions of rows from nothing; rows that say something take at least a byte each.
_HARMLESS_ROWS = 65_536


def read_columns(path: Path, name: str) -> Iterator[Record]:
    """Read the rows of a Parquet, Feather or Arrow file, called `name` in errors; the line is the position from 1."""
    import pyarrow as pa

    position, cells_bytes = 0, 0
    packed_bytes = path.stat().st_size
    most_bytes = limits.MAX_ARCHIVE_RATIO * max(packed_bytes, _HARMLESS_BYTES)
    try:
        for batch in map(_written_out, _batches(path, name)):
            cells_bytes += batch.nbytes
            if cells_bytes > most_bytes:
                raise _bomb(name, limits.MAX_ARCHIVE_RATIO)
            for fields in batch.to_pylist():
                position += 1
                yield position, _checked(fields)
            if position > max(packed_bytes, _HARMLESS_ROWS):
                raise _too_many(name, position)
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


def _written_out(batch: Any) -> Any:
    """Return a batch with dictionaries resolved, so that its size is that of its cells."""
    import pyarrow as pa

    if not any(pa.types.is_dictionary(column.type) for column in batch.columns):
        return batch
    columns = [c.dictionary_decode() if pa.types.is_dictionary(c.type) else c for c in batch.columns]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _refuse_bomb(path: Path, name: str, metadata: Any) -> None:
    if metadata.num_columns > limits.MAX_COLUMNS:
        raise DataError(f"{name} has {metadata.num_columns:,} columns", "", f"Keep below {limits.MAX_COLUMNS:,}")
    if metadata.num_rows > max(path.stat().st_size, _HARMLESS_ROWS):
        raise _too_many(name, metadata.num_rows)
    unpacked = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    if unpacked > _MAX_COLUMN_RATIO * max(path.stat().st_size, _SMALL_FILE_BYTES):
        raise _bomb(name, _MAX_COLUMN_RATIO)


def _bomb(name: str, ratio: int) -> DataError:
    return DataError(
        f"{name} unpacks to more than {ratio:,} times its size",
        "This is how archive bombs look",
        "Write it as JSONL if you trust it",
    )


def _too_many(name: str, rows: int) -> DataError:
    return DataError(
        f"{name} claims {rows:,} rows and more than one a byte",
        "This is how bombs look",
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
