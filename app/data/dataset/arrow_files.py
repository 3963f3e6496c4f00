"""Write tokenised and packed rows as Arrow streams that `datasets.Dataset.from_file` reads."""

from __future__ import annotations

from array import array
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from app.config.objectives import RowKind
from app.data.chat_template.render import IGNORED
from app.data.dataset.packing import WINDOW_TOKENS, pack

if TYPE_CHECKING:
    from app.data.dataset.outcomes import PairTokens, ThumbTokens

_FLUSH_TOKENS = 1024 * 1024
# Which tokens are trained: first and behind last.
Ranges = tuple[tuple[int, int], ...]


class _ArrowFile:
    """An Arrow stream that holds rows back until a batch is full; what is held is written at a good end."""

    def __init__(self, path: Path, columns: dict[str, object]) -> None:
        import pyarrow as pa

        self.schema = pa.schema(columns)
        self._writer = pa.ipc.new_stream(str(path), self.schema)
        self._tokens = TokenBuffer()
        self.count = 0

    def _flush(self) -> None:
        """Write what is held."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._flush()
        self._writer.close()


class RowFile(_ArrowFile):
    """Write one row an example: `row`, `line`, `input_ids`, `labels` (IGNORED where not trained)."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        tokens = pa.list_(pa.int32())
        super().__init__(path, {"row": pa.int64(), "line": pa.int64(), "input_ids": tokens, "labels": tokens})
        self._rows: list[int] = []
        self._lines: list[int] = []

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


class PreferenceFile(_ArrowFile):
    """Write preferences by TRL's names: `prompt_ids` and both answers of a pair, or `completion_ids` and `label`."""

    def __init__(self, path: Path, kind: RowKind) -> None:
        import pyarrow as pa

        tokens = pa.list_(pa.int32())
        sides = ("chosen_ids", "rejected_ids") if kind == "pairs" else ("completion_ids",)
        columns = {"row": pa.int64(), "line": pa.int64(), "prompt_ids": tokens, **dict.fromkeys(sides, tokens)}
        super().__init__(path, columns if kind == "pairs" else {**columns, "label": pa.bool_()})
        self._held: list[dict[str, Any]] = []
        self._held_tokens = 0

    def add(self, row: int, line: int, preference: PairTokens | ThumbTokens) -> None:
        """Write one preference."""
        self._held.append({"row": row, "line": line, **vars(preference)})
        self._held_tokens += preference.length
        self.count += 1
        if self._held_tokens >= _FLUSH_TOKENS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._held:
            self._writer.write_batch(pa.RecordBatch.from_pylist(self._held, schema=self.schema))
            self._held, self._held_tokens = [], 0


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


class PackedFile(_ArrowFile):
    """Write packed rows: `input_ids`, `labels` and `seq_lengths`, the lengths of the documents in each.

    TRL's padding-free collator restarts the positions at every length in `seq_lengths`, so that documents do not see
    each other; the label of each document's first token is IGNORED already.
    """

    def __init__(self, path: Path, capacity: int) -> None:
        import pyarrow as pa

        super().__init__(path, dict.fromkeys(("input_ids", "labels", "seq_lengths"), pa.list_(pa.int32())))
        self._capacity = capacity
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


def _positions(lengths: Any, order: Any) -> Any:
    """Return the token positions of examples in a new order, where examples lie after one another."""
    import numpy as np

    starts = np.concatenate(([0], np.cumsum(lengths)[:-1]))
    ordered = lengths[order]
    ends = np.cumsum(ordered)
    return np.arange(ends[-1]) + np.repeat(starts[order] - (ends - ordered), ordered)
