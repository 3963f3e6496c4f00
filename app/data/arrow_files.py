"""Write tokenised and packed rows as Arrow streams that `datasets.Dataset.from_file` reads."""

from __future__ import annotations

from array import array
from pathlib import Path
from types import TracebackType
from typing import Any

from app.data.packing import WINDOW_TOKENS, pack
from app.data.render import IGNORED

_FLUSH_TOKENS = 1024 * 1024
# Which tokens are trained: first and behind last.
Ranges = tuple[tuple[int, int], ...]


class RowFile:
    """Write one row an example: `row`, `line`, `input_ids`, `labels` (IGNORED where not trained)."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        self.schema = pa.schema(
            [
                ("row", pa.int64()),
                ("line", pa.int64()),
                ("input_ids", pa.list_(pa.int32())),
                ("labels", pa.list_(pa.int32())),
            ]
        )
        self._writer = pa.ipc.new_stream(str(path), self.schema)
        self._rows: list[int] = []
        self._lines: list[int] = []
        self._tokens = TokenBuffer()
        self.count = 0

    def add(self, row: int, line: int, ids: array[int], trained: Ranges) -> None:
        """Write the tokens of one example."""
        self._rows.append(row)
        self._lines.append(line)
        self._tokens.add(ids, trained)
        self.count += 1
        if self._tokens.size >= _FLUSH_TOKENS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._rows:
            ids, labels = self._tokens.arrays()
            offsets = _offsets(self._tokens.lengths)
            columns = [pa.array(self._rows), pa.array(self._lines), _lists(offsets, ids), _lists(offsets, labels)]
            self._writer.write_batch(pa.record_batch(columns, schema=self.schema))
            self._rows, self._lines, self._tokens = [], [], TokenBuffer()

    def __enter__(self) -> RowFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._flush()
        self._writer.close()


class TokenBuffer:
    """Hold the tokens of some examples after one another, 4 bytes a token (`array("i")`, copied without unpacking)."""

    def __init__(self) -> None:
        self._ids = array("i")
        self._trained: list[tuple[int, int]] = []
        self.lengths: list[int] = []

    @property
    def size(self) -> int:
        """Return the number of tokens held."""
        return len(self._ids)

    def add(self, ids: array[int], trained: Ranges) -> None:
        """Append one example's tokens."""
        base = len(self._ids)
        self._ids += ids
        self.lengths.append(len(ids))
        self._trained += [(base + start, base + end) for start, end in trained]

    def arrays(self) -> tuple[Any, Any]:
        """Return ids and labels of all examples after one another, as int32."""
        import numpy as np

        ids = np.array(self._ids, dtype=np.int32)
        labels = np.full(len(ids), IGNORED, dtype=np.int32)
        for start, end in self._trained:
            labels[start:end] = ids[start:end]
        return ids, labels


def _offsets(lengths: list[int]) -> Any:
    import numpy as np

    return np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)


def _lists(offsets: Any, values: Any) -> Any:
    import pyarrow as pa

    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))


class PackedFile:
    """Write packed rows: `input_ids`, `labels` and `seq_lengths`, the lengths of the documents in each.

    TRL's padding-free collator restarts the positions at every length in `seq_lengths`, so that documents do not see
    each other; the label of each document's first token is IGNORED already.
    """

    def __init__(self, path: Path, capacity: int) -> None:
        import pyarrow as pa

        names = ("input_ids", "labels", "seq_lengths")
        self.schema = pa.schema([(name, pa.list_(pa.int32())) for name in names])
        self._writer = pa.ipc.new_stream(str(path), self.schema)
        self._capacity = capacity
        self._tokens = TokenBuffer()
        self.count = 0
        self.tokens = 0

    def add(self, ids: array[int], trained: Ranges) -> None:
        """Take the tokens of one example; a full window is packed and written."""
        self._tokens.add(ids, trained)
        if self._tokens.size >= WINDOW_TOKENS:
            self._flush()

    def _flush(self) -> None:
        import numpy as np
        import pyarrow as pa

        lengths = self._tokens.lengths
        if not lengths:
            return
        packed = pack(lengths, self._capacity)
        order = np.array([index for row in packed for index in row], dtype=np.int64)
        take = _positions(np.array(lengths, dtype=np.int64), order)
        ids, labels = self._tokens.arrays()
        row_lengths = [sum(lengths[index] for index in row) for row in packed]
        documents = pa.array([[lengths[index] for index in row] for row in packed], pa.list_(pa.int32()))
        offsets = _offsets(row_lengths)
        columns = [_lists(offsets, ids[take]), _lists(offsets, labels[take]), documents]
        for batch in pa.table(columns, schema=self.schema).to_batches(max_chunksize=1000):
            self._writer.write_batch(batch)
        self.count += len(packed)
        self.tokens += self._tokens.size
        self._tokens = TokenBuffer()

    def fill(self) -> float:
        """Return the share of positions that hold a token."""
        return self.tokens / (self.count * self._capacity) if self.count else 0.0

    def __enter__(self) -> PackedFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._flush()
        self._writer.close()


def _positions(lengths: Any, order: Any) -> Any:
    """Return the token positions of examples in a new order, where examples lie after one another."""
    import numpy as np

    starts = np.concatenate(([0], np.cumsum(lengths)[:-1]))
    ordered = lengths[order]
    ends = np.cumsum(ordered)
    return np.arange(ends[-1]) + np.repeat(starts[order] - (ends - ordered), ordered)
