"""The inverse question: the largest length, micro-batch and rank that still fit, everything else as given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf

from app.errors import PlanError
from app.planner.estimate import Plan, estimate
from app.planner.parts.positions import longest_row, refuse_too_long
from app.planner.request import PlanRequest

# Steps in which each setting is searched: lengths in multiples of 64 tokens, the others one by one.
STEPS = {"seq_len": 64, "micro_batch": 1, "rank": 1}
CEILINGS = {"seq_len": 1_048_576, "micro_batch": 4096, "rank": 1024}


def plan(request: PlanRequest) -> Plan:
    """Return the whole answer: parts, peaks, and, when a card is given, whether it fits and what the largest is."""
    refuse_too_long(request)
    answer = estimate(request)
    if answer.free_bytes is None:
        return answer
    return replace(answer, largest={name: largest(request, name) for name in STEPS})


def largest(request: PlanRequest, field: str) -> int | None:
    """Return the largest value of `field` (a multiple of its step) that fits; None when not even the smallest does.

    The peak never falls when one of these settings grows, and it grows almost in a line: the search guesses by the line
    between what fits and what does not, and halves the rest when a guess was poor. A setting without meaning for the
    method (the rank of a full run) has no largest value.
    """
    if field == "rank" and not request.has_adapter:
        return None
    step, ceiling = STEPS[field], CEILINGS[field]
    if field == "seq_len" and longest_row(request.model):
        ceiling = min(ceiling, max(step, longest_row(request.model)))
    spare = _spare(request, field, step)
    low, high = 1, ceiling // step
    given = min(high, max(low, getattr(request, field) // step))
    given_spare = spare(given)
    if given_spare >= 0:
        low, low_spare, high_spare = given, given_spare, spare(high)
    else:
        high, high_spare, low_spare = given, given_spare, spare(low)
    if low_spare < 0:
        return None
    if high_spare >= 0:
        return high * step
    halve = False
    while high - low > 1:
        width = high - low
        middle = (low + high) // 2 if halve else _guess(low, low_spare, high, high_spare)
        found = spare(middle)
        if found >= 0:
            low, low_spare = middle, found
        else:
            high, high_spare = middle, found
        halve = not halve and high - low > width // 2
    return low * step


def _guess(low: int, low_spare: float, high: int, high_spare: float) -> int:
    """Return where to look next: just past the line's crossing when that is near the lower end, else the crossing."""
    if high_spare == -inf:
        return (low + high) // 2
    crossing = low + int((high - low) * low_spare / (low_spare - high_spare))
    if crossing <= low:
        return low + 1
    if crossing >= high - 1:
        return high - 1
    return crossing


def _spare(request: PlanRequest, field: str, step: int) -> Callable[[int], float]:
    """Return the free bytes left over at a number of steps; below zero it does not fit, -inf it cannot be asked for."""

    def spare(steps: int) -> float:
        try:
            answer = estimate(request.changed(**{field: steps * step}))
        except PlanError:
            return -inf
        return (answer.free_bytes or 0) - answer.device_peak

    return spare
