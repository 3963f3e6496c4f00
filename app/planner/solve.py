"""The inverse question: the largest length, micro-batch and rank that still fit, everything else as given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from app.errors import PlanError
from app.planner.estimate import Plan, estimate
from app.planner.request import PlanRequest

# Steps in which each setting is searched: lengths in multiples of 64 tokens, the others one by one.
STEPS = {"seq_len": 64, "micro_batch": 1, "rank": 1}
CEILINGS = {"seq_len": 1_048_576, "micro_batch": 4096, "rank": 1024}


def plan(request: PlanRequest) -> Plan:
    """Return the whole answer: parts, peaks, and, when a card is given, whether it fits and what the largest is."""
    answer = estimate(request)
    if answer.free_bytes is None:
        return answer
    return replace(answer, largest={name: largest(request, name) for name in STEPS})


def largest(request: PlanRequest, field: str) -> int | None:
    """Return the largest value of `field` (a multiple of its step) that fits; None when not even the smallest does.

    The peak never falls when one of these settings grows, so bisection finds it. A setting without meaning for the
    method (the rank of a full run) has no largest value.
    """
    if field == "rank" and not request.has_adapter:
        return None
    step, ceiling = STEPS[field], CEILINGS[field]
    if field == "seq_len" and request.model.max_positions:
        ceiling = min(ceiling, max(step, request.model.max_positions))
    fits = _fits(request, field, step)
    if not fits(1):
        return None
    low, high = 1, 2
    while high * step <= ceiling and fits(high):
        low, high = high, 2 * high
    high = min(high, ceiling // step + 1)
    while high - low > 1:
        middle = (low + high) // 2
        if fits(middle):
            low = middle
        else:
            high = middle
    return low * step


def _fits(request: PlanRequest, field: str, step: int) -> Callable[[int], bool]:
    """Return a test of `field` at a number of steps; values beyond what can be asked for do not fit."""

    def fits(steps: int) -> bool:
        try:
            return bool(estimate(request.changed(**{field: steps * step})).fits)
        except PlanError:
            return False

    return fits
