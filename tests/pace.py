"""Limits of time that mean the same work on every machine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

_TURNS = 1_000_000
_TURNS_A_SECOND = 30_000_000
"""The pace that limits are written for: turns of `_turns` in a second of processor time."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Let what stands inside take this much of this process's time, in seconds of a processor of the set pace.

    A slower machine gets as much more as it is slower, so that a test tells of the code and not of the machine;
    a faster one gets no less. What is guarded against takes many times its limit, or has no end.
    """
    began = time.process_time()
    try:
        yield
    finally:
        took = time.process_time() - began
        # The short circuit measures the machine only where a limit was passed.
        assert took < seconds or took < seconds * slowness(), (
            f"{took:.2f} s of processor time, at most {seconds * slowness():.2f}"
        )


@cache
def slowness() -> float:
    """How many times longer than at the set pace this machine takes for a plain loop, at least 1."""
    return max(1.0, min(_turns() for _ in range(3)) * _TURNS_A_SECOND / _TURNS)


def _turns() -> float:
    began, total = time.process_time(), 0
    for number in range(_TURNS):
        total += number * number
    return time.process_time() - began
