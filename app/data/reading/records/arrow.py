"""Read Parquet and Arrow files in batches. pyarrow is imported only here and in the writers, at first use."""

from __future__ import annotations

import datetime
import decimal
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app.data.reading import limits
from app.data.reading.encodings import refuse_bad_text
from app.data.reading.records.json_rows import Note, Record
from app.data.reading.records.tables import namesakes, unique_names
from app.data.reading.rows import BadRow, Fields
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

# What pyarrow raises for values that Python cannot hold: bad UTF-8 and fields of one name, far dates, odd time zones.
_UNHELD = (ValueError, OverflowError, KeyError)


def read_columns(path: Path, name: str, note: Note = lambda text: None) -> Iterator[Record]:
    """Read the rows of a Parquet, Feather or Arrow file, called `name` in errors; the line is the position from 1.

    `note` is told of columns that share a name.
    """
    import pyarrow as pa

    position, cells_bytes = 0, 0
    packed_bytes = path.stat().st_size
    most_bytes = limits.MAX_ARCHIVE_RATIO * max(packed_bytes, _HARMLESS_BYTES)
    try:
        for packed in _batches(path, name):
            for said in namesakes(packed.schema.names) if not position else ():
                note(said)
            batch = _written_out(packed)
            cells_bytes += batch.nbytes
            if cells_bytes > most_bytes:
                raise _bomb(name, limits.MAX_ARCHIVE_RATIO)
            for fields in _fields(batch):
                position += 1
                yield position, _checked(fields) if isinstance(fields, dict) else fields
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
        rows, most_rows = 0, max(path.stat().st_size, _HARMLESS_ROWS)
        for batch in batches:
            rows += batch.num_rows
            if rows > most_rows:
                raise _too_many(name, rows)
            _refuse_false_offsets(batch)
            for start in range(0, batch.num_rows, _BATCH_ROWS):
                yield batch.slice(start, _BATCH_ROWS)


def _refuse_false_offsets(batch: Any) -> None:
    """Raise ArrowInvalid for cells that lie outside of the file: reading them would end the process.

    Text that is not UTF-8 passes; it costs its own row only.
    """
    import pyarrow as pa

    for column in batch.columns:
        try:
            column.validate(full=True)
        except pa.ArrowInvalid as error:
            if "UTF8" not in str(error):
                raise


def _fields(batch: Any) -> Iterator[Fields | BadRow]:
    """Return the rows of a batch; a value that Python cannot hold costs its own row only."""
    try:
        yield from batch.to_pylist()
        return
    except _UNHELD:
        pass
    for index in range(batch.num_rows):
        try:
            yield batch.slice(index, 1).to_pylist()[0]
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            yield BadRow("encoding", f"Byte 0x{byte:02x} is not valid UTF-8", "Write the text as UTF-8")
        except _UNHELD as error:
            yield BadRow("shape", f"A value cannot be read: {str(error)[:100]}", "Write it as text, or leave it out")


def _written_out(batch: Any) -> Any:
    """Return a batch with columns told apart, dictionaries and runs resolved: its size is then that of its cells."""
    import pyarrow as pa

    names = batch.schema.names
    if len(set(names)) == len(names) and not any(_is_packed(column.type) for column in batch.columns):
        return batch
    return pa.RecordBatch.from_arrays([_cells(column) for column in batch.columns], names=unique_names(names))


def _is_packed(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind))


def _cells(column: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_run_end_encoded(column.type):
        return pc.run_end_decode(column)
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


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


def _checked(fields: Fields) -> Fields | BadRow:
    """Return the fields with their values as JSON would have them, or the complaint about a text among them."""
    try:
        for name, value in fields.items():
            if not isinstance(value, (str, list, dict)):
                fields[name] = _plain(value)
            for text in _texts(fields[name]):
                refuse_bad_text(text)
                if len(text) > limits.MAX_ROW_CHARS:
                    raise BadRow("too_long", "A cell is too long", "Split it, or leave it out")
    except BadRow as problem:
        return problem.about(json.dumps(fields, ensure_ascii=False, default=str)[: limits.MAX_ROW_CHARS])
    return fields


def _plain(value: object) -> Any:
    """Return a cell as JSON would hold it: bytes that are text, dates and decimals as text, no number as nothing."""
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return None  # a picture and the like
    if isinstance(value, (decimal.Decimal, datetime.date, datetime.time, datetime.timedelta)):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _texts(value: object) -> Iterator[str]:
    """Yield the texts in a value, however deep; what lies in its lists and objects becomes what JSON would hold."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        waiting = [value]
        while waiting:
            found = waiting.pop()
            for key, item in list(found.items() if isinstance(found, dict) else enumerate(found)):
                if isinstance(item, str):
                    yield item
                elif isinstance(item, tuple):  # an entry of a map
                    found[key] = list(item)
                    waiting.append(found[key])
                elif isinstance(item, (list, dict)):
                    waiting.append(item)
                elif item is not None and not isinstance(item, int):
                    found[key] = _plain(item)
                    if isinstance(found[key], str):
                        yield found[key]
