"""Sizes that leave tokens, row length and rank open, so that one walk of a layer answers for all of them.

A walk only adds and multiplies sizes: each is a polynomial of the tokens T, the row length L and the rank R with the
terms 1, T, TL, R and TR, and U, which is 1 where a 4-bit weight is unpacked in the forward pass and else 0. Powers of a
number above every coefficient stand in for the unknowns, so that an ordinary whole number carries a polynomial: its
digits are the coefficients (Kronecker's substitution).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.planner.tape import Meter, Split

_DIGIT_BITS = 128
_DIGIT = (1 << _DIGIT_BITS) - 1
# A division with a remainder leaves a digit of about 2^128 / divisor; true coefficients stay far below this.
_LARGEST_BITS = 96
_TERMS = 6
# The topmost bit of each digit, which no coefficient reaches.
_GUARDS = sum(1 << (_DIGIT_BITS * (place + 1) - 1) for place in range(_TERMS))
# All bits of each digit that no coefficient reaches.
_BEYOND = sum((_DIGIT >> _LARGEST_BITS << _LARGEST_BITS) << (_DIGIT_BITS * place) for place in range(_TERMS))

Coefficients = tuple[int, int, int, int, int, int]
"""What the terms 1, T, TL, R, TR and U are multiplied by."""


class NotOpenError(ArithmeticError):
    """A size is no polynomial: some number of the model does not divide another as it does in every known family."""


def coefficients(size: int) -> Coefficients:
    """Return the digits of an open size; raises NotOpenError when they are no coefficients.

    An ordinary size is a polynomial too: a constant.
    """
    if size & _BEYOND or size >> (_TERMS * _DIGIT_BITS):
        raise NotOpenError("a size is no polynomial of tokens, length and rank")
    if not size >> _DIGIT_BITS:
        return size, 0, 0, 0, 0, 0
    return (
        size & _DIGIT,
        size >> _DIGIT_BITS & _DIGIT,
        size >> 2 * _DIGIT_BITS & _DIGIT,
        size >> 3 * _DIGIT_BITS & _DIGIT,
        size >> 4 * _DIGIT_BITS & _DIGIT,
        size >> 5 * _DIGIT_BITS,
    )


@dataclass(frozen=True)
class At:
    """Hold the values of the unknowns; `unpacks` is 0 or 1."""

    tokens: int
    length: int
    rank: int
    unpacks: int = 1

    def value(self, size: Coefficients) -> int:
        """Return a size at these values."""
        one, tokens, square, rank, product, unpacked = size
        each = tokens + square * self.length + product * self.rank
        return one + self.tokens * each + rank * self.rank + unpacked * self.unpacks


OPEN = At(1 << _DIGIT_BITS, 1 << _DIGIT_BITS, 1 << 3 * _DIGIT_BITS, 1 << 5 * _DIGIT_BITS)
"""The unknowns themselves."""


@dataclass(frozen=True)
class Crests:
    """Hold the moments of a walk of which each is the highest for some tokens, length and rank."""

    totals: tuple[Coefficients, ...]
    by_kind: tuple[tuple[Coefficients, Coefficients, Coefficients, Coefficients], ...]

    def highest(self, at: At) -> Split:
        """Return the composition of the highest moment, the first of equals."""
        heights = [at.value(total) for total in self.totals]
        a, b, c, d = self.by_kind[heights.index(max(heights))]
        return at.value(a), at.value(b), at.value(c), at.value(d)


class CrestMeter(Meter):
    """Count open sizes: which moment is the highest is not known yet, so every local one is kept."""

    __slots__ = ("_rising", "_seen")

    def __init__(self) -> None:
        super().__init__()
        self.restart_peak()

    def add(self, size_bytes: int, kind: int) -> None:
        """Count a new storage."""
        self.by_kind[kind] += size_bytes
        self._rising = True

    def drop(self, size_bytes: int, kind: int) -> None:
        """Forget a storage."""
        if self._rising:
            self._look()
        self.by_kind[kind] -= size_bytes

    def restart_peak(self) -> None:
        """Begin a new observation at the present level."""
        self._seen: list[tuple[int, ...]] = []
        self._rising = True

    def beside(self, size_bytes: int) -> None:
        """Count activations that lay there during the whole observation so far."""
        self._look()
        self._seen = [(split[0] + size_bytes, *split[1:]) for split in self._seen]

    def _look(self) -> None:
        self._seen.append(tuple(self.by_kind))
        self._rising = False

    def crests(self) -> Crests:
        """Return what the observation found; raises NotOpenError."""
        self._look()
        kept = _undominated(self._seen)
        totals = tuple(coefficients(sum(split)) for split in kept)
        splits = [[coefficients(size) for size in split] for split in kept]
        return Crests(totals, tuple((a, b, c, d) for a, b, c, d in splits))


def _undominated(seen: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Return the moments whose total no other one reaches in every coefficient; the first of equals stays.

    A total covers another when every digit is at least the other's: then subtracting borrows from no guard bit. It is
    the larger number then, so looking from the largest down, what is kept stays kept.
    """
    totals = [sum(split) for split in seen]
    kept: list[int] = []
    guarded: list[int] = []
    for place in sorted(range(len(totals)), key=totals.__getitem__, reverse=True):
        total = totals[place]
        for high in guarded:
            if (high - total) & _GUARDS == _GUARDS:
                break
        else:
            kept.append(place)
            guarded.append(total | _GUARDS)
    return [seen[place] for place in sorted(kept)]
