"""Keys and values of answers that have ended, kept so that the next turn of a conversation reads only what is new.

What is kept belongs to what answered (a column with its weights, or a mix of them) and to the tokens it was made of.
The next prompt takes as much of it as it begins with: a template that leaves thinking out of earlier turns shortens it.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from app.engine.batching.kv_cache import RowCache

# Turns of one column that are kept: the last, and those it branched off from when an answer is asked for again.
_MOST_TURNS = 4
# A prefix shorter than this is read anew: it saves less than it costs to look after.
_LEAST_TOKENS = 16
_States = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, eq=False)
class Prefix:
    """Tokens with the keys and values (heads, tokens, head width) that every layer has of them."""

    source: Hashable
    uses: tuple[str, ...]
    tokens: tuple[int, ...]
    layers: tuple[_States, ...]

    @cached_property
    def size(self) -> int:
        """Return the bytes that it takes."""
        return sum(keys.nbytes + values.nbytes for keys, values in self.layers)


@dataclass(frozen=True)
class Start:
    """What a prompt begins with: `length` of its tokens are known from a kept prefix, or none are."""

    prefix: Prefix | None = None
    length: int = 0


class KeptPrefixes:
    """The prefixes of one engine, newest last. Not safe for threads: the decoder alone calls it."""

    def __init__(self, most_bytes: int) -> None:
        """Keep at most `most_bytes`."""
        self._most_bytes = most_bytes
        self._held: list[Prefix] = []

    @property
    def size(self) -> int:
        """Return the bytes that all of them take."""
        return sum(prefix.size for prefix in self._held)

    def start(self, source: Hashable, prompt: Sequence[int]) -> Start:
        """Return the longest start of a prompt that is kept; its last token is never, since its logits are wanted."""
        best = Start()
        for prefix in self._held:
            if prefix.source == source:
                length = min(_shared(prefix.tokens, prompt), len(prompt) - 1)
                if length >= max(_LEAST_TOKENS, best.length + 1):
                    best = Start(prefix, length)
        if best.prefix is not None:
            self._held.remove(best.prefix)
            self._held.append(best.prefix)
        return best

    def keep(self, source: Hashable, uses: tuple[str, ...], tokens: Sequence[int], cache: RowCache, row: int) -> None:
        """Keep what the last `len(tokens)` positions of a row of a cache hold."""
        size = cache.row_bytes(len(tokens))
        if len(tokens) < _LEAST_TOKENS or size > self._most_bytes:
            return
        # What the new one begins with is in it.
        self._held = [
            prefix
            for prefix in self._held
            if prefix.source != source or _shared(prefix.tokens, tokens) < len(prefix.tokens)
        ]
        turns = [prefix for prefix in self._held if prefix.source == source]
        for prefix in turns[: max(0, len(turns) - _MOST_TURNS + 1)]:
            self._held.remove(prefix)
        self.fit(self._most_bytes - size)
        self._held.append(Prefix(source, uses, tuple(tokens), cache.row(row, len(tokens))))

    def fit(self, room: int) -> None:
        """Let the oldest go until all take at most `room` bytes."""
        size = self.size
        while self._held and size > room:
            size -= self._held.pop(0).size

    def drop(self, column: str) -> None:
        """Forget what a column, or a mix with it, has answered."""
        self._held = [prefix for prefix in self._held if column not in prefix.uses]

    def clear(self) -> None:
        """Forget everything."""
        self._held = []


def groups_of(starts: Sequence[Start], prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return the places of rows that are read together: those that have about as many tokens to read.

    Rows of a group are read from one position on, counted from their ends; so a long one among short ones would have
    all of them read as much as it does.
    """
    left = [len(prompt) - start.length for prompt, start in zip(prompts, starts, strict=True)]
    unknown = [place for place, start in enumerate(starts) if start.prefix is None]
    groups: list[list[int]] = []
    known = [place for place, start in enumerate(starts) if start.prefix is not None]
    for place in sorted(known, key=left.__getitem__):
        if groups and left[place] <= 2 * left[groups[-1][0]] + _LEAST_TOKENS:
            groups[-1].append(place)
        else:
            groups.append([place])
    return [sorted(group) for group in (unknown, *groups) if group]


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many tokens two sequences begin with in common."""
    return next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
