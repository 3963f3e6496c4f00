"""The decoder: the one thread that runs the model. Rows wait here, join at the next token, and leave when they end."""

from __future__ import annotations

import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from app import devices
from app.engine.batching.decode_batch import DecodeBatch
from app.engine.batching.kept_prefix import KeptPrefixes
from app.engine.batching.sequence import DecodeSequence
from app.engine.variants import VariantSet
from app.errors import one_line

_Result = TypeVar("_Result")
# Requests of one click arrive within a few milliseconds of each other; a batch that begins waits this long for them.
COLLECT_S = 0.005
# Batches beside the shared one take several tokens in a row, so that the shared one is not read anew for each of them.
_TOKENS_A_TURN = 8
# What earlier turns may hold where the cache has no limit of its own.
_KEPT_BYTES = 256 << 20


class Decoder:
    """Runs rows until they end. Every public method may be called from any thread."""

    def __init__(
        self,
        columns: VariantSet,
        *,
        most_rows: int = 64,
        cache_bytes: int | None = None,
        keep_prefixes: bool = True,
    ) -> None:
        """Decode at most `most_rows` rows at once, and no more than `cache_bytes` hold (None: no such limit).

        `keep_prefixes` lets the next turn of a conversation begin where the last one ended, in up to half of those
        bytes, and never in bytes that rows under way need.
        """
        self._columns, self._most_rows, self._cache_bytes = columns, most_rows, cache_bytes
        most_kept = _KEPT_BYTES if cache_bytes is None else cache_bytes // 2
        self._kept = KeptPrefixes(most_kept) if keep_prefixes else None
        self._most_tokens = None if cache_bytes is None else cache_bytes // columns.cache_bytes_per_token
        self._condition = threading.Condition()
        self._waiting: deque[DecodeSequence] = deque()
        self._commands: deque[Callable[[], None]] = deque()
        self._batches: dict[str, DecodeBatch] = {}
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="decoder", daemon=True)

    def start(self) -> None:
        """Begin to decode."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Tell whether the decoder's thread runs."""
        return self._thread.is_alive()

    def close(self) -> None:
        """End all rows within one token and stop the thread."""
        with self._condition:
            self._closed = True
            self._condition.notify()
        self._thread.join()

    def submit(self, row: DecodeSequence) -> None:
        """Hand in a row; its events come through `row.deliver`."""
        with self._condition:
            if self._closed:
                row.fail("the engine is stopping")
                return
            self._waiting.append(row)
            self._condition.notify()

    def call(self, work: Callable[[], _Result]) -> Future[_Result]:
        """Run `work` between two tokens and return its outcome."""
        future: Future[_Result] = Future()

        def run() -> None:
            try:
                future.set_result(work())
            except BaseException as error:  # handed to the caller, who is another thread
                future.set_exception(error)

        with self._condition:
            self._commands.append(run)
            self._condition.notify()
        return future

    def remove(self, column: str) -> Future[None]:
        """Unload an adapter; its rows end with an error."""

        def work() -> None:
            for batch in self._batches.values():
                batch.fail_column(column, f"the adapter {column} was unloaded")
            if self._kept is not None:
                self._kept.drop(column)
            self._columns.remove(column)

        return self.call(work)

    def _run(self) -> None:
        try:
            while self._wait():
                if not self._batches and self._waiting:
                    time.sleep(COLLECT_S)
                try:
                    self._turn()
                except Exception as error:  # broad on purpose: no row and no command may end what serves all others
                    traceback.print_exc()
                    self._drop_lanes(one_line(error))
        finally:
            self._end_all("the engine is stopping")

    def _wait(self) -> bool:
        """Wait for work. Return whether to go on."""
        with self._condition:
            while not (self._closed or self._waiting or self._commands or self._batches):
                self._condition.wait()
            return not self._closed

    def _turn(self) -> None:
        """Do what was asked, take in what waits, then give every batch its tokens."""
        while self._commands:
            self._commands.popleft()()
        self._admit()
        self._give_room()
        alone = len(self._batches) == 1
        for name, batch in list(self._batches.items()):
            for _ in range(1 if alone or name == "" else _TOKENS_A_TURN):
                self._guarded(batch, batch.step)
            if not batch.rows:
                del self._batches[name]

    def _admit(self) -> None:
        """Let waiting rows join, as many as there is room for."""
        under_way = [row for batch in self._batches.values() for row in batch.rows]
        rows: list[DecodeSequence] = []
        with self._condition:
            while self._waiting and self._has_room([*under_way, *rows, self._waiting[0]]):
                rows.append(self._waiting.popleft())
        groups: dict[str, list[DecodeSequence]] = {}
        for row in rows:
            if row.cancelled:
                row.cancel()
            elif gone := [name for name in row.uses if name not in self._columns.columns]:
                row.fail(f"the adapter {gone[0]} was unloaded")
            else:
                row.batched = self._columns.columns[row.column].shared
                groups.setdefault("" if row.batched else row.column, []).append(row)
        self._give_room(sum(len(row.prompt) for group in groups.values() for row in group))
        for name, group in groups.items():
            batch = self._batches.setdefault(name, DecodeBatch(self._columns, self._kept))
            self._guarded(batch, lambda batch=batch, group=group: batch.join(group), group)  # type: ignore[misc]

    def _give_room(self, coming: int = 0) -> None:
        """Let kept prefixes go where rows under way, and `coming` positions more, need their bytes."""
        if self._kept is not None and self._cache_bytes is not None:
            positions = coming + sum(batch.positions for batch in self._batches.values())
            self._kept.fit(self._cache_bytes - positions * self._columns.cache_bytes_per_token)

    def _has_room(self, rows: list[DecodeSequence]) -> bool:
        """Tell whether these rows can run together; a row by itself always may."""
        if len(rows) == 1:
            return True
        longest = max(row.most_tokens for row in rows)
        return len(rows) <= self._most_rows and (self._most_tokens is None or len(rows) * longest <= self._most_tokens)

    def _guarded(
        self, batch: DecodeBatch, work: Callable[[], None], joining: list[DecodeSequence] | None = None
    ) -> None:
        """Run a part of the model; when it fails, the rows fail and the engine lives on."""
        try:
            work()
        except Exception as error:
            # Broad on purpose: torch raises RuntimeError, a model's own code anything. Both end these rows alone.
            traceback.print_exc()
            batch.fail(one_line(error))
            if self._kept is not None:
                self._kept.clear()
            for row in joining or ():
                if row.finish is None:
                    row.fail(one_line(error))
            devices.here().empty_cache()

    def _drop_lanes(self, message: str) -> None:
        """End all rows under way with an error."""
        batches, self._batches = list(self._batches.values()), {}
        for batch in batches:
            batch.fail(message)

    def _end_all(self, message: str) -> None:
        self._drop_lanes(message)
        with self._condition:
            self._closed = True
            waiting, commands = list(self._waiting), list(self._commands)
            self._waiting.clear()
            self._commands.clear()
        for row in waiting:
            row.fail(message)
        for command in commands:
            command()
