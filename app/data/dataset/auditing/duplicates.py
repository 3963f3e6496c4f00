"""Find equal and nearly equal rows in little memory: about 130 bytes a row.

Near duplicates are found by MinHash over 8-byte windows of the normalised text (Broder 1997), 16 hashes in 4 bands;
two rows count as near duplicates when at least 13 of the 16 hashes agree (an estimated overlap of 80 %).
"""

from __future__ import annotations

import hashlib
import re
from array import array
from typing import Any

_HASHES = 16
_BANDS = 4
_MIN_AGREEING = 13
_WINDOW_BYTES = 8
# Longer texts are sampled by content: windows whose first hash falls into the lowest quarter.
_SAMPLE_ABOVE = 256
_NOISE = re.compile(r"[\W_]+")


def normalised(text: str) -> str:
    """Return text without case, punctuation and spacing, to compare by."""
    return _NOISE.sub(" ", text.lower()).strip()


def content_hash(text: str) -> int:
    """Return a 64-bit hash of text, the same in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


class FirstSeen:
    """Remember under which number each 64-bit hash came first, in an open table of 16 bytes a slot."""

    _SLOTS = 1024

    def __init__(self) -> None:
        self._clear(self._SLOTS)

    def _clear(self, slots: int) -> None:
        self._keys, self._numbers = array("Q", bytes(8 * slots)), array("q", bytes(8 * slots))
        self._mask, self._count = slots - 1, 0

    def first(self, key: int, number: int) -> int | None:
        """Return the number (above 0) under which a hash came before, None where it is new."""
        slot = self._slot(key)
        if self._numbers[slot]:
            return self._numbers[slot]
        self._keys[slot], self._numbers[slot] = key, number
        self._count += 1
        if 3 * self._count > 2 * len(self._keys):
            self._grow()
        return None

    def _slot(self, key: int) -> int:
        """Return the slot that holds a hash, or the free one where it belongs."""
        slot = key & self._mask
        while self._numbers[slot] and self._keys[slot] != key:
            slot = (slot + 1) & self._mask
        return slot

    def _grow(self) -> None:
        keys, numbers = self._keys, self._numbers
        self._clear(2 * len(keys))
        for key, number in zip(keys, numbers, strict=True):
            if number:
                slot = self._slot(key)
                self._keys[slot], self._numbers[slot] = key, number
                self._count += 1


class Sketches:
    """Collect a small sketch of every row, then tell which rows repeat an earlier one."""

    def __init__(self, near: bool = True) -> None:
        import numpy as np

        self._np = np
        self._near = near
        self.numbers = array("q")
        self._exact = array("Q")
        self._minima = bytearray()
        rng = np.random.default_rng(20261122)  # any fixed seed: hashes only have to be the same for all rows
        self._factors = rng.integers(1, 2**63, _HASHES, dtype=np.uint64) * np.uint64(2) + np.uint64(1)

    def add(self, number: int, text: str) -> None:
        """Take one row's text under its number."""
        self.numbers.append(number)
        self._exact.append(content_hash(text))
        if self._near:
            self._minima += self._minhash(normalised(text).encode("utf-8", "surrogatepass")).tobytes()

    def _minhash(self, data: bytes) -> Any:
        np = self._np
        count = len(data) - _WINDOW_BYTES + 1
        if count < 1:
            return np.full(_HASHES, content_hash(data.decode("utf-8", "surrogatepass")) >> 32, np.uint32)
        windows = np.ndarray((count,), dtype="<u8", buffer=data, strides=(1,))
        if count > _SAMPLE_ABOVE:
            mixed = windows * self._factors[0]
            sampled = windows[mixed < np.uint64(2**62)]
            windows = sampled if len(sampled) else windows
        return ((windows[:, None] * self._factors[None, :]).min(axis=0) >> np.uint64(32)).astype(np.uint32)

    def exact_repeats(self) -> dict[int, int]:
        """Return row number -> number of the first equal row."""
        np = self._np
        return self._repeats(np.frombuffer(self._exact, dtype=np.uint64)) if len(self._exact) else {}

    def _repeats(self, keys: Any) -> dict[int, int]:
        np = self._np
        order = np.argsort(keys, kind="stable")
        is_new = np.concatenate(([True], keys[order][1:] != keys[order][:-1]))
        first_of_group = np.flatnonzero(is_new)[np.cumsum(is_new) - 1]
        repeated = np.flatnonzero(~is_new)
        pairs = zip(order[repeated].tolist(), order[first_of_group[repeated]].tolist(), strict=True)
        return {self.numbers[later]: self.numbers[first] for later, first in pairs}

    def near_repeats(self) -> dict[int, int]:
        """Return row number -> number of an earlier row that says nearly the same; equal rows are left out."""
        np = self._np
        if not self._minima:
            return {}
        minima = np.frombuffer(self._minima, dtype=np.uint32).reshape(-1, _HASHES)
        exact = np.frombuffer(self._exact, dtype=np.uint64)
        repeats: dict[int, int] = {}
        width = _HASHES // _BANDS
        for band in range(_BANDS):
            columns = minima[:, band * width : (band + 1) * width]
            order = np.lexsort((np.arange(len(columns)), *columns.T))
            ordered = columns[order]
            same = np.flatnonzero((ordered[1:] == ordered[:-1]).all(axis=1)) + 1
            left, right = order[same - 1], order[same]
            agreeing = (minima[left] == minima[right]).sum(axis=1) >= _MIN_AGREEING
            for one, other in zip(left[agreeing].tolist(), right[agreeing].tolist(), strict=True):
                if exact[one] != exact[other]:
                    repeats.setdefault(self.numbers[other], self.numbers[one])
        return repeats
