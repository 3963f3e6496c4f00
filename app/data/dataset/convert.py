"""Write rows in the canonical form.

Only JSONL and Parquet: a spreadsheet would run cells that begin with = + - or @ as formulas.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from app.data.dataset.examples import refuse_empty
from app.data.dataset.options import DataOptions
from app.data.dataset.repairs import repair
from app.data.formats.conversions import conversation_of
from app.data.messages import ConvertAnswer
from app.data.reading.rows import BadRow, Fields, Row, RowProblem
from app.errors import DiskError, UsageError
from app.files import replacing

_BATCH_ROWS = 1000


def convert(records: Iterable[Row | RowProblem], out: Path, options: DataOptions) -> ConvertAnswer:
    """Write the usable rows as canonical `messages` (or `text`); return how many were written and left out."""
    counts: Counter[str] = Counter()

    def canonical() -> Iterator[Fields]:
        for record in records:
            found = _canonical(record, options)
            counts["written" if isinstance(found, dict) else found.kind] += 1
            if isinstance(found, dict):
                yield found

    _writer(out)(canonical(), out)
    written = counts.pop("written", 0)
    return ConvertAnswer(str(out), written, counts.total(), dict(counts))


def _canonical(record: Row | RowProblem, options: DataOptions) -> Fields | RowProblem:
    if isinstance(record, RowProblem):
        return record
    try:
        conversation = conversation_of(record.fields, options.format, options.mapping)
        conversation = repair(conversation, options.repair, frozenset())
        refuse_empty(conversation)
    except BadRow as bad:
        return bad.at(record.line, record.number, record.file)
    return conversation.as_record()


def _writer(out: Path) -> Callable[[Iterator[Fields], Path], int]:
    writers = {".jsonl": write_jsonl, ".parquet": _write_parquet}
    if out.suffix.lower() not in writers:
        raise UsageError(
            f"{out.name} cannot be written", f"The forms are {' and '.join(writers)}", "End the name with one of them"
        )
    return writers[out.suffix.lower()]


def write_jsonl(records: Iterator[Fields], out: Path) -> int:
    """Write one object a line, complete or not at all; return how many."""
    count = 0
    try:
        with replacing(out) as part, part.open("wb") as file:
            for record in records:
                file.write(_line(record))
                count += 1
    except OSError as error:
        raise _unwritten(out, error) from error
    return count


def _unwritten(out: Path, error: OSError) -> DiskError:
    if not out.parent.is_dir():
        return DiskError(f"{out.name} cannot be written", f"there is no folder {out.parent}", "make it first")
    why = (error.strerror or str(error)).lower()
    return DiskError(f"{out.name} cannot be written", why, "free some space or choose another folder")


def _line(record: Fields) -> bytes:
    """Return a record as one line of UTF-8; bytes that never were UTF-8 stay visible as escapes."""
    try:
        return (json.dumps(record, ensure_ascii=False, default=str) + "\n").encode("utf-8")
    except UnicodeEncodeError:
        return (json.dumps(record, default=str) + "\n").encode("ascii")


def _write_parquet(records: Iterator[Fields], out: Path) -> int:
    """Write Parquet. Tool arguments and schemas differ from row to row, so they are kept as JSON text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = ("role", "content", "reasoning_content", "name", "tool_call_id", "tool_calls")
    message = pa.struct([*((name, pa.string()) for name in texts), ("weight", pa.float32())])
    schema = pa.schema([("messages", pa.list_(message)), ("tools", pa.string()), ("text", pa.string())])
    count = 0
    try:
        with replacing(out) as part, pq.ParquetWriter(part, schema) as writer:
            for batch in _batched(_flat(record) for record in records):
                writer.write_table(pa.Table.from_pylist(batch, schema=schema))
                count += len(batch)
    except OSError as error:
        raise _unwritten(out, error) from error
    return count


def _flat(record: Fields) -> Fields:
    messages = record.get("messages")
    for message in messages or ():
        if "tool_calls" in message:
            message["tool_calls"] = json.dumps(message["tool_calls"], ensure_ascii=False)
    tools = json.dumps(record["tools"], ensure_ascii=False) if record.get("tools") else None
    return {"messages": messages, "tools": tools, "text": record.get("text")}


def _batched(records: Iterator[Fields]) -> Iterator[list[Fields]]:
    batch: list[Fields] = []
    for record in records:
        batch.append(record)
        if len(batch) == _BATCH_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch
