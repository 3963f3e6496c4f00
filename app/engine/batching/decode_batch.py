"""A decode batch: rows that decode together, one token at a time, and are joined and left between two tokens."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch

from app.engine.batching.kept_prefix import KeptPrefixes, Start, groups_of
from app.engine.batching.kv_cache import Caches, RowCache
from app.engine.batching.sampling import choose_all
from app.engine.batching.sequence import DecodeSequence
from app.engine.variants import VariantSet

# Tokens of one prefill pass, all rows together: bounds the activations of long prompts.
_PREFILL_TOKENS = 4096


class DecodeBatch:
    """One batch. The shared batch mixes columns; a batch beside it holds rows of one column only."""

    def __init__(self, columns: VariantSet, kept: KeptPrefixes | None = None) -> None:
        """`kept` holds what earlier answers read, and takes what these have read when they end; None reads all."""
        self._columns, self._kept = columns, kept
        self.rows: list[DecodeSequence] = []
        self._cache = columns.fresh_cache(0)
        self._mask = torch.empty(0, 0, dtype=torch.long)

    def join(self, rows: Sequence[DecodeSequence]) -> None:
        """Read the prompts of new rows, choose their first tokens, and take them in."""
        starts = [self._kept.start(self._identity(row), row.prompt) if self._kept else Start() for row in rows]
        for places in groups_of(starts, [row.prompt for row in rows]):
            self._join([rows[place] for place in places], [starts[place] for place in places])
        self._drop_ended()

    @property
    def positions(self) -> int:
        """Return the positions that the cache holds, padding included."""
        return int(self._mask.numel())

    def step(self) -> None:
        """Give every row its next token."""
        self._drop_ended()
        if not self.rows:
            return
        device = self._columns.device
        ids = torch.tensor([[row.tokens[-1]] for row in self.rows], device=device)
        positions = torch.tensor([[row.length] for row in self.rows], device=device)
        self._mask = torch.nn.functional.pad(self._mask, (0, 1), value=1)
        names = [row.source for row in self.rows]
        self._take(self.rows, self._columns.forward(names, ids, self._mask, positions, self._cache))
        self._drop_ended()

    def fail(self, message: str) -> None:
        """End all rows with an error and forget their past."""
        for row in self.rows:
            if row.finish is None:
                row.fail(message)
        self.rows = []
        self._forget()

    def fail_column(self, column: str, message: str) -> None:
        """End the rows of one column with an error."""
        for row in self.rows:
            if column in row.uses and row.finish is None:
                row.fail(message)
        self._drop_ended()

    def _join(self, rows: list[DecodeSequence], starts: Sequence[Start]) -> None:
        cache, mask, logits = self._prefill(rows, starts)
        self._take(rows, logits)
        if self.rows:
            length = max(self._mask.shape[1], mask.shape[1])
            self._cache.join(cache)
            self._mask = torch.cat([_padded(self._mask, length), _padded(mask, length)])
        else:
            self._cache, self._mask = cache, mask
        self.rows.extend(rows)

    def _prefill(
        self, rows: Sequence[DecodeSequence], starts: Sequence[Start]
    ) -> tuple[Caches, torch.Tensor, torch.Tensor]:
        """Read prompts, behind what is known of them, in passes of a bounded size.

        Return cache, mask (rows, length), last logits.
        """
        length = max(len(row.prompt) for row in rows)
        ids = torch.zeros(len(rows), length, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for place, row in enumerate(rows):
            ids[place, length - len(row.prompt) :] = torch.tensor(row.prompt)
            mask[place, length - len(row.prompt) :] = 1
        positions = (mask.cumsum(1) - 1).clamp_(min=0)
        ids, mask, positions = (tensor.to(self._columns.device) for tensor in (ids, mask, positions))
        # Up to here every row is padding or known. Prompts end together, so this is counted from their ends.
        known = length - max(len(row.prompt) - start.length for row, start in zip(rows, starts, strict=True))
        cache, names = self._begun(rows, starts, length, known), [row.source for row in rows]
        for row in rows:
            row.cached = max(0, known - (length - len(row.prompt)))
        # A state is not known to go on from a part of a prompt.
        size = length if self._columns.keeps_state else max(1, _PREFILL_TOKENS // len(rows))
        for begin in range(known, length, size):
            part = slice(begin, min(begin + size, length))
            logits = self._columns.forward(names, ids[:, part], mask[:, : part.stop], positions[:, part], cache)
        return cache, mask, logits

    def _begun(self, rows: Sequence[DecodeSequence], starts: Sequence[Start], length: int, known: int) -> Caches:
        """Return a cache that holds each prompt up to `known` of the padded `length`."""
        if known == 0:
            return self._columns.fresh_cache(len(rows))
        found = []
        for row, start in zip(rows, starts, strict=True):
            taken = max(0, known - (length - len(row.prompt)))
            layers = start.prefix.layers if start.prefix is not None and taken else ()
            found.append([(keys[:, :taken], values[:, :taken]) for keys, values in layers])
        return RowCache.holding(found, known, RowCache.room(length))

    def _keep(self, place: int) -> None:
        """Keep what a row that has ended has read and written, for the next turn."""
        row = self.rows[place]
        if self._kept is None or row.failed or not self._columns.prefix_stays(row.column):
            return
        if isinstance(self._cache, RowCache):
            tokens = [*row.prompt, *row.tokens][: row.length]
            self._kept.keep(self._identity(row), row.uses, tokens, self._cache, place)

    def _identity(self, row: DecodeSequence) -> Hashable:
        """Return what a row's keys and values depend on beside its tokens: the weights that answer, and their mix."""
        return row.source, tuple(self._columns.columns[name] for name in row.uses)

    @staticmethod
    def _take(rows: Sequence[DecodeSequence], logits: torch.Tensor) -> None:
        for row, choice in zip(rows, choose_all(logits, [row.chooser for row in rows]), strict=True):
            row.take(choice)

    def _drop_ended(self) -> None:
        """Let ended and cancelled rows go, with the padding that only they needed."""
        for row in self.rows:
            if row.cancelled and row.finish is None:
                row.cancel()
        kept = [place for place, row in enumerate(self.rows) if row.finish is None]
        if len(kept) == len(self.rows):
            return
        for place, row in enumerate(self.rows):
            if row.finish is not None:
                self._keep(place)
        self.rows = [self.rows[place] for place in kept]
        if not self.rows:
            self._forget()
            return
        cut = self._mask.shape[1] - max(row.length for row in self.rows)
        self._cache.keep(kept, cut)
        self._mask = self._mask[kept, cut:]

    def _forget(self) -> None:
        self._cache, self._mask = self._columns.fresh_cache(0), torch.empty(0, 0, dtype=torch.long)


def _padded(mask: torch.Tensor, length: int) -> torch.Tensor:
    return torch.nn.functional.pad(mask, (length - mask.shape[1], 0))
