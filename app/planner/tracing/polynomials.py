"""Sizes as polynomials of tokens, row length and rank, found from a few traces of the same step.

A step's memory grows by the terms 1, T, T*L, R, T*R and, where rows share a table, L (`simulation/symbolic_size.py`
says why). Traced at as many settings, every size gives its coefficients exactly. Which moment of a segment is the
highest depends on the settings, so a segment keeps every moment that is the highest for some of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

Terms = tuple[float, float, float, float, float, float]
"""What 1, T, T*L, R, T*R and L are multiplied by."""

ZERO: Terms = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Point:
    """Where a step is traced: rows of `length` tokens, and the adapter's rank."""

    rows: int
    length: int
    rank: int

    @property
    def tokens(self) -> int:
        """Return the tokens of the batch."""
        return self.rows * self.length


def basis(tokens: int, length: int, rank: int) -> tuple[int, ...]:
    """Return the values of the terms."""
    return 1, tokens, tokens * length, rank, tokens * rank, length


def value(terms: Terms, tokens: int, length: int, rank: int) -> float:
    """Return a polynomial's value."""
    a, b, c, d, e, f = terms
    return a + tokens * (b + c * length + e * rank) + d * rank + f * length


def added(*many: Terms) -> Terms:
    """Return the sum of polynomials."""
    a, b, c, d, e, f = (sum(parts) for parts in zip(*many, strict=True)) if many else ZERO
    return a, b, c, d, e, f


def times(terms: Terms, factor: float) -> Terms:
    """Return a polynomial times a number."""
    a, b, c, d, e, f = (factor * part for part in terms)
    return a, b, c, d, e, f


def minus(terms: Terms, other: Terms) -> Terms:
    """Return the difference of two polynomials."""
    return added(terms, times(other, -1.0))


class Fit:
    """Turns sizes seen at some points into polynomials of as many terms, the first ones.

    Five points leave the last term out: where the batch is one row, its length is its tokens. Raises ValueError for
    points that do not determine the terms.
    """

    def __init__(self, points: Sequence[Point]) -> None:
        count = len(points)
        rows = [[Fraction(number) for number in basis(one.tokens, one.length, one.rank)[:count]] for one in points]
        self._inverse = _inverse(rows)

    def terms(self, sizes: Sequence[int]) -> Terms:
        """Return the polynomial that has these sizes at the points."""
        found = [float(sum(x * size for x, size in zip(row, sizes, strict=True))) for row in self._inverse]
        a, b, c, d, e, f = [*found, 0.0][:6]
        return a, b, c, d, e, f

    def highest(self, heights: Sequence[Sequence[int]], operations: Sequence[Sequence[str]]) -> tuple[Terms, ...]:
        """Return the polynomials of the moments that can be the highest of a segment.

        `heights[point]` are its local maxima. Where all points have the same moments each gets its polynomial. Loops
        over chunks of a row have more rounds in a longer row: their moments are told apart by the operation that
        reached them, and of each operation the highest is taken.
        """
        rows = _aligned(heights, operations)
        return undominated([self.terms(sizes) for sizes in rows])


def _aligned(heights: Sequence[Sequence[int]], operations: Sequence[Sequence[str]]) -> list[tuple[int, ...]]:
    """Return moments that all points have, each as its heights at the points."""
    first = operations[0]
    if all(list(other) == list(first) for other in operations):
        return list(zip(*heights, strict=True))
    shortest = min(map(len, operations))
    start = _agreeing(operations, range(shortest))
    end = _agreeing([other[::-1] for other in operations], range(shortest - start))
    rows = [tuple(own[i] for own in heights) for i in range(start)]
    rows += [tuple(own[len(own) - 1 - i] for own in heights) for i in range(end)]
    loops = [
        _highest_by_name(own[start : len(own) - end], names[start : len(names) - end])
        for own, names in zip(heights, operations, strict=True)
    ]
    everywhere = set(loops[0]).intersection(*loops[1:])
    rows += [tuple(own[name] for own in loops) for name in sorted(everywhere)]
    return [*rows, tuple(max(own) for own in heights)]


def _agreeing(operations: Sequence[Sequence[str]], places: range) -> int:
    """Return how many operations are the same from the start on."""
    return next((i for i in places if len({own[i] for own in operations}) > 1), len(places))


def _highest_by_name(heights: Sequence[int], names: Sequence[str]) -> dict[str, int]:
    """Return the highest moment of each operation."""
    found: dict[str, int] = {}
    for height, name in zip(heights, names, strict=True):
        found[name] = max(height, found.get(name, height))
    return found


def undominated(candidates: Sequence[Terms]) -> tuple[Terms, ...]:
    """Return the polynomials that no other one reaches in every coefficient; the first of equals stays."""
    kept: list[Terms] = []
    for one in sorted(set(candidates), reverse=True):
        if not any(all(mine <= theirs for mine, theirs in zip(one, other, strict=True)) for other in kept):
            kept = [other for other in kept if not all(a <= b for a, b in zip(other, one, strict=True))]
            kept.append(one)
    return tuple(kept)


def highest(candidates: Sequence[Terms], tokens: int, length: int, rank: int) -> float:
    """Return the highest of some moments at a setting; 0 where there are none."""
    return max((value(terms, tokens, length, rank) for terms in candidates), default=0.0)


def _inverse(rows: list[list[Fraction]]) -> list[list[Fraction]]:
    """Return the inverse of a small matrix by elimination. Raises ValueError when it has none."""
    size = len(rows)
    wide = [[*row, *(Fraction(int(i == j)) for j in range(size))] for i, row in enumerate(rows)]
    for column in range(size):
        pivot = next((row for row in range(column, size) if wide[row][column]), None)
        if pivot is None:
            raise ValueError("the points do not determine the polynomial")
        wide[column], wide[pivot] = wide[pivot], wide[column]
        wide[column] = [x / wide[column][column] for x in wide[column]]
        for row in range(size):
            if row != column and wide[row][column]:
                factor = wide[row][column]
                wide[row] = [x - factor * y for x, y in zip(wide[row], wide[column], strict=True)]
    return [row[size:] for row in wide]


def points_for(rows: int, span: tuple[int, int]) -> tuple[Point, ...]:
    """Return points that determine the polynomial, with row lengths within `span`: of one row, or of several."""
    short, middle, long = _lengths(*span)
    if rows == 1:
        return Point(1, short, 8), Point(1, middle, 8), Point(1, long, 8), Point(1, short, 24), Point(1, middle, 24)
    lengths = [Point(2, short, 8), Point(4, short, 8), Point(2, middle, 8), Point(4, middle, 8)]
    return *lengths, Point(2, short, 24), Point(4, short, 24)


def _lengths(low: int, high: int) -> tuple[int, int, int]:
    """Return three row lengths between two bounds: whole chunks of 256 or 64 where there is room for them."""
    for step in (256, 64, 16, 4, 1):
        first = -(-low // step) * step
        lengths = (first, first + step, first + 3 * step) if first else (step, 2 * step, 4 * step)
        if all(a < b for a, b in pairwise(lengths)) and lengths[-1] <= high:
            return lengths
    raise ValueError(f"no row lengths between {low} and {high}")
