"""Put rows of tokens together into packed rows of at most one length, best fit decreasing.

Best fit decreasing takes the longest row first and puts it into the fullest packed row that still has room. Rows are
packed in windows, so that a file of any size is packed in bounded memory; a window of some ten thousand rows fills as
well as the whole.
"""

from __future__ import annotations

# Tokens that are held back for packing at a time: 8 Mi tokens with labels are 64 MiB.
WINDOW_TOKENS = 8 * 1024 * 1024


def pack(lengths: list[int], capacity: int) -> list[list[int]]:
    """Return the packed rows as lists of row positions. Every length must fit into the capacity.

    Free space is kept as a bit set (bit s: some packed row has s tokens left), so the best fit is the lowest set
    bit at or above a row's length.
    """
    packed: list[list[int]] = []
    by_space: dict[int, list[int]] = {}
    spaces = 0
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        length = lengths[index]
        fitting = spaces >> length
        if fitting:
            space = length + (fitting & -fitting).bit_length() - 1
            target = by_space[space].pop()
            if not by_space[space]:
                spaces ^= 1 << space
        else:
            space, target = capacity, len(packed)
            packed.append([])
        packed[target].append(index)
        left = space - length
        if left:
            by_space.setdefault(left, []).append(target)
            spaces |= 1 << left
    return packed


class PackCount:
    """Count what packing will give, without holding tokens; packs in the same windows as the build does."""

    def __init__(self, capacity: int, enabled: bool) -> None:
        self._capacity = capacity
        self._enabled = enabled
        self._window: list[int] = []
        self._window_tokens = 0
        self.rows = 0
        self.tokens = 0

    def add(self, length: int) -> None:
        """Count one row."""
        self.tokens += length
        if not self._enabled:
            self.rows += 1
            return
        self._window.append(length)
        self._window_tokens += length
        if self._window_tokens >= WINDOW_TOKENS:
            self._close()

    def _close(self) -> None:
        self.rows += len(pack(self._window, self._capacity))
        self._window, self._window_tokens = [], 0

    def fill(self) -> float:
        """Return the share of all positions that hold a token (0 to 1); closes the last window."""
        self._close()
        return self.tokens / (self.rows * self._capacity) if self.rows else 0.0
