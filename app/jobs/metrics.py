"""metrics.jsonl: append only, one complete line a write, thinned for charts.

A row of a logged step has `step`, `loss` and `time`; a row of an event has `event`, `message` and `time`.
"""

from __future__ import annotations

import errno
import json
import math
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from app.files import replace_file
from app.reading import is_finite, is_number, parsed_json

_NUMBERS = (
    *("loss", "eval_loss", "learning_rate", "grad_norm", "tokens", "tokens_per_s", "vram_bytes", "rss_bytes"),
    *("rewards_accuracy", "rewards_margin", "rewards_chosen", "rewards_rejected", "kl"),
)

Row = dict[str, Any]


class MetricsWriter:
    """Append rows so that a killed process loses none that was written and leaves at most one torn line."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
        self._end_torn_line()

    def _end_torn_line(self) -> None:
        size = os.fstat(self._descriptor).st_size
        if size:
            os.lseek(self._descriptor, size - 1, os.SEEK_SET)
            if os.read(self._descriptor, 1) != b"\n":
                os.write(self._descriptor, b"\n")

    def write(self, row: Mapping[str, object]) -> None:
        """Append one row. Numbers that are not finite become null and are named under `not_finite`.

        Raises OSError when the disk takes no whole line.
        """
        line = (json.dumps(finite(row), ensure_ascii=False) + "\n").encode()
        if os.write(self._descriptor, line) < len(line):  # the next row must not be glued to half of this one
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def finite(row: Mapping[str, object]) -> Row:
    """Return the row with NaN and infinities as null, their names listed under `not_finite`."""
    wrong = [name for name, value in row.items() if isinstance(value, float) and not math.isfinite(value)]
    kept = {name: None if name in wrong else value for name, value in row.items()}
    return {**kept, "not_finite": wrong} if wrong else kept


def parse_lines(data: bytes) -> list[Row]:
    """Return the rows of complete lines; a torn or foreign line is skipped."""
    rows = []
    for line in data.split(b"\n"):
        try:
            row = parsed_json(line)
        except ValueError:  # a torn line, or bytes that are not UTF-8
            continue
        if isinstance(row, dict) and _is_row(row):
            rows.append(row)
    return rows


def _is_row(row: Row) -> bool:
    """Tell whether the fields that readers reckon with hold what they should; another hand's row is like a torn one."""
    if not all(is_finite(row[name]) for name in ("step", "time") if name in row):
        return False
    if not all(row[name] is None or is_number(row[name]) for name in _NUMBERS if name in row):
        return False
    return all(isinstance(row[name], str) for name in ("event", "message") if name in row)


def read_rows(path: Path) -> list[Row]:
    """Return all rows of a metrics file; an absent file has none."""
    try:
        return parse_lines(path.read_bytes())
    except FileNotFoundError:
        return []


def tail_rows(path: Path, tail_bytes: int = 65_536) -> list[Row]:
    """Return the rows in the last bytes of a metrics file; a run of any length costs one short read.

    What stands there is parsed once for all that ask while the file stays as it is; the rows are to be read only.
    """
    try:
        with path.open("rb") as file:
            stat = os.fstat(file.fileno())
            mark = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
            with _lock:
                known = _tails.get((path, tail_bytes))
            if known is not None and known[0] == mark:
                return list(known[1])
            file.seek(max(0, stat.st_size - tail_bytes))
            rows = parse_lines(file.read(tail_bytes))
    except FileNotFoundError:
        return []
    with _lock:
        _tails.pop((path, tail_bytes), None)
        _tails[path, tail_bytes] = (mark, rows)
        while len(_tails) > _KEPT_TAILS:
            _tails.popitem(last=False)
    return list(rows)


# The ends of so many files are kept parsed, some 200 KB each.
_KEPT_TAILS = 8
_tails: OrderedDict[tuple[Path, int], tuple[tuple[int, int, int], list[Row]]] = OrderedDict()
_lock = threading.Lock()


def last_row(path: Path) -> Row | None:
    """Return the newest row of a logged step from the file's end, with the newest validation loss, or None."""
    rows = tail_rows(path)
    steps = steps_of(rows)
    if not steps:
        return None
    validated = [row["eval_loss"] for row in rows if "eval_loss" in row]
    # A step of thumbs all up has no margin; the one before says how far they are apart.
    apart = [row["rewards_margin"] for row in steps if "rewards_margin" in row]
    margin = {"rewards_margin": apart[-1]} if apart else {}
    return {**margin, **steps[-1], "eval_loss": validated[-1] if validated else None}


def rewind(path: Path, step: int) -> int:
    """Drop the rows after `step`, which a resumed run will write again. Return how many were dropped.

    The file is replaced as a whole, so a reader sees either the old or the new one; events stay.
    """
    rows = read_rows(path)
    kept = [row for row in rows if "event" in row or row.get("step", 0) <= step]
    if len(kept) == len(rows):
        return 0
    replace_file(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept))
    return len(rows) - len(kept)


def thin(rows: list[Row], most: int = 1000) -> list[Row]:
    """Return at most `most` rows spread evenly, the first and the last among them."""
    if len(rows) <= most:
        return rows
    stride = (len(rows) - 1) / (most - 1)
    return [rows[round(index * stride)] for index in range(most)]


def steps_of(rows: Iterable[Row]) -> list[Row]:
    """Return the rows of logged steps."""
    return [row for row in rows if "event" not in row and "step" in row and "loss" in row]


def events_of(rows: Iterable[Row]) -> list[Row]:
    """Return the event rows."""
    return [row for row in rows if "event" in row]
