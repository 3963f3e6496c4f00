"""A decode batch: rows that decode together, one token at a time, and are joined and left between two tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from app.engine.batching.kv_cache import Caches
from app.engine.batching.sampling import choose_all
from app.engine.batching.sequence import DecodeSequence
from app.engine.variants import VariantSet

# Tokens of one prefill pass, all rows together: bounds the activations of long prompts.
_PREFILL_TOKENS = 4096


class DecodeBatch:
    """One batch. The shared batch mixes columns; a batch beside it holds rows of one column only."""

    def __init__(self, columns: VariantSet) -> None:
        self._columns = columns
        self.rows: list[DecodeSequence] = []
        self._cache = columns.fresh_cache(0)
        self._mask = torch.empty(0, 0, dtype=torch.long)

    def join(self, rows: Sequence[DecodeSequence]) -> None:
        """Read the prompts of new rows, choose their first tokens, and take them in."""
        cache, mask, logits = self._prefill(rows)
        self._take(rows, logits)
        if self.rows:
            length = max(self._mask.shape[1], mask.shape[1])
            self._cache.join(cache)
            self._mask = torch.cat([_padded(self._mask, length), _padded(mask, length)])
        else:
            self._cache, self._mask = cache, mask
        self.rows.extend(rows)
        self._drop_ended()

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

    def _prefill(self, rows: Sequence[DecodeSequence]) -> tuple[Caches, torch.Tensor, torch.Tensor]:
        """Read prompts in passes of a bounded size. Return cache, mask (rows, length), last logits."""
        length = max(len(row.prompt) for row in rows)
        ids = torch.zeros(len(rows), length, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for place, row in enumerate(rows):
            ids[place, length - len(row.prompt) :] = torch.tensor(row.prompt)
            mask[place, length - len(row.prompt) :] = 1
        positions = (mask.cumsum(1) - 1).clamp_(min=0)
        ids, mask, positions = (tensor.to(self._columns.device) for tensor in (ids, mask, positions))
        cache, names = self._columns.fresh_cache(len(rows)), [row.source for row in rows]
        # A state is not known to go on from a part of a prompt.
        size = length if self._columns.keeps_state else max(1, _PREFILL_TOKENS // len(rows))
        for start in range(0, length, size):
            part = slice(start, min(start + size, length))
            logits = self._columns.forward(names, ids[:, part], mask[:, : part.stop], positions[:, part], cache)
        return cache, mask, logits

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
