"""The keys and values of a batch whose rows come and go: rows join and leave between two tokens.

Rows are padded on the left to one length. The buffers grow by half, so that a token costs no copy of the past.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from transformers.cache_utils import Cache, DynamicLayer, EncoderDecoderCache

_LEAST_ROOM = 64


class GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of one layer, (rows, heads, length, head width), in buffers larger than they are."""

    used: int
    keys: torch.Tensor
    values: torch.Tensor
    key_buffer: torch.Tensor
    value_buffer: torch.Tensor

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append the states of new tokens and return all."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._start(key_states, value_states, 0)
        used, new = self.used, key_states.shape[-2]
        if used + new > self.key_buffer.shape[-2]:
            self._start(self.key_buffer[:, :, :used], self.value_buffer[:, :, :used], new)
        self.key_buffer[:, :, used : used + new] = key_states
        self.value_buffer[:, :, used : used + new] = value_states
        self._show(used + new)
        return self.keys, self.values

    def join(self, other: GrowingLayer) -> None:
        """Take in the rows of another layer; the shorter of both is padded on the left."""
        length = max(self.used, other.used)
        self.key_buffer = torch.cat([_padded(self.keys, length), _padded(other.keys, length)])
        self.value_buffer = torch.cat([_padded(self.values, length), _padded(other.values, length)])
        self._show(length)

    def hold(self, rows: Sequence[tuple[torch.Tensor, torch.Tensor] | None], length: int, room: int) -> None:
        """Begin with a past of `length` positions: each row's keys and values (heads, tokens, width), on the right.

        A row without any is padding; at least one has some. There is room for `room` positions.
        """
        keys, values = next(row for row in rows if row is not None)
        self.lazy_initialization(keys, values)
        # Zeros, not whatever lay in memory: what is masked is multiplied all the same, and NaN times 0 is NaN.
        self.key_buffer = keys.new_zeros(len(rows), keys.shape[0], room, keys.shape[2])
        self.value_buffer = values.new_zeros(len(rows), values.shape[0], room, values.shape[2])
        for place, row in enumerate(rows):
            if row is not None:
                begin = length - row[0].shape[1]
                self.key_buffer[place, :, begin:length] = row[0]
                self.value_buffer[place, :, begin:length] = row[1]
        self._show(length)

    def keep(self, rows: torch.Tensor, cut: int) -> None:
        """Keep only these rows, without the first `cut` positions, which are padding in all of them."""
        self.key_buffer = self.keys[:, :, cut:].index_select(0, rows)
        self.value_buffer = self.values[:, :, cut:].index_select(0, rows)
        self._show(self.used - cut)

    def _start(self, keys: torch.Tensor, values: torch.Tensor, new: int) -> None:
        """Make buffers with room for `new` tokens and half as much again; the past, if any, moves in."""
        past = keys.shape[-2] if new else 0
        room = RowCache.room(max(past + new, keys.shape[-2]))
        self.key_buffer = keys.new_empty(*keys.shape[:2], room, keys.shape[3])
        self.value_buffer = values.new_empty(*values.shape[:2], room, values.shape[3])
        self.key_buffer[:, :, :past] = keys[:, :, :past]
        self.value_buffer[:, :, :past] = values[:, :, :past]
        self.used = past

    def _show(self, length: int) -> None:
        self.used = length
        self.keys, self.values = self.key_buffer[:, :, :length], self.value_buffer[:, :, :length]


class RowCache(Cache):  # type: ignore[misc]
    """The cache of one batch."""

    def __init__(self) -> None:
        super().__init__(layer_class_to_replicate=GrowingLayer)

    @staticmethod
    def room(length: int) -> int:
        """Return the positions that buffers are made for where so many are used."""
        return length * 3 // 2 + _LEAST_ROOM

    @property
    def length(self) -> int:
        """Return the padded length of all rows."""
        return int(self.get_seq_length())

    @classmethod
    def holding(cls, rows: Sequence[Sequence[tuple[torch.Tensor, torch.Tensor]]], length: int, room: int) -> RowCache:
        """Return a cache with a past of `length` positions; `rows` has each row's layers, none for a row without.

        Raises ValueError where no row has any.
        """
        made = cls()
        for number in range(max(map(len, rows))):
            layer = GrowingLayer()
            layer.hold([row[number] if row else None for row in rows], length, room)
            made.layers.append(layer)
        return made

    def row(self, place: int, length: int) -> tuple[tuple[torch.Tensor, torch.Tensor], ...]:
        """Return copies of the last `length` keys and values (heads, length, width) of a row, layer by layer."""
        return tuple(
            (layer.keys[place, :, layer.used - length :].clone(), layer.values[place, :, layer.used - length :].clone())
            for layer in self.layers
        )

    def row_bytes(self, length: int) -> int:
        """Return what `length` positions of a row take."""
        return sum(
            length * sum(states.shape[1] * states.shape[3] * states.itemsize for states in (layer.keys, layer.values))
            for layer in self.layers
        )

    def join(self, other: Caches) -> None:
        """Take in the rows of another cache."""
        assert isinstance(other, RowCache)
        for mine, theirs in zip(self.layers, other.layers, strict=True):
            mine.join(theirs)

    def keep(self, rows: Sequence[int], cut: int) -> None:
        """Keep only these rows, without the first `cut` positions."""
        for layer in self.layers:
            layer.keep(torch.tensor(rows, device=layer.keys.device), cut)


class ReadAgain:
    """The past of one row of a model whose memory is not to be trusted: its tokens, which are read again each time."""

    def __init__(self) -> None:
        self.parts: list[torch.Tensor] = []

    def extended(self, ids: torch.Tensor) -> list[torch.Tensor]:
        """Append tokens (1, new) and return all parts: the prompt, then token by token."""
        self.parts.append(ids)
        return self.parts


class SeparateCaches:
    """One cache a row, for models that carry a state from token to token: padding would go into it.

    Rows are computed one after another, each without padding. `make` gives a fresh cache for one row.
    """

    def __init__(self, make: Callable[[], Cache | ReadAgain], rows: int = 0) -> None:
        self.rows = [make() for _ in range(rows)]

    def join(self, other: Caches) -> None:
        """Take in the rows of another."""
        assert isinstance(other, SeparateCaches)
        self.rows += other.rows

    def keep(self, rows: Sequence[int], cut: int) -> None:
        """Keep only these rows; there is no padding to cut."""
        self.rows = [self.rows[row] for row in rows]


Caches = RowCache | SeparateCaches


def bytes_of(cache: Caches) -> int:
    """Return what the keys and values of all rows take; states that do not grow with the tokens are left out."""
    if isinstance(cache, SeparateCaches):
        return sum(_held(one) for one in cache.rows)
    return _held(cache)


def _held(cache: Cache | ReadAgain) -> int:
    if isinstance(cache, EncoderDecoderCache):
        return _held(cache.self_attention_cache) + _held(cache.cross_attention_cache)
    pieces = (getattr(layer, name, None) for layer in getattr(cache, "layers", ()) for name in ("keys", "values"))
    return sum(piece.nbytes for piece in pieces if isinstance(piece, torch.Tensor))


def _padded(states: torch.Tensor, length: int) -> torch.Tensor:
    missing = length - states.shape[-2]
    return torch.nn.functional.pad(states, (0, 0, missing, 0)) if missing else states
