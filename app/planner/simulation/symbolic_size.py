"""Sizes with tokens, row length and rank left open, so that one simulated layer answers for all of them.

Simulating a layer adds and multiplies sizes, and divides them by numbers of the model. So every size is a polynomial of
the tokens T, the row length L and the rank R, in which only these terms occur: 1, T, T*L, R and T*R; besides them U,
which is 1 where a 4-bit weight is unpacked in the forward pass and else 0. `SymbolicSize` holds the six coefficients,
and the simulator computes with it as with a whole number. Which moment of the layer is the highest depends on T, L and
R; so the meter keeps every moment that can be the highest for some of them, and `PeakCandidates` chooses when they are
known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from app.planner.simulation.autograd import BytesByKind, Meter

Coefficients = tuple[int, int, int, int, int, int]
"""What the terms 1, T, TL, R, TR and U are multiplied by."""


class NotPolynomialError(ArithmeticError):
    """A size is no such polynomial: a number of the model does not divide another as it does in every known family."""


class SymbolicSize:
    """A number of elements or bytes as the six coefficients of a polynomial. Immutable."""

    __slots__ = ("coefficients",)

    def __init__(self, coefficients: Coefficients) -> None:
        self.coefficients = coefficients

    def __add__(self, other: SymbolicSize | int) -> SymbolicSize:
        a, b, c, d, e, f = self.coefficients
        if isinstance(other, int):
            return SymbolicSize((a + other, b, c, d, e, f)) if other else self
        g, h, i, j, k, m = other.coefficients
        return SymbolicSize((a + g, b + h, c + i, d + j, e + k, f + m))

    __radd__ = __add__

    def __neg__(self) -> SymbolicSize:
        a, b, c, d, e, f = self.coefficients
        return SymbolicSize((-a, -b, -c, -d, -e, -f))

    def __sub__(self, other: SymbolicSize | int) -> SymbolicSize:
        a, b, c, d, e, f = self.coefficients
        if isinstance(other, int):
            return SymbolicSize((a - other, b, c, d, e, f)) if other else self
        g, h, i, j, k, m = other.coefficients
        return SymbolicSize((a - g, b - h, c - i, d - j, e - k, f - m))

    def __rsub__(self, other: int) -> SymbolicSize:
        return -self + other

    def __mul__(self, other: SymbolicSize | int) -> SymbolicSize:
        a, b, c, d, e, f = self.coefficients
        if isinstance(other, int):
            return SymbolicSize((a * other, b * other, c * other, d * other, e * other, f * other))
        g, h, i, j, k, m = other.coefficients
        if c or e or f or i or k or m or d * j:
            raise NotPolynomialError("a product has a term other than 1, T, TL, R, TR and U")
        # LENGTH and TOKENS stand for the same unknown in a sum (a packed row is as long as its tokens); their product
        # is the one place where they differ, and that term is TL.
        return SymbolicSize((a * g, a * h + b * g, b * h, a * j + d * g, b * j + d * h, 0))

    __rmul__ = __mul__

    def __floordiv__(self, divisor: int) -> SymbolicSize:
        if any(coefficient % divisor for coefficient in self.coefficients):
            raise NotPolynomialError(f"a division by {divisor} leaves a remainder")
        a, b, c, d, e, f = self.coefficients
        return SymbolicSize((a // divisor, b // divisor, c // divisor, d // divisor, e // divisor, f // divisor))

    def __bool__(self) -> bool:
        return any(self.coefficients)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, (int, SymbolicSize)) and coefficients(self) == coefficients(other)

    def __lt__(self, other: SymbolicSize | int) -> bool:
        """Compare by the terms that grow fastest; what is compared in a layer has the same terms."""
        return self.coefficients[::-1] < coefficients(other)[::-1]

    def __hash__(self) -> int:
        return hash(self.coefficients)


def coefficients(size: SymbolicSize | int) -> Coefficients:
    """Coefficients of a size; a whole number is a constant polynomial."""
    return (size, 0, 0, 0, 0, 0) if isinstance(size, int) else size.coefficients


@dataclass(frozen=True)
class Dims:
    """The numbers that a simulated layer leaves open; `unpacks` is 0 or 1."""

    tokens: int
    length: int
    rank: int
    unpacks: int = 1

    def value(self, size: Coefficients) -> int:
        """A size at these numbers."""
        one, tokens, square, rank, product, unpacked = size
        each = tokens + square * self.length + product * self.rank
        return one + self.tokens * each + rank * self.rank + unpacked * self.unpacks


_TOKENS = SymbolicSize((0, 1, 0, 0, 0, 0))
_RANK = SymbolicSize((0, 0, 0, 1, 0, 0))
_UNPACKS = SymbolicSize((0, 0, 0, 0, 0, 1))
SYMBOLIC = Dims(cast(int, _TOKENS), cast(int, _TOKENS), cast(int, _RANK), cast(int, _UNPACKS))
"""The unknowns themselves. The simulator's types say int, since it computes with whole numbers as well."""


@dataclass(frozen=True)
class PeakCandidates:
    """The moments of a layer of which each is the highest for some tokens, length and rank."""

    totals: tuple[Coefficients, ...]
    by_kind: tuple[tuple[Coefficients, Coefficients, Coefficients, Coefficients], ...]

    def highest(self, dims: Dims) -> BytesByKind:
        """Bytes by kind at the highest moment, the first of equals."""
        heights = [dims.value(total) for total in self.totals]
        a, b, c, d = self.by_kind[heights.index(max(heights))]
        return dims.value(a), dims.value(b), dims.value(c), dims.value(d)


class SymbolicMeter(Meter):
    """Counts symbolic sizes: which moment is the highest is not known yet, so every local one is kept."""

    __slots__ = ("_moments", "_rising")

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
            self._keep_moment()
        self.by_kind[kind] -= size_bytes

    def restart_peak(self) -> None:
        """Begin a new observation at the present level."""
        self._moments: list[tuple[int, ...]] = []
        self._rising = True

    def beside(self, size_bytes: int) -> None:
        """Count activations that lay there during the whole observation so far."""
        self._keep_moment()
        self._moments = [(moment[0] + size_bytes, *moment[1:]) for moment in self._moments]

    def _keep_moment(self) -> None:
        self._moments.append(tuple(self.by_kind))
        self._rising = False

    def peak_candidates(self) -> PeakCandidates:
        """What the observation saw."""
        self._keep_moment()
        totals = [coefficients(sum(moment)) for moment in self._moments]
        places = _undominated(totals)
        by_kind = [[coefficients(size) for size in self._moments[place]] for place in places]
        return PeakCandidates(tuple(totals[place] for place in places), tuple((a, b, c, d) for a, b, c, d in by_kind))


def _undominated(totals: Sequence[Coefficients]) -> list[int]:
    """Places of the totals that no other one reaches in every coefficient; the first of equals stays.

    Looked at from the largest down (by the terms that grow fastest), what is kept stays kept.
    """
    places: list[int] = []
    highest: list[Coefficients] = []
    for place in sorted(range(len(totals)), key=lambda place: totals[place][::-1], reverse=True):
        a, b, c, d, e, f = totals[place]
        for g, h, i, j, k, m in highest:
            if g >= a and h >= b and i >= c and j >= d and k >= e and m >= f:
                break
        else:
            places.append(place)
            highest.append(totals[place])
    return sorted(places)
